"""From encoded integers to ciphertexts and back: pack, mask, encrypt; decrypt, check, unpack.

The last slot of every ciphertext carries no value, and neither does the padding of the last
ciphertext: they hold zero plus the mask. In an honest sum they decrypt to zero. They do not if
a site is missing or counted twice (its masks stay), if a ciphertext was damaged, if the key is
wrong or if the noise grew too large, each except with probability about 1/t a ciphertext.
This is a check against accidents and against dropping sites, not a proof: whoever holds the
public key can still add a chosen vector whose check slots are zero.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from privfin.crypto.bfv import BfvKey, BfvPublic
from privfin.crypto.isolated import IsolatedKey
from privfin.crypto.pack import DATA_SLOTS, POLY_DEGREE, Packing
from privfin.errors import ProtocolError


def protect(
    values: npt.NDArray[np.uint64],
    packing: Packing,
    mask: npt.NDArray[np.int64],
    public: BfvPublic,
) -> list[bytes]:
    """Pack, mask and encrypt one update.

    Args:
        values: (n,) codes of a :class:`~privfin.crypto.quantize.Quantizer`, n at least 1; the
            plan must have passed :meth:`Packing.check_headroom`.
        packing: the layout, the same as that of ``public``.
        mask: (packing.masked_slots(n),) integers in [0, t); used for this update only.
        public: the run's public key.

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
    packed = packing.pack(values)
    total = packing.masked_slots(values.size)
    data = np.zeros(total // POLY_DEGREE * DATA_SLOTS, dtype=np.int64)
    data[: packed.size] = packed
    rows = np.zeros((total // POLY_DEGREE, POLY_DEGREE), dtype=np.int64)
    rows[:, :DATA_SLOTS] = data.reshape(-1, DATA_SLOTS)
    slots = rows.reshape(-1)
    if mask.shape != slots.shape:
        raise ValueError(f"the mask must have {total} slots, got shape {mask.shape}")
    slots = (slots + mask) % packing.modulus
    return public.encrypt(slots)


def reveal(
    blobs: list[bytes], key: BfvKey | IsolatedKey, n_values: int, packing: Packing
) -> npt.NDArray[np.uint64]:
    """Decrypt, check and unpack the sum of a whole cohort's updates.

    Args:
        blobs: the encrypted sum.
        key: the run's key; a site decrypts in another process.
        n_values: values in each update.
        packing: the layout.

    Returns:
        (n_values,) exact sums of codes.

    Raises:
        ProtocolError: malformed ciphertexts, or a sum whose check slots are not zero.
    """
    if packing != key.public().packing:
        raise ProtocolError(f"the key is not for packing {packing.name}")
    rows = key.decrypt(blobs, packing.masked_slots(n_values)).reshape(-1, POLY_DEGREE)
    data = rows[:, :DATA_SLOTS].reshape(-1)
    used = packing.slots(n_values)
    if rows[:, DATA_SLOTS].any() or data[used:].any():
        raise ProtocolError(
            "the encrypted sum does not decrypt cleanly: a site's contribution is missing or "
            "doubled, the sum is damaged, or the key is another one"
        )
    return packing.unpack(data[:used], n_values)
