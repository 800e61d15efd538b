"""Signals: what one model says of a record, on a scale on which attacks work.

Outputs are logits, never probabilities: a confident model's probability is 1 in floating point,
and the difference to 1 is what an attack lives on. Everything is computed in logarithms.

Labels of several findings are 1, 0, or NaN where unknown. What a model says of an unknown label
reaches no signal.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import log_expit, logsumexp

from attacks.scores.checks import FloatArray, IntArray, floats


def label_signals(logits: npt.ArrayLike, labels: npt.ArrayLike) -> FloatArray:
    """How sure a model is of each known label: s = (2y - 1) z.

    For one sigmoid output, s = log p_y - log(1 - p_y): the logit of LiRA (Carlini et al. 2022,
    arXiv:2112.03570, section IV.C), label by label, without any clipping.

    Args:
        logits: (..., records, labels); leading axes, if any, are models.
        labels: (records, labels): 1, 0, or NaN where unknown.

    Returns:
        Of the shape of ``logits``; NaN where the label is unknown.

    Raises:
        ValueError: when shapes differ, a label is neither 0, 1 nor NaN, or a logit of a known
            label is not finite.
    """
    truth = floats("labels", labels, 2, unknown=True)
    known = ~np.isnan(truth)
    if not np.isin(truth[known], (0.0, 1.0)).all():
        raise ValueError("labels must be 1, 0, or NaN where unknown")
    outputs = np.asarray(logits, dtype=np.float64)
    if outputs.ndim < 2 or outputs.shape[-2:] != truth.shape:
        raise ValueError(f"logits must be of shape (..., *{truth.shape}), not {outputs.shape}")
    # Whatever stands at an unknown label, NaN included, ends here.
    outputs = np.where(known, outputs, 0.0)
    if not np.isfinite(outputs).all():
        raise ValueError("logits must be finite")
    return np.where(known, (2.0 * np.where(known, truth, 0.0) - 1.0) * outputs, np.nan)


def label_losses(logits: npt.ArrayLike, labels: npt.ArrayLike) -> FloatArray:
    """The binary cross-entropy of each known label: log(1 + e^-s), s as in :func:`label_signals`.

    Args:
        logits: (..., records, labels).
        labels: (records, labels): 1, 0, or NaN where unknown.

    Returns:
        (..., records, labels) losses >= 0 in nats; NaN where the label is unknown.
    """
    losses: FloatArray = -log_expit(label_signals(logits, labels))
    return losses


def mean_loss(losses: npt.ArrayLike) -> FloatArray:
    """The mean over the known labels, so that records with few known labels stay comparable.

    Args:
        losses: (..., records, labels), of :func:`label_losses`.

    Returns:
        (..., records); NaN where no label is known.
    """
    array = np.asarray(losses, dtype=np.float64)
    known = ~np.isnan(array)
    count = known.sum(axis=-1)
    mean = np.full(count.shape, np.nan)
    np.divide(np.where(known, array, 0.0).sum(axis=-1), count, out=mean, where=count > 0)
    return mean


def joint_log_probability(logits: npt.ArrayLike, labels: npt.ArrayLike) -> FloatArray:
    """log p(y|x) of all known labels together: minus the sum of their losses.

    The labels are taken as independent given the model, as a sigmoid head does. This is the
    log p(x|θ) of :func:`attacks.scores.rmia`.

    Where most labels are 0 for most records, sums over labels are mostly about those. For the
    findings alone, give the zeros as unknown: ``np.where(labels == 1, labels, np.nan)``.

    Args:
        logits: (..., records, labels).
        labels: (records, labels): 1, 0, or NaN where unknown.

    Returns:
        (..., records) at most 0; 0 where no label is known (an empty product).
    """
    losses = label_losses(logits, labels)
    total: FloatArray = -np.where(np.isnan(losses), 0.0, losses).sum(axis=-1)
    return np.minimum(total, 0.0)


def joint_logit(logits: npt.ArrayLike, labels: npt.ArrayLike) -> FloatArray:
    """log P - log(1 - P) of the probability P that all known labels are right.

    The multi-label form of LiRA's logit; our own definition. With q_l = 1/(1 + e^s_l) the chance
    that label l is wrong, 1 - P is the sum over l of q_l Π_{j<l} (1 - q_j): only positive terms, so
    nothing cancels when P is 1 to the last digit.

    Args:
        logits: (..., records, labels).
        labels: (records, labels): 1, 0, or NaN where unknown.

    Returns:
        (..., records); NaN where no label is known. With one known label it is s.
    """
    signals = label_signals(logits, labels)
    known = ~np.isnan(signals)
    filled = np.where(known, signals, 0.0)
    right = np.where(known, log_expit(filled), 0.0)
    wrong = np.where(known, log_expit(-filled), -np.inf)
    before = np.cumsum(right, axis=-1) - right
    some = np.asarray(known.any(axis=-1))
    # One term stands in where there is none, to keep -inf - -inf out.
    failing = np.where(some[..., np.newaxis], wrong + before, 0.0)
    logit: FloatArray = right.sum(axis=-1) - logsumexp(failing, axis=-1)
    return np.where(some, logit, np.nan)


def class_logit(logits: npt.ArrayLike, classes: npt.ArrayLike) -> FloatArray:
    """LiRA's signal for one class of several: z_y - log Σ_{c != y} e^z_c = log p_y/(1 - p_y).

    Source: Carlini et al. 2022, arXiv:2112.03570, section IV.C and appendix A ("stable" logit).

    Args:
        logits: (..., records, classes), at least two classes.
        classes: (records,) the true class of each.

    Returns:
        (..., records).

    Raises:
        ValueError: when shapes differ or a class is out of range.
    """
    outputs, truth = class_outputs(logits, classes)
    own = _of_class(outputs, truth)
    others = np.where(np.arange(outputs.shape[-1]) == truth[:, np.newaxis], -np.inf, outputs)
    signal: FloatArray = own - logsumexp(others, axis=-1)
    return signal


def class_log_probability(logits: npt.ArrayLike, classes: npt.ArrayLike) -> FloatArray:
    """log p_y of a softmax: minus the cross-entropy, in nats.

    Args:
        logits: (..., records, classes).
        classes: (records,) the true class of each.

    Returns:
        (..., records), at most 0: -log(1 + e^-s) with s of :func:`class_logit`.
    """
    found: FloatArray = log_expit(class_logit(logits, classes))
    return found


def class_outputs(logits: npt.ArrayLike, classes: npt.ArrayLike) -> tuple[FloatArray, IntArray]:
    """Checked logits (..., records, classes), each less its record's largest, and true classes.

    Raises:
        ValueError: when shapes differ, a logit is not finite or a class is out of range.
    """
    outputs = floats("logits", logits, max(2, np.ndim(logits)))
    truth = np.asarray(classes)
    if truth.shape != outputs.shape[-2:-1]:
        raise ValueError(f"classes must be of shape {outputs.shape[-2:-1]}, not {truth.shape}")
    number = outputs.shape[-1]
    if number < 2:
        raise ValueError("logits must have at least two classes")
    if not np.issubdtype(truth.dtype, np.integer) or ((truth < 0) | (truth >= number)).any():
        raise ValueError(f"classes must be whole numbers from 0 to {number - 1}")
    return from_largest(outputs), truth.astype(np.int64)


def from_largest(outputs: FloatArray) -> FloatArray:
    """Logits (..., classes) less the largest: the same softmax, and equal logits become 0.

    A record that is given the same logit for every class is then the same in every digit whatever
    that logit is.
    """
    # The order in memory decides the order of a later sum, and so its last digit.
    return np.ascontiguousarray(outputs - outputs.max(axis=-1, keepdims=True))


def _of_class(outputs: FloatArray, truth: IntArray) -> FloatArray:
    """The output of the true class: (..., records)."""
    at = np.broadcast_to(truth[:, np.newaxis], (*outputs.shape[:-1], 1))
    return np.take_along_axis(outputs, at, axis=-1)[..., 0]
