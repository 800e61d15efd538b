"""Area under the precision-recall curve with weights, as average precision.

AP = sum over the different scores, highest first, of (gain in recall) x (precision at that score):
a step function without interpolation, which would be too optimistic (Davis and Goadrich, "The
relationship between precision-recall and ROC curves", ICML 2006). Equal scores are one step. It is
what ``sklearn.metrics.average_precision_score`` computes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from privfin.evaluation.ranking import FloatArray, Ranking, rank


def auprc(ranking: Ranking) -> FloatArray:
    """The weighted average precision under each of R weight vectors.

    Returns:
        (R,) values in [0, 1]; NaN where the positives or the negatives have no weight. (Without
        negatives it would be 1 for any scores, so it says nothing.)
    """
    positives = ranking.positives[:, ::-1]
    found = np.cumsum(positives, axis=1)
    called = found + np.cumsum(ranking.negatives[:, ::-1], axis=1)
    precision = np.zeros_like(found)
    np.divide(found, called, out=precision, where=called > 0.0)
    all_positives = positives.sum(axis=1)
    defined = (all_positives > 0.0) & (ranking.negatives.sum(axis=1) > 0.0)
    area = np.full(positives.shape[0], np.nan)
    np.divide((positives * precision).sum(axis=1), all_positives, out=area, where=defined)
    return np.clip(area, 0.0, 1.0, out=area)


def weighted_auprc(
    scores: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> float:
    """The weighted average precision of one set of scores.

    Args:
        scores: (n,) finite numbers; higher means more likely positive.
        labels: (n,) of 0 and 1.
        weights: (n,) finite and >= 0; all 1 when left out.

    Returns:
        The average precision in [0, 1]; NaN when the positives or the negatives have no weight.

    Raises:
        ValueError: when shapes differ or a value is out of range.
    """
    count = np.asarray(scores).size
    row = np.ones(count) if weights is None else np.asarray(weights, dtype=np.float64)
    return float(auprc(rank(scores, labels, row[np.newaxis]))[0])
