"""Clipped sums of stacked models without any per-record gradient in memory.

A layer's gradient is an outer product of what went in and the gradient of what came out, so its
norm and its weighted sum follow from these two (the ghost norm of Li et al. 2022,
arXiv:2110.05679, and the book-keeping of Bu et al. 2023, arXiv:2210.00038, which needs one
backward pass only). Here all models go through one ``vmap``, and a zero that is added to each
layer's output catches the gradient there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from attacks.shadows.parameters import ParameterPlaces, Place, Rows
from attacks.shadows.per_record import Coefficients

_KNOWN = (nn.Linear, nn.LayerNorm, nn.Embedding)


def owners(loss: nn.Module, trained: Collection[str]) -> dict[str, nn.Module] | None:
    """The modules that own the trained parameters, by name; None if one is not of a known kind.

    Known are ``nn.Linear``, ``nn.LayerNorm`` over the last axis and ``nn.Embedding``, each with
    parameters of its own.
    """
    modules = dict(loss.named_modules())
    names = {name.rpartition(".")[0] for name in trained}
    if any(type(modules[name]) not in _KNOWN for name in names):
        return None
    for name in names:
        module = modules[name]
        if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) != 1:
            return None
        if isinstance(module, nn.Embedding) and (
            module.padding_idx is not None or module.max_norm is not None
        ):
            return None
    every = [p for _, p in loss.named_parameters(remove_duplicate=False)]
    if len({id(p) for p in every}) < len(every):
        return None  # tied parameters
    return {name: modules[name] for name in sorted(names)}


class LayerGradients:
    """Weighted sums of per-record gradients, layer by layer.

    Args:
        loss: takes rows (n, ...) and returns a loss for each, (n,); every layer's output has the
            rows as its first axis.
        trained: names of the parameters that gradients are wanted for; see :func:`owners`.

    Raises:
        ValueError: a trained parameter belongs to a module of another kind.
    """

    def __init__(self, loss: nn.Module, trained: Collection[str]) -> None:
        layers = owners(loss, trained)
        if layers is None:
            raise ValueError("trained parameters must belong to linear, norm or embedding layers")
        self._loss = loss
        self._places = ParameterPlaces(loss)
        self._layers = layers
        self._of = {p.name: p for p in self._places if p.name in set(trained)}
        # What the hooks read and write during a call.
        self._catchers: list[Tensor] | None = None
        self._inputs: list[Tensor] = []
        self._calls: list[tuple[str, tuple[int, ...]]] = []
        self._known_calls: list[tuple[str, tuple[int, ...]]] | None = None
        for name, module in layers.items():
            module.register_forward_hook(self._hook(name))

    def weighted_sum(
        self,
        vectors: Tensor,
        buffers: Mapping[str, Tensor],
        rows: Rows,
        weights: Tensor,
        copies: int,
        coefficients: Coefficients,
    ) -> Tensor:
        """See :meth:`attacks.shadows.per_record.PerRecordGradients.weighted_sum`."""
        state = {**self._places.split(vectors), **buffers}
        inputs, found = self._backward(state, dict(rows))
        models, records = weights.shape
        parts: dict[str, _Part] = {}
        for (name, _), x, g in zip(self._known_calls or [], inputs, found, strict=True):
            # Copies and positions of a record are alike: places that its gradient adds up over.
            g = g.reshape(models, records, -1, g.shape[-1])
            if copies > 1:
                g = g / copies
            x = _entering(self._layers[name], x)
            x = x.reshape(models, records, g.shape[2], -1)
            before = parts.get(name)
            if before is not None:
                x, g = torch.cat([before.x, x], dim=2), torch.cat([before.g, g], dim=2)
            parts[name] = _Part(x, g)
        squares = torch.zeros_like(weights)
        for name, part in parts.items():
            squares += self._squares(name, part)
        factor = coefficients(squares, weights)
        out = torch.zeros_like(vectors)
        for name, part in parts.items():
            self._add(name, part, factor, out)
        return out

    def _backward(
        self, state: dict[str, Tensor], rows: dict[str, Tensor]
    ) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        """What entered each call of a layer (M, rows, ...), and the gradients of what left it."""
        first = next(iter(rows.values()))
        if self._known_calls is None:
            self._calls, self._catchers = [], None
            with torch.no_grad():
                vmap(self._call)(state, rows, [])
            if any(shape[0] != first.shape[1] for _, shape in self._calls):
                raise ValueError("a layer's output does not have the rows as its first axis")
            self._known_calls = [(name, shape[1:]) for name, shape in self._calls]
        catchers = [
            first.new_zeros(*first.shape[:2], *shape, dtype=torch.float32, requires_grad=True)
            for _, shape in self._known_calls
        ]
        losses, inputs = vmap(self._call)(state, rows, catchers)
        found = torch.autograd.grad(losses.sum(), catchers, allow_unused=True)
        gradients = [
            torch.zeros_like(c) if g is None else g for c, g in zip(catchers, found, strict=True)
        ]
        return tuple(x.detach() for x in inputs), gradients

    def _call(
        self, state: dict[str, Tensor], rows: dict[str, Tensor], catchers: list[Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        self._catchers, self._inputs = (list(catchers) or None), []
        losses = cast(Tensor, functional_call(self._loss, state, (rows,)))
        entered = tuple(self._inputs)
        self._catchers, self._inputs = None, []
        return losses, entered

    def _hook(self, name: str) -> Any:
        def hook(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
            at = len(self._inputs)
            self._inputs.append(given[0])
            if self._catchers is None:
                self._calls.append((name, tuple(output.shape)))
                return output
            return output + self._catchers[at]

        return hook

    def _squares(self, name: str, part: _Part) -> Tensor:
        """Squared norms (M, n) of the records' gradients of one layer's trained parameters."""
        layer, x, g = self._layers[name], part.x, part.g
        if isinstance(layer, nn.Embedding):
            same = (x == x.transpose(2, 3)).float()
            return (same * (g @ g.transpose(2, 3))).sum(dim=(2, 3))
        total = torch.zeros(g.shape[:2], device=g.device)
        if f"{name}.weight" in self._of:
            if isinstance(layer, nn.LayerNorm):
                total = total + (x * g).sum(dim=2).square().sum(dim=2)
            else:
                total = total + _outer_squares(x, g)
        if f"{name}.bias" in self._of:
            total = total + g.sum(dim=2).square().sum(dim=2)
        return total

    def _add(self, name: str, part: _Part, factor: Tensor, out: Tensor) -> None:
        """Write the weighted sums of one layer's gradients into the vectors ``out`` (M, P)."""
        layer = self._layers[name]
        g = (part.g * factor[:, :, None, None]).flatten(1, 2)
        x = part.x.flatten(1, 2)
        weight, bias = self._of.get(f"{name}.weight"), self._of.get(f"{name}.bias")
        if weight is not None:
            if isinstance(layer, nn.Embedding):
                total = _scatter(x[:, :, 0], g, layer.num_embeddings)
            elif isinstance(layer, nn.LayerNorm):
                total = (x * g).sum(dim=1)
            else:
                total = torch.bmm(g.transpose(1, 2), x)
            _write(out, weight, total)
        if bias is not None:
            _write(out, bias, g.sum(dim=1))


