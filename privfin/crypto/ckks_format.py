"""What an honest CKKS context and ciphertext look like, byte for byte, apart from their numbers.

As ``bfv_format`` for BFV: everything but key and ciphertext coefficients must be what this library
writes itself, and coefficients must be reduced, before TenSEAL parses a byte. Ciphertexts are
added here too: they are vectors modulo q, whatever they mean.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import tenseal

from privfin.crypto import wire
from privfin.crypto.bfv_format import (
    CIPHERTEXT_MODULUS,
    COEFF_MODULUS_BITS,
    META,
    Reference,
    check_context_against,
    context_bytes,
    frame_coefficients,
    is_object,
    reference_from,
    without_secret,
)
from privfin.crypto.pack import POLY_DEGREE
from privfin.errors import ProtocolError

SLOTS = POLY_DEGREE // 2
"""Real numbers in one ciphertext."""

SCALE = 2.0**40
"""What a number is multiplied by before it is rounded: steps of 1e-12, far below the noise."""

CIPHERTEXT_BYTES = 131_217
"""Length of every serialised ciphertext: two polynomials of N coefficients of 8 bytes, and 145."""

_SCALE_FIELD = 9
"""Bytes of the field behind the ciphertext that states the scale."""


def new_context() -> tenseal.Context:
    """A fresh CKKS context with all keys (Cheon, Kim, Kim and Song 2017), one thread."""
    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS,
        POLY_DEGREE,
        coeff_mod_bit_sizes=list(COEFF_MODULUS_BITS),
        n_threads=1,
    )
    context.global_scale = SCALE
    return context


@lru_cache(maxsize=1)
def _template() -> tuple[Reference, bytes]:
    """The constant parts, and one serialised ciphertext; its key is thrown away."""
    context = new_context()
    data = context_bytes(context, secret=True)  # before there is a vector, which changes flags
    blob = bytes(tenseal.ckks_vector(context, [0.0] * SLOTS).serialize())
    ciphertext = wire.read_vector(blob[:-_SCALE_FIELD], SLOTS)
    return reference_from(data, blob, ciphertext, len(COEFF_MODULUS_BITS)), blob


def check_context(data: bytes, *, secret: bool) -> None:
    """Refuse context bytes other than parameters, public key and, if ``secret``, secret key.

    Raises:
        ProtocolError: see :func:`privfin.crypto.bfv_format.check_context`.
    """
    check_context_against(data, _template()[0], "CKKS", secret=secret)


def public_part(data: bytes) -> bytes:
    """The public bytes inside the secret ones. Raises ProtocolError: see :func:`check_context`."""
    check_context(data, secret=True)
    return without_secret(data)


def read_ciphertext(blob: bytes) -> npt.NDArray[np.uint64]:
    """The 2N coefficients, each below q, of one fresh or summed ciphertext.

    Raises:
        ProtocolError: anything but these coefficients differs from what this library writes, or
            the bytes are not encrypted at all.
    """
    if len(blob) != CIPHERTEXT_BYTES:
        raise ProtocolError(f"ciphertext: {len(blob)} bytes instead of {CIPHERTEXT_BYTES}")
    known, template = _template()
    if not blob.endswith(template[-_SCALE_FIELD:]):
        raise ProtocolError("ciphertext: not of the expected scale")
    ciphertext = wire.read_vector(blob[:-_SCALE_FIELD], SLOTS)
    if not is_object(ciphertext, known.ciphertext_head, META, 2 * POLY_DEGREE, "ciphertext"):
        raise ProtocolError("ciphertext: not one of CKKS")
    content = wire.read_seal(ciphertext, "ciphertext")
    coefficients = np.frombuffer(content, dtype="<u8", offset=META)
    if int(coefficients.max()) >= CIPHERTEXT_MODULUS:
        raise ProtocolError("ciphertext: a coefficient is out of range")
    if not coefficients[POLY_DEGREE:].any():
        raise ProtocolError("ciphertext: it is not encrypted at all")
    return coefficients


def write_ciphertext(coefficients: npt.NDArray[np.uint64]) -> bytes:
    """The inverse of :func:`read_ciphertext`, in the one spelling that TenSEAL has."""
    known, template = _template()
    return frame_coefficients(coefficients, known) + template[-_SCALE_FIELD:]


def add(first: npt.NDArray[np.uint64], second: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The sum of two ciphertexts' coefficients modulo q."""
    total = first + second  # below 2^61
    return total - np.where(
        total >= np.uint64(CIPHERTEXT_MODULUS), np.uint64(CIPHERTEXT_MODULUS), np.uint64(0)
    )
