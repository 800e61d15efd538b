"""One step of patient-level DP-SGD (Abadi et al. 2016, Algorithm 1) with Opacus' hooks.

An item is a patient. A step draws patients by Poisson sampling, one record of each at random,
clips that record's gradient over all trained parameters to norm C, adds N(0, (sigma C)^2) to the
sum, and divides by the fixed expected batch size. Adding or removing one patient therefore moves
the clipped sum by at most C, whatever the patient's number of records.

Clipping, and what a record's augmented copies are for it, is in ``clipping.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

from privfin.errors import PrivfinError
from privfin.privacy.clipping import PatientClipping, RecordLoss
from privfin.privacy.noise import gaussian_noise
from privfin.privacy.sampling import one_record_each, poisson_patients
from privfin.randomness import RandomStream


@dataclass(frozen=True)
class DpSgdSettings:
    """Settings of the mechanism: these, and the number of steps, determine the guarantee.

    Attributes:
        clip_norm: C > 0.
        noise_multiplier: sigma > 0; the noise has standard deviation ``sigma * C``.
        sampling_rate: q in (0, 1], the probability that a patient takes part in a step.
        batch_size: B, the fixed divisor; never the realised number of patients.
        physical_batch: rows computed at once; bounds memory, changes nothing else. A record's
            copies are never taken apart, so there are at least ``copies`` rows.
        copies: K, rows a record has.
    """

    clip_norm: float
    noise_multiplier: float
    sampling_rate: float
    batch_size: int
    physical_batch: int = 16
    copies: int = 1

    def __post_init__(self) -> None:
        if not (self.clip_norm > 0 and self.noise_multiplier > 0):
            raise ValueError("clip norm and noise multiplier must be greater than 0")
        if not 0 < self.sampling_rate <= 1:
            raise ValueError("the sampling rate must lie in (0, 1]")
        if self.batch_size < 1 or self.physical_batch < 1 or self.copies < 1:
            raise ValueError("batch sizes and copies must be at least 1")


class CryptographicNoiseOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus' optimiser with noise from a cryptographic stream instead of a torch generator."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, settings: DpSgdSettings, noise: RandomStream
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=settings.noise_multiplier,
            max_grad_norm=settings.clip_norm,
            expected_batch_size=settings.batch_size,
            loss_reduction="mean",
        )
        self._noise = noise

    def add_noise(self) -> None:
        """Write ``clipped sum + N(0, (sigma C)^2)`` into ``p.grad``, added in float64."""
        std = self.noise_multiplier * self.max_grad_norm
        for p in self.params:
            draw = torch.from_numpy(gaussian_noise(self._noise, p.numel())) * std
            total = p.summed_grad.double() + draw.view_as(p).to(p.device)
            p.grad = total.to(p.dtype)

    def scale_grad(self) -> None:
        """Divide by the expected batch size, whatever the number of physical batches was."""
        for p in self.params:
            p.grad /= self.expected_batch_size


class DpSgd:
    """Runs DP-SGD steps on a model whose trainable parameters require gradients.

    Args:
        model: its modules must not couple records (no BatchNorm); Opacus' hooks are attached.
        record_loss: losses of records by position, ``settings.copies`` for each; called for at
            most ``physical_batch`` rows, or for one record.
        patients: for each patient, the positions of that patient's records.
        settings: the mechanism.
        make_optimizer: builds the optimiser that consumes the noisy gradient.
        noise, sampling: streams for the noise, and for the choice of patients and records.
    """

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
        self._patients = patients
        self._settings = settings
        self._sampling = sampling
        self._clipping = PatientClipping(
            model,
            record_loss,
            lambda trained: CryptographicNoiseOptimizer(make_optimizer(trained), settings, noise),
            physical_batch=settings.physical_batch,
            copies=settings.copies,
        )
        self._optimizer = self._clipping.optimizer

    def step(self) -> None:
        """Sample, clip, add noise, update. A step without any patient adds noise all the same.

        Raises:
            PrivfinError: the parameters are no longer finite numbers; nothing may be sent.
        """
        chosen = poisson_patients(self._sampling, len(self._patients), self._settings.sampling_rate)
        records = one_record_each(self._sampling, self._patients, chosen)
        self.clipped_sum(records)
        self._optimizer.add_noise()
        self._optimizer.scale_grad()
        self._optimizer.original_optimizer.step()
        if not all(bool(torch.isfinite(p).all()) for p in self._optimizer.params):
            raise PrivfinError(
                "training diverged: parameters are not finite; "
                "lower training.learning_rate (nothing was sent in this round)"
            )

    def clipped_sum(self, records: npt.NDArray[np.int64]) -> list[Tensor]:
        """See :meth:`PatientClipping.clipped_sum`; only :meth:`step`, which adds noise, may let
        it out."""
        return self._clipping.clipped_sum(records)

    def close(self) -> None:
        """Detach the hooks from the model."""
        self._clipping.close()
