"""Frozen public encoders: weights from a local file, evaluation mode, no gradient, no download.

An encoder that nothing is learned in costs no privacy (Tramer and Boneh 2021, "Differentially
Private Learning Needs Better Features"), provided that its weights come from public data: that is
the user's word, and the privacy statement says so. Every record goes through the encoder alone,
so its feature is the same bits whatever it is encoded with, and no layer can couple two records.
BatchNorm layers use the running statistics that came with the weights and never change them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from privfin.config import FROZEN_ENCODERS, ModalityConfig
from privfin.models import frozen_images, frozen_texts
from privfin.models.weights import weights_digest


@dataclass(frozen=True)
class FrozenEncoder:
    """A loaded encoder: ``network`` is in evaluation mode and none of its parameters trains.

    ``encode_one`` maps one input (an image in [0, 1] of shape (1, side, side), or a text) to
    (``width``,) float32.
    """

    name: str
    width: int
    network: nn.Module
    encode_one: Callable[[Any], Tensor]
    digest: str

    def features(self, raw: Sequence[Tensor | str]) -> Tensor:
        """(n, width) float32: each record alone, each row of unit norm (or zero)."""
        rows = torch.zeros(len(raw), self.width)
        with torch.inference_mode():
            for i, one in enumerate(raw):
                rows[i] = nn.functional.normalize(self.encode_one(one), dim=0)
        return rows

    def description(self) -> str:
        """What is frozen, in one line."""
        parameters = sum(p.numel() for p in self.network.parameters())
        norms = sum(isinstance(m, _BatchNorm) for m in self.network.modules())
        frozen = (
            f"{norms} BatchNorm layers frozen with the running statistics of the weights"
            if norms
            else "no BatchNorm layers"
        )
        return (
            f"{self.name} is frozen: {parameters:,} parameters that do not train, "
            f"{frozen}, {self.width} features, weights {self.digest[:16]}"
        )


def is_frozen(modality: ModalityConfig) -> bool:
    """Whether the encoder's weights come from a file."""
    return modality.encoder.partition(":")[0] in FROZEN_ENCODERS


def frozen_width(modality: ModalityConfig) -> int:
    """Numbers in one feature, from the architecture alone: weights are not read.

    Raises:
        ConfigError: the architecture is not known, or its library is not installed.
    """
    family, _, name = modality.encoder.partition(":")
    if family == "timm":
        return frozen_images.width(name)
    return frozen_texts.width(name)


def load_frozen(modality: ModalityConfig) -> FrozenEncoder:
    """Load the encoder of a modality; a second call for the same files gives the same object.

    Raises:
        ConfigError: its library is not installed, the architecture is not known, the weights are
            not safetensors, not there, or do not fit.
    """
    return _load(modality.encoder, str(modality.weights), modality.length, weights_digest(modality))


@lru_cache(maxsize=2)
def _load(encoder: str, weights: str, length: int, digest: str) -> FrozenEncoder:
    family, _, name = encoder.partition(":")
    network: nn.Module
    # Drawing first weights that are overwritten must not move the stream of the public seed.
    with torch.random.fork_rng(devices=[]):
        if family == "timm":
            network, encode_one = frozen_images.load(name, weights)
            label, width = encoder, frozen_images.width(name)
        else:
            network, encode_one = frozen_texts.load(name, length)
            label, width = family, frozen_texts.width(name)
    network.eval()
    network.requires_grad_(False)
    return FrozenEncoder(label, width, network, encode_one, digest)
