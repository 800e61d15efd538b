"""The model as one flat vector, cut into segments with their owners.

A segment is the parameters of one module. A site trains the segments that its modalities feed;
the average of a segment counts the public number of sites that declare it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from privfin.config import ImputerKind, RunConfig
from privfin.models.imputers import ANY
from privfin.models.multimodal import MultimodalModel

Vector = npt.NDArray[np.float32]


#: Segments that belong to no modality: every site trains them.
WHOLE = ("bias", "uncertainty")
#: Imputers that give the head something for a modality that a site lacks.
_FILLING = frozenset({"fin", "fin-any", "pfin", "mlp", "linear", "prototype", "mean", "retrieval"})


@dataclass(frozen=True)
class Segment:
    """Parameters of one module: ``vector[start:stop]``."""

    name: str
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.stop - self.start


def segment_of(parameter: str) -> str:
    """The segment that a parameter belongs to, e.g. ``encoder.image`` or ``bias``."""
    first, *rest = parameter.split(".")
    return first if first in WHOLE else f"{first}.{rest[0]}"


def segments(model: nn.Module) -> tuple[Segment, ...]:
    """The segments of a model in the order of its flat vector."""
    found: list[Segment] = []
    start = 0
    for name, group in groupby(model.named_parameters(), key=lambda item: segment_of(item[0])):
        stop = start + sum(p.numel() for _, p in group)
        found.append(Segment(name, start, stop))
        start = stop
    return tuple(found)


def initial_model(config: RunConfig, labels: int) -> MultimodalModel:
    """The first model, from the public seed: the same at every site, so nobody has to send it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        return MultimodalModel(config, labels)


def flatten(model: nn.Module) -> Vector:
    """All parameters as one float32 vector."""
    with torch.no_grad():
        parts = [p.detach().reshape(-1) for p in model.parameters()]
        return torch.cat(parts).numpy().astype(np.float32)


def assign(model: nn.Module, vector: Vector) -> None:
    """Write a flat vector back into a model. Raises ValueError if its length differs.

    What a model derives from its parameters (the features of public records) is brought up to date.
    """
    parameters = list(model.parameters())
    total = sum(p.numel() for p in parameters)
    if vector.shape != (total,):
        raise ValueError(f"the model has {total} parameters, the vector has {vector.size}")
    start = 0
    with torch.no_grad():
        for p in parameters:
            stop = start + p.numel()
            p.copy_(torch.from_numpy(vector[start:stop].astype(np.float32)).view_as(p))
            start = stop
    if isinstance(model, MultimodalModel):
        model.refresh()


def trains(segment: str, modalities: Iterable[str], imputer: ImputerKind) -> bool:
    """Whether a site with these modalities trains a segment.

    An encoder needs its modality; an imputer needs both of its modalities at the site (the
    any-to-any one needs two); a head block needs its modality, real or (with an imputer, from any
    other one) imputed.
    """
    have = set(modalities)
    kind, _, name = segment.partition(".")
    if kind == "encoder":
        return name in have
    if kind == "imputer":
        return len(have) > 1 if name == ANY else set(name.split("_to_")) <= have
    if kind == "head":
        return name in have or (imputer in _FILLING and bool(have))
    return True


def counts(segment: str, modalities: Iterable[str], imputer: ImputerKind) -> bool:
    """Whether a site with these modalities counts in a segment's average.

    Plain ``zero`` counts every site, as in the papers: sites that cannot train a segment send
    zeros and dilute it. Everything else counts the sites that train it.
    """
    return imputer == "zero" or trains(segment, modalities, imputer)


def freeze_untrained(model: nn.Module, modalities: Iterable[str], imputer: ImputerKind) -> None:
    """Leave only the segments that a site trains with gradients."""
    have = tuple(modalities)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trains(segment_of(name), have, imputer))
