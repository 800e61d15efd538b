"""Adding up ciphertexts without the native library: all that the coordinator does with updates.

The sum of two BFV ciphertexts is the sum of their coefficients modulo q (Fan and Vercauteren 2012,
section 4). So nothing that a site sends is ever parsed by native code at the coordinator: bytes
that break TenSEAL or SEAL cannot break it, and no key of any kind is needed.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from privfin.crypto.bfv_format import (
    check_context,
    coefficient_moduli,
    read_ciphertext,
    write_ciphertext,
)
from privfin.crypto.pack import Packing
from privfin.errors import ProtocolError


def public_key_id(data: bytes, packing: Packing) -> str:
    """The id of a public key, after a look at its structure.

    Args:
        data: bytes of ``BfvPublic.to_bytes``.
        packing: the layout agreed for the run.

    Returns:
        SHA-256 of ``data``, 64 hexadecimal digits.

    Raises:
        ProtocolError: the bytes hold a secret key, or are not a public context of ``packing``.
    """
    check_context(data, packing, secret=False)
    return hashlib.sha256(data).hexdigest()


class CiphertextSum:
    """A running sum of encrypted updates, in the memory of one.

    Args:
        packing: the layout of the updates.
        chunks: ciphertexts in each update, at least 1.
    """

    def __init__(self, packing: Packing, chunks: int) -> None:
        if chunks < 1:
            raise ProtocolError(f"an encrypted update needs at least one ciphertext, got {chunks}")
        self._packing = packing
        self._moduli = coefficient_moduli(packing)
        self._sum: npt.NDArray[np.uint64] = np.zeros((chunks, self._moduli.size), dtype=np.uint64)
        self.count = 0

    def add(self, blobs: list[bytes]) -> None:
        """Add one update of ``chunks`` ciphertexts; a refused update leaves the sum unchanged.

        Raises:
            ProtocolError: a wrong number or structure, or more updates than the packing allows.
        """
        most = self._packing.max_summands
        if self.count >= most:
            raise ProtocolError(f"a sum of more than {most} updates might not decrypt")
        if len(blobs) != len(self._sum):
            raise ProtocolError(f"expected {len(self._sum)} ciphertexts, got {len(blobs)}")
        # All are looked at before the first is added.
        parts = [read_ciphertext(blob, self._packing) for blob in blobs]
        for row, part in zip(self._sum, parts, strict=True):
            row += part  # both below 2^60
            row -= np.where(row >= self._moduli, self._moduli, np.uint64(0))
        self.count += 1

    def result(self) -> list[bytes]:
        """The encrypted sum, one ciphertext a chunk; ProtocolError if nothing was added."""
        if not self.count:
            raise ProtocolError("no encrypted update was added")
        return [write_ciphertext(row, self._packing) for row in self._sum]
