"""Who is in a data set, as keyed fingerprints: enough to find the same people again, no more.

A fingerprint is the first 8 bytes of HMAC-SHA256 (RFC 2104) of a patient's identifier under a key
that never leaves the home. Without the key nobody can test whether an identifier is among them.
Among a million patients, two different ones share a fingerprint with a probability below 1e-7.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from privfin.crypto.encoding import frame
from privfin.errors import DataError, LedgerError

#: Sorted, without doubles, big-endian; shape [patients].
Fingerprints = npt.NDArray[np.uint64]

_BYTES = 8
_LONGEST_ID = 1024
_STORED = np.dtype(">u8")


def fingerprints(key: bytes, patient_ids: Iterable[str]) -> Fingerprints:
    """The fingerprints of patients; spaces around an identifier do not count.

    Args:
        key: 32 secret bytes.
        patient_ids: in any order, doubles allowed.

    Raises:
        DataError: no identifiers, or one that is empty or longer than 1024 characters.
    """
    found = set()
    for number, given in enumerate(patient_ids, start=1):
        name = given.strip()
        if not name or len(name) > _LONGEST_ID:
            raise DataError(
                f"patient identifier number {number} is empty or longer than {_LONGEST_ID} "
                "characters: it names nobody"
            )
        mac = hmac.digest(key, name.encode("utf-8", "surrogatepass"), hashlib.sha256)
        found.add(int.from_bytes(mac[:_BYTES], "big"))
    if not found:
        raise DataError("the data set has no patients")
    return np.array(sorted(found), dtype=np.uint64)


def to_blob(prints: Fingerprints) -> bytes:
    """``prints`` as they are stored: 8 bytes each, big-endian, ascending."""
    return prints.astype(_STORED).tobytes()


def from_blob(content: bytes) -> Fingerprints:
    """Read back :func:`to_blob`. LedgerError if it is none."""
    if not content or len(content) % _BYTES:
        raise LedgerError("stored fingerprints are damaged")
    prints: Fingerprints = np.frombuffer(content, dtype=_STORED).astype(np.uint64)
    if prints.size > 1 and not bool(np.all(prints[1:] > prints[:-1])):
        raise LedgerError("stored fingerprints are damaged")
    return prints


def share_in(prints: Fingerprints, others: Fingerprints) -> float:
    """The share of ``prints`` that are also in ``others``, 0 to 1."""
    return float(np.isin(prints, others).mean())


def dataset_id(key: bytes, source: str, root: str) -> str:
    """A name for a data set that tells nothing without the key: 32 hexadecimal digits."""
    message = frame("privfin/ledger/dataset/v1", source, root)
    return hmac.digest(key, message, hashlib.sha256)[:16].hex()
