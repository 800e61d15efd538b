"""Per-record gradients of stacked models for any module: ``vmap(vmap(grad))``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from attacks.shadows.parameters import ParameterPlaces, Rows

#: Numbers of per-record gradients held at once: 64 MiB.
_NUMBERS_AT_ONCE = 2**24
#: Coefficients (M, n) of records' gradients from their squared norms (M, n) and weights (M, n).
Coefficients = Callable[[Tensor, Tensor], Tensor]


class PerRecordGradients:
    """Makes every record's gradient in memory, a block of records at a time.

    Args:
        loss: takes rows (n, ...) and returns a loss for each, (n,).
        trained: names of the parameters that gradients are wanted for.
    """

    def __init__(self, loss: nn.Module, trained: Collection[str]) -> None:
        self._loss = loss
        self._places = ParameterPlaces(loss)
        self._trained = frozenset(trained)
        self._size = sum(p.stop - p.start for p in self._places if p.name in self._trained)
        inner = vmap(grad(self._record), in_dims=(None, None, 0))
        self._gradients = vmap(inner, in_dims=(0, 0, 0))

    def weighted_sum(
        self,
        vectors: Tensor,
        buffers: Mapping[str, Tensor],
        rows: Rows,
        weights: Tensor,
        copies: int,
        coefficients: Coefficients,
    ) -> Tensor:
        """The sum over records of coefficient times gradient, (M, P).

        Args:
            vectors: (M, P).
            buffers: (M, ...) each.
            rows: (M, n * copies, ...) each.
            weights: (M, n).
            copies: rows a record has; its gradient is the mean over them.
            coefficients: of the records' gradients.
        """
        state = {**self._places.split(vectors), **buffers}
        trained = {n: x for n, x in state.items() if n in self._trained}
        fixed = {n: x for n, x in state.items() if n not in self._trained}
        models, records = weights.shape
        out = torch.zeros_like(vectors)
        step = max(1, _NUMBERS_AT_ONCE // max(1, models * self._size))
        for start in range(0, records, step):
            few = slice(start, start + step)
            some = {
                n: x.unflatten(1, (records, copies))[:, few]  # type: ignore[no-untyped-call]
                for n, x in rows.items()
            }
            each = self._gradients(trained, fixed, some)
            squares = torch.stack([g.flatten(2).square().sum(dim=2) for g in each.values()])
            factor = coefficients(squares.sum(dim=0), weights[:, few])
            for place in self._places:
                if place.name in each:
                    flat = each[place.name].flatten(2)
                    total = torch.einsum("mn,mnp->mp", factor, flat)
                    out[:, place.start : place.stop] += total
        return out

    def _record(
        self, trained: dict[str, Tensor], fixed: dict[str, Tensor], rows: dict[str, Tensor]
    ) -> Tensor:
        losses = cast(Tensor, functional_call(self._loss, {**trained, **fixed}, (rows,)))
        return losses.mean()
