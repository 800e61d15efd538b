"""RMIA: is the record more of a surprise to models without it than a stranger's is?

Zarifzadeh, Liu and Shokri, "Low-Cost High-Power Membership Inference Attacks", 2024,
arXiv:2312.03262, equations 2 to 6 and appendix B.2 (the offline line).

Everything is in logarithms: the probability of 14 labels at once underflows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp
from sklearn.metrics import roc_auc_score

from attacks.scores.checks import BoolArray, FloatArray, booleans, floats, log_probabilities
from attacks.scores.likelihood import Mode
from attacks.scores.shadows import leave_one_out, refuse_the_target_among, shadow_signals

#: Values of a that are tried by default.
GRID = tuple(step / 10 for step in range(11))

# Ratios that differ by rounding alone count as equal.
_ROUNDING = 1e-9


def rmia_log_ratio(
    target: npt.ArrayLike,
    shadows: npt.ArrayLike,
    membership: npt.ArrayLike,
    *,
    mode: Mode = "offline",
    a: float = 0.3,
) -> FloatArray:
    """log p(x|θ) - log p(x): how much surer the target is of the record than models at large.

    - online: p(x) = ½ mean_IN p(x|θ') + ½ mean_OUT p(x|θ');
    - offline: p(x) = ½ ((1 + a) mean_OUT p(x|θ') + 1 - a), from p_IN = a p_OUT + 1 - a.

    The means run over *all* shadows of that side (ML Privacy Meter and PrivacyGuard average the
    largest ones only, which biases p).

    For one target it ranks records as :func:`rmia` does, without its ties.

    Args:
        target: (records,) log p(x|θ) of the target (see
            :func:`attacks.scores.joint_log_probability`), at most 0.
        shadows: (models, records) of the shadows.
        membership: (models, records): whether that shadow was trained on that record.
        mode: "offline" looks at shadows trained without the record only; "online" at both kinds.
        a: in [0, 1], offline: how little being trained on a record raises p. Take it from
            :func:`tune_rmia`, never from the target.

    Returns:
        (records,); larger means member.

    Raises:
        ValueError: when a logarithm is above 0 or ``a`` out of range, and as in
            :func:`attacks.scores.shadows.shadow_signals`; one shadow a side is enough.
    """
    _check(mode, a)
    own = log_probabilities("target", target, 1)
    others = log_probabilities("shadows", shadows, 2)
    least_inside = 1 if mode == "online" else 0
    given = shadow_signals(own, others, membership, least_inside=least_inside, least_outside=1)
    outside = _log_mean(others, ~given.inside)
    if mode == "online":
        usual = np.logaddexp(_log_mean(others, given.inside), outside) - np.log(2.0)
    else:
        usual = _offline(outside, a)
    ratio: FloatArray = own - usual
    return ratio


def rmia(
    target: npt.ArrayLike,
    shadows: npt.ArrayLike,
    membership: npt.ArrayLike,
    target_population: npt.ArrayLike,
    shadow_population: npt.ArrayLike,
    *,
    mode: Mode = "offline",
    a: float = 0.3,
    gamma: float = 1.0,
) -> FloatArray:
    """The share of a population that the record beats.

        score(x) = share of z with [p(x|θ)/p(x)] / [p(z|θ)/p(z)] >= γ

    p(z) is the mean over all shadows (online), or the offline line with the same a, since no model
    was trained on z. Scores have only as many values as z has records, plus one, so ties abound:
    for a false-positive rate f take many more than 1/f of them, or :func:`rmia_log_ratio`.

    Args:
        target: (records,) log p(x|θ) of the target, at most 0.
        shadows: (models, records) of the shadows.
        membership: (models, records): whether that shadow was trained on that record.
        target_population: (population,) log p(z|θ) of records that neither the target nor any
            shadow was trained on.
        shadow_population: (models, population) of the shadows, in the same order.
        mode: as in :func:`rmia_log_ratio`.
        a: as in :func:`rmia_log_ratio`.
        gamma: γ > 0. For one target it moves the threshold, not the order.

    Returns:
        (records,) in [0, 1]; larger means member.

    Raises:
        ValueError: as :func:`rmia_log_ratio`, and when shapes differ, the population is empty or
            γ is not above 0.
    """
    if not gamma > 0.0:
        raise ValueError(f"gamma must be above 0, not {gamma}")
    ratios = rmia_log_ratio(target, shadows, membership, mode=mode, a=a)
    own = log_probabilities("target_population", target_population, 1)
    others = log_probabilities("shadow_population", shadow_population, 2)
    if others.shape != (np.shape(shadows)[0], own.size) or own.size == 0:
        raise ValueError(
            f"shadow_population must be of shape (models, population), not {others.shape}"
        )
    refuse_the_target_among(own, others)
    mean = _log_mean(others, np.ones(others.shape, dtype=np.bool_))
    strangers = np.sort(own - (mean if mode == "online" else _offline(mean, a)))
    beaten = np.searchsorted(strangers, ratios - np.log(gamma) + _ROUNDING, side="right")
    share: FloatArray = beaten / own.size
    return share


def tune_rmia(
    shadows: npt.ArrayLike,
    membership: npt.ArrayLike,
    *,
    references: Sequence[int] | None = None,
    grid: Sequence[float] = GRID,
) -> float:
    """The a with which offline RMIA does best against the shadows themselves.

    Each reference model is attacked with the other shadows, and the a with the largest mean AUC
    wins, the smallest of equals. The target is not an argument, so nothing is tuned on it.

    Args:
        shadows: (models, records) log p(x|θ') of the shadows.
        membership: (models, records): whether that shadow was trained on that record.
        references: which models to attack; all when left out.
        grid: values of a in [0, 1] to try.

    Returns:
        One of ``grid``.

    Raises:
        ValueError: as :func:`rmia_log_ratio`, and when a reference was trained on all records or
            on none, or nothing is to be tried.
    """
    others = floats("shadows", shadows, 2)
    inside = booleans("membership", membership, others.shape)
    chosen = range(len(others)) if references is None else references
    if not len(chosen) or not len(grid):
        raise ValueError("references and grid must not be empty")
    for a in grid:
        _check("offline", a)
    areas = np.zeros(len(grid))
    for model, rest in leave_one_out(len(others)):
        if model not in chosen:
            continue
        if inside[model].all() or not inside[model].any():
            raise ValueError(f"shadow {model} was trained on all records or on none")
        # With a = 1 the line is the mean itself; the other values of a need no new mean.
        mean = others[model] - rmia_log_ratio(others[model], others[rest], inside[rest], a=1.0)
        for index, a in enumerate(grid):
            areas[index] += roc_auc_score(inside[model], others[model] - _offline(mean, a))
    return float(grid[int(np.argmax(np.round(areas / len(chosen), 12)))])


def _check(mode: Mode, a: float) -> None:
    """Refuse modes that do not exist and a outside [0, 1]."""
    if mode not in ("online", "offline"):
        raise ValueError(f'mode must be "online" or "offline", not {mode!r}')
    if not 0.0 <= a <= 1.0:
        raise ValueError(f"a must be from 0 to 1, not {a}")


def _log_mean(logs: FloatArray, rows: BoolArray) -> FloatArray:
    """log of the mean probability over the picked models: (records,)."""
    total = logsumexp(np.where(rows, logs, -np.inf), axis=0)
    mean: FloatArray = total - np.log(rows.sum(axis=0))
    return mean


def _offline(outside: FloatArray, a: float) -> FloatArray:
    """log ½((1 + a) p_OUT + 1 - a)."""
    raised = np.log1p(a) + outside
    total = raised if a == 1.0 else np.logaddexp(raised, np.log1p(-a))
    usual: FloatArray = total - np.log(2.0)
    return usual
