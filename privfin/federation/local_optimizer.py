"""How a site turns its (noisy) gradients into steps: the schedule over rounds, and FedProx."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn


def schedule_factor(
    kind: Literal["constant", "linear", "cosine"], round_number: int, rounds: int
) -> float:
    """What the step size of a round is multiplied by, in (0, 1].

    With r from 1 to R: constant 1; linear 1 - (r - 1) / R; cosine (1 + cos(pi (r - 1) / R)) / 2.
    Both start at 1, and in the last round there is still a step left. It depends on public
    numbers only.

    Raises:
        ValueError: unless 1 <= ``round_number`` <= ``rounds``.
    """
    if not 1 <= round_number <= rounds:
        raise ValueError(f"round {round_number} is not one of {rounds}")
    passed = (round_number - 1) / rounds
    if kind == "linear":
        return 1.0 - passed
    if kind == "cosine":
        return (1.0 + math.cos(math.pi * passed)) / 2.0
    return 1.0


class ProximalSGD(torch.optim.SGD):
    """SGD on the loss plus (mu / 2) ||w - w_global||^2 (FedProx, Li et al. 2020, equation 2).

    The pull mu (w - w_global) is added when the gradient has been clipped and noised. It is made
    of released numbers only (post-processing), so it needs no clipping and costs no privacy.

    Args:
        parameters: what is trained; as they are now, they are w_global.
        lr, momentum: as in ``torch.optim.SGD``.
        proximal: mu >= 0.
    """

    def __init__(
        self, parameters: list[nn.Parameter], lr: float, momentum: float, proximal: float
    ) -> None:
        super().__init__(parameters, lr=lr, momentum=momentum)
        self._pulled: list[tuple[nn.Parameter, Tensor]] = [
            (p, p.detach().clone()) for p in parameters
        ]
        self._proximal = proximal

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One step. ``p.grad`` holds the finished gradient of every parameter."""
        for parameter, start in self._pulled:
            if parameter.grad is not None:
                parameter.grad.add_(parameter - start, alpha=self._proximal)
        return super().step(closure)


def local_optimizer(
    rate: float, momentum: float, proximal: float
) -> Callable[[list[nn.Parameter]], torch.optim.Optimizer]:
    """What builds a site's optimiser for one round."""
    if proximal == 0.0:
        return lambda parameters: torch.optim.SGD(parameters, lr=rate, momentum=momentum)
    return lambda parameters: ProximalSGD(parameters, rate, momentum, proximal)
