"""What an honest BFV context and ciphertext look like, byte for byte, apart from their numbers.

The reference is made in this process, once for each packing, from the parameters alone. What
others send must agree with it in everything but key and ciphertext coefficients, and those must
be reduced, before TenSEAL parses a byte of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import tenseal

from privfin.crypto import wire
from privfin.crypto.pack import POLY_DEGREE, Packing
from privfin.errors import ProtocolError

COEFF_MODULUS_BITS = (60, 60)
"""Bits of the primes of CKKS and of layouts with one ciphertext prime: 120 in all, below the 218
that N = 8192 allows at 128-bit security (homomorphicencryption.org standard). The last one is only
ever used for keys. Layouts with two ciphertext primes take 180 bits."""

_PRIMES = (1_152_921_504_606_830_593, 1_152_921_504_606_748_673, 1_152_921_504_606_683_137)
"""The largest 60-bit primes = 1 modulo 2N, as SEAL finds them. It uses as many as it is asked for,
in rising order; the largest is the one for keys."""

CIPHERTEXT_MODULUS = _PRIMES[1]
"""q with one ciphertext prime."""

CIPHERTEXT_BYTES = 131_208
"""Length of a serialised ciphertext with one prime: two polynomials of N coefficients of 8 bytes,
and 136."""

_MAX_CONTEXT_BYTES = 1 << 20

META = 97
"""Bytes in front of the coefficients of a saved SEAL ciphertext or public key."""

_SECRET_META = 72
"""The same for a saved secret key."""

_FRAME = 28
"""Bytes in front of those: SEAL header, Zstandard frame header and first block header."""

_VECTOR = 8
"""Bytes in front of those: TenSEAL's size and length fields."""

_FULL_BLOCK, _BLOCK_HEADER = 1 << 17, 3
"""Content of a full Zstandard block, and the bytes in front of the next one."""


def ciphertext_primes(packing: Packing) -> tuple[int, ...]:
    """The primes of the ciphertext modulus q, in the order in which coefficients are stored."""
    return tuple(reversed(_PRIMES[1 : packing.primes + 1]))


