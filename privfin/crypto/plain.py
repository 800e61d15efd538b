"""Sums without encryption, for debugging: whoever relays them can read every update."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from privfin.errors import ProtocolError


def to_bytes(values: npt.NDArray[np.unsignedinteger]) -> list[bytes]:
    """Codes (n,) below 2^32 as one part of little-endian 32-bit integers."""
    if values.size and int(values.max()) >= 2**32:
        raise ValueError("a value does not fit 32 bits")
    return [values.astype("<u4").tobytes()]


def from_bytes(parts: list[bytes], n_values: int) -> npt.NDArray[np.uint64]:
    """The inverse of :func:`to_bytes`. Raises ProtocolError for another length."""
    if len(parts) != 1 or len(parts[0]) != 4 * n_values:
        raise ProtocolError(f"expected one part of {4 * n_values} bytes")
    return np.frombuffer(parts[0], dtype="<u4").astype(np.uint64)


class PlainSum:
    """A running sum of readable updates, with the interface of ``CiphertextSum``."""

    def __init__(self, n_values: int) -> None:
        self._total = np.zeros(n_values, dtype=np.uint64)

    def add(self, parts: list[bytes]) -> None:
        """Add one update."""
        self._total = self._total + from_bytes(parts, self._total.size)

    def result(self) -> list[bytes]:
        """The sum."""
        return to_bytes(self._total)
