"""The area under the ROC curve, with limits: the chance that a member outscores a non-member.

It is the Mann–Whitney statistic, in which a tie counts half. It is an average over all records, and
says little about the few that are at risk: report the rate at a low false-positive rate beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from attacks.limits import BoolArray, FloatArray, IntArray, check_confidence, check_scores

# Resamples at a time, so that memory stays at this many times the number of records.
_BATCH = 64


@dataclass(frozen=True)
class Auc:
    """An area in [0, 1] and its two-sided confidence limits."""

    area: float
    low: float
    high: float


def auc(
    scores: npt.ArrayLike,
    members: npt.ArrayLike,
    *,
    confidence: float = 0.95,
    interval: Literal["delong", "bootstrap"] = "delong",
    patients: npt.ArrayLike | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Auc:
    """The area, and limits by one of two methods.

    ``delong``: a normal interval with the variance of DeLong, DeLong and Clarke-Pearson (1988);
    with patients, that of Obuchowski (1997), which sums each patient's components first.

    ``bootstrap``: percentiles over resamples, drawn from the members and the non-members apart;
    with patients, whole patients are drawn.

    Where all pairs have one outcome (no error, only errors, only ties) both collapse to a point.
    Then as many pairs as the smaller group has, no two of which share a patient, are independent
    and all alike, and the limits are the Clopper–Pearson limits of that. With fewer than two
    patients in a group nothing is known: the limits are 0 and 1.

    Args:
        scores: (n,) finite; higher means more likely a member.
        members: (n,) of False and True, or 0 and 1.
        confidence: of the interval, in (0, 1).
        interval: which method.
        patients: (n,) identities, of any type that sorts; each record is a patient of its own when
            left out.
        resamples: of the bootstrap, at least 1.
        seed: of the bootstrap.

    Raises:
        ValueError: when shapes differ, a value is out of range, one of the groups is empty, or a
            patient has records in both.
    """
    found, labels = check_scores(scores, members)
    error = check_confidence(confidence)
    if labels.all() or not labels.any():
        raise ValueError("an area needs at least one member and one non-member")
    clusters = _clusters(labels, patients)
    inside, outside = _won(found, labels)
    area = float(inside.mean())
    groups = (np.unique(clusters[labels]).size, np.unique(clusters[~labels]).size)
    if min(groups) < 2:
        return Auc(area, 0.0, 1.0)
    same = _one_outcome(found, labels)
    if same:
        slack = 1.0 - (0.5 * error) ** (1.0 / min(groups))
        slack *= 0.5 if area == 0.5 else 1.0
        return Auc(area, max(0.0, area - slack), min(1.0, area + slack))
    if interval == "delong":
        variance = _variance(inside, clusters[labels]) + _variance(outside, clusters[~labels])
        half = -float(ndtri(0.5 * error)) * float(np.sqrt(variance))
        return Auc(area, max(0.0, area - half), min(1.0, area + half))
    if interval == "bootstrap":
        if resamples < 1:
            raise ValueError(f"resamples must be at least 1, got {resamples}")
        areas = _resampled(found, labels, clusters, resamples, np.random.default_rng(seed))
        low, high = np.quantile(areas, [0.5 * error, 1.0 - 0.5 * error])
        return Auc(area, float(low), float(high))
    raise ValueError(f"interval must be delong or bootstrap, got {interval!r}")


def _clusters(labels: BoolArray, patients: npt.ArrayLike | None) -> IntArray:
    """(n,) numbers from 0 up, one a patient."""
    if patients is None:
        return np.arange(labels.size)
    identities = np.asarray(patients)
    if identities.shape != labels.shape:
        raise ValueError(f"patients must have one entry a record, got {identities.shape}")
    clusters = np.unique(identities, return_inverse=True)[1].astype(np.int64)
    if np.intersect1d(clusters[labels], clusters[~labels]).size:
        raise ValueError("a patient has records among the members and among the non-members")
    return clusters


def _won(scores: FloatArray, labels: BoolArray) -> tuple[FloatArray, FloatArray]:
    """DeLong's components: for each member the share of non-members below it, and vice versa."""
    inside, outside = np.sort(scores[labels]), np.sort(scores[~labels])
    below = np.searchsorted(outside, scores[labels], side="left")
    below_or_tied = np.searchsorted(outside, scores[labels], side="right")
    lost = np.searchsorted(inside, scores[~labels], side="left")
    lost_or_tied = np.searchsorted(inside, scores[~labels], side="right")
    won = 0.5 * (below + below_or_tied) / outside.size
    return won, 1.0 - 0.5 * (lost + lost_or_tied) / inside.size


def _one_outcome(scores: FloatArray, labels: BoolArray) -> bool:
    inside, outside = scores[labels], scores[~labels]
    separated = inside.min() > outside.max() or inside.max() < outside.min()
    return bool(separated or scores.min() == scores.max())


def _variance(components: FloatArray, clusters: IntArray) -> float:
    """Of the components' mean, patients being independent (Obuchowski 1997, eq. 3)."""
    own = np.unique(clusters, return_inverse=True)[1]
    sums = np.bincount(own, weights=components - components.mean())
    return float(sums.size / (sums.size - 1) * np.sum(sums**2) / components.size**2)


def _resampled(
    scores: FloatArray,
    labels: BoolArray,
    clusters: IntArray,
    resamples: int,
    rng: np.random.Generator,
) -> FloatArray:
    """(resamples,) areas. Patients are drawn with replacement from each group."""
    block = np.unique(scores, return_inverse=True)[1]
    order = np.argsort(block, kind="stable")
    block, labels, clusters = block[order], labels[order], clusters[order]
    starts = np.flatnonzero(np.diff(block, prepend=-1))
    inside, outside = np.unique(clusters[labels]), np.unique(clusters[~labels])
    areas = []
    for first in range(0, resamples, _BATCH):
        count = min(_BATCH, resamples - first)
        drawn = np.zeros((count, int(clusters.max()) + 1))
        for group in (inside, outside):
            equal = np.full(group.size, 1.0 / group.size)
            drawn[:, group] = rng.multinomial(group.size, equal, size=count)
        weights = drawn[:, clusters]
        positives = np.add.reduceat(weights * labels, starts, axis=1)
        negatives = np.add.reduceat(weights * ~labels, starts, axis=1)
        below = np.cumsum(negatives, axis=1) - 0.5 * negatives
        pairs = positives.sum(axis=1) * negatives.sum(axis=1)
        areas.append((positives * below).sum(axis=1) / pairs)
    return np.concatenate(areas)
