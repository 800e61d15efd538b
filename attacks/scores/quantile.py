"""Quantile regression: how sure a model usually is of a stranger who looks like this record.

Bertran, Tang, Kearns, Morgenstern, Roth and Wu, "Scalable Membership Inference Attacks via Quantile
Regression", 2023, arXiv:2307.03694. No shadow model: one regression of the target's own signal
on features of records that are known not to be members.

The false-positive rate holds only where those records are exchangeable with the non-members that
are audited (other hospitals and other years are not).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import KFold, cross_val_predict

from attacks.scores.checks import FloatArray, floats

# E log χ² with one degree of freedom: what the log of a squared Gaussian residual is off by.
_LOG_CHI_SQUARE = -1.2703628454614782
_SMALLEST_SCALE = 1e-6
_FOLDS = 5


def quantile_margin(
    target: npt.ArrayLike,
    features: npt.ArrayLike,
    strangers: npt.ArrayLike,
    stranger_features: npt.ArrayLike,
    *,
    level: float = 0.99,
) -> FloatArray:
    """The signal minus the stranger's quantile at these features (their algorithm 1).

    q minimises the pinball loss at ``level`` over the strangers; score = φ(x) - q(x). Above 0 is
    their attack at a false-positive rate of 1 - level; scores far from 0 mean little.

    Args:
        target: (records,) the target's signals, larger when surer (logits of
            :mod:`attacks.scores.signals`).
        features: (records, d) of the inputs or of public embeddings; NaN where missing. Nothing
            that depends on membership.
        strangers: (s,) the target's signals on records that it was not trained on.
        stranger_features: (s, d).
        level: in (0, 1). Fewer than 10 / (1 - level) strangers cannot tell it.

    Returns:
        (records,); larger means member.

    Raises:
        ValueError: when shapes differ, values are not finite, or the strangers are too few.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be between 0 and 1, not {level}")
    own, inputs, others, known = _checked(target, features, strangers, stranger_features)
    least = int(np.ceil(10.0 / min(level, 1.0 - level) - 1e-6))
    if others.size < least:
        raise ValueError(
            f"a quantile at {level:g} takes {least} records that are not members, not {others.size}"
        )
    model = _regression(loss="quantile", quantile=level).fit(known, others)
    score: FloatArray = own - np.asarray(model.predict(inputs), dtype=np.float64)
    return score


def gaussian_margin(
    target: npt.ArrayLike,
    features: npt.ArrayLike,
    strangers: npt.ArrayLike,
    stranger_features: npt.ArrayLike,
) -> FloatArray:
    """How many standard deviations the signal is above the stranger's at these features.

    Their Gaussian head: score = (φ(x) - μ(x)) / σ(x), so that one score serves every false-positive
    rate. μ is fitted by least squares; log σ² to the log of the squared residuals of μ on folds
    that it was not fitted on.

    Args:
        target: (records,) the target's signals, larger when surer.
        features: (records, d); NaN where missing. Nothing that depends on membership.
        strangers: (s,) the target's signals on records that it was not trained on.
        stranger_features: (s, d).

    Returns:
        (records,); larger means member.

    Raises:
        ValueError: when shapes differ, values are not finite, or there are fewer than 100
            strangers.
    """
    own, inputs, others, known = _checked(target, features, strangers, stranger_features)
    if others.size < 100:
        raise ValueError(f"it takes 100 records that are not members, not {others.size}")
    folds = KFold(_FOLDS, shuffle=True, random_state=0)
    usual = np.asarray(cross_val_predict(_regression(), known, others, cv=folds))
    floor = _SMALLEST_SCALE * max(1.0, float(np.abs(others).max()))
    squares = np.log(np.maximum((others - usual) ** 2, floor**2))
    mean = np.asarray(_regression().fit(known, others).predict(inputs))
    spread = np.asarray(_regression().fit(known, squares).predict(inputs)) - _LOG_CHI_SQUARE
    score: FloatArray = (own - mean) / np.maximum(np.exp(0.5 * spread), floor)
    return score


def _regression(
    loss: str = "squared_error", quantile: float | None = None
) -> HistGradientBoostingRegressor:
    """Small trees that no chance enters; missing features (a missing modality) go their own way."""
    return HistGradientBoostingRegressor(
        loss=loss,
        quantile=quantile,
        max_iter=50,
        learning_rate=0.1,
        max_leaf_nodes=8,
        min_samples_leaf=20,
        early_stopping=False,
        random_state=0,
    )


def _checked(
    target: npt.ArrayLike,
    features: npt.ArrayLike,
    strangers: npt.ArrayLike,
    stranger_features: npt.ArrayLike,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """The four arrays, aligned."""
    own, others = floats("target", target, 1), floats("strangers", strangers, 1)
    inputs = floats("features", features, 2, unknown=True)
    known = floats("stranger_features", stranger_features, 2, unknown=True)
    if len(inputs) != own.size or len(known) != others.size or inputs.shape[1] != known.shape[1]:
        raise ValueError(
            f"features {inputs.shape} and stranger_features {known.shape} must have a row for each "
            f"of {own.size} records and {others.size} strangers, and the same columns"
        )
    return own, inputs, others, known
