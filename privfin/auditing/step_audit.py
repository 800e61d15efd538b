"""Watching private steps from inside: gradient canaries through the run's own clipping and noise.

In every step each canary throws a fair coin. If it comes up, a gradient of ten times the clipping
norm in the canary's direction g goes through the same clipping as the patients' gradients and into
the same sum, which then has the real noise and the real divisor. The score is what the released
gradient, times the expected batch size, holds of g, less what the real patients put there: the
adversary of differential privacy knows everything but the coin. With noise N(0, (sigma C)^2) and
clipping to C it is N(coin, sigma^2) in units of C, so a step is Gaussian with mu = 1 / sigma.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numpy.random import SeedSequence
from torch import Tensor, nn

from attacks.canaries import orthonormal_directions
from privfin.privacy.dpsgd import DpSgd

#: Norm of a canary's gradient before clipping, in units of the clipping norm.
LOUDNESS = 10.0
#: Halfway between out and in, in units of the clipping norm: fixed before any score is seen.
THRESHOLD = 0.5
# So that the directions of one site need no more than 16 MB.
_MOST_NUMBERS = 2**22


def most_directions(parameters: int) -> int:
    """How many gradient canaries a site of so many trained parameters may have.

    At most one for every 16 parameters, so that what the canaries add together stays small beside
    the noise.
    """
    return max(1, min(parameters // 16, _MOST_NUMBERS // max(1, parameters)))


class StepAudit:
    """The gradient canaries of one site, over all its steps of a run.

    Args:
        canaries: how many; each throws a coin in each step.
        clip_norm: C, of the claim.
        batch_size: B, the divisor of the claim.
        seed: of directions and coins; nobody else's.
    """

    def __init__(
        self, canaries: int, clip_norm: float, batch_size: int, seed: SeedSequence
    ) -> None:
        self._canaries = canaries
        self._clip_norm = clip_norm
        self._batch_size = batch_size
        self._for_directions, self._for_coins = map(np.random.default_rng, seed.spawn(2))
        self._directions: Tensor | None = None
        self._known: npt.NDArray[np.float64] | None = None
        self._thrown: list[npt.NDArray[np.bool_]] = []
        self._seen: list[npt.NDArray[np.float64]] = []

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        """(steps * canaries,) in units of C; higher means more likely in."""
        return np.concatenate([np.zeros(0), *self._seen])

    @property
    def coins(self) -> npt.NDArray[np.bool_]:
        """(steps * canaries,) which canaries took part."""
        return np.concatenate([np.zeros(0, dtype=np.bool_), *self._thrown])

    def enter(self, optimizer: Any) -> None:
        """After the patients' clipped gradients were added up: throw the coins, add the canaries.

        Args:
            optimizer: Opacus' optimiser of the step, with ``summed_grad`` of every parameter.
        """
        directions = self._of(optimizer.params)
        self._known = _along(directions, [p.summed_grad for p in optimizer.params])
        coins = self._for_coins.integers(2, size=self._canaries).astype(np.bool_)
        self._thrown.append(coins)
        if not coins.any():
            return
        loud = directions[torch.from_numpy(coins)] * (LOUDNESS * self._clip_norm)
        sizes = [p.numel() for p in optimizer.params]
        for p, part in zip(optimizer.params, torch.split(loud, sizes, dim=1), strict=True):
            p.grad_sample = part.reshape(-1, *p.shape).to(p)
        optimizer.clip_and_accumulate()
        for p in optimizer.params:
            p.grad, p.grad_sample = None, None

    def leave(self, optimizer: Any) -> None:
        """Before the optimiser takes the noisy, divided gradient in ``p.grad``: score it, once."""
        if self._known is None:
            return
        seen = _along(self._of(optimizer.params), [p.grad for p in optimizer.params])
        self._seen.append((seen * self._batch_size - self._known) / self._clip_norm)
        self._known = None

    def _of(self, parameters: list[nn.Parameter]) -> Tensor:
        if self._directions is None:
            size = sum(p.numel() for p in parameters)
            found = orthonormal_directions(self._canaries, size, self._for_directions)
            self._directions = torch.from_numpy(found.astype(np.float32))
        return self._directions


def watched(step: type[DpSgd], audit: StepAudit) -> type[DpSgd]:
    """Steps that are those of ``step``, with ``audit``'s canaries in them."""

    class Watched(step):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            # The pull of FedProx is added inside the optimiser's step: it is no part of the sum.
            self._optimizer.original_optimizer.register_step_pre_hook(
                lambda *given: audit.leave(self._optimizer)
            )

        def clipped_sum(self, records: npt.NDArray[np.int64]) -> list[Tensor]:
            super().clipped_sum(records)
            audit.enter(self._optimizer)
            return [p.summed_grad for p in self._optimizer.params]

    return Watched


def _along(directions: Tensor, gradient: list[Tensor]) -> npt.NDArray[np.float64]:
    """(canaries,) inner products of directions (canaries, parameters) with a gradient, float64."""
    flat = torch.cat([part.detach().reshape(-1) for part in gradient]).double()
    # Row by row, so that no copy of all directions in float64 is made.
    return np.array([float(row.double() @ flat) for row in directions])
