"""CKKS encryption of real numbers (Cheon, Kim, Kim and Song 2017), for sums only.

N = 8192, coefficient modulus 2 x 60 bits, scale 2^40, encryption with the public key, no evaluation
keys. Weights are multiplied in before encryption, so one data prime is enough. A sum of K updates
is right up to about 1e-8 sqrt(K).

Weaker than BFV with masks (``bfv``, ``masks``) in two ways, which commands, plans and statements
say. There are no masks, since these cancel modulo an integer and a CKKS sum is approximate: who
holds the key can decrypt every ciphertext, so the coordinator together with any site reads single
updates. And the error of a decrypted sum depends on the secret key: CKKS is secure only while
decrypted numbers are not shared with those who hold the ciphertexts (IND-CPA^D, Li and Micciancio
2021, "On the Security of Homomorphic Encryption on Approximate Numbers").

The last slot of every ciphertext holds a tag in [1, 16) that says what the payload is. As in
``secure_sum`` it shows a sum of another number of updates, round, attempt, cohort or piece, each
except with probability about 1e-5 a ciphertext; it stops nobody who holds the public key and adds
to other slots.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import tenseal

from privfin.crypto import ckks_format
from privfin.crypto.bfv_format import CIPHERTEXT_MODULUS, context_bytes
from privfin.crypto.ckks_format import CIPHERTEXT_BYTES, SCALE, SLOTS
from privfin.crypto.encoding import HoldsSecret
from privfin.crypto.pack import MAX_SUMMANDS
from privfin.crypto.slots import Slots
from privfin.errors import PlanError, ProtocolError

DATA_SLOTS = SLOTS - 1
"""Slots of one ciphertext that carry values."""

LARGEST_SUM = CIPHERTEXT_MODULUS / 2**9 / SCALE
"""Largest magnitude of a sum, about 2048: a factor of 256 below where it would wrap unnoticed."""

TOLERANCE = 1e-4
"""Most that a decrypted number may be off; a thousand times what is measured."""


TAG_MODULUS = 2**20
"""What the integers that tags are made from are uniform modulo."""


def chunks_for(n_values: int) -> int:
    """How many ciphertexts hold ``n_values`` numbers."""
    return -(-n_values // DATA_SLOTS)


def ciphertext_bytes(n_values: int) -> int:
    """Bytes of the ciphertexts of one update of ``n_values`` numbers."""
    return chunks_for(n_values) * CIPHERTEXT_BYTES


def check_range(sites: int, bound: float) -> None:
    """Refuse a plan whose sum could come near the modulus and wrap without a sign of it.

    Args:
        sites: sites in the largest cohort.
        bound: largest magnitude of one site's number.

    Raises:
        PlanError: bound times sites is above :data:`LARGEST_SUM`, or there are more than 64 sites.
    """
    if sites > MAX_SUMMANDS:
        raise PlanError(f"ckks adds up at most {MAX_SUMMANDS} sites, not {sites}: use fewer")
    if bound * sites > LARGEST_SUM:
        raise PlanError(
            f"ckks cannot add up {sites} sites of numbers up to {bound:g}: use crypto.update_bound "
            f"of at most {LARGEST_SUM / sites:.4g}, or encryption 'bfv'"
        )


def public_key_id(data: bytes) -> str:
    """The id of a public key, after a look at its structure: see ``ciphertext_sum``.

    Raises:
        ProtocolError: the bytes hold a secret key, or are not a public context of this scheme.
    """
    ckks_format.check_context(data, secret=False)
    return hashlib.sha256(data).hexdigest()


def clip(values: npt.NDArray[np.floating], bound: float) -> npt.NDArray[np.float64]:
    """``values`` cut to [-bound, bound], in float64.

    Raises:
        ValueError: NaN or infinity among them.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError("an update holds NaN or infinity and cannot be encrypted")
    return np.clip(numbers, -bound, bound)


