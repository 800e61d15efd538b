"""Whether bounds on ε hold as often as they say: many audits of a mechanism of known ε."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from scipy.special import logit
from scipy.stats import binom

from attacks.known import KnownMechanism, gaussian_query, gaussian_steps, randomised_response
from attacks.limits import BoolArray, Bound, FloatArray, check_confidence, lower_limit
from attacks.thresholds import Choice, guess_bound, score_bound

#: A sound implementation fails a whole self-test by chance at most this often.
CHANCE = 1e-6

Rates = Literal["two_rate", "gdp"]
Guesses = Literal["one_run", "fdp"]
Rule = Callable[[FloatArray, BoolArray, float, float, int], Bound]


@dataclass(frozen=True)
class Trial:
    """One mechanism audited by one route.

    Attributes:
        mechanism: of known ε.
        route: its name and how the threshold is chosen, for a table.
        records: observations in one audit.
        rule: scores, coins, δ, confidence and a seed to a bound.
        reach: the share of the true ε that the median bound must reach; 0 where none is asked.
    """

    mechanism: KnownMechanism
    route: str
    records: int
    rule: Rule
    reach: float = 0.0


@dataclass(frozen=True)
class Coverage:
    """How bounds of many audits lie beside the truth.

    Attributes:
        mechanism, route: as in the trial.
        truth: the mechanism's ε at ``delta``.
        median: of the bounds.
        ceiling: the median of what the audits could have shown.
        above: audits whose bound is above the truth.
        most_above: so many may be, by chance (:func:`most_above`).
        audits: all of them.
        reach: the share of the truth asked of the median.
    """

    mechanism: str
    route: str
    truth: float
    delta: float
    median: float
    ceiling: float
    above: int
    most_above: int
    audits: int
    reach: float

    @property
    def sound(self) -> bool:
        """Whether no more bounds are above the truth than chance explains."""
        return self.above <= self.most_above

    @property
    def reached(self) -> bool:
        """Whether the median is as near to the truth as was asked."""
        return self.median >= self.reach * self.truth


def most_above(audits: int, confidence: float, tests: int) -> int:
    """How many of the bounds may be above the truth before an implementation is called unsound.

    A sound bound is above the truth with probability at most 1 - confidence, independently in each
    audit, so the number above is at most binomial. Returned is the smallest number that a binomial
    exceeds with probability at most ``CHANCE`` / tests: all tests together then fail a sound
    implementation less than once in 10^6.

    Args:
        audits: how many were run, at least 1.
        confidence: of each bound, in (0, 1).
        tests: how many such counts are judged together, at least 1.
    """
    return int(binom.isf(CHANCE / tests, audits, check_confidence(confidence)))


def cover(
    trial: Trial,
    audits: int,
    confidence: float,
    *,
    tests: int,
    seed: np.random.SeedSequence,
    done: Callable[[], None] = lambda: None,
) -> Coverage:
    """Audit a mechanism many times, each with draws of its own.

    Args:
        trial: what to audit and how.
        audits: how many times.
        confidence: of each bound.
        tests: as for :func:`most_above`.
        seed: of all draws; a child of it is spawned for each audit.
        done: called after each audit.
    """
    bounds = []
    for number, child in enumerate(seed.spawn(audits)):
        scores, members = trial.mechanism.draw(np.random.default_rng(child), trial.records)
        bounds.append(trial.rule(scores, members, trial.mechanism.delta, confidence, number))
        done()
    found = np.array([bound.epsilon for bound in bounds])
    return Coverage(
        trial.mechanism.name,
        trial.route,
        trial.mechanism.epsilon,
        trial.mechanism.delta,
        float(np.median(found)),
        float(np.median([bound.ceiling for bound in bounds])),
        int(np.sum(found > trial.mechanism.epsilon)),
        most_above(audits, confidence, tests),
        audits,
        trial.reach,
    )


def trials() -> list[Trial]:
    """The audits that must be sound, over every route and every choice of a threshold."""
    steps, query = gaussian_steps(4.0, 16), gaussian_query(1.0)
    found = []
    for epsilon in (0.5, 1.0, 2.0, 4.0):
        told = randomised_response(epsilon)
        found += [
            Trial(told, "two-rate, fixed", 2000, partial(_fixed, "two_rate", 0.0)),
            Trial(told, "one-run, fixed", 1000, partial(_guessed, "one_run", 100)),
        ]
    found += [
        Trial(query, "two-rate, fixed", 2000, partial(_fixed, "two_rate", 2.0)),
        Trial(query, "gdp, fixed", 2000, partial(_fixed, "gdp", 0.5)),
        Trial(query, "one-run, fixed", 1000, partial(_guessed, "one_run", 50)),
        Trial(query, "f-DP, fixed", 1000, partial(_guessed, "fdp", 50)),
        Trial(steps, "two-rate, Bonferroni", 8000, partial(_searched, "two_rate", "bonferroni")),
        Trial(steps, "gdp, Bonferroni", 8000, partial(_searched, "gdp", "bonferroni")),
        Trial(steps, "gdp, split", 8000, partial(_searched, "gdp", "split")),
        Trial(steps, "gdp, fixed", 8000, partial(_fixed, "gdp", 0.5), reach=0.8),
    ]
    return found


def broken_trial() -> Trial:
    """An auditor that must be found unsound: the best of all numbers of guesses, not paid for."""
    return Trial(randomised_response(1.0), "one-run, uncorrected", 1000, uncorrected_one_run)


def _fixed(
    route: Rates, threshold: float, scores: FloatArray, members: BoolArray, delta: float,
    confidence: float, seed: int,
) -> Bound:  # fmt: skip
    return score_bound(
        scores, members, route=route, choice="fixed", delta=delta, confidence=confidence,
        thresholds=[threshold], seed=seed,
    )  # fmt: skip


def _searched(
    route: Rates, choice: Choice, scores: FloatArray, members: BoolArray, delta: float,
    confidence: float, seed: int,
) -> Bound:  # fmt: skip
    return score_bound(
        scores, members, route=route, choice=choice, delta=delta, confidence=confidence, seed=seed
    )


def _guessed(
    route: Guesses, each: int, scores: FloatArray, members: BoolArray, delta: float,
    confidence: float, seed: int,
) -> Bound:  # fmt: skip
    return guess_bound(
        scores, members, route=route, choice="fixed", guesses=[(each, each)], delta=delta,
        confidence=confidence, seed=seed,
    )  # fmt: skip


def uncorrected_one_run(
    scores: FloatArray, members: BoolArray, delta: float, confidence: float, seed: int
) -> Bound:
    """The best one-run bound over every number of guesses, each at the whole error: NOT a bound.

    Only for δ = 0, where a one-run bound is the logit of a Clopper-Pearson lower limit.
    """
    falling = members[np.argsort(-scores)]
    each = np.arange(1, scores.size // 2 + 1)
    right = np.cumsum(falling)[each - 1] + np.cumsum(~falling[::-1])[each - 1]
    error = check_confidence(confidence)
    best = float(logit(lower_limit(right, 2 * each, error)).max())
    most = float(logit(lower_limit(2 * each[-1], 2 * each[-1], error)))
    return Bound(max(best, 0.0), most, delta, confidence)
