"""The audit audited: bounds on mechanisms of known ε, and DP-SGD steps broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from attacks.coverage import CHANCE, Coverage, broken_trial, cover, trials
from attacks.gaussian import gaussian_epsilon
from privfin.auditing.self_test_broken import BROKEN
from privfin.auditing.self_test_steps import DELTA, SIGMA, observe_steps
from privfin.errors import UserInputError
from privfin.privacy.dpsgd import DpSgd

#: Fewer audits say too little of how often a bound holds.
LEAST_SEEDS = 20
#: The auditor that takes an uncorrected maximum is run at least so often, to be found for certain.
_BROKEN_AUDITS = 200
_SOUND_STEPS = 3000
_SEED = 2024

#: Called with what is tried, how many units of work are done, and of how many.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class StepVerdict:
    """The audit of one kind of DP-SGD step.

    Attributes:
        variant: what was done to the step.
        broken: whether it breaks its promise.
        steps: how many were audited.
        claim: the ε of one step of the noise multiplier that it was told.
        bound: the lower bound on it.
        ceiling: what so many steps could have shown.
        claim_mu: 1 / σ, the μ behind ``claim``.
        mu: the lower bound on it.
    """

    variant: str
    broken: bool
    steps: int
    claim: float
    bound: float
    ceiling: float
    claim_mu: float
    mu: float

    @property
    def flagged(self) -> bool:
        """Whether the audit contradicts the claim."""
        return self.mu > self.claim_mu

    @property
    def right(self) -> bool:
        """Whether the audit says of the step what is true of it."""
        return self.flagged == self.broken


@dataclass(frozen=True)
class SelfTest:
    """Everything that the self-test found.

    Attributes:
        seeds: audits of each mechanism.
        confidence: of their bounds.
        step_confidence: of the bounds on steps.
        step_delta: δ of their ε.
        mechanisms: audits that must be sound.
        uncorrected: an auditor that must be found unsound.
        steps: the real DP-SGD step, and broken ones.
    """

    seeds: int
    confidence: float
    step_confidence: float
    step_delta: float
    mechanisms: tuple[Coverage, ...]
    uncorrected: Coverage
    steps: tuple[StepVerdict, ...]

    @property
    def problems(self) -> list[str]:
        """One line for everything that is not as it must be; none if the audit can be trusted."""
        found = []
        for one in self.mechanisms:
            name = f"{one.mechanism} by {one.route}"
            if not one.sound:
                found.append(
                    f"{name}: {one.above} of {one.audits} bounds are above the truth, "
                    f"at most {one.most_above} may be"
                )
            if not one.reached:
                found.append(f"{name}: the median bound is below {one.reach:.0%} of the truth")
        if self.uncorrected.sound:
            found.append("the uncorrected maximum was not found unsound")
        for step in self.steps:
            if not step.right:
                found.append(
                    f"{step.variant}: broken, and not flagged"
                    if step.broken
                    else f"{step.variant}: flagged, though nothing is wrong with it"
                )
        return found

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {
            "seeds": self.seeds,
            "confidence": self.confidence,
            "chance_of_false_alarm": CHANCE,
            "mechanisms": [_coverage(one) for one in self.mechanisms],
            "uncorrected_maximum": _coverage(self.uncorrected),
            "step_confidence": self.step_confidence,
            "step_delta": self.step_delta,
            "steps": [
                {**asdict(one), "flagged": one.flagged, "right": one.right} for one in self.steps
            ],
            "problems": self.problems,
            "ok": not self.problems,
        }


def run_self_test(
    seeds: int = 200,
    confidence: float = 0.95,
    progress: Progress = lambda name, done, total: None,
) -> SelfTest:
    """Audit mechanisms of known ε ``seeds`` times each, and DP-SGD steps once each.

    All draws follow from a fixed seed, so that the answer is the same every time; no patient's data
    is read.

    Args:
        seeds: audits of each mechanism, at least 20.
        confidence: of each bound, from 0.5 to 0.999.
        progress: told of every unit of work.

    Raises:
        UserInputError: when a value is out of range.
    """
    if seeds < LEAST_SEEDS:
        raise UserInputError(f"--seeds must be at least {LEAST_SEEDS}, got {seeds}")
    if not 0.5 <= confidence <= 0.999:
        raise UserInputError(f"--confidence must be from 0.5 to 0.999, got {confidence}")
    tried, uncorrected = trials(), broken_trial()
    kinds = {"sound": (DpSgd, _SOUND_STEPS), **BROKEN}
    work = _Work(progress, _units(seeds, len(tried), [count for _, count in kinds.values()]))
    *children, last = np.random.SeedSequence(_SEED).spawn(len(tried) + 1)
    # The tests that a sound implementation could fail by chance: the counts, and the sound step.
    tests = len(tried) + 1

    mechanisms = []
    for trial, child in zip(tried, children, strict=True):
        done = work.of(f"{trial.mechanism.name}, {trial.route}", _AUDIT_UNITS)
        mechanisms.append(cover(trial, seeds, confidence, tests=tests, seed=child, done=done))
    most = max(seeds, _BROKEN_AUDITS)
    wrong = cover(uncorrected, most, confidence, tests=tests, seed=last)
    step_confidence = 1.0 - CHANCE / tests
    verdicts = []
    for name, (kind, count) in kinds.items():
        seen = observe_steps(kind, count, _SEED, done=work.of(f"DP-SGD step, {name}", 1))
        bound = seen.bound(step_confidence)
        claim_mu, mu = 1.0 / SIGMA, bound.mu or 0.0
        verdicts.append(
            StepVerdict(
                name,
                kind is not DpSgd,
                count,
                gaussian_epsilon(claim_mu, DELTA),
                bound.epsilon,
                bound.ceiling,
                claim_mu,
                mu,
            )
        )
    return SelfTest(
        seeds, confidence, step_confidence, DELTA, tuple(mechanisms), wrong, tuple(verdicts)
    )


# An audit takes about as long as so many steps.
_AUDIT_UNITS = 3


def _units(seeds: int, mechanisms: int, steps: list[int]) -> int:
    """How many units of work there are: a step is one."""
    return seeds * mechanisms * _AUDIT_UNITS + sum(steps)


class _Work:
    """Counts units over all parts of the test."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def of(self, name: str, units: int) -> Callable[[], None]:
        def advance() -> None:
            self._done += units
            self._progress(name, self._done, self._total)

        return advance


def _coverage(one: Coverage) -> dict[str, Any]:
    return {
        **asdict(one),
        "share_below": 1.0 - one.above / one.audits,
        "least_share_below": 1.0 - one.most_above / one.audits,
        "sound": one.sound,
        "reached": one.reached,
    }
