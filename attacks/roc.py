"""The ROC of a membership score, and the true-positive rate at a low false-positive rate.

A record is called a member if its score is at least the threshold. Records of equal score are
called together: no point of the curve lies inside a block of ties, so that the order of the rows
changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from attacks.limits import FloatArray, IntArray, check_confidence, check_scores, clopper_pearson

#: False-positive rates at which attacks are reported.
REPORTED_RATES = (0.01, 0.001, 0.0001)


@dataclass(frozen=True)
class Roc:
    """Counts at every threshold that tells records apart, from calling none to calling all.

    Attributes:
        thresholds: (k + 1,) falling: infinity, then each of the k different scores.
        true_positives: (k + 1,) members with a score of at least the threshold, from 0 up.
        false_positives: (k + 1,) non-members likewise.
        members: how many there are, at least 1.
        nonmembers: how many there are, at least 1.
    """

    thresholds: FloatArray = field(repr=False)
    true_positives: IntArray = field(repr=False)
    false_positives: IntArray = field(repr=False)
    members: int
    nonmembers: int

    @property
    def tpr(self) -> FloatArray:
        """(k + 1,) true-positive rates."""
        return self.true_positives / self.members

    @property
    def fpr(self) -> FloatArray:
        """(k + 1,) false-positive rates."""
        return self.false_positives / self.nonmembers


def roc(scores: npt.ArrayLike, members: npt.ArrayLike) -> Roc:
    """The curve of one attack.

    Args:
        scores: (n,) finite; higher means more likely a member.
        members: (n,) of False and True, or 0 and 1.

    Raises:
        ValueError: when shapes differ, a value is out of range, or one of the groups is empty.
    """
    found, labels = check_scores(scores, members)
    total = int(labels.sum())
    if total in (0, labels.size):
        raise ValueError("a curve needs at least one member and one non-member")
    levels, block = np.unique(found, return_inverse=True)
    inside = np.bincount(block[labels], minlength=levels.size)[::-1]
    outside = np.bincount(block[~labels], minlength=levels.size)[::-1]
    return Roc(
        np.concatenate(([np.inf], levels[::-1])),
        np.concatenate(([0], np.cumsum(inside))).astype(np.int64),
        np.concatenate(([0], np.cumsum(outside))).astype(np.int64),
        total,
        labels.size - total,
    )


@dataclass(frozen=True)
class OperatingPoint:
    """One point of a curve, with the counts behind it.

    Attributes:
        target_fpr: the false-positive rate asked for.
        tpr: the share of members called members.
        fpr: the share of non-members called members, as realised: at most ``target_fpr``, and less
            where a block of ties or the size of the sample allows no more.
        threshold: lowest score that is called a member; infinity where none is.
        true_positives: count behind ``tpr``.
        false_positives: count behind ``fpr``.
        members: how many there are.
        nonmembers: how many there are.
        tpr_limits: Clopper–Pearson limits of the true-positive rate.
        fpr_limits: the same of the false-positive rate.
        smallest_fpr: 1 / nonmembers, the smallest rate above 0 that the sample resolves. A target
            below it is measured at no false positive at all, whatever the true rate is.
    """

    target_fpr: float
    tpr: float
    fpr: float
    threshold: float
    true_positives: int
    false_positives: int
    members: int
    nonmembers: int
    tpr_limits: tuple[float, float]
    fpr_limits: tuple[float, float]
    smallest_fpr: float

    @property
    def is_resolved(self) -> bool:
        """Whether the sample is large enough for the target."""
        return self.target_fpr >= self.smallest_fpr


def tpr_at_fpr(curve: Roc, target_fpr: float, confidence: float = 0.95) -> OperatingPoint:
    """The point with the most members found among those with FPR at most ``target_fpr``.

    No interpolation: the point is a test that can be carried out. The threshold lies just above the
    highest non-member score that is not called, so it depends on the non-members alone. Given it,
    true positives are binomial, and the limits of the true-positive rate hold as for a threshold
    fixed in advance. Those of the false-positive rate hold as well: with false positives bounded by
    a count k, its rate is an order statistic between Beta(k, n - k + 1) and Beta(k + 1, n - k),
    whose quantiles the Clopper–Pearson limits are. Limits hold for one target at a time.

    They assume independent records: where a patient has several, score patients.

    Args:
        curve: of one attack.
        target_fpr: in [0, 1].
        confidence: of each pair of limits, in (0, 1).

    Raises:
        ValueError: when a value is out of range.
    """
    if not 0.0 <= target_fpr <= 1.0:
        raise ValueError(f"target_fpr must be in [0, 1], got {target_fpr}")
    check_confidence(confidence)
    # 0.29 * 100 is a last digit below 29.
    allowed = target_fpr * curve.nonmembers * (1.0 + 1e-12)
    at = int(np.searchsorted(curve.false_positives, allowed, side="right")) - 1
    found, alarms = int(curve.true_positives[at]), int(curve.false_positives[at])
    return OperatingPoint(
        target_fpr,
        found / curve.members,
        alarms / curve.nonmembers,
        float(curve.thresholds[at]),
        found,
        alarms,
        curve.members,
        curve.nonmembers,
        clopper_pearson(found, curve.members, confidence),
        clopper_pearson(alarms, curve.nonmembers, confidence),
        1.0 / curve.nonmembers,
    )
