"""Metrics from sums that sites can add up: histograms of scores instead of the scores themselves.

Sums of integers over sites are exact, so all that is lost is the order of scores inside a bin and
the rounding of a few fixed-point sums. Every figure therefore comes with bounds, and the figure of
the pooled scores (``auroc``, ``auprc``, ``calibration`` in this package) lies between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from privfin.errors import DataError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: Bins for ranking. A bin is 0.004 wide in the logit at p = 0.5 and four times that in the tails.
RANKING_BINS = 4096
#: Bits after the point of the fixed-point sums.
FRACTION_BITS = 16
#: Largest loss of a record that is added up, in nats; more is counted as beyond it.
LARGEST_LOSS = 32.0

_OUTERMOST = 16.0
_LINEAR = 4.0
_UNIT = 2.0**FRACTION_BITS
# What floating point adds to or takes from means and areas of up to 2^26 records.
_SLACK = 1e-9


@dataclass(frozen=True)
class Bounded:
    """A figure computed from sums. That of the pooled scores lies in [``low``, ``high``].

    All three are NaN where the figure is not defined; ``high`` is inf where nothing bounds it.
    """

    value: float
    low: float
    high: float

    @classmethod
    def undefined(cls) -> Bounded:
        """No figure."""
        return cls(math.nan, math.nan, math.nan)

    @classmethod
    def within(cls, value: float, error: float, top: float = 1.0) -> Bounded:
        """``value`` give or take ``error``, cut to [0, ``top``]."""
        return cls.between(value, value - error, value + error, top)

    @classmethod
    def between(cls, value: float, low: float, high: float, top: float = 1.0) -> Bounded:
        """Bounds widened by what floating point may have cost them, cut to [0, ``top``]."""
        return cls(min(max(value, 0.0), top), max(low - _SLACK, 0.0), min(high + _SLACK, top))

    @classmethod
    def mean(cls, figures: Sequence[Bounded]) -> Bounded:
        """The mean of figures: the bounds' means bound it. Undefined without one."""
        if not figures:
            return cls.undefined()
        value, low, high = (
            math.fsum(getattr(one, name) for one in figures) / len(figures)
            for name in ("value", "low", "high")
        )
        return cls(value, low, high)


def score_edges(*, ranking: bool, calibration_bins: int | None) -> FloatArray:
    """The inner edges of the bins of a probability: public constants, the same for all data.

    For ranking, :data:`RANKING_BINS` bins are equally wide in asinh(logit / 4), between logits of
    -16 and 16: nearly uniform in the logit for the scores that models give to most records, and
    still telling 10^-5 from 10^-6 in the tails. For calibration, the edges k / B of its B bins are
    added, so that each of those is a union of bins.

    Args:
        ranking: whether scores are to be ranked.
        calibration_bins: B, or None.

    Returns:
        (S - 1,) increasing edges in (0, 1). Bin k holds [edge k - 1, edge k); the last one also 1.
    """
    found = [np.empty(0)]
    if ranking:
        reach = math.asinh(_OUTERMOST / _LINEAR)
        logits = _LINEAR * np.sinh(np.linspace(-reach, reach, RANKING_BINS - 1))
        found.append(1.0 / (1.0 + np.exp(-logits)))
    if calibration_bins is not None:
        found.append(_calibration_edges(calibration_bins))
    return np.unique(np.concatenate(found))


def _calibration_edges(bins: int) -> FloatArray:
    return np.arange(1, bins) / bins


