"""From encoded integers to ciphertexts and back: pack, mask, encrypt; decrypt, check, unpack.

The last slot of every ciphertext carries no value but a tag, and the padding of the last ciphertext
carries zero, both plus the mask. A tag is derived from the federation's secret key and everything
that names the payload: run, round, attempt, cohort, piece and place in it. In an honest sum of n
sites the last slot decrypts to n times the tag and the padding to zero. They do not if a site is
missing or counted twice (its masks stay), if the sum is that of another round, attempt or piece, if
ciphertexts were swapped or damaged, if the key is wrong or if the noise grew too large, each except
with probability about 1/t a ciphertext.

Whoever holds the public key can still add a chosen vector whose last slots are zero: that harms the
model, not the privacy of an update. Who holds the secret key can make tags.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privfin.crypto.bfv import BfvKey, BfvPublic
from privfin.crypto.isolated import IsolatedKey
from privfin.crypto.masks import MaskContext, uniform_stream
from privfin.crypto.pack import DATA_SLOTS, POLY_DEGREE, Packing
from privfin.errors import ProtocolError


def tags_for(
    secret: bytes, context: MaskContext, modulus: int, length: int
) -> npt.NDArray[np.int64]:
    """The tags of a payload, (length,) in [0, ``modulus``): the same at every site.

    Args:
        secret: the federation key, as its secret bytes.
        context: what the payload is.
        modulus: the plain modulus t.
        length: ciphertexts of the payload.
    """
    key = HKDF(SHA256(), 32, salt=None, info=context.info("privfin/tag/v1")).derive(secret)
    return uniform_stream(key, modulus, length)


def lay_out(
    values: npt.NDArray[np.unsignedinteger], packing: Packing, tags: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Packed codes (n,) and tags in their places: (packing.masked_slots(n),) in [0, t)."""
    packed = packing.pack(values)
    chunks = packing.masked_slots(values.size) // POLY_DEGREE
    data = np.zeros(chunks * DATA_SLOTS, dtype=np.int64)
    data[: packed.size] = packed
    rows = np.zeros((chunks, POLY_DEGREE), dtype=np.int64)
    rows[:, :DATA_SLOTS] = data.reshape(-1, DATA_SLOTS)
    rows[:, DATA_SLOTS] = tags
    return rows.reshape(-1)


def protect(
    values: npt.NDArray[np.unsignedinteger],
    packing: Packing,
    mask: npt.NDArray[np.int64],
    public: BfvPublic,
    tags: npt.NDArray[np.int64],
) -> list[bytes]:
    """Pack, mask and encrypt one update.

    Args:
        values: (n,) codes of a :class:`~privfin.crypto.quantize.Quantizer`, n at least 1; the
            plan must have passed :meth:`Packing.check_headroom`.
        packing: the layout, the same as that of ``public``.
        mask: (packing.masked_slots(n),) integers in [0, t); used for this update only.
        public: the run's public key.
        tags: one a ciphertext, in [0, t); see :func:`tags_for`.

    Returns:
        ciphertexts of 131,208 bytes, ``packing.masked_slots(n) / 8192`` of them.

    Raises:
        ValueError: nothing to send, a mask of another length, or a value that does not fit.
        ProtocolError: the key was made for another packing.
    """
    if packing != public.packing:
        raise ProtocolError(f"the key is for packing {public.packing.name}, not {packing.name}")
    if not values.size:
        raise ValueError("an update holds no values")
    slots = lay_out(values, packing, tags)
    if mask.shape != slots.shape:
        raise ValueError(f"the mask must have {slots.size} slots, got shape {mask.shape}")
    slots = (slots + mask) % packing.modulus
    return public.encrypt(slots)


def reveal(
    blobs: list[bytes],
    key: BfvKey | IsolatedKey,
    n_values: int,
    packing: Packing,
    tags: npt.NDArray[np.int64],
) -> npt.NDArray[np.uint64]:
    """Decrypt, check and unpack the sum of a whole cohort's updates.

    Args:
        blobs: the encrypted sum.
        key: the run's key; a site decrypts in another process.
        n_values: values in each update.
        packing: the layout.
        tags: what the last slot of every ciphertext must hold: the sum of all sites' tags.

    Returns:
        (n_values,) exact sums of codes.

    Raises:
        ProtocolError: malformed ciphertexts, or a sum whose check slots are not what they must be.
    """
    if packing != key.public().packing:
        raise ProtocolError(f"the key is not for packing {packing.name}")
    rows = key.decrypt(blobs, packing.masked_slots(n_values)).reshape(-1, POLY_DEGREE)
    data = rows[:, :DATA_SLOTS].reshape(-1)
    used = packing.slots(n_values)
    if (rows[:, DATA_SLOTS] != tags).any() or data[used:].any():
        raise ProtocolError(
            "the encrypted sum does not decrypt cleanly: a site's contribution is missing or "
            "doubled, the sum is damaged or another one, or the key is"
        )
    return packing.unpack(data[:used], n_values)
