"""What an attack achieved: AUC, TPR at low FPR, and a lower bound on ε beside its ceiling."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from attacks.attempt import Attempt
from attacks.auc import Auc, auc
from attacks.coins import coin_patients
from attacks.limits import Bound, FloatArray
from attacks.roc import REPORTED_RATES, OperatingPoint, Roc, roc, tpr_at_fpr
from attacks.thresholds import guess_bound

# Shares of the coins that are guessed "in" and "out", fixed before any score is seen.
_GUESSED = ((0.01, 0.01), (0.05, 0.05), (0.2, 0.2))
_CURVE_POINTS = 200


@dataclass(frozen=True)
class Measured:
    """One attack's success.

    Attributes:
        attempt: the attack.
        area: under the ROC curve, with limits.
        points: the largest TPR at each of :data:`attacks.roc.REPORTED_RATES`, with limits.
        bound: with this confidence the training's ε is at least this; None where there are too few
            patients for a guess, and where the bound's assumptions do not hold.
        coins: patients whose membership the bound takes as fair coins.
        curve: the whole curve.
    """

    attempt: Attempt
    area: Auc
    points: tuple[OperatingPoint, ...]
    bound: Bound | None
    coins: int
    curve: Roc = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a file; of the curve at most 200 points, evenly spread in log FPR."""
        attempt = self.attempt
        return {
            "attack": attempt.attack,
            "observer": attempt.observer,
            "stratum": attempt.stratum,
            "unit": "patient",
            "members": self.curve.members,
            "nonmembers": self.curve.nonmembers,
            "auc": {"value": self.area.area, "low": self.area.low, "high": self.area.high},
            "tpr": [
                {
                    "target_fpr": p.target_fpr,
                    "tpr": p.tpr,
                    "tpr_low": p.tpr_limits[0],
                    "tpr_high": p.tpr_limits[1],
                    "fpr": p.fpr,
                    "fpr_high": p.fpr_limits[1],
                    "true_positives": p.true_positives,
                    "false_positives": p.false_positives,
                    "smallest_fpr": p.smallest_fpr,
                    "resolved": p.is_resolved,
                }
                for p in self.points
            ],
            "epsilon_bound": None if self.bound is None else self.bound.epsilon,
            "epsilon_ceiling": None if self.bound is None else self.bound.ceiling,
            "coins": self.coins,
            "curve": thinned(self.curve),
            "note": attempt.note,
        }


def measure(
    attempt: Attempt,
    *,
    delta: float,
    confidence: float = 0.95,
    tests: int = 1,
    seed: int = 0,
) -> Measured:
    """Measure one attack.

    The bound is :func:`attacks.one_run.one_run_epsilon` on the patients of
    :func:`attacks.coins.coin_patients`: guesses are the 1 %, 5 % or 20 % with the highest and the
    lowest scores (equal ones in random order), the best of the three at a third of the error each.
    It holds for every (ε, δ)-private training, add/remove, if members and non-members were split at
    random.

    Args:
        attempt: the attack, one score a patient.
        delta: at which ε is claimed, in [0, 1).
        confidence: of every interval, in (0, 1), and of the bound.
        tests: how many bounds are read together; each has this share of the error, so that with
            ``confidence`` all of them hold. 0 states no bound.
        seed: of the coins.

    Raises:
        ValueError: a side has no patient, or ``tests`` is negative.
    """
    if tests < 0:
        raise ValueError(f"tests must be at least 0, got {tests}")
    curve = roc(attempt.scores, attempt.members)
    chosen = coin_patients(attempt.members, seed) if tests else np.empty(0, dtype=np.int64)
    m = chosen.size
    guesses = sorted({(round(a * m), round(b * m)) for a, b in _GUESSED} - {(0, 0)})
    bound = None
    if guesses and min(attempt.members[chosen].sum(), (~attempt.members[chosen]).sum()) > 0:
        bound = guess_bound(
            _without_ties(attempt.scores[chosen], seed),
            attempt.members[chosen],
            route="one_run",
            choice="bonferroni",
            guesses=guesses,
            delta=delta,
            confidence=1.0 - (1.0 - confidence) / tests,
        )
    return Measured(
        attempt,
        auc(attempt.scores, attempt.members, confidence=confidence),
        tuple(tpr_at_fpr(curve, rate, confidence) for rate in REPORTED_RATES),
        bound,
        m,
        curve,
    )


def _without_ties(scores: FloatArray, seed: int) -> FloatArray:
    """Ranks, equal scores in an order drawn at random.

    A guess that divides a block of ties is an attack that throws coins within it. Counting all of
    its guesses as wrong would show nothing of an attack that only says yes or no.
    """
    drawn = np.random.default_rng([seed, 0x71E5]).permutation(scores.size)
    ranks = np.empty(scores.size)
    ranks[np.lexsort((drawn, scores))] = np.arange(scores.size)
    return ranks


def thinned(curve: Roc) -> list[list[float]]:
    """(FPR, TPR) points of a curve, at most 200: first and last, and evenly in log FPR between."""
    points = np.stack([curve.fpr, curve.tpr], axis=1)
    if len(points) > _CURVE_POINTS:
        # The highest TPR of each false-positive count, then evenly spread counts.
        wanted = np.geomspace(1.0, curve.nonmembers, _CURVE_POINTS - 2)
        at = np.searchsorted(curve.false_positives, np.floor(wanted), side="right") - 1
        points = points[np.unique(np.concatenate(([0], at, [len(points) - 1])))]
    return [[float(x), float(y)] for x, y in points]