class _Part:
    """What entered a layer (M, n, places, in), and the gradients of what left it."""

    def __init__(self, x: Tensor, g: Tensor) -> None:
        self.x, self.g = x, g


def _entering(layer: nn.Module, x: Tensor) -> Tensor:
    """What the layer's weight is multiplied with."""
    if isinstance(layer, nn.LayerNorm):
        return torch.nn.functional.layer_norm(x, layer.normalized_shape, eps=layer.eps)
    return x


def _outer_squares(x: Tensor, g: Tensor) -> Tensor:
    """``||sum over places of g x^T||^2`` (M, n) of (M, n, places, in) and (M, n, places, out)."""
    places, wide = x.shape[2], x.shape[3] * g.shape[3]
    if places == 1:
        norms: Tensor = torch.linalg.vecdot(x, x) * torch.linalg.vecdot(g, g)
        return norms[:, :, 0]
    if places * (x.shape[3] + g.shape[3]) <= wide:
        return ((x @ x.transpose(2, 3)) * (g @ g.transpose(2, 3))).sum(dim=(2, 3))
    return (g.transpose(2, 3) @ x).square().sum(dim=(2, 3))


def _scatter(index: Tensor, g: Tensor, count: int) -> Tensor:
    """Sums (M, count, d) of (M, n, d) by index (M, n)."""
    models, _, width = g.shape
    shift = torch.arange(models, device=g.device)[:, None] * count
    total = g.new_zeros(models * count, width)
    total.index_add_(0, (index + shift).reshape(-1), g.reshape(-1, width))
    return total.view(models, count, width)


def _write(out: Tensor, place: Place, total: Tensor) -> None:
    out[:, place.start : place.stop] = total.flatten(1)
