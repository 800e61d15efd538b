"""Numbers on their way into TenSEAL, without its detour."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import tenseal


class Slots(tenseal.PlainTensor):  # type: ignore[misc]
    """A vector (n,) that TenSEAL takes as it is.

    Its own ``PlainTensor`` copies a list into an array, a list, C++ and a list again, a quarter of
    the time of an encryption; ``bfv_vector`` and ``ckks_vector`` read only ``raw`` and ``shape``.
    """

    def __init__(self, numbers: npt.NDArray[np.int64] | npt.NDArray[np.float64]) -> None:
        self._numbers = numbers.tolist()

    @property
    def raw(self) -> list[int] | list[float]:
        """The numbers."""
        found: list[int] | list[float] = self._numbers
        return found

    @property
    def shape(self) -> list[int]:
        """One dimension."""
        return [len(self._numbers)]
