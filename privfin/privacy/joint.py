"""One site's part of a joint DP-SGD step: sample, clip, sum, round to integers, add a noise share.

With ``privacy.trust = "shared"`` all sites take each step together. What a site sends is an integer
vector that only the sum over sites makes readable, and only that sum has the noise of the
guarantee: a single contribution has the noise of one share. The derivation, with the effect of
rounding on the sensitivity, is in ``docs/explanation/shared-noise.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from opacus.optimizers import DPOptimizer
from torch import nn

from privfin.errors import PrivfinError
from privfin.privacy.clipping import PatientClipping, RecordLoss
from privfin.privacy.sampling import one_record_each, poisson_patients
from privfin.privacy.skellam_noise import SkellamSampler
from privfin.randomness import RandomStream


@dataclass(frozen=True)
class JointStepSettings:
    """What a site's contribution is made with: the same at every site.

    Attributes:
        clip_norm: C > 0, the bound on one patient's gradient.
        sampling_rate: q in (0, 1], the probability that a patient takes part in a step.
        scale: lattice steps per unit of gradient, gamma > 0.
        largest_value: X, to which each coordinate of the rounded sum is cut before the noise.
        physical_batch: rows computed at once.
        copies: rows a record has.
    """

    clip_norm: float
    sampling_rate: float
    scale: float
    largest_value: int
    physical_batch: int = 16
    copies: int = 1

    def __post_init__(self) -> None:
        if not (self.clip_norm > 0 and self.scale > 0 and self.largest_value > 0):
            raise ValueError("clip norm, scale and largest value must be greater than 0")
        if not 0 < self.sampling_rate <= 1:
            raise ValueError("the sampling rate must lie in (0, 1]")


class JointStep:
    """Makes a site's contributions, one a joint step.

    Args:
        model: its modules must not couple records; parameters that the site does not train
            require no gradient.
        record_loss: losses of records by position.
        patients: for each patient, the positions of that patient's records.
        settings: the mechanism.
    """

    def __init__(
        self,
        model: nn.Module,
        record_loss: RecordLoss,
        patients: Sequence[Sequence[int]],
        settings: JointStepSettings,
    ) -> None:
        self._patients = patients
        self._settings = settings
        self._parameters = list(model.parameters())
        self._clipping = PatientClipping(
            model,
            record_loss,
            self._clipper,
            physical_batch=settings.physical_batch,
            copies=settings.copies,
        )

    def contribution(
        self,
        share_variance: int,
        *,
        sampling: RandomStream,
        rounding: RandomStream,
        noise: RandomStream,
    ) -> npt.NDArray[np.int64]:
        """This site's integers of one step at the model's present parameters, (parameters,).

        A step without any patient, and parameters that the site does not train, are noise alone:
        every coordinate of every contribution has its full share.

        Args:
            share_variance: variance of the noise share, in squared lattice steps, at least 1.
            sampling, rounding, noise: fresh streams; none may be used for two contributions.

        Raises:
            PrivfinError: the gradient is not finite; nothing may be sent.
        """
        levels = self.rounded_sum(sampling, rounding)
        return levels + SkellamSampler(share_variance).sample(noise, levels.size)

    def rounded_sum(self, sampling: RandomStream, rounding: RandomStream) -> npt.NDArray[np.int64]:
        """The contribution before its noise. It is private: only :meth:`contribution` lets it out.

        Each coordinate of ``scale`` times the clipped sum is rounded up with the probability of its
        fraction, which keeps the mean, and cut to +-``largest_value``. Cutting never moves two
        numbers apart, so it leaves the sensitivity as it is.
        """
        settings = self._settings
        chosen = poisson_patients(sampling, len(self._patients), settings.sampling_rate)
        records = one_record_each(sampling, self._patients, chosen)
        return round_sum(self._flat(self._clipping.clipped_sum(records)), settings, rounding)

    def _flat(self, sums: Sequence[torch.Tensor]) -> npt.NDArray[np.float64]:
        """All parameters in order, (parameters,), zero where the site trains nothing."""
        given = iter(sums)
        parts = [
            next(given).reshape(-1).double() if p.requires_grad else torch.zeros(p.numel()).double()
            for p in self._parameters
        ]
        return torch.cat(parts).numpy()

    def _clipper(self, trained: list[nn.Parameter]) -> DPOptimizer:
        """Opacus' clipping. Its own noise and step are never used."""
        return DPOptimizer(
            torch.optim.SGD(trained, lr=1.0),
            noise_multiplier=0.0,
            max_grad_norm=self._settings.clip_norm,
            expected_batch_size=1,
        )

    def close(self) -> None:
        """Detach the hooks from the model."""
        self._clipping.close()


def round_sum(
    clipped_sum: npt.NDArray[np.float64], settings: JointStepSettings, rounding: RandomStream
) -> npt.NDArray[np.int64]:
    """A clipped sum (parameters,) on the lattice, see :meth:`JointStep.rounded_sum`.

    Raises:
        PrivfinError: the sum is not finite.
    """
    scaled = clipped_sum * settings.scale
    if not np.isfinite(scaled).all():
        raise PrivfinError(
            "training diverged: a gradient is not finite; "
            "lower training.learning_rate (nothing was sent in this step)"
        )
    levels = np.floor(scaled + rounding.uniform(scaled.size))
    bound = settings.largest_value
    return np.clip(levels, -bound, bound).astype(np.int64)
