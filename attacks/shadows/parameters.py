"""Where each parameter of a module lies in a flat vector, for stacks of vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from torch import Tensor, nn

#: Tensors that belong together, by name; their first axis is the row (or the model, then the row).
Rows = Mapping[str, Tensor]


@dataclass(frozen=True)
class Place:
    """A parameter of ``shape`` at ``vector[start:stop]``."""

    name: str
    start: int
    stop: int
    shape: tuple[int, ...]


class ParameterPlaces:
    """The order of a module's parameters in its flat vector.

    Attributes:
        places: one a parameter, in the order of ``module.named_parameters()``.
        size: P, numbers in a vector.
    """

    def __init__(self, module: nn.Module) -> None:
        found, start = [], 0
        for name, parameter in module.named_parameters():
            shape = tuple(parameter.shape)
            found.append(Place(name, start, start + prod(shape), shape))
            start += prod(shape)
        self.places = tuple(found)
        self.size = start

    def __iter__(self) -> Iterator[Place]:
        return iter(self.places)

    def split(self, vectors: Tensor) -> dict[str, Tensor]:
        """Views (M, ...) of stacked vectors (M, P), by parameter.

        Raises:
            ValueError: the vectors have another length than the module.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.size:
            raise ValueError(f"vectors must be (models, {self.size}), got {tuple(vectors.shape)}")
        count = len(vectors)
        return {p.name: vectors[:, p.start : p.stop].view(count, *p.shape) for p in self.places}
