"""What single records' gradients have to do with given updates, by torch.func, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, vmap

from attacks.scores.checks import FloatArray

#: The loss of one record: parameters by name and the record's tensors by name, to a scalar.
LossOfOne = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]


def record_gradients(
    loss: LossOfOne, parameters: Mapping[str, Tensor], records: Mapping[str, Tensor]
) -> Tensor:
    """The gradient of every record's own loss, flat, in the order of ``parameters``.

    Args:
        loss: of one record; it must be made of operations that ``torch.func.vmap`` knows.
        parameters: by name; gradients are taken at their values.
        records: by name, each (records, ...).

    Returns:
        (records, P), all of it in memory; see :func:`alignments` for many records.
    """
    at = {name: p.detach() for name, p in parameters.items()}
    each = vmap(grad(loss), in_dims=(None, 0), randomness="error")(at, dict(records))
    rows = len(next(iter(records.values())))
    return torch.cat([each[name].reshape(rows, -1) for name in at], dim=1)


def alignments(
    loss: LossOfOne,
    parameters: Mapping[str, Tensor],
    records: Mapping[str, Tensor],
    updates: FloatArray,
    *,
    chunk: int = 500,
) -> tuple[FloatArray, FloatArray]:
    """Inner products of every record's gradient with every update, and the gradients' norms.

    ``<∇L_x, u_k>`` is the change of the record's loss along ``u_k``, to first order. Where an
    update is zero because a site does not train that parameter, the norm should not count it
    either: parameters that are zero in all updates are left out of the norms.

    Args:
        loss: of one record; see :func:`record_gradients`.
        parameters: by name, P numbers in all, in the order of an update.
        records: by name, each (records, ...).
        updates: (sites, P).
        chunk: records whose gradients are in memory at once.

    Returns:
        (sites, records) inner products and (records,) norms, at least 0.

    Raises:
        ValueError: the updates have another length than the parameters, or ``chunk`` is below 1.
    """
    size = sum(p.numel() for p in parameters.values())
    if updates.ndim != 2 or updates.shape[1] != size:
        raise ValueError(f"updates must be of shape (sites, {size}), not {updates.shape}")
    if chunk < 1:
        raise ValueError("at least one record must be computed at once")
    moved = np.flatnonzero((updates != 0).any(axis=0))
    along = torch.from_numpy(np.ascontiguousarray(updates[:, moved].T, dtype=np.float32))
    kept = torch.from_numpy(moved)
    products, norms = [], []
    for start in range(0, len(next(iter(records.values()))), chunk):
        some = {name: x[start : start + chunk] for name, x in records.items()}
        gradients = record_gradients(loss, parameters, some)[:, kept]
        products.append(gradients @ along)
        norms.append(gradients.norm(dim=1))
    if not products:
        return np.zeros((len(updates), 0)), np.zeros(0)
    return torch.cat(products).double().numpy().T, torch.cat(norms).double().numpy()


def cosines(products: FloatArray, norms: FloatArray, updates: FloatArray) -> FloatArray:
    """Cosines (sites, records) from what :func:`alignments` gives; 0 where a norm is 0.

    Args:
        products: (sites, records).
        norms: (records,) of the gradients.
        updates: (sites, P).
    """
    lengths = np.linalg.norm(updates, axis=1)[:, np.newaxis] * norms
    found = np.zeros(products.shape)
    np.divide(products, lengths, out=found, where=lengths > 0)
    return found
