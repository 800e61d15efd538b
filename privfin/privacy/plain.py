"""Training without privacy, for ``--epsilon inf``: the same sampling, no clipping, no noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from privfin.errors import PrivfinError
from privfin.privacy.clipping import RecordLoss
from privfin.privacy.sampling import one_record_each, poisson_patients
from privfin.randomness import RandomStream


class PlainSgd:
    """Stochastic gradient steps on the mean loss of the patients drawn. NOT PRIVATE."""

    def __init__(
        self,
        model: nn.Module,
        record_loss: RecordLoss,
        patients: Sequence[Sequence[int]],
        sampling_rate: float,
        make_optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
        *,
        sampling: RandomStream,
    ) -> None:
        model.train()
        self._record_loss = record_loss
        self._patients = patients
        self._rate = sampling_rate
        self._sampling = sampling
        self._trained = [p for p in model.parameters() if p.requires_grad]
        self._optimizer = make_optimizer(self._trained)

    def step(self) -> None:
        """Sample and update; a step without any patient changes nothing.

        Raises:
            PrivfinError: the parameters are no longer finite numbers.
        """
        chosen = poisson_patients(self._sampling, len(self._patients), self._rate)
        if not len(chosen):
            return
        records = one_record_each(self._sampling, self._patients, chosen)
        self._optimizer.zero_grad(set_to_none=True)
        self._record_loss(records).mean().backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        if not all(bool(torch.isfinite(p).all()) for p in self._trained):
            raise PrivfinError(
                "training diverged: parameters are not finite; "
                "lower training.learning_rate_without_privacy"
            )