def real_tags(tags: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Integers in [0, :data:`TAG_MODULUS`) as numbers in [1, 16)."""
    return 1 + 15 * tags / TAG_MODULUS


def read_sum(
    rows: npt.NDArray[np.float64],
    n_values: int,
    count: int,
    bound: float,
    tags: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Check and unpack the decrypted sum of ``count`` updates of ``n_values`` numbers.

    Args:
        rows: (ciphertexts, 4096) decrypted slots.
        n_values: numbers in each update.
        count: how many updates are in the sum.
        bound: largest magnitude of a number of one update.
        tags: one a ciphertext: the same that every update was encrypted with.

    Returns:
        (n_values,) sums, each off by far less than :data:`TOLERANCE`.

    Raises:
        ProtocolError: a sum of something else, or a number that ``count`` updates cannot give.
    """
    if len(rows) != chunks_for(n_values):
        raise ProtocolError(f"expected {chunks_for(n_values)} ciphertexts, got {len(rows)}")
    data = rows[:, :DATA_SLOTS].reshape(-1)
    # Written so that NaN fails them too.
    if not (
        np.abs(rows[:, DATA_SLOTS] - count * tags).max() <= TOLERANCE
        and np.abs(data[n_values:]).max(initial=0.0) <= TOLERANCE
        and np.abs(data).max() <= count * bound * (1 + 1e-9) + TOLERANCE
    ):
        raise ProtocolError(
            "the encrypted sum does not decrypt cleanly: a site's contribution is missing or "
            "doubled, the sum is damaged or another one, or the key is"
        )
    return data[:n_values].copy()


class CkksPublic:
    """The public key of a run: enough to encrypt and to add, never to decrypt.

    Args:
        data: bytes of :meth:`to_bytes`.

    Raises:
        ProtocolError: the bytes hold a secret key, or are not a public context of this scheme.
    """

    def __init__(self, data: bytes) -> None:
        ckks_format.check_context(data, secret=False)
        self._data = data
        self._context = _context_from(data)
        if self._context.has_secret_key():
            raise ProtocolError("the public encryption context holds a secret key; it is refused")

    def __repr__(self) -> str:
        return f"CkksPublic(key {self.key_id[:16]})"

    def to_bytes(self) -> bytes:
        """Parameters and public key, about 262 kB."""
        return self._data

    @property
    def key_id(self) -> str:
        """SHA-256 of :meth:`to_bytes`, 64 hexadecimal digits."""
        return hashlib.sha256(self._data).hexdigest()

    def encrypt(
        self, values: npt.NDArray[np.float64], tags: npt.NDArray[np.float64]
    ) -> list[bytes]:
        """Encrypt numbers (n,), n at least 1, with fresh randomness.

        Args:
            values: the numbers.
            tags: one a ciphertext; see :func:`real_tags`.

        Returns:
            ceil(n / 4095) ciphertexts of 131,217 bytes; the last is padded with zeros.

        Raises:
            ValueError: nothing to send, not one-dimensional, NaN, infinity or too large a number.
        """
        if values.ndim != 1 or not values.size:
            raise ValueError(f"an update must be a vector of numbers, got shape {values.shape}")
        # Written so that NaN fails it too.
        if not np.abs(values).max() <= LARGEST_SUM:
            raise ValueError("an update holds NaN, infinity or a number that is too large")
        rows = np.zeros((chunks_for(values.size), SLOTS))
        rows[:, DATA_SLOTS] = tags
        padded = np.zeros(rows.shape[0] * DATA_SLOTS)
        padded[: values.size] = values
        rows[:, :DATA_SLOTS] = padded.reshape(-1, DATA_SLOTS)
        return [bytes(tenseal.ckks_vector(self._context, Slots(row)).serialize()) for row in rows]


class CkksKey(HoldsSecret):
    """The key pair of a run. One site generates it and seals it to the others."""

    def __init__(self, context: tenseal.Context) -> None:
        self._context = context
        # Taken now: TenSEAL changes the context's option flags when it reads a vector.
        self._data = context_bytes(context, secret=True)
        self._public = CkksPublic(context_bytes(context, secret=False))

    def __repr__(self) -> str:
        return f"CkksKey(key {self._public.key_id[:16]})"

    @classmethod
    def generate(cls) -> CkksKey:
        """A fresh key pair, randomness from the operating system through SEAL."""
        return cls(ckks_format.new_context())

    @classmethod
    def from_secret_bytes(cls, data: bytes) -> CkksKey:
        """Read :meth:`secret_bytes`.

        Raises:
            ProtocolError: other bytes, other parameters, or a secret key that does not belong
                to the public key beside it.
        """
        ckks_format.check_context(data, secret=True)
        key = cls(_context_from(data))
        probe, tags = np.linspace(-1, 1, DATA_SLOTS), np.ones(1)
        try:
            read_sum(key.decrypt(key.public().encrypt(probe, tags)), DATA_SLOTS, 1, 1.0, tags)
        except ProtocolError as error:
            raise ProtocolError("the secret key does not belong to its public key") from error
        return key

    def secret_bytes(self) -> bytes:
        """Both keys, unencrypted, about 394 kB: only for sealing to another site."""
        return self._data

    def public(self) -> CkksPublic:
        """The public half."""
        return self._public

    def decrypt(self, blobs: list[bytes]) -> npt.NDArray[np.float64]:
        """All slots, (ciphertexts, 4096). Raises ProtocolError for malformed ciphertexts."""
        rows = np.empty((len(blobs), SLOTS))
        for row, blob in zip(rows, blobs, strict=True):
            ckks_format.read_ciphertext(blob)
            row[:] = _decrypt(self._context, blob)
        return rows


class CkksSum:
    """A running sum of encrypted updates: all the coordinator needs. It holds one sum in memory.

    Args:
        chunks: ciphertexts in each update, at least 1.
    """

    def __init__(self, chunks: int) -> None:
        if chunks < 1:
            raise ProtocolError(f"an encrypted update needs at least one ciphertext, got {chunks}")
        self._chunks = chunks
        self._sum: list[npt.NDArray[np.uint64]] = []
        self.count = 0

    def add(self, blobs: list[bytes]) -> None:
        """Add one update of ``chunks`` ciphertexts; a refused update leaves the sum unchanged.

        Raises:
            ProtocolError: a wrong number or structure, or more than 64 updates.
        """
        if self.count >= MAX_SUMMANDS:
            raise ProtocolError(f"a sum of more than {MAX_SUMMANDS} updates is refused")
        if len(blobs) != self._chunks:
            raise ProtocolError(f"expected {self._chunks} ciphertexts, got {len(blobs)}")
        numbers = [ckks_format.read_ciphertext(blob) for blob in blobs]
        if self._sum:
            numbers = [ckks_format.add(a, b) for a, b in zip(self._sum, numbers, strict=True)]
        self._sum = numbers
        self.count += 1

    def result(self) -> list[bytes]:
        """The encrypted sum, one ciphertext a chunk; ProtocolError if nothing was added."""
        if not self.count:
            raise ProtocolError("no encrypted update was added")
        return [ckks_format.write_ciphertext(numbers) for numbers in self._sum]


def _context_from(data: bytes) -> tenseal.Context:
    try:
        return tenseal.context_from(data, n_threads=1)
    except (RuntimeError, ValueError) as error:
        raise ProtocolError("the encryption context cannot be read") from error


def _decrypt(context: tenseal.Context, blob: bytes) -> list[float]:
    try:
        return list(tenseal.ckks_vector_from(context, blob).decrypt())
    except (RuntimeError, ValueError) as error:
        raise ProtocolError("a ciphertext cannot be read") from error
