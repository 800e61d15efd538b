"""DP-SGD steps broken on purpose, for the audit to find. Nothing but the self-test uses them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from privfin.privacy.clipping import RecordLoss
from privfin.privacy.dpsgd import CryptographicNoiseOptimizer, DpSgd, DpSgdSettings
from privfin.randomness import RandomStream


class _NoNoise(CryptographicNoiseOptimizer):
    def add_noise(self) -> None:
        for p in self.params:
            p.grad = p.summed_grad.clone()


class _NoClipping(CryptographicNoiseOptimizer):
    def clip_and_accumulate(self) -> None:
        for p in self.params:
            p.summed_grad += p.grad_sample.sum(dim=0)


class _HalfNoise(CryptographicNoiseOptimizer):
    def __init__(
        self, optimizer: torch.optim.Optimizer, settings: DpSgdSettings, noise: RandomStream
    ) -> None:
        less = replace(settings, noise_multiplier=settings.noise_multiplier / 2)
        super().__init__(optimizer, less, noise)


class _NoiseReused(CryptographicNoiseOptimizer):
    _kept: list[Tensor] | None = None

    def add_noise(self) -> None:
        super().add_noise()
        if self._kept is None:
            self._kept = [p.grad - p.summed_grad for p in self.params]
        for p, kept in zip(self.params, self._kept, strict=True):
            p.grad = p.summed_grad + kept


class _BrokenDpSgd(DpSgd):
    """The real step with another optimiser in its place."""

    optimizer_kind: type[CryptographicNoiseOptimizer] = CryptographicNoiseOptimizer

    def __init__(
        self,
        model: nn.Module,
        record_loss: RecordLoss,
        patients: Sequence[Sequence[int]],
        settings: DpSgdSettings,
        make_optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
        *,
        noise: RandomStream,
        sampling: RandomStream,
    ) -> None:
        super().__init__(
            model, record_loss, patients, settings, make_optimizer, noise=noise, sampling=sampling
        )
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = self.optimizer_kind(make_optimizer(trained), settings, noise)
        self._optimizer = self._clipping.optimizer = optimizer


class NoNoise(_BrokenDpSgd):
    """The clipped sum as it is."""

    optimizer_kind = _NoNoise


class NoClipping(_BrokenDpSgd):
    """A patient's gradient of any length."""

    optimizer_kind = _NoClipping


class HalfNoise(_BrokenDpSgd):
    """σ / 2 where σ is claimed."""

    optimizer_kind = _HalfNoise


class NoiseReused(_BrokenDpSgd):
    """The first step's noise in every step."""

    optimizer_kind = _NoiseReused


class RealisedDivisor(DpSgd):
    """The sum divided by how many took part, so that one patient scales all others' part."""

    def clipped_sum(self, records: npt.NDArray[np.int64]) -> list[Tensor]:
        """See :meth:`DpSgd.clipped_sum`."""
        self._optimizer.expected_batch_size = max(1, len(records))
        return super().clipped_sum(records)


class DrawnTwice(DpSgd):
    """Every record drawn twice, each copy clipped by itself."""

    def clipped_sum(self, records: npt.NDArray[np.int64]) -> list[Tensor]:
        """See :meth:`DpSgd.clipped_sum`."""
        return super().clipped_sum(np.repeat(records, 2))


#: What a table calls them, and how many steps show them for certain: the effects of the first
#: three are far beyond the noise.
BROKEN: dict[str, tuple[type[DpSgd], int]] = {
    "no noise": (NoNoise, 1000),
    "no clipping": (NoClipping, 1000),
    "noise reused": (NoiseReused, 1000),
    "half the noise": (HalfNoise, 3000),
    "realised divisor": (RealisedDivisor, 3000),
    "record drawn twice": (DrawnTwice, 3000),
}