@dataclass(frozen=True)
class LabelSums:
    """What is added up over records, and then over sites, of one label in one cell.

    Attributes:
        positives: (S,) records with the label, by bin of their score.
        negatives: (S,) records without it, likewise.
        beyond: records whose loss is above :data:`LARGEST_LOSS`.
        squared_error: sum of (probability - label)^2, in units of 2^-16.
        loss: sum of min(cross-entropy, :data:`LARGEST_LOSS`) in nats, in units of 2^-16.
        probability: (B,) sum of the probabilities in each calibration bin, in units of 2^-16.
    """

    positives: IntArray
    negatives: IntArray
    beyond: int
    squared_error: int
    loss: int
    probability: IntArray

    @classmethod
    def nothing(cls, bins: int, calibration_bins: int) -> LabelSums:
        """The sums over no record, for S bins and B calibration bins."""
        zeros = np.zeros(bins, dtype=np.int64)
        return cls(zeros, zeros, 0, 0, 0, np.zeros(calibration_bins, dtype=np.int64))

    @property
    def counts(self) -> tuple[int, int]:
        """Positive and negative records."""
        return int(self.positives.sum()), int(self.negatives.sum())


def label_sums(
    scores: npt.ArrayLike, labels: npt.ArrayLike, edges: FloatArray, calibration_bins: int
) -> LabelSums:
    """The sums over one site's records.

    A fixed-point sum is rounded once, so that it is off by at most 2^-17 however many records
    there are.

    Args:
        scores: (n,) probabilities.
        labels: (n,) of 0, 1, or NaN for unknown; unknown ones are not counted.
        edges: (S - 1,) from :func:`score_edges`.
        calibration_bins: B, or 0 for no calibration.

    Raises:
        DataError: a score is not a finite number, or a label is not 0, 1 or unknown.
        ValueError: shapes differ, or a score lies outside [0, 1].
    """
    score = np.asarray(scores, dtype=np.float64)
    label = np.asarray(labels, dtype=np.float64)
    if score.ndim != 1 or label.shape != score.shape:
        raise ValueError(f"scores and labels must be (n,), got {score.shape} and {label.shape}")
    if not np.isfinite(score).all():
        raise DataError("the model gave a score that is not a finite number; it cannot be counted")
    if ((score < 0.0) | (score > 1.0)).any():
        raise ValueError("scores must lie in [0, 1]")
    known = ~np.isnan(label)
    score, label = score[known], label[known]
    if not ((label == 0.0) | (label == 1.0)).all():
        raise DataError("labels must be 0, 1 or unknown")
    where = np.searchsorted(edges, score, side="right")
    of_label = [
        np.bincount(where[label == value], minlength=edges.size + 1).astype(np.int64)
        for value in (1.0, 0.0)
    ]
    # log1p keeps the loss of a negative whose probability is tiny; log(0) is the loss beyond all.
    with np.errstate(divide="ignore"):
        loss = np.where(label == 1.0, -np.log(score), -np.log1p(-score))
    place = np.searchsorted(_calibration_edges(max(calibration_bins, 1)), score, side="right")
    return LabelSums(
        positives=of_label[0],
        negatives=of_label[1],
        beyond=int((loss > LARGEST_LOSS).sum()),
        squared_error=_fixed((score - label) ** 2),
        loss=_fixed(np.minimum(loss, LARGEST_LOSS)),
        probability=np.array(
            [_fixed(score[place == one]) for one in range(calibration_bins)], dtype=np.int64
        ),
    )


def _fixed(values: FloatArray) -> int:
    return round(math.fsum(values.tolist()) * _UNIT)


def auroc_from(positives: IntArray, negatives: IntArray) -> Bounded:
    """The AUROC (the chance that a positive scores above a negative, ties count half).

    Pairs in different bins are ordered by their bins. A pair in one bin counts 0, 1/2 or 1, and 1/2
    is assumed, so with P positives and N negatives the error is at most

        1/2 * sum over bins of (positives in it) * (negatives in it) / (P N),

    which scores that all agree inside their bins attain.

    Args:
        positives, negatives: (S,) counts by bin, lowest scores first.

    Returns:
        Bounds in [0, 1]; undefined without a positive or a negative record.
    """
    pos, neg = positives.astype(np.float64), negatives.astype(np.float64)
    pairs = pos.sum() * neg.sum()
    if pairs == 0.0:
        return Bounded.undefined()
    below = np.cumsum(neg) - neg
    tied = 0.5 * float(pos @ neg) / pairs
    return Bounded.within(float(pos @ below) / pairs + tied, tied)


