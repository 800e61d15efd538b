"""Attacks with one threshold for all records: loss, entropy, modified entropy, calibrated loss.

They need no shadow model, or only its losses. They find that a model overfits, and hardly ever
which records it remembers: report them beside LiRA, not instead of it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import log_expit, logsumexp

from attacks.scores.checks import FloatArray, floats
from attacks.scores.shadows import shadow_signals
from attacks.scores.signals import class_outputs, from_largest, label_signals, mean_loss


def loss(losses: npt.ArrayLike) -> FloatArray:
    """The loss attack: minus the loss (Yeom et al. 2018, arXiv:1709.01604).

    Args:
        losses: (records,) of one model, or (records, labels) with NaN where unknown; then the mean
            over the known labels counts.

    Returns:
        (records,); larger means member.

    Raises:
        ValueError: when a record has no known label, or a loss is not finite.
    """
    return -_one_loss("losses", losses)


def calibrated_loss(
    target: npt.ArrayLike, shadows: npt.ArrayLike, membership: npt.ArrayLike
) -> FloatArray:
    """The loss, adjusted by how hard the record is (Watson et al. 2022, arXiv:2111.08440, eq. 2).

        score = mean over shadows trained without it of loss_shadow - loss_target

    Args:
        target: (records,) losses of the target.
        shadows: (models, records) losses of models trained like it.
        membership: (models, records): whether that shadow was trained on that record.

    Returns:
        (records,); larger means member.

    Raises:
        ValueError: as in :func:`attacks.scores.shadows.shadow_signals`; every record needs one
            shadow trained without it.
    """
    floats("target", target, 1)
    given = shadow_signals(target, shadows, membership, least_inside=0, least_outside=1)
    outside = ~given.inside
    usual = np.where(outside, given.shadows[..., 0], 0.0).sum(axis=0) / outside.sum(axis=0)
    score: FloatArray = usual - given.target[:, 0]
    return score


def entropy(logits: npt.ArrayLike) -> FloatArray:
    """Minus the entropy of a softmax (Shokri et al. 2017; Song and Mittal 2021, arXiv:2003.10595).

        score = Σ_c p_c log p_c

    The true class is not used: a record that is surely wrong looks like a member.

    Args:
        logits: (records, classes).

    Returns:
        (records,) in [-log classes, 0]; larger means member.
    """
    outputs = np.sort(from_largest(floats("logits", logits, 2)), axis=1)
    logs = outputs - logsumexp(outputs, axis=1, keepdims=True)
    score: FloatArray = (np.exp(logs) * logs).sum(axis=1)
    return score


def modified_entropy(logits: npt.ArrayLike, classes: npt.ArrayLike) -> FloatArray:
    """Minus the modified entropy of a softmax (Song and Mittal 2021, arXiv:2003.10595, eq. 8).

        score = (1 - p_y) log p_y + Σ_{c != y} p_c log(1 - p_c)

    Args:
        logits: (records, classes).
        classes: (records,) the true class of each.

    Returns:
        (records,) at most 0; larger means member.
    """
    outputs, truth = class_outputs(logits, classes)
    if outputs.ndim != 2:
        raise ValueError(f"logits must have 2 axes, not {outputs.ndim}")
    # Sorted, so that the order of the classes decides no last digit.
    order = np.argsort(outputs, axis=1, kind="stable")
    outputs = np.take_along_axis(outputs, order, axis=1)
    own = order == truth[:, np.newaxis]
    total = logsumexp(outputs, axis=1, keepdims=True)
    logs = outputs - total
    # 1 - p of a largest class, as the sum of the others: p may be 1 to the last digit.
    top = outputs == outputs[:, -1:]
    rest = logsumexp(outputs[:, :-1], axis=1, keepdims=True) - total
    complement = np.where(top, rest, np.log1p(-np.where(top, 0.0, np.exp(logs))))
    of_own = (np.exp(complement) * logs)[own]
    of_others = np.where(own, 0.0, np.exp(logs) * complement)
    # A zero stands where the true class was: sorted again, it stands last.
    score: FloatArray = of_own + np.sort(of_others, axis=1).sum(axis=1)
    return score


def label_entropy(logits: npt.ArrayLike, labels: npt.ArrayLike) -> FloatArray:
    """Minus the entropy of the sigmoid outputs, mean over the labels that are known.

        score = mean over known l of p_l log p_l + (1 - p_l) log(1 - p_l)

    Args:
        logits: (records, labels).
        labels: (records, labels): 1, 0, or NaN where unknown; only NaN matters.

    Returns:
        (records,) in [-log 2, 0]; larger means member.

    Raises:
        ValueError: when a record has no known label.
    """
    right, wrong = _log_chances(logits, labels)
    return -_one_loss("labels", -(np.exp(right) * right + np.exp(wrong) * wrong))


def label_modified_entropy(logits: npt.ArrayLike, labels: npt.ArrayLike) -> FloatArray:
    """Minus the modified entropy of the sigmoid outputs, mean over the labels that are known.

    Each label is a softmax over its two values, of which equation 8 of arXiv:2003.10595 makes

        score = mean over known l of 2 (1 - p_l) log p_l,  p_l the chance given to the true value

    Args:
        logits: (records, labels).
        labels: (records, labels): 1, 0, or NaN where unknown.

    Returns:
        (records,) at most 0; larger means member.

    Raises:
        ValueError: when a record has no known label.
    """
    right, wrong = _log_chances(logits, labels)
    return -_one_loss("labels", -2.0 * np.exp(wrong) * right)


def _log_chances(logits: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """log p and log(1 - p) of the true values: (records, labels); NaN where unknown."""
    signals = label_signals(logits, labels)
    if signals.ndim != 2:
        raise ValueError(f"logits must have 2 axes, not {signals.ndim}")
    return log_expit(signals), log_expit(-signals)


def _one_loss(name: str, losses: npt.ArrayLike) -> FloatArray:
    """(records,) of (records,) or of the known among (records, labels)."""
    array = floats(name, losses, 2 if np.ndim(losses) == 2 else 1, unknown=True)
    found = mean_loss(array) if array.ndim == 2 else array
    if np.isnan(found).any():
        where = int(np.argmax(np.isnan(found)))
        raise ValueError(f"{name}: nothing is known of record {where}: leave it out")
    return found
