"""Sums of clipped gradients, and mean gradients, of many models at once."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from attacks.shadows.by_layer import LayerGradients, owners
from attacks.shadows.outputs import on_device
from attacks.shadows.parameters import ParameterPlaces, Rows
from attacks.shadows.per_record import Coefficients, PerRecordGradients

#: As in Opacus: a gradient is scaled by C / (norm + this), and never up.
_STABILITY = 1e-6
_PROBED_RECORDS = 3


class StackedGradients:
    """Gradients of M models, each on records of its own.

    Where all trained parameters are those of linear, layer-norm and embedding layers, no
    per-record gradient is ever held (``by_layer.py``); before the first use that path is compared
    with the general one (``per_record.py``), which is used for every other module.

    Models are taken in blocks of at most ``rows_at_once`` rows (but whole models), so that what a
    step holds fits a core's cache. Memory: the activations of that many rows, or, in the general
    path, 64 MiB of per-record gradients beside them.

    Args:
        loss: takes rows (n, ...) by name and returns a loss for each, (n,); each row's loss must
            depend on that row alone. The module is copied.
        trained: names of the parameters that are trained; all others are constants.
        rows_at_once: at least 1.
        device: where to compute; vectors and rows must lie there.

    Raises:
        ValueError: a trained parameter is unknown, or the module has a BatchNorm.
    """

    def __init__(
        self,
        loss: nn.Module,
        trained: Collection[str],
        *,
        rows_at_once: int = 4096,
        device: torch.device | str = "cpu",
    ) -> None:
        self._device = torch.device(device)
        self._loss = copy.deepcopy(loss).to(self._device).eval()
        if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self._loss.modules()):
            raise ValueError("BatchNorm couples records: no gradient is one record's own")
        for parameter in self._loss.parameters():
            parameter.requires_grad_(False)
        self.places = ParameterPlaces(self._loss)
        unknown = set(trained) - {p.name for p in self.places}
        if unknown:
            raise ValueError(f"there is no parameter {sorted(unknown)[0]}")
        self._trained = frozenset(trained)
        self._rows_at_once = rows_at_once
        self._path: LayerGradients | PerRecordGradients | None = None

    def clipped_sum(
        self,
        vectors: Tensor,
        rows: Rows,
        weights: Tensor,
        clip_norm: float,
        *,
        copies: int = 1,
        buffers: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """The sum over records of gradients clipped to norm C over all trained parameters.

        Args:
            vectors: (M, P) float32 parameters.
            rows: (M, n * copies, ...) each; rows of one record are neighbours.
            weights: (M, n) 1 for a record that takes part and 0 for padding.
            clip_norm: C > 0.
            copies: rows of a record, over whose mean its gradient is formed before clipping.
            buffers: (M, ...) replacements of the module's buffers, by name.

        Returns:
            (M, P), exact zeros outside the trained parameters.
        """

        def clip(squares: Tensor, some: Tensor) -> Tensor:
            norms = squares.clamp(min=0.0).sqrt()
            return (clip_norm / (norms + _STABILITY)).clamp(max=1.0) * some

        return self._sum(vectors, rows, weights, copies, dict(buffers or {}), clip)

    def mean(
        self,
        vectors: Tensor,
        rows: Rows,
        weights: Tensor,
        *,
        copies: int = 1,
        buffers: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """The mean gradient over each model's own records, zero where it has none; see above."""
        share = weights / weights.sum(dim=1, keepdim=True).clamp(min=1.0)

        def unclipped(squares: Tensor, some: Tensor) -> Tensor:
            return some

        return self._sum(vectors, rows, share, copies, dict(buffers or {}), unclipped)

    def _sum(
        self,
        vectors: Tensor,
        rows: Rows,
        weights: Tensor,
        copies: int,
        buffers: dict[str, Tensor],
        coefficients: Coefficients,
    ) -> Tensor:
        models, records = weights.shape
        if len(vectors) != models or any(
            x.shape[:2] != (models, records * copies) for x in rows.values()
        ):
            raise ValueError("vectors, rows and weights must be of the same models and records")
        if not records or not self._trained:
            return torch.zeros_like(vectors)
        with on_device(self._device):
            if self._path is None:
                self._path = self._choose(vectors, rows, copies, buffers)
            most = max(1, self._rows_at_once // (records * copies))
            step = math.ceil(models / math.ceil(models / most))  # blocks of one size
            parts = []
            for start in range(0, models, step):
                few = slice(start, start + step)
                parts.append(
                    self._path.weighted_sum(
                        vectors[few],
                        {n: b[few] for n, b in buffers.items()},
                        {n: x[few] for n, x in rows.items()},
                        weights[few],
                        copies,
                        coefficients,
                    )
                )
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _choose(
        self, vectors: Tensor, rows: Rows, copies: int, buffers: dict[str, Tensor]
    ) -> LayerGradients | PerRecordGradients:
        """The path by layers, if it exists and gives what the general one gives."""
        general = PerRecordGradients(self._loss, self._trained)
        if owners(self._loss, self._trained) is None:
            return general
        by_layer = LayerGradients(copy.deepcopy(self._loss), self._trained)
        # A fresh model can have zeros that hide a difference.
        moved = torch.randn(1, self.places.size, generator=torch.Generator().manual_seed(0))
        probe = vectors[:1] + 0.1 * moved.to(self._device)
        few = {n: x[:1, : _PROBED_RECORDS * copies] for n, x in rows.items()}
        count = len(next(iter(few.values()))[0]) // copies
        weights = torch.ones(1, count, device=self._device)
        own = {n: b[:1] for n, b in buffers.items()}
        norms: list[Tensor] = []

        def keep(squares: Tensor, some: Tensor) -> Tensor:
            norms.append(squares)
            return some * torch.arange(1.0, some.shape[1] + 1, device=some.device)

        try:
            quick = by_layer.weighted_sum(probe, own, few, weights, copies, keep)
        except ValueError:
            return general
        slow = general.weighted_sum(probe, own, few, weights, copies, keep)
        scale = float(slow.abs().max()) + 1e-12
        same_sum = bool(torch.allclose(quick, slow, rtol=1e-3, atol=1e-4 * scale))
        same_norms = bool(torch.allclose(norms[0], norms[1], rtol=1e-3, atol=1e-8))
        return by_layer if same_sum and same_norms else general
