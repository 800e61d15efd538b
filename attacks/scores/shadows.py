"""The signals of a target and of its shadows: aligned, checked, and blind to the target's coin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from attacks.scores.checks import BoolArray, FloatArray, IntArray, booleans, floats

# Two models that agree to the last digit on more different values than this are one model.
_FEW_VALUES = 8


@dataclass(frozen=True)
class ShadowSignals:
    """The signals of a target and of shadow models on the same records, checked.

    The target's own membership is not among them: no score can see it.

    Attributes:
        target: (records, k); 0 where unknown.
        shadows: (models, records, k); 0 where unknown.
        inside: (models, records): whether that shadow was trained on that record.
        known: (records, k): the same for the target and for every shadow.
    """

    target: FloatArray = field(repr=False)
    shadows: FloatArray = field(repr=False)
    inside: BoolArray = field(repr=False)
    known: BoolArray = field(repr=False)


def shadow_signals(
    target: npt.ArrayLike,
    shadows: npt.ArrayLike,
    membership: npt.ArrayLike,
    *,
    least_inside: int,
    least_outside: int,
) -> ShadowSignals:
    """Check and align what a shadow attack works on.

    Args:
        target: (records,) or (records, k): k labels or queries; NaN where unknown.
        shadows: (models, records) or (models, records, k): NaN exactly where ``target`` is.
        membership: (models, records) of the shadows, 0 or 1.
        least_inside: how many shadows trained with it every record must have.
        least_outside: how many trained without it.

    Raises:
        ValueError: when shapes differ, when something is unknown for one model and known for
            another, when a record has too few shadows on a side, or when the target itself is
            among the shadows (its membership would reach its scores).
    """
    axes = np.ndim(target)
    if axes not in (1, 2):
        raise ValueError(f"target must have 1 or 2 axes, not {axes}")
    own = floats("target", target, axes, unknown=True)
    others = floats("shadows", shadows, axes + 1, unknown=True)
    if others.shape[1:] != own.shape:
        raise ValueError(f"shadows must be of shape (models, *{own.shape}), not {others.shape}")
    inside = booleans("membership", membership, others.shape[:2])
    own, others = own.reshape(own.shape[0], -1), others.reshape(*others.shape[:2], -1)
    known = ~np.isnan(own)
    if (np.isnan(others) == known).any():
        raise ValueError("unknown entries (NaN) must be the same in target and in every shadow")
    own, others = np.where(known, own, 0.0), np.where(known, others, 0.0)
    refuse_the_target_among(own, others)
    for rows, least, said in ((inside, least_inside, "with"), (~inside, least_outside, "without")):
        counts = rows.sum(axis=0)
        if (counts < least).any():
            short = int(np.argmin(counts))
            raise ValueError(
                f"record {short} has {counts[short]} shadows trained {said} it and needs {least}: "
                "train more shadows or leave the record out"
            )
    return ShadowSignals(own, others, inside, known)


def refuse_the_target_among(target: FloatArray, shadows: FloatArray) -> None:
    """Refuse shadows of which one is the target.

    Args:
        target: (records, ...) signals.
        shadows: (models, records, ...) signals.

    Raises:
        ValueError: when a shadow equals the target to the last digit. Targets with few different
            values pass, since such models may agree by chance.
    """
    if np.unique(target).size <= _FEW_VALUES:
        return
    same = (shadows == target).reshape(shadows.shape[0], -1).all(axis=1)
    if same.any():
        raise ValueError(
            f"shadow {int(np.argmax(same))} is the target: its membership would reach the scores; "
            "leave it out"
        )


def leave_one_out(models: int) -> Iterator[tuple[int, IntArray]]:
    """Every shadow once as the target, with the indices of all others.

    Args:
        models: how many shadows there are.

    Yields:
        (model, others): an index, and (models - 1,) indices.
    """
    everyone = np.arange(models)
    for model in range(models):
        yield model, np.delete(everyone, model)
