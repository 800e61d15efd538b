"""What an imputer says of a feature it has not seen, and what every imputer must offer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Estimate:
    """What is said of a missing feature, for n rows.

    Attributes:
        feature: (n, d), what goes to the head in place of the missing feature.
        mean: (n, d), what is compared with the real feature; the feature itself unless gated.
        variance: (n, d) of each entry times the square root of d, where a unit vector has
            entries of about 1; None for an imputer that states none.
    """

    feature: Tensor
    mean: Tensor
    variance: Tensor | None = None

    @classmethod
    def plain(cls, feature: Tensor) -> Estimate:
        """An estimate that states no uncertainty."""
        return cls(feature, feature)


class PairImputer(nn.Module):
    """Imputes one modality's feature from that of one other; rows never meet."""

    def forward(self, source: Tensor) -> Estimate:
        """(n, source width) features to an estimate of (n, target width)."""
        raise TypeError(f"{type(self).__name__} does not say how it imputes")

    def loss(self, estimate: Estimate, target: Tensor) -> Tensor:
        """(n,) squared distance to the real feature: the papers' mean squared error times d."""
        return (estimate.mean - target).square().sum(dim=1)


def scaled(feature: Tensor) -> Tensor:
    """A feature times the square root of its width: a unit vector's entries become about 1."""
    return feature * math.sqrt(feature.shape[-1])


def unit(x: Tensor) -> Tensor:
    """Rows scaled to Euclidean norm 1."""
    return torch.nn.functional.normalize(x, dim=-1)
