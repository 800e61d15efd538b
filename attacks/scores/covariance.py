"""LiRA on several labels or queries at once, aware of how they move together.

A model trained on a radiograph grows surer of all its findings together; summing the labels as if
they were independent counts that evidence several times over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr
from sklearn.covariance import ledoit_wolf

from attacks.scores.checks import BoolArray, FloatArray, IntArray
from attacks.scores.likelihood import Mode, SideFit, fit_side
from attacks.scores.shadows import ShadowSignals, shadow_signals

Covariance = Literal["pooled", "record"]

# Smallest eigenvalue of a correlation matrix whose entries come from different records.
_SMALLEST_EIGENVALUE = 1e-3


def lira_covariance(
    target: npt.ArrayLike,
    shadows: npt.ArrayLike,
    membership: npt.ArrayLike,
    *,
    mode: Mode = "offline",
    covariance: Covariance = "pooled",
) -> FloatArray:
    """The likelihood-ratio score with multivariate Gaussians over the known labels.

    LiRA's several-queries form (arXiv:2112.03570, section VI.C) with labels for queries; the
    offline form is our own. With Σ the covariance over shadows on one side, restricted to the
    record's known labels, and d the standard deviations in Σ_out:

    - online: log N(φ; μ_in, Σ_in) - log N(φ; μ_out, Σ_out);
    - offline: log Φ(dᵀ Σ_out⁻¹ (φ - μ_out) / √(dᵀ Σ_out⁻¹ d)), the best one-sided test for a rise
      of all labels by as many standard deviations. With a diagonal Σ_out it is
      :func:`attacks.scores.lira`.

    Args:
        target: (records, k) signals of the target; NaN where the label is unknown.
        shadows: (models, records, k), NaN at the same places.
        membership: (models, records): whether that shadow was trained on that record.
        mode: "offline" looks at shadows trained without the record only; "online" at both kinds.
        covariance: "pooled" takes one matrix a side, from the residuals about each record's mean;
            "record" one per record and side, shrunk as by Ledoit and Wolf (2004), which wants well
            above k shadows a side (64 and more for 14 labels).

    Returns:
        (records,); larger means member. 0 (online) or log ½ (offline) where no label is known.

    Raises:
        ValueError: as in :func:`attacks.scores.shadows.shadow_signals`; every record needs two
            shadows on each side that is looked at.
    """
    if mode not in ("online", "offline"):
        raise ValueError(f'mode must be "online" or "offline", not {mode!r}')
    if covariance not in ("pooled", "record"):
        raise ValueError(f'covariance must be "pooled" or "record", not {covariance!r}')
    least_inside = 2 if mode == "online" else 0
    given = shadow_signals(target, shadows, membership, least_inside=least_inside, least_outside=2)
    outside = _log_likelihoods(given, ~given.inside, covariance, one_sided=mode == "offline")
    if mode == "offline":
        return outside
    return _log_likelihoods(given, given.inside, covariance, one_sided=False) - outside


def _log_likelihoods(
    given: ShadowSignals, rows: BoolArray, covariance: Covariance, *, one_sided: bool
) -> FloatArray:
    """(records,): log N(φ; μ, Σ) without its constant, or the offline one-sided test."""
    fit = fit_side(given, rows, variance="pooled", centre="mean")
    found = np.full(given.target.shape[0], np.log(0.5) if one_sided else 0.0)
    matrices = _pooled if covariance == "pooled" else _of_each_record
    # In standard deviations of each label, so that no label's unit matters.
    ahead = (given.target - fit.centre) / fit.scale
    for records, columns, matrix in matrices(given, rows, fit):
        off = ahead[np.ix_(records, columns)]
        if one_sided:
            rise = np.sqrt(np.diag(matrix))
            weights = np.linalg.solve(matrix, rise)
            found[records] = log_ndtr(off @ weights / np.sqrt(rise @ weights))
        else:
            distance = (off * np.linalg.solve(matrix, off.T).T).sum(axis=1)
            scales = np.log(fit.scale[np.ix_(records, columns)]).sum(axis=1)
            found[records] = -0.5 * (distance + np.linalg.slogdet(matrix)[1]) - scales
    return found


_Matrices = Iterator[tuple[IntArray, IntArray, FloatArray]]


def _pooled(given: ShadowSignals, rows: BoolArray, fit: SideFit) -> _Matrices:
    """For each pattern of known labels: its records, its labels, their pooled correlations.

    An entry is estimated on the records that know both labels; such a matrix may be indefinite, so
    its eigenvalues are held above a small one.
    """
    residuals = np.where(
        rows[..., np.newaxis] & given.known, (given.shadows - fit.centre) / fit.scale, 0.0
    )
    flat = residuals.reshape(-1, residuals.shape[2])
    known = given.known.astype(np.float64)
    freedom = (known * (rows.sum(axis=0) - 1.0)[:, np.newaxis]).T @ known
    matrix = flat.T @ flat / np.maximum(freedom, 1.0)
    # Labels that never vary have only zeros here; they stay apart from the others.
    np.fill_diagonal(matrix, 1.0)
    values, vectors = np.linalg.eigh(matrix)
    matrix = (vectors * np.maximum(values, _SMALLEST_EIGENVALUE)) @ vectors.T
    patterns, which = np.unique(given.known, axis=0, return_inverse=True)
    for index, pattern in enumerate(patterns):
        columns = np.flatnonzero(pattern)
        if columns.size:
            records = np.flatnonzero(which.reshape(-1) == index)
            yield records, columns, matrix[np.ix_(columns, columns)]


def _of_each_record(given: ShadowSignals, rows: BoolArray, fit: SideFit) -> _Matrices:
    """For each record: itself, its known labels, their shrunk covariance in pooled units."""
    for record in range(given.target.shape[0]):
        columns = np.flatnonzero(given.known[record])
        if not columns.size:
            continue
        values = given.shadows[rows[:, record], record][:, columns] / fit.scale[record, columns]
        matrix = np.asarray(ledoit_wolf(values)[0]).reshape(columns.size, columns.size)
        # Shadows that agree to the last digit would make it singular.
        matrix[np.diag_indices(columns.size)] += _SMALLEST_EIGENVALUE
        yield np.array([record]), columns, matrix
