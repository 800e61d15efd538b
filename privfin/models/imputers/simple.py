"""Imputers that the papers leave out: a constant, a linear map, a small network, prototypes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from privfin.models.imputers.base import Estimate, PairImputer, unit


class MeanImputer(PairImputer):
    """The same vector for everyone, learned by DP-SGD like everything else.

    A mean computed from patients' features in the clear would be outside the guarantee; trained
    on the squared distance, a constant settles at that mean.
    """

    def __init__(self, target_width: int) -> None:
        super().__init__()
        # A linear layer fed with ones, because Opacus takes gradients per module.
        self.value = nn.Linear(1, target_width, bias=False)
        nn.init.zeros_(self.value.weight)

    def forward(self, source: Tensor) -> Estimate:
        """See :class:`PairImputer`; the source is not used."""
        value = self.value(torch.ones(len(source), 1, device=source.device))
        # Learned at the scale of a unit vector's entries, so that large steps do not overshoot.
        return Estimate.plain(value / math.sqrt(value.shape[1]))


class LinearImputer(PairImputer):
    """One affine map, as in ridge regression, scaled to unit norm like every real feature."""

    def __init__(self, source_width: int, target_width: int) -> None:
        super().__init__()
        self.map = nn.Linear(source_width, target_width)

    def forward(self, source: Tensor) -> Estimate:
        """See :class:`PairImputer`."""
        return Estimate.plain(unit(self.map(source)))


class MlpImputer(PairImputer):
    """One hidden layer with GELU; unit norm."""

    def __init__(self, source_width: int, target_width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(source_width, hidden)
        self.down = nn.Linear(hidden, target_width)

    def forward(self, source: Tensor) -> Estimate:
        """See :class:`PairImputer`."""
        return Estimate.plain(unit(self.down(torch.nn.functional.gelu(self.up(source)))))


class PrototypeImputer(PairImputer):
    """A mixture of learned prototypes of the target, weighted by the source.

    Unlike class prototypes (PmcmFL, ProMoE-FL) these belong to no label and to no patient: they
    are parameters, trained inside the one clipped gradient, so a patient's data reach another
    patient's imputation through the noisy model only.
    """

    def __init__(self, source_width: int, target_width: int, prototypes: int) -> None:
        super().__init__()
        self.weigh = nn.Linear(source_width, prototypes)
        self.prototypes = nn.Linear(prototypes, target_width, bias=False)

    def forward(self, source: Tensor) -> Estimate:
        """See :class:`PairImputer`."""
        weights = torch.softmax(self.weigh(unit(source) * source.shape[-1] ** 0.5), dim=1)
        return Estimate.plain(unit(self.prototypes(weights)))
