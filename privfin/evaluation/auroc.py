"""Area under the ROC curve with weights: the chance that a positive scores above a negative.

It is computed as the Mann–Whitney statistic (Hanley and McNeil, 1982), in which a tie counts half.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from privfin.evaluation.ranking import FloatArray, Ranking, rank


def auroc(ranking: Ranking) -> FloatArray:
    """The weighted AUROC under each of R weight vectors.

    Returns:
        (R,) values in [0, 1]; NaN where the positives or the negatives have no weight.
    """
    positives, negatives = ranking.positives, ranking.negatives
    below = np.cumsum(negatives, axis=1)
    below -= 0.5 * negatives
    won = (positives * below).sum(axis=1)
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    area = np.full(positives.shape[0], np.nan)
    np.divide(won, pairs, out=area, where=pairs > 0.0)
    # Rounding of fractional weights may pass 1 by a last digit.
    return np.clip(area, 0.0, 1.0, out=area)


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
    return float(auroc(rank(scores, labels, row[np.newaxis]))[0])
