"""Area under the ROC curve with weights: the chance that a positive scores above a negative.

It is computed as the Mann–Whitney statistic (Hanley and McNeil, 1982), in which a tie counts half.
Weights make one bootstrap replicate one row of record multiplicities, so that the scores are sorted
once for all replicates.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def weighted_auroc(
    scores: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> float:
    """The weighted AUROC of one set of scores.

    Args:
        scores: (n,) finite numbers; higher means more likely positive.
        labels: (n,) of 0 and 1.
        weights: (n,) finite and >= 0; all 1 when left out.

    Returns:
        The AUROC in [0, 1]; NaN when the positives or the negatives have no weight.

    Raises:
        ValueError: when shapes differ or a value is out of range.
    """
    count = np.asarray(scores).size
    row = np.ones(count) if weights is None else np.asarray(weights, dtype=np.float64)
    return float(weighted_auroc_many(scores, labels, row[np.newaxis])[0])


def weighted_auroc_many(
    scores: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike
) -> FloatArray:
    """The weighted AUROC under each of R weight vectors.

    Args:
        scores: (n,) finite numbers; higher means more likely positive.
        labels: (n,) of 0 and 1.
        weights: (R, n) finite and >= 0.

    Returns:
        (R,) values in [0, 1]; NaN where the positives or the negatives have no weight.

    Raises:
        ValueError: when shapes differ or a value is out of range.
    """
    score = np.asarray(scores, dtype=np.float64)
    label = np.asarray(labels)
    weight = np.asarray(weights, dtype=np.float64)
    if score.ndim != 1 or label.shape != score.shape or weight.shape[1:] != score.shape:
        raise ValueError(
            "scores and labels must be (n,) and weights (R, n), got "
            f"{score.shape}, {label.shape} and {weight.shape}"
        )
    if not np.isfinite(score).all():
        raise ValueError("scores must be finite")
    if not ((label == 0) | (label == 1)).all():
        raise ValueError("labels must be 0 or 1")
    if not np.isfinite(weight).all() or (weight < 0.0).any():
        raise ValueError("weights must be finite and at least 0")
    if score.size == 0:
        return np.full(weight.shape[0], np.nan)

    order = np.argsort(score, kind="stable")
    ranked = score[order]
    tie_starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    weight = weight[:, order]
    of_positives = weight * (label[order] == 1)
    positives = np.add.reduceat(of_positives, tie_starts, axis=1)
    negatives = np.add.reduceat(weight - of_positives, tie_starts, axis=1)
    below = np.cumsum(negatives, axis=1)
    all_negatives = below[:, -1].copy()
    below -= 0.5 * negatives
    won = (positives * below).sum(axis=1)
    pairs = positives.sum(axis=1) * all_negatives
    area = np.full(weight.shape[0], np.nan)
    np.divide(won, pairs, out=area, where=pairs > 0.0)
    # Rounding of fractional weights may pass 1 by a last digit.
    return np.clip(area, 0.0, 1.0, out=area)
