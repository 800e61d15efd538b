"""How a site turns its (noisy) gradients into steps: SGD, and FedProx."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


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