def ciphertext_size(packing: Packing) -> int:
    """Bytes of one serialised ciphertext."""
    content = META + 16 * POLY_DEGREE * packing.primes
    blocks = -(-content // _FULL_BLOCK)
    return _VECTOR + _FRAME + content + _BLOCK_HEADER * (blocks - 1)


def new_context(packing: Packing) -> tenseal.Context:
    """A fresh BFV context with all keys (Fan and Vercauteren 2012), one thread."""
    return tenseal.context(
        tenseal.SCHEME_TYPE.BFV,
        POLY_DEGREE,
        plain_modulus=packing.modulus,
        coeff_mod_bit_sizes=[60] * (packing.primes + 1),
        n_threads=1,
    )


def context_bytes(context: tenseal.Context, *, secret: bool) -> bytes:
    """Parameters and public key, and the secret key if asked; never evaluation keys."""
    return bytes(
        context.serialize(
            save_public_key=True,
            save_secret_key=secret,
            save_galois_keys=False,
            save_relin_keys=False,
        )
    )


@dataclass(frozen=True)
class Reference:
    """The constant parts of contexts and ciphertexts of one packing or scheme.

    ``ciphertext_frame`` has what stands before the coefficients, and the headers of the Zstandard
    blocks after the first, which stand between them. ``primes`` counts the one for keys too.
    """

    primes: int
    parameters: bytes
    options: tuple[int | bytes, int | bytes]
    public_head: bytes
    secret_head: bytes
    ciphertext_head: bytes
    ciphertext_frame: tuple[bytes, tuple[bytes, ...]]


@lru_cache(maxsize=8)
def _reference(packing: Packing) -> Reference:
    # The keys made here are thrown away: only what does not depend on them is kept.
    context = new_context(packing)
    data = context_bytes(context, secret=True)  # before there is a vector, which changes flags
    vector = tenseal.bfv_vector(context, [0] * POLY_DEGREE).serialize()
    inside = wire.read_vector(vector, POLY_DEGREE)
    return reference_from(data, vector, inside, packing.primes + 1)


def reference_from(data: bytes, vector: bytes, ciphertext: bytes, primes: int) -> Reference:
    """What does not depend on keys in a context with its secret, a vector and what is in it.

    Args:
        data: the context.
        vector: a vector made under it.
        ciphertext: the ciphertext in that vector.
        primes: of the coefficient modulus, the one for keys included.
    """
    parameters, public, secret = _context_parts(data, secret=True)
    key, *options = wire.read_message(public, (1, 2, 3), "public key")
    start, step = _VECTOR + _FRAME, _FULL_BLOCK + _BLOCK_HEADER
    content = META + 16 * POLY_DEGREE * (primes - 1)
    between = range(1, -(-content // _FULL_BLOCK))
    return Reference(
        primes=primes,
        parameters=parameters,
        options=(options[0], options[1]),
        public_head=wire.read_bytes(key, "public key")[: _FRAME + META],
        secret_head=_secret_key(secret)[: _FRAME + _SECRET_META],
        ciphertext_head=ciphertext[: _FRAME + META],
        ciphertext_frame=(
            vector[: start + META],
            tuple(vector[start + step * n - _BLOCK_HEADER : start + step * n] for n in between),
        ),
    )


def _context_parts(data: bytes, *, secret: bool) -> tuple[bytes, bytes, bytes]:
    """Parameters, public section and secret section (empty if not asked) of a context."""
    what = "encryption context"
    numbers = (1, 2, 3) if secret else (1, 2)
    parts = [wire.read_bytes(v, what) for v in wire.read_message(data, numbers, what)]
    return parts[0], parts[1], parts[2] if secret else b""


def _secret_key(section: bytes) -> bytes:
    (key,) = wire.read_message(section, (1,), "secret key")
    return wire.read_bytes(key, "secret key")


def is_object(data: bytes, head: bytes, meta: int, numbers: int, what: str) -> bool:
    """Whether ``data`` starts like ``head`` and holds ``numbers`` 8-byte numbers after it."""
    return data.startswith(head) and len(wire.read_seal(data, what)) == meta + 8 * numbers


def check_context(data: bytes, packing: Packing, *, secret: bool) -> None:
    """Refuse context bytes other than parameters, public key and, if ``secret``, secret key.

    Raises:
        ProtocolError: a secret key where none belongs or none where one does, evaluation keys,
            other parameters than those of ``packing``, or any other structure.
    """
    check_context_against(data, _reference(packing), f"packing {packing.name}", secret=secret)


def check_context_against(data: bytes, known: Reference, what: str, *, secret: bool) -> None:
    """:func:`check_context` for any scheme; ``what`` names the parameters in a refusal."""
    if len(data) > _MAX_CONTEXT_BYTES:
        raise ProtocolError(f"encryption context: {len(data)} bytes is too long")
    if not secret and any(number == 3 for number, _ in wire.read_fields(data)):
        raise ProtocolError("the public encryption context holds a secret key; it is refused")
    parameters, public, section = _context_parts(data, secret=secret)
    if parameters != known.parameters:
        raise ProtocolError(f"encryption context: not the parameters of {what}")
    key, *options = wire.read_message(public, (1, 2, 3), "public key")
    primes = known.primes
    if tuple(options) != known.options or not is_object(
        wire.read_bytes(key, "public key"),
        known.public_head,
        META,
        2 * primes * POLY_DEGREE,
        "public key",
    ):
        raise ProtocolError("encryption context: not a public key of the expected kind")
    if secret and not is_object(
        _secret_key(section), known.secret_head, _SECRET_META, primes * POLY_DEGREE, "secret key"
    ):
        raise ProtocolError("encryption context: not a secret key of the expected kind")


def public_part(data: bytes, packing: Packing) -> bytes:
    """The public bytes inside the secret ones, which begin with them.

    Raises:
        ProtocolError: see :func:`check_context`.
    """
    check_context(data, packing, secret=True)
    return without_secret(data)


def without_secret(data: bytes) -> bytes:
    """The public bytes inside checked secret ones."""
    secret = len(_context_parts(data, secret=True)[2])
    # Behind the public part come a tag of one byte, a length of seven bits a byte, the section.
    return data[: len(data) - secret - (secret.bit_length() + 6) // 7 - 1]


@lru_cache(maxsize=8)
def coefficient_moduli(packing: Packing) -> npt.NDArray[np.uint64]:
    """The prime that each stored coefficient of a ciphertext is reduced by, (2 primes N,)."""
    of_one = np.repeat(np.array(ciphertext_primes(packing), dtype=np.uint64), POLY_DEGREE)
    found = np.tile(of_one, 2)
    found.flags.writeable = False
    return found


def read_ciphertext(blob: bytes, packing: Packing) -> npt.NDArray[np.uint64]:
    """The coefficients of one fresh or summed ciphertext of N slots, by our own reader alone.

    Only the values of the coefficients, each below q, are free; everything else must be what
    this library writes itself.

    Returns:
        (2 primes N,) the coefficients of both polynomials, each of its residues modulo
        :func:`ciphertext_primes` one after the other; read-only.

    Raises:
        ProtocolError: any difference.
    """
    if len(blob) != ciphertext_size(packing):
        raise ProtocolError(f"ciphertext: {len(blob)} bytes instead of {ciphertext_size(packing)}")
    ciphertext = wire.read_vector(blob, POLY_DEGREE)
    head = _reference(packing).ciphertext_head
    if not is_object(ciphertext, head, META, 2 * packing.primes * POLY_DEGREE, "ciphertext"):
        raise ProtocolError(f"ciphertext: not one of packing {packing.name}")
    content = wire.read_seal(ciphertext, "ciphertext")
    coefficients = np.frombuffer(content, dtype="<u8", offset=META)
    if (coefficients >= coefficient_moduli(packing)).any():
        raise ProtocolError("ciphertext: a coefficient is out of range")
    if not coefficients[packing.primes * POLY_DEGREE :].any():
        # SEAL calls it transparent: it hides nothing, and adding it may fail half way.
        raise ProtocolError("ciphertext: it is not encrypted at all")
    return coefficients


def write_ciphertext(coefficients: npt.NDArray[np.uint64], packing: Packing) -> bytes:
    """The bytes of the ciphertext with these (2 primes N,) coefficients: as SEAL writes it."""
    return frame_coefficients(coefficients, _reference(packing))


def frame_coefficients(coefficients: npt.NDArray[np.uint64], known: Reference) -> bytes:
    """:func:`write_ciphertext` for any scheme, without what follows the ciphertext."""
    content = coefficients.astype("<u8").tobytes()
    # Raw blocks: all but the last are full, and their headers lie between coefficients.
    head, between = known.ciphertext_frame
    at = _FULL_BLOCK - META
    pieces = [head, content[:at]]
    for header in between:
        pieces += [header, content[at : at + _FULL_BLOCK]]
        at += _FULL_BLOCK
    return b"".join(pieces)
