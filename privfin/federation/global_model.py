"""The global model as every site keeps it: equal sums, applied alike, give equal bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from privfin.models.segments import Vector


@dataclass
class GlobalModel:
    """The current parameters and the running mean of the later rounds.

    Attributes:
        vector: parameters after ``round`` rounds, float32.
        round: rounds applied so far.
        average_after: rounds up to this one do not enter the mean.
        total: sum of the vectors of the rounds that entered, float64.
        count: how many entered.
    """

    vector: Vector
    round: int
    average_after: int
    total: npt.NDArray[np.float64]
    count: int

    @classmethod
    def start(cls, vector: Vector, average_after: int) -> GlobalModel:
        """The model before the first round."""
        return cls(vector.copy(), 0, average_after, np.zeros(vector.shape), 0)

    def copy(self) -> GlobalModel:
        """An independent copy, for another site."""
        return GlobalModel(
            self.vector.copy(), self.round, self.average_after, self.total.copy(), self.count
        )

    def apply(self, summed: npt.NDArray[np.float64], divisors: npt.NDArray[np.float32]) -> None:
        """Add the average update of one round (element-wise IEEE operations only)."""
        self.vector = (self.vector + (summed / divisors).astype(np.float32)).astype(np.float32)
        self.round += 1
        if self.round > self.average_after:
            self.total = self.total + self.vector
            self.count += 1

    def final(self) -> Vector:
        """The mean of the later rounds' parameters, or the last ones if none entered yet.

        Averaging the iterates is post-processing, so it costs no privacy.
        """
        if self.count == 0:
            return self.vector
        return (self.total / self.count).astype(np.float32)
