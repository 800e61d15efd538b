"""The global model as every site keeps it: equal sums, applied alike, give equal bits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from privfin.config import ServerConfig
from privfin.federation.server_optimizer import ServerOptimizer
from privfin.models.segments import Vector
from privfin.runs import Checkpoint

#: A place in the vector and the average update there, float64.
Step = tuple[slice, npt.NDArray[np.float64]]


@dataclass
class GlobalModel:
    """The current parameters and the running mean of the later rounds.

    Attributes:
        vector: parameters after ``round`` rounds, float32.
        round: rounds applied so far.
        average_after: rounds up to this one do not enter the mean.
        total: sum of the vectors of the rounds that entered, float64.
        count: how many entered.
        server: what turns a round's average update into a step.
    """

    vector: Vector
    round: int
    average_after: int
    total: npt.NDArray[np.float64]
    count: int
    server: ServerOptimizer

    @classmethod
    def start(
        cls, vector: Vector, average_after: int, server: ServerConfig | None = None
    ) -> GlobalModel:
        """The model before the first round; ``server`` left out adds averages as they are."""
        optimizer = ServerOptimizer(server or ServerConfig(), vector.size)
        return cls(vector.copy(), 0, average_after, np.zeros(vector.shape), 0, optimizer)

    @classmethod
    def resume(cls, saved: Checkpoint, average_after: int, server: ServerConfig) -> GlobalModel:
        """The model of a checkpoint.

        Raises:
            UserInputError: it lacks the state of the server's optimiser.
        """
        optimizer = ServerOptimizer(server, saved.vector.size)
        optimizer.restore(saved.momentum, saved.second_moment)
        return cls(saved.vector, saved.round, average_after, saved.total, saved.count, optimizer)

    def checkpoint(self) -> Checkpoint:
        """Everything that is needed to go on."""
        return Checkpoint(
            self.round,
            self.vector,
            self.total,
            self.count,
            self.server.momentum,
            self.server.second_moment,
        )

    def copy(self) -> GlobalModel:
        """An independent copy, for another site."""
        return GlobalModel(
            self.vector.copy(),
            self.round,
            self.average_after,
            self.total.copy(),
            self.count,
            self.server.copy(),
        )

    def apply(self, steps: Iterable[Step]) -> None:
        """Take in one round's average updates (element-wise IEEE operations only).

        Args:
            steps: for slices that cover the vector once, the average update there.
        """
        moved = np.empty_like(self.vector)
        for at, average in steps:
            moved[at] = self.server.apply(self.vector[at], average, at)
        self.vector = moved
        self.round += 1
        if self.round > self.average_after:
            self.total += self.vector
            self.count += 1

    def final(self) -> Vector:
        """The mean of the later rounds' parameters, or the last ones if none entered yet.

        Averaging the iterates is post-processing, so it costs no privacy.
        """
        if self.count == 0:
            return self.vector
        return (self.total / self.count).astype(np.float32)
