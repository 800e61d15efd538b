"""What each way of protecting an update costs, measured: bytes and CPU seconds of one thread.

The schemes are those of this package, and CKKS as NVFlare sets it by default (``HEBuilder``:
N 8192, coefficient modulus [60, 40, 40], scale 2^40, symmetric encryption, so that every site
encrypts with the secret key), run with TenSEAL in the same process. All are measured over the same
way of an update, from 32-bit floats at a site to float64 sums at a site:

- encode: quantise and pack, or clip; numpy only;
- mask: make the pairwise masks and add them;
- encrypt: from slots to bytes, serialisation included;
- serialise: the part of that which turns ciphertexts into bytes, measured by itself;
- add: one site's bytes into the running sum, checked and parsed;
- decrypt: from the bytes of the sum to numbers.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
import tenseal

from privfin.crypto import ckks
from privfin.crypto.bfv import BfvKey
from privfin.crypto.ciphertext_sum import CiphertextSum
from privfin.crypto.masks import MaskContext, mask_for
from privfin.crypto.pack import POLY_DEGREE, Packing, chunks_for
from privfin.crypto.quantize import Quantizer
from privfin.crypto.secure_sum import lay_out, reveal
from privfin.randomness import RandomStream

SchemeName = Literal["plain", "nvflare", "ckks", "2x20", "3x15", "2x28"]
SCHEMES: tuple[SchemeName, ...] = get_args(SchemeName)

Slots = npt.NDArray[Any]
"""Real numbers or integers, by scheme."""

SECURITY_BITS = 128
"""Of every encrypting scheme here: N 8192 allows a modulus of 218 bits for it (SEAL's table, from
homomorphicencryption.org's standard), and the largest here has 140."""

STAGES = ("encode", "mask", "encrypt", "serialise", "add", "decrypt")

_BOUND = 8.0


@dataclass(frozen=True)
class Cost:
    """Medians of one scheme.

    Attributes:
        scheme: which.
        parameters: of the scheme, in words.
        values: numbers in an update.
        cohort: sites.
        bytes_up: bytes of one update.
        seconds: CPU seconds by stage (see :data:`STAGES`).
        largest_error: of the decrypted sum against the real one.
    """

    scheme: SchemeName
    parameters: str
    values: int
    cohort: int
    bytes_up: int
    seconds: dict[str, float]
    largest_error: float

    @property
    def site_seconds(self) -> float:
        """CPU seconds of a site in a round: encode, mask, encrypt, decrypt."""
        return sum(self.seconds[stage] for stage in ("encode", "mask", "encrypt", "decrypt"))

    @property
    def coordinator_seconds(self) -> float:
        """CPU seconds of the coordinator in a round: the updates of all sites added up."""
        return self.cohort * self.seconds["add"]

    @property
    def round_seconds(self) -> float:
        """CPU seconds of a round for each site: its own and its part of the coordinator's."""
        return self.site_seconds + self.seconds["add"]


class Scheme(Protocol):
    """One way of protecting an update of ``values`` numbers."""

    parameters: str

    def encode(self, update: npt.NDArray[np.float32]) -> Slots:
        """What is masked or encrypted."""
        ...

    def mask(self, slots: Slots) -> Slots:
        """``slots`` with masks; the same where there are none."""
        ...

    def encrypt(self, slots: Slots) -> list[bytes]:
        """The parts of a message."""
        ...

    def serialise(self, parts: list[bytes]) -> Callable[[], object]:
        """A call that serialises the ciphertexts of ``parts`` again."""
        ...

    def sum(self) -> Sum:
        """An empty sum."""
        ...

    def decrypt(self, parts: list[bytes], count: int) -> npt.NDArray[np.float64]:
        """The sum of ``count`` updates, (values,)."""
        ...


class Sum(Protocol):
    """A running sum."""

    def add(self, parts: list[bytes]) -> None:
        """Add one update."""
        ...

    def result(self) -> list[bytes]:
        """The sum."""
        ...


class _Plain:
    parameters = "float32"

    def __init__(self, values: int) -> None:
        self._values = values

    def encode(self, update: npt.NDArray[np.float32]) -> Slots:
        return update

    def mask(self, slots: Slots) -> Slots:
        return slots

    def encrypt(self, slots: Slots) -> list[bytes]:
        return [slots.tobytes()]

    def serialise(self, parts: list[bytes]) -> Callable[[], object]:
        return np.frombuffer(parts[0], dtype="<f4").tobytes

    def sum(self) -> Sum:
        return _FloatSum(self._values)

    def decrypt(self, parts: list[bytes], count: int) -> npt.NDArray[np.float64]:
        return np.frombuffer(parts[0], dtype="<f4").astype(np.float64)


class _FloatSum:
    def __init__(self, values: int) -> None:
        self._total = np.zeros(values, dtype=np.float32)

    def add(self, parts: list[bytes]) -> None:
        self._total += np.frombuffer(parts[0], dtype="<f4")

    def result(self) -> list[bytes]:
        return [self._total.tobytes()]


class _NvFlare:
    parameters = "CKKS, N 8192, [60, 40, 40], 2^40"

    def __init__(self, values: int) -> None:
        self._values = values
        self._context = tenseal.context(
            tenseal.SCHEME_TYPE.CKKS,
            POLY_DEGREE,
            coeff_mod_bit_sizes=[60, 40, 40],
            encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
            n_threads=1,
        )
        self._context.global_scale = 2.0**40

    def encode(self, update: npt.NDArray[np.float32]) -> Slots:
        return update

    def mask(self, slots: Slots) -> Slots:
        return slots

    def encrypt(self, slots: Slots) -> list[bytes]:
        half = POLY_DEGREE // 2
        return [
            bytes(tenseal.ckks_vector(self._context, slots[at : at + half]).serialize())
            for at in range(0, slots.size, half)
        ]

    def serialise(self, parts: list[bytes]) -> Callable[[], object]:
        vectors = [tenseal.ckks_vector_from(self._context, part) for part in parts]
        return lambda: [vector.serialize() for vector in vectors]

    def sum(self) -> Sum:
        return _TensealSum(self._context)

    def decrypt(self, parts: list[bytes], count: int) -> npt.NDArray[np.float64]:
        rows = [tenseal.ckks_vector_from(self._context, part).decrypt() for part in parts]
        return np.concatenate([np.asarray(row) for row in rows])[: self._values]


class _TensealSum:
    """Parsed and added by TenSEAL, without a check, as NVFlare's aggregator does."""

    def __init__(self, context: tenseal.Context) -> None:
        self._context = context
        self._sum: list[tenseal.CKKSVector] = []

    def add(self, parts: list[bytes]) -> None:
        vectors = [tenseal.ckks_vector_from(self._context, part) for part in parts]
        if self._sum:
            for total, vector in zip(self._sum, vectors, strict=True):
                total += vector
        else:
            self._sum = vectors

    def result(self) -> list[bytes]:
        return [bytes(vector.serialize()) for vector in self._sum]


class _Ckks:
    parameters = "CKKS, N 8192, [60, 60], 2^40"

    def __init__(self, values: int) -> None:
        self._values = values
        self._key = ckks.CkksKey.generate()

    def encode(self, update: npt.NDArray[np.float32]) -> Slots:
        return ckks.clip(update, _BOUND)

    def mask(self, slots: Slots) -> Slots:
        return slots

    def encrypt(self, slots: Slots) -> list[bytes]:
        numbers = slots.astype(np.float64, copy=False)
        return self._key.public().encrypt(numbers, np.ones(ckks.chunks_for(self._values)))

    def serialise(self, parts: list[bytes]) -> Callable[[], object]:
        context = self._key.public()._context
        vectors = [tenseal.ckks_vector_from(context, part) for part in parts]
        return lambda: [vector.serialize() for vector in vectors]

    def sum(self) -> Sum:
        return ckks.CkksSum(ckks.chunks_for(self._values))

    def decrypt(self, parts: list[bytes], count: int) -> npt.NDArray[np.float64]:
        rows = self._key.decrypt(parts)
        return ckks.read_sum(rows, self._values, count, _BOUND, np.ones(len(rows)))


class _Bfv:
    def __init__(self, values: int, packing: Packing, cohort: int) -> None:
        bits = packing.largest_value_bits(cohort)
        packing.check_headroom(cohort, bits)
        self._values = values
        self._packing = packing
        self._quantizer = Quantizer(_BOUND, bits)
        self._key = BfvKey.generate(packing)
        self._names = tuple(f"site-{i:02d}" for i in range(cohort))
        self._chunks = chunks_for(packing.masked_slots(values))
        self._tags = np.ones(self._chunks, dtype=np.int64)
        primes = ", ".join(["60"] * (packing.primes + 1))
        self.parameters = f"BFV, N 8192, [{primes}], t {packing.modulus.bit_length()} bits"

    def encode(self, update: npt.NDArray[np.float32]) -> Slots:
        codes = self._quantizer.encode(update, RandomStream.system())
        return lay_out(codes, self._packing, self._tags)

    def mask(self, slots: Slots) -> Slots:
        # The mask of the first site. Secrets of zeros take as long to expand as real ones.
        context = MaskContext("cost", "key", "plan", 1, 1, self._names)
        secrets = dict.fromkeys(self._names, bytes(32))
        modulus = self._packing.modulus
        return (slots + mask_for(self._names[0], context, secrets, modulus, slots.size)) % modulus

    def encrypt(self, slots: Slots) -> list[bytes]:
        return self._key.public().encrypt(slots.astype(np.int64, copy=False))

    def serialise(self, parts: list[bytes]) -> Callable[[], object]:
        context = self._key.public()._context
        vectors = [tenseal.bfv_vector_from(context, part) for part in parts]
        return lambda: [vector.serialize() for vector in vectors]

    def sum(self) -> Sum:
        return CiphertextSum(self._packing, self._chunks)

    def decrypt(self, parts: list[bytes], count: int) -> npt.NDArray[np.float64]:
        total = reveal(parts, self._key, self._values, self._packing, count * self._tags)
        return self._quantizer.decode_sum(total, count)


def scheme_named(name: SchemeName, values: int, cohort: int) -> Scheme:
    """A scheme with fresh keys, for updates of ``values`` numbers of ``cohort`` sites.

    Raises:
        PlanError: the sum of so many sites would not fit.
    """
    if name == "plain":
        return _Plain(values)
    if name == "nvflare":
        return _NvFlare(values)
    if name == "ckks":
        ckks.check_range(cohort, _BOUND)
        return _Ckks(values)
    return _Bfv(values, Packing.named(name), cohort)


def measure(
    names: Sequence[SchemeName],
    values: int,
    cohort: int,
    *,
    repeats: int,
    on_step: Callable[[], object] = lambda: None,
) -> list[Cost]:
    """Measure schemes in turn, ``repeats`` times each, and take medians.

    The update is normally distributed, a tenth of the bound wide. Two updates are added whatever
    the cohort, which sets only the number of masks and the bits of a value.

    Args:
        names: which schemes.
        values: numbers in an update, at least 1.
        cohort: sites, at least 2.
        repeats: rounds over all schemes, at least 1.
        on_step: called after each scheme of each round.

    Raises:
        PlanError: the sum of so many sites would not fit.
    """
    update = np.random.default_rng(0).normal(0, _BOUND / 10, values).astype(np.float32)
    schemes = {name: scheme_named(name, values, cohort) for name in names}
    times: dict[SchemeName, list[dict[str, float]]] = {name: [] for name in names}
    sizes: dict[SchemeName, tuple[int, float]] = {}
    for _ in range(repeats):
        for name, scheme in schemes.items():
            spent, sent, error = _one_round(scheme, update)
            times[name].append(spent)
            sizes[name] = (sent, error)
            on_step()
    return [
        Cost(
            scheme=name,
            parameters=schemes[name].parameters,
            values=values,
            cohort=cohort,
            bytes_up=sizes[name][0],
            seconds={s: statistics.median(one[s] for one in times[name]) for s in STAGES},
            largest_error=sizes[name][1],
        )
        for name in names
    ]


def _one_round(
    scheme: Scheme, update: npt.NDArray[np.float32]
) -> tuple[dict[str, float], int, float]:
    """Seconds by stage, bytes of an update and the largest error of a sum of two."""
    spent: dict[str, float] = {}

    @contextmanager
    def timed(stage: str) -> Iterator[None]:
        start = time.process_time()
        yield
        spent[stage] = time.process_time() - start

    with timed("encode"):
        slots = scheme.encode(update)
    with timed("mask"):
        scheme.mask(slots)
    with timed("encrypt"):
        parts = scheme.encrypt(slots)
    serialise = scheme.serialise(parts)
    with timed("serialise"):
        serialise()
    total = scheme.sum()
    total.add(parts)
    # The second one is an addition; the first only moves in.
    with timed("add"):
        total.add(parts)
    summed = total.result()
    with timed("decrypt"):
        found = scheme.decrypt(summed, 2)
    error = float(np.abs(found - 2 * update.astype(np.float64)).max())
    return spent, sum(map(len, parts)), error
