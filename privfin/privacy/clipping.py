"""The sum over patients of gradients clipped to norm C, with Opacus' hooks.

A record may come in K augmented copies. Its gradient is then the mean over them, formed before
clipping (De et al. 2022, arXiv:2204.13650, section 3.2), so the bound C stays as it is. Time and
memory of a sum grow K-fold; ``physical_batch`` counts rows, so memory stays bounded by it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

# Inputs need no gradient here, so torch tells on every step that the first layers' hooks fire on
# outputs alone. That is what Opacus relies on, and tests compare every layer with a loop.
warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)

#: Losses of the records at these positions, each of its own record only: (n,), or (n * K,) with
#: K copies of a record one after the other.
RecordLoss = Callable[[npt.NDArray[np.int64]], Tensor]


class PatientClipping:
    """Clips every drawn record's gradient, over all trained parameters together, and adds up.

    Args:
        model: its modules must not couple records (no BatchNorm); Opacus' hooks are attached.
        record_loss: losses of records by position, ``copies`` for each; called for at most
            ``physical_batch`` rows, or for one record.
        make_optimizer: Opacus' optimiser over these parameters; its ``max_grad_norm`` is C.
        physical_batch: rows computed at once; a record's copies are never taken apart.
        copies: K, rows a record has.
    """

    def __init__(
        self,
        model: nn.Module,
        record_loss: RecordLoss,
        make_optimizer: Callable[[list[nn.Parameter]], DPOptimizer],
        *,
        physical_batch: int,
        copies: int,
    ) -> None:
        self._hooked = GradSampleModule(model, loss_reduction="sum")
        self._hooked.train()
        self._record_loss = record_loss
        self._physical_batch = physical_batch
        self._copies = copies
        self.optimizer = make_optimizer([p for p in model.parameters() if p.requires_grad])

    def clipped_sum(self, records: npt.NDArray[np.int64]) -> list[Tensor]:
        """Sum over records of gradients clipped to norm C jointly over all parameters.

        With several copies, a record's gradient is the mean over them, before it is clipped.

        Returns one tensor a trained parameter. This is the quantity whose sensitivity is C: it
        is private, and may leave only with noise added.
        """
        self.optimizer.zero_grad(set_to_none=True)
        for p in self.optimizer.params:
            p.summed_grad = torch.zeros_like(p)
        size = max(1, self._physical_batch // self._copies)
        for start in range(0, len(records), size):
            some = records[start : start + size]
            losses = self._record_loss(some)
            if losses.shape != (len(some) * self._copies,):
                # Rows of one record taken for two would each be clipped, and move the sum by 2 C.
                raise ValueError(f"{len(some)} records must have {self._copies} losses each")
            losses.sum().backward()  # type: ignore[no-untyped-call]
            if self._copies > 1:
                self._average_copies(len(some))
            self.optimizer.clip_and_accumulate()
            for p in self.optimizer.params:
                p.grad, p.grad_sample = None, None
        return [p.summed_grad for p in self.optimizer.params]

    def _average_copies(self, records: int) -> None:
        """Replace the gradients of a record's rows by their mean, for every record."""
        for p in self.optimizer.params:
            rows = p.grad_sample
            p.grad_sample = rows.view(records, self._copies, *p.shape).mean(dim=1)

    def close(self) -> None:
        """Detach the hooks from the model."""
        self._hooked.remove_hooks()
