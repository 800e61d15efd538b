"""LiRA: a likelihood ratio per record, from shadow models trained with and without it.

Carlini, Chien, Nasr, Song, Terzis and Tramèr, "Membership Inference Attacks From First Principles",
2022, arXiv:2112.03570, algorithm 1 and equation 4.

Assumed: every shadow was trained exactly as the target (recipe, privacy, rounds, sites, imputer);
for each shadow a coin of its own says whether a record (better: all of a patient's records) was in;
signals are evaluation-mode outputs, close to Gaussian over shadows (the logits of
:mod:`attacks.scores.signals` are; raw losses and probabilities are not).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr

from attacks.scores.checks import BoolArray, FloatArray
from attacks.scores.shadows import ShadowSignals, shadow_signals

Mode = Literal["online", "offline"]
Variance = Literal["record", "pooled"]
Centre = Literal["median", "mean"]
Tails = Literal["one", "two"]

# Shadows whose outputs do not vary at all are taken to vary by what single precision rounds away.
_SMALLEST_SCALE = 1e-6


def lira(
    target: npt.ArrayLike,
    shadows: npt.ArrayLike,
    membership: npt.ArrayLike,
    *,
    mode: Mode = "offline",
    variance: Variance = "record",
    centre: Centre = "median",
    tails: Tails = "one",
) -> FloatArray:
    """The likelihood-ratio score of every record, over all its known labels or queries.

    With φ the target's signal, (μ_in, s_in) and (μ_out, s_out) the shadows' with and without the
    record, and z = (φ - μ_out) / s_out:

    - online: Σ_l log N(φ_l; μ_in, s_in²) - log N(φ_l; μ_out, s_out²) (their equation 4);
    - offline: log Φ(Σ_l z_l / √k) over the k known labels. With k = 1 it is their one-sided test,
      log Pr[a model without the record is less sure]. The sum of independent z by √k (Stouffer) is
      as Gaussian for 3 known labels as for 14, so records stay comparable;
    - offline with ``tails="two"``: -log N(φ; μ_out, s_out²), as the authors' code does. There a
      record on which the target is *less* sure than expected looks like a member too.

    Labels are taken as independent given the membership; see
    :func:`attacks.scores.lira_covariance` for when they are not.

    Args:
        target: (records,) signals of the target, or (records, k) of k labels or queries; NaN where
            the label is unknown.
        shadows: (models, records) or (models, records, k), NaN at the same places.
        membership: (models, records): whether that shadow was trained on that record.
        mode: "offline" looks at shadows trained without the record only; "online" at both kinds.
        variance: "record" estimates one per record, label and side (ddof 0, as the authors), which
            takes about 32 shadows a side; "pooled" one per label and side, from the residuals about
            each record's centre (as TF Privacy; never the spread between records).
        centre: "median" as in the authors' code, or "mean" as in the paper.
        tails: of the offline test.

    Returns:
        (records,); larger means member. 0 (online) or log ½ (offline) where no label is known.

    Raises:
        ValueError: as in :func:`attacks.scores.shadows.shadow_signals`; every record needs two
            shadows on each side that is looked at, one with the pooled variance. Also when two
            tails are asked for online, of several labels, or where something is unknown.
    """
    given = _checked(target, shadows, membership, mode, variance)
    if tails == "two":
        if mode == "online" or given.target.shape[1] != 1 or not given.known.all():
            raise ValueError('tails="two" is for mode="offline" and one known signal a record')
        outside = fit_side(given, ~given.inside, variance=variance, centre=centre)
        z = (given.target - outside.centre) / outside.scale
        two_sided: FloatArray = 0.5 * z**2 + np.log(outside.scale) + 0.5 * np.log(2 * np.pi)
        return two_sided[:, 0]
    terms = _terms(given, mode, variance, centre)
    total: FloatArray = np.where(given.known, terms, 0.0).sum(axis=1)
    if mode == "online":
        return total
    score: FloatArray = log_ndtr(total / np.sqrt(np.maximum(given.known.sum(axis=1), 1)))
    return score


def lira_per_label(
    target: npt.ArrayLike,
    shadows: npt.ArrayLike,
    membership: npt.ArrayLike,
    *,
    mode: Mode = "offline",
    variance: Variance = "record",
    centre: Centre = "median",
) -> FloatArray:
    """The score of every label or query by itself: which of them gives a record away.

    The largest over labels is a score too, but one of many tries: set its threshold on it, not on
    a label's.

    Args:
        target: (records, k) signals of the target; NaN where the label is unknown.
        shadows: (models, records, k), NaN at the same places.
        membership: (models, records).
        mode: as in :func:`lira`.
        variance: as in :func:`lira`.
        centre: as in :func:`lira`.

    Returns:
        (records, k): what :func:`lira` says of each column; NaN where the label is unknown.

    Raises:
        ValueError: as :func:`lira`.
    """
    given = _checked(target, shadows, membership, mode, variance)
    terms = _terms(given, mode, variance, centre)
    return np.where(given.known, terms if mode == "online" else log_ndtr(terms), np.nan)


@dataclass(frozen=True)
class SideFit:
    """A Gaussian per record and label, of the shadows on one side.

    Attributes:
        centre: (records, k).
        scale: (records, k) standard deviations > 0.
    """

    centre: FloatArray = field(repr=False)
    scale: FloatArray = field(repr=False)


def fit_side(
    given: ShadowSignals, rows: BoolArray, *, variance: Variance, centre: Centre
) -> SideFit:
    """Fit the shadows that ``rows`` (models, records) picks for each record.

    Raises:
        ValueError: with the pooled variance, when no record has two shadows on this side.
    """
    picked = rows[..., np.newaxis]
    counts = rows.sum(axis=0)[:, np.newaxis]
    if centre == "median":
        middle = np.asarray(np.nanmedian(np.where(picked, given.shadows, np.nan), axis=0))
    else:
        middle = np.where(picked, given.shadows, 0.0).sum(axis=0) / counts
    squares = (np.where(picked, given.shadows - middle, 0.0) ** 2).sum(axis=0)
    if variance == "pooled":
        squares = np.where(given.known, squares, 0.0).sum(axis=0)
        # Every record's centre costs one observation.
        freedom = np.where(given.known, counts - 1, 0).sum(axis=0)
        if ((freedom == 0) & given.known.any(axis=0)).any():
            raise ValueError("no record has two shadows on one side: train more shadows")
        spread = np.broadcast_to(squares / np.maximum(freedom, 1), middle.shape)
    else:
        # About the mean even when the centre is the median, as numpy's std in the authors' code.
        mean = np.where(picked, given.shadows, 0.0).sum(axis=0) / counts
        spread = squares / counts - (mean - middle) ** 2
    floor = _SMALLEST_SCALE * np.maximum(1.0, np.abs(middle))
    return SideFit(middle, np.maximum(np.sqrt(np.maximum(spread, 0.0)), floor))


def _checked(
    target: npt.ArrayLike,
    shadows: npt.ArrayLike,
    membership: npt.ArrayLike,
    mode: Mode,
    variance: Variance,
) -> ShadowSignals:
    """The signals, with as many shadows a side as the fit needs."""
    if mode not in ("online", "offline"):
        raise ValueError(f'mode must be "online" or "offline", not {mode!r}')
    if variance not in ("record", "pooled"):
        raise ValueError(f'variance must be "record" or "pooled", not {variance!r}')
    least = 2 if variance == "record" else 1
    return shadow_signals(
        target,
        shadows,
        membership,
        least_inside=least if mode == "online" else 0,
        least_outside=least,
    )


def _terms(given: ShadowSignals, mode: Mode, variance: Variance, centre: Centre) -> FloatArray:
    """(records, k): each label's log-likelihood ratio (online), or z (offline)."""
    outside = fit_side(given, ~given.inside, variance=variance, centre=centre)
    z_out = (given.target - outside.centre) / outside.scale
    if mode == "offline":
        return z_out
    inside = fit_side(given, given.inside, variance=variance, centre=centre)
    z_in = (given.target - inside.centre) / inside.scale
    return np.log(outside.scale / inside.scale) + 0.5 * (z_out**2 - z_in**2)
