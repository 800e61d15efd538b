"""Attacks on what imputes missing features: its error on a pair, and reports that it repeats.

An imputer is trained on members' pairs, so that a smaller error is a sign of membership; and it
puts what it learned into *other* patients' features, where a unique report can be looked for.
Definitions of our own.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from attacks import scores
from attacks.attempt import Attempt
from attacks.limits import Bound, FloatArray
from attacks.patients import by_patient
from attacks.scores.likelihood import Variance
from attacks.thresholds import guess_bound

# A squared distance below this is none: what single precision rounds away.
_SMALLEST_ERROR = 1e-12
# Below this many shadows without a record its own variance is worse than the pooled one.
_OWN_VARIANCE = 32
# Shares of the coins guessed in and out, fixed before any score is seen.
_GUESSED = (0.05, 0.2)


def error_signal(imputed: npt.ArrayLike, real: npt.ArrayLike) -> FloatArray:
    """Minus the logarithm of the squared distance between imputed and real features.

    Args:
        imputed: (..., records, d) finite.
        real: of the same shape.

    Returns:
        (..., records); larger means nearer. A perfect imputation counts as a distance of 1e-6.

    Raises:
        ValueError: shapes differ or a value is not finite.
    """
    said, true = np.asarray(imputed, np.float64), np.asarray(real, np.float64)
    if said.shape != true.shape or said.ndim < 2:
        raise ValueError(f"imputed {said.shape} and real {true.shape} must have the same shape")
    if not (np.isfinite(said).all() and np.isfinite(true).all()):
        raise ValueError("features must be finite")
    signal: FloatArray = -np.log(np.maximum(((said - true) ** 2).sum(axis=-1), _SMALLEST_ERROR))
    return signal


def error_attempts(
    signals: npt.ArrayLike,
    patients: npt.ArrayLike,
    members: npt.ArrayLike,
    *,
    shadows: npt.ArrayLike | None = None,
    inside: npt.ArrayLike | None = None,
    observer: str = "outsider",
) -> list[Attempt]:
    """``imputer-error``, and with shadow models ``imputer-error-lira``, of paired records.

    Args:
        signals: (records, k) of :func:`error_signal`, one column a direction.
        patients: (records,) positions of patients, as :func:`attacks.patients.owners` gives them.
        members: (patients,) whether the model was trained on that patient.
        shadows: (models, records, k) the shadow models' signals; each model's features are its own.
        inside: (models, records) whether that shadow was trained on that record.
        observer: whose view it is.

    Raises:
        ValueError: shapes differ, or a record has no shadow without it.
    """
    own = np.asarray(signals, np.float64)
    if own.ndim != 2:
        raise ValueError(f"signals must be (records, directions), got {own.shape}")
    if (shadows is None) != (inside is None):
        raise ValueError("shadows and inside go together")
    found = {"imputer-error": own.mean(axis=1)}
    if shadows is not None and inside is not None:
        without = int((~np.asarray(inside).astype(bool)).sum(axis=0).min())
        variance: Variance = "record" if without >= _OWN_VARIANCE else "pooled"
        found["imputer-error-lira"] = scores.lira(own, shadows, inside, variance=variance)
    return [
        Attempt(name, observer, "both", by_patient(score, patients), np.asarray(members))
        for name, score in found.items()
    ]


def echoes(imputed: npt.ArrayLike, canaries: npt.ArrayLike, top: int = 1) -> FloatArray:
    """How clearly each canary's feature is heard in what is imputed for other patients.

    Args:
        imputed: (others, d) features imputed for patients that hold no canary.
        canaries: (m, d) the canaries' own features, of the same model.
        top: the mean of this many largest cosines, at least 1; 1 is the largest.

    Returns:
        (m,) in [-1, 1]; larger means more likely planted. A zero feature has cosine 0.

    Raises:
        ValueError: widths differ or ``top`` is out of range.
    """
    left, right = np.asarray(imputed, np.float64), np.asarray(canaries, np.float64)
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
        raise ValueError(f"imputed {left.shape} and canaries {right.shape} must have one width")
    if not 1 <= top <= len(left):
        raise ValueError(f"top must be from 1 to {len(left)}, got {top}")
    cosines = _unit(right) @ _unit(left).T
    largest: FloatArray = np.sort(cosines, axis=1)[:, -top:].mean(axis=1)
    return largest


def canary_bound(attempt: Attempt, *, delta: float, confidence: float = 0.95) -> Bound:
    """A lower bound on ε from canaries planted by fair coins, each on its own (one run).

    The 5 % and the 20 % with the highest and lowest scores are guessed in and out, the better of
    the two at half of the error each. It holds for add/remove if a canary that is out is no
    patient at all in that training.

    Raises:
        ValueError: fewer than five canaries, or a value is out of range.
    """
    count = len(attempt.scores)
    pairs = sorted({(round(a * count), round(a * count)) for a in _GUESSED} - {(0, 0)})
    if count < 5:
        raise ValueError(f"a bound needs at least 5 canaries, got {count}")
    return guess_bound(
        attempt.scores, attempt.members, route="one_run", choice="bonferroni", guesses=pairs,
        delta=delta, confidence=confidence,
    )  # fmt: skip


def _unit(rows: FloatArray) -> FloatArray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: FloatArray = rows / np.where(length > 0.0, length, 1.0)
    return unit
