"""Scores sorted once for many weight vectors: what the ROC and precision-recall areas are made of.

Weights make one bootstrap replicate one row of record multiplicities, so that the scores are sorted
once for all replicates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ranking:
    """The weight of positives and of negatives at every different score, lowest score first.

    Attributes:
        positives: (R, G) weight of the positives at each of G scores, under R weight vectors.
        negatives: (R, G) the same of the negatives.
    """

    positives: FloatArray
    negatives: FloatArray


def rank(scores: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike) -> Ranking:
    """Sort the scores and add up the weights of equal ones.

    Args:
        scores: (n,) finite numbers; higher means more likely positive.
        labels: (n,) of 0 and 1.
        weights: (R, n) finite and >= 0.

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
        nothing = np.empty((weight.shape[0], 0))
        return Ranking(nothing, nothing)
    order = np.argsort(score, kind="stable")
    ranked = score[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    weight = weight[:, order]
    of_positives = weight * (label[order] == 1)
    return Ranking(
        np.add.reduceat(of_positives, starts, axis=1),
        np.add.reduceat(weight - of_positives, starts, axis=1),
    )
