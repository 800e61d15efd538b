"""The trainable part of every encoder: a front end's tensor in, a unit-norm feature out.

No layer couples two records (no BatchNorm), as per-patient clipping requires.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from privfin.config import TRANSFORMER_HEADS, ModalityConfig
from privfin.models.attention import Attention, FeedForward
from privfin.models.frontends import WORD_BUCKETS, fixed_width


def feature_width(modality: ModalityConfig, width: int) -> int:
    """Numbers in a modality's feature: ``width``, or those of the fixed features themselves."""
    return fixed_width(modality) if modality.projection == "none" else width


def make_encoder(modality: ModalityConfig, width: int) -> nn.Module:
    """The trainable encoder of a modality: (n, ...) inputs to (n, ``width``) unit vectors."""
    if modality.encoder == "cnn":
        return CnnEncoder(width)
    if modality.encoder == "transformer":
        return TextTransformer(modality.length, width)
    if modality.projection == "none":
        return FixedEncoder()
    return ProjectionEncoder(fixed_width(modality), width)


class FixedEncoder(nn.Module):
    """Nothing to train: the fixed features are the feature, so only the head learns from them."""

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, width) to (n, width), each row of unit norm."""
        return torch.nn.functional.normalize(inputs, dim=1)


class ProjectionEncoder(nn.Module):
    """One linear map on fixed features."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(features, width)

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, features) to (n, width), each row of unit norm."""
        return torch.nn.functional.normalize(self.project(inputs), dim=1)


class CnnEncoder(nn.Module):
    """Three strided convolutions with GroupNorm, then an average over positions."""

    def __init__(self, width: int, channels: tuple[int, int, int] = (16, 32, 64)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous = 1
        for count in channels:
            layers += [
                nn.Conv2d(previous, count, kernel_size=3, stride=2, padding=1),
                nn.GroupNorm(4, count),
                nn.ReLU(),
            ]
            previous = count
        self.layers = nn.Sequential(*layers)
        self.project = nn.Linear(previous * 4, width)

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, 1, side, side) to (n, width), each row of unit norm."""
        maps = torch.nn.functional.adaptive_avg_pool2d(self.layers(inputs), 2)
        return torch.nn.functional.normalize(self.project(maps.flatten(1)), dim=1)


class TextTransformer(nn.Module):
    """A pre-norm transformer block over hashed words, averaged over the words that are there."""

    def __init__(self, length: int, width: int, heads: int = TRANSFORMER_HEADS) -> None:
        super().__init__()
        self.words = nn.Embedding(WORD_BUCKETS, width)
        self.places = nn.Embedding(length, width)
        self.norm_in = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_mid = nn.LayerNorm(width)
        self.feedforward = FeedForward(width, 2 * width)
        self.norm_out = nn.LayerNorm(width)
        self.project = nn.Linear(width, width)

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, length) word ids, 0 = padding, to (n, width), each row of unit norm."""
        ids = inputs.long()
        real = ids > 0
        places = torch.arange(ids.shape[1], device=ids.device).repeat(len(ids), 1)
        x = self.words(ids) + self.places(places)
        normed = self.norm_in(x)
        x = x + self.attention(normed, normed, real)
        x = self.norm_out(x + self.feedforward(self.norm_mid(x)))
        weight = real.float()[:, :, None]
        mean = (x * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)
        return torch.nn.functional.normalize(self.project(mean), dim=1)
