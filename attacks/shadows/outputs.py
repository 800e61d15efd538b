"""What many models answer about the same rows."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from attacks.shadows.parameters import ParameterPlaces, Rows


def on_device(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Makes tensors that a module creates by itself on the device; nothing to do on the CPU."""
    # The context costs time at every call of torch, so it is entered only where it matters.
    return contextlib.nullcontext() if device.type == "cpu" else device


def stacked_outputs(
    module: nn.Module,
    vectors: Tensor,
    rows: Rows,
    *,
    buffers: Mapping[str, Tensor] | None = None,
    cells_at_once: int = 65536,
    device: torch.device | str = "cpu",
) -> Tensor:
    """A module's output for every model and row, without gradients.

    Works in blocks of at most ``cells_at_once`` pairs of a model and a row, which bounds the
    working memory to that many rows' activations.

    Args:
        module: takes rows (n, ...) and returns (n, ...).
        vectors: (M, P) parameters.
        rows: (n, ...) each; the same for all models.
        buffers: stacked (M, ...) replacements of the module's buffers, by name.
        cells_at_once: at least 1.
        device: where to compute.

    Returns:
        (M, n, ...), on the CPU.
    """
    where = torch.device(device)
    own = module.to(where).eval()
    places, given = ParameterPlaces(own), dict(buffers or {})
    total = len(next(iter(rows.values())))
    rows_at_once = min(total, cells_at_once)
    models_at_once = max(1, cells_at_once // max(1, rows_at_once))

    def call(state: dict[str, Tensor], some: dict[str, Tensor]) -> Tensor:
        return cast(Tensor, functional_call(own, state, (some,)))

    found = []
    with torch.no_grad(), on_device(where):
        for first in range(0, len(vectors), models_at_once):
            mine = slice(first, first + models_at_once)
            state = places.split(vectors[mine].to(where))
            state.update({name: b[mine].to(where) for name, b in given.items()})
            parts = []
            for start in range(0, total, rows_at_once):
                some = {n: x[start : start + rows_at_once].to(where) for n, x in rows.items()}
                parts.append(vmap(call, in_dims=(0, None))(state, some).cpu())
            found.append(torch.cat(parts, dim=1))
    return torch.cat(found)
