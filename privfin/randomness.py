"""Random streams for noise, sampling and rounding: one cryptographic generator, two ways to key it.

The stream is AES-256 in counter mode (NIST SP 800-38A), from ``cryptography``. A ``system``
stream is keyed by the operating system and its key is never stored; a ``reproducible`` one is
keyed by a seed, so whoever knows the seed can subtract the noise: a run made with it is NOT
PRIVATE. Statistics on top of the stream (normal noise, Poisson sampling) live where they are used.
"""

from __future__ import annotations

import hashlib
import os
import sys

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_BLOCK = 16
# What is encrypted to get the key stream; small enough to stay in a core's cache.
_ZEROS = memoryview(bytes(2**16))


class RandomStream:
    """Cryptographic random numbers. Make one with :meth:`system` or :meth:`reproducible`."""

    def __init__(self, key: bytes, *, reproducible: bool) -> None:
        self.is_reproducible = reproducible
        # A fresh key for every stream, so a constant counter start never repeats a block.
        self._stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    @classmethod
    def system(cls) -> RandomStream:
        """A stream keyed with 256 bits from the operating system."""
        return cls(os.urandom(32), reproducible=False)

    @classmethod
    def reproducible(cls, seed: int, *labels: str | int) -> RandomStream:
        """A stream keyed by ``seed`` and ``labels``: for tests, and NOT PRIVATE."""
        text = "\x1f".join(["privfin-reproducible", str(seed), *map(str, labels)])
        return cls(hashlib.sha256(text.encode()).digest(), reproducible=True)

    def __repr__(self) -> str:
        return f"RandomStream(reproducible={self.is_reproducible})"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a random stream holds a key and cannot be copied or stored")

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        return self._stream.update(bytes(count))

    def uint64(self, count: int) -> npt.NDArray[np.uint64]:
        """``count`` integers uniform on [0, 2^64)."""
        words = np.empty(count, dtype=np.uint64)
        self.fill(words)
        return words

    def fill(self, words: npt.NDArray[np.uint64]) -> None:
        """Overwrite ``words``, contiguous in memory, with integers uniform on [0, 2^64).

        The numbers are those that :meth:`uint64` would have returned, without new memory.
        """
        room = words.data.cast("B")
        done, size = 0, len(room)
        # The cipher wants room for one byte less than a block beyond what it writes.
        while size - done >= 2 * _BLOCK:
            piece = min(len(_ZEROS), size - done - _BLOCK)
            done += self._stream.update_into(_ZEROS[:piece], room[done:])
        room[done:] = self.take(size - done)
        if sys.byteorder == "big":  # the stream is read as little-endian numbers everywhere
            words.byteswap(inplace=True)

    def uniform(self, count: int) -> npt.NDArray[np.float64]:
        """``count`` numbers uniform on the 2^53 multiples of 2^-53 in [0, 1)."""
        return (self.uint64(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53