def auprc_from(positives: IntArray, negatives: IntArray) -> Bounded:
    """The average precision: the mean over positives x of the precision at x's score.

    Let a positives and c negatives lie in higher bins, and p and n in the bin of x. If x is the
    j-th positive of its bin from the top (ties in any order), k >= j positives and m negatives of
    the bin score at least as high as x, and the precision at x is (a + k) / (a + k + c + m). It
    grows with k <= p and falls with m, 0 <= m <= n, so that

        (a + j) / (a + j + c + n)  <=  precision  <=  (a + p) / (a + p + c).

    The left side is attained by negatives on top and positives that all differ; the right one by
    positives that are all tied on top of the negatives (ties can do better than any strict order,
    whose best is the sum of (a + j) / (a + j + c)). The value given takes each bin for one score.

    Args:
        positives, negatives: (S,) counts by bin, lowest scores first.

    Returns:
        Bounds in [0, 1]; undefined without a positive or a negative record.
    """
    total = int(positives.sum())
    if total == 0 or not negatives.any():
        return Bounded.undefined()
    value = low = high = 0.0
    above, called = 0, 0
    for p, n in zip(positives[::-1].tolist(), negatives[::-1].tolist(), strict=True):
        if p:
            found = above + np.arange(1, p + 1, dtype=np.float64)
            low += float((found / (found + called + n)).sum())
            high += p * (above + p) / (above + p + called)
            value += p * (above + p) / (above + p + called + n)
        above, called = above + p, called + n
    return Bounded.between(value / total, low / total, high / total)


def ece_from(sums: LabelSums, edges: FloatArray, sites: int) -> Bounded:
    """The expected calibration error: sum over its bins of |positives - sum of probabilities| / n.

    Positives are exact, because each calibration bin is a union of bins of ``edges``. Each site
    rounds each of B sums of probabilities by at most 2^-17, so the error is at most
    B * sites * 2^-17 / n.

    Args:
        sums: over all sites.
        edges: what ``sums`` was counted with, calibration edges among them.
        sites: how many sites were added.

    Returns:
        Bounds in [0, 1]; undefined without a record or a calibration bin.
    """
    bins, known = sums.probability.size, sum(sums.counts)
    if not bins or not known:
        return Bounded.undefined()
    # The first bin starts at 0, bin k at edge k - 1.
    starts = np.concatenate([[0.0], edges])
    place = np.searchsorted(_calibration_edges(bins), starts, side="right")
    positives = np.bincount(place, weights=sums.positives, minlength=bins)
    gaps = np.abs(positives - sums.probability / _UNIT)
    return Bounded.within(float(gaps.sum()) / known, bins * _rounding(sites) / known)


def brier_from(sums: LabelSums, sites: int) -> Bounded:
    """The Brier score: the mean squared error, off by at most sites * 2^-17 / n.

    Returns:
        Bounds in [0, 1]; undefined without a record.
    """
    known = sum(sums.counts)
    if not known:
        return Bounded.undefined()
    return Bounded.within(sums.squared_error / _UNIT / known, _rounding(sites) / known)


def loss_from(sums: LabelSums, sites: int) -> Bounded:
    """The mean cross-entropy in nats, off by at most sites * 2^-17 / n.

    A record beyond :data:`LARGEST_LOSS` was counted with that loss, so with one there is no upper
    bound.

    Returns:
        Bounds at or above 0; undefined without a record.
    """
    known = sum(sums.counts)
    if not known:
        return Bounded.undefined()
    bounded = Bounded.within(sums.loss / _UNIT / known, _rounding(sites) / known, top=math.inf)
    return bounded if not sums.beyond else Bounded(bounded.value, bounded.low, math.inf)


def _rounding(sites: int) -> float:
    """What the rounding at each site can move a fixed-point sum by."""
    return sites * 0.5 / _UNIT
