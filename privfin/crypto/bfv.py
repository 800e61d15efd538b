"""BFV encryption of packed integers (Fan and Vercauteren 2012), by TenSEAL behind two classes.

:class:`BfvKey` belongs to sites and decrypts; :class:`BfvPublic` encrypts. Adding up needs neither,
see ``ciphertext_sum.py``. N = 8192, coefficient modulus 2 x 60 bits, plain modulus from the
packing, no evaluation keys. The sum is exact, so nothing about the key leaks through rounding
errors as in CKKS (Li and Micciancio 2021), as long as noise stays below its limit.

Noise margin, measured with TenSEAL 0.3.18 as the number of times that a ciphertext of uniform
slots can be doubled and still decrypt, the same in each of 6 repeats:

========  =====  ============  ============
packing   fresh  sum of 16     sum of 64
========  =====  ============  ============
2x20      12     10            9
3x15      7      5             4
2x28      56     54            53
========  =====  ============  ============

One doubling is one bit. A cohort of 16 leaves at least 5 bits, and masks cost none.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import tenseal

from privfin.crypto.bfv_format import (
    check_context,
    ciphertext_size,
    context_bytes,
    new_context,
    read_ciphertext,
)
from privfin.crypto.encoding import HoldsSecret
from privfin.crypto.pack import POLY_DEGREE, Packing, chunks_for
from privfin.crypto.slots import Slots
from privfin.errors import ProtocolError


def _context_from(data: bytes) -> tenseal.Context:
    try:
        return tenseal.context_from(data, n_threads=1)
    except (RuntimeError, ValueError) as error:
        raise ProtocolError("the encryption context cannot be read") from error


def _vector_from(context: tenseal.Context, blob: bytes) -> tenseal.BFVVector:
    try:
        return tenseal.bfv_vector_from(context, blob)
    except (RuntimeError, ValueError) as error:
        raise ProtocolError("a ciphertext cannot be read") from error


class BfvPublic:
    """The public key of a run: enough to encrypt and to add, never to decrypt.

    Args:
        data: bytes of :meth:`to_bytes`.
        packing: the layout agreed for the run.

    Raises:
        ProtocolError: the bytes hold a secret key, or are not a public context of ``packing``.
    """

    def __init__(self, data: bytes, packing: Packing) -> None:
        check_context(data, packing, secret=False)
        self.packing = packing
        self._data = data
        self._context = _context_from(data)
        if self._context.has_secret_key():
            raise ProtocolError("the public encryption context holds a secret key; it is refused")

    def __repr__(self) -> str:
        return f"BfvPublic({self.packing.name}, key {self.key_id[:16]})"

    def to_bytes(self) -> bytes:
        """Parameters and public key, about 262 kB."""
        return self._data

    @property
    def key_id(self) -> str:
        """SHA-256 of :meth:`to_bytes`, 64 hexadecimal digits."""
        return hashlib.sha256(self._data).hexdigest()

    def encrypt(self, slots: npt.NDArray[np.int64]) -> list[bytes]:
        """Encrypt slots (n,) in [0, t) with fresh randomness.

        Returns:
            ceil(n / 8192) ciphertexts of 131,208 bytes; the last is padded with zero slots.

        Raises:
            ValueError: not one-dimensional, or a slot outside [0, t).
        """
        t = self.packing.modulus
        if slots.ndim != 1:
            raise ValueError(f"slots must have one dimension, got {slots.ndim}")
        if slots.size and (slots.min() < 0 or int(slots.max()) >= t):
            raise ValueError("a slot lies outside [0, plain modulus)")
        padded = np.zeros(chunks_for(slots.size) * POLY_DEGREE, dtype=np.int64)
        padded[: slots.size] = slots
        # TenSEAL takes representatives centred on zero.
        signed = np.where(padded > t // 2, padded - t, padded)
        return [
            bytes(tenseal.bfv_vector(self._context, Slots(chunk)).serialize())
            for chunk in signed.reshape(-1, POLY_DEGREE)
        ]

    def check(self, blobs: list[bytes], chunks: int) -> None:
        """Refuse anything but ``chunks`` well-formed ciphertexts, before TenSEAL sees them.

        Raises:
            ProtocolError: a wrong number of ciphertexts, or one with a wrong structure.
        """
        if len(blobs) != chunks:
            raise ProtocolError(f"expected {chunks} ciphertexts, got {len(blobs)}")
        for blob in blobs:
            read_ciphertext(blob, self.packing)


class BfvKey(HoldsSecret):
    """The key pair of a run. One site generates it and seals it to the others."""

    def __init__(self, context: tenseal.Context, packing: Packing) -> None:
        self._context = context
        # Taken now: TenSEAL changes the context's option flags when it reads a vector.
        self._data = context_bytes(context, secret=True)
        self._public = BfvPublic(context_bytes(context, secret=False), packing)

    def __repr__(self) -> str:
        return f"BfvKey({self._public.packing.name}, key {self._public.key_id[:16]})"

    @classmethod
    def generate(cls, packing: Packing) -> BfvKey:
        """A fresh key pair, randomness from the operating system through SEAL."""
        return cls(new_context(packing), packing)

    @classmethod
    def from_secret_bytes(cls, data: bytes, packing: Packing) -> BfvKey:
        """Read :meth:`secret_bytes`.

        Raises:
            ProtocolError: other bytes, other parameters, or a secret key that does not belong
                to the public key beside it.
        """
        check_context(data, packing, secret=True)
        key = cls(_context_from(data), packing)
        probe = np.arange(1, POLY_DEGREE + 1, dtype=np.int64)
        if not np.array_equal(key.decrypt(key.public().encrypt(probe), POLY_DEGREE), probe):
            raise ProtocolError("the secret key does not belong to its public key")
        return key

    def secret_bytes(self) -> bytes:
        """Both keys, unencrypted, about 394 kB: only for sealing to another site."""
        return self._data

    def public(self) -> BfvPublic:
        """The public half."""
        return self._public

    def decrypt(self, blobs: list[bytes], n_slots: int) -> npt.NDArray[np.int64]:
        """Decrypt ``n_slots`` slots in [0, t); exact while the noise margin holds.

        Raises:
            ProtocolError: not exactly ceil(n_slots / 8192) well-formed ciphertexts.
        """
        self._public.check(blobs, chunks_for(n_slots))
        out = np.empty(len(blobs) * POLY_DEGREE, dtype=np.int64)
        for row, blob in zip(out.reshape(-1, POLY_DEGREE), blobs, strict=True):
            row[:] = _vector_from(self._context, blob).decrypt()
        return out[:n_slots] % self._public.packing.modulus


def ciphertext_bytes(n_values: int, packing: Packing) -> int:
    """Bytes of the ciphertexts of one update of ``n_values`` values, without making a key."""
    return chunks_for(packing.masked_slots(n_values)) * ciphertext_size(packing)
