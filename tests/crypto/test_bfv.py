"""BFV: exact sums with a noise margin, refused keys and refused ciphertexts."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import tenseal

from privfin.crypto.bfv import BfvKey, BfvPublic, ciphertext_bytes
from privfin.crypto.bfv_format import CIPHERTEXT_MODULUS, ciphertext_primes, ciphertext_size
from privfin.crypto.ciphertext_sum import CiphertextSum, public_key_id
from privfin.crypto.pack import LAYOUTS, POLY_DEGREE, Packing, chunks_for
from privfin.crypto.secure_sum import protect
from privfin.errors import ProtocolError

LAYOUT = pytest.mark.parametrize("packing", LAYOUTS.values(), ids=lambda p: p.name)
KEYS = {name: BfvKey.generate(packing) for name, packing in LAYOUTS.items()}
KEY = KEYS["3x15"]
PUBLIC = KEY.public()
T = PUBLIC.packing.modulus
BLOB = PUBLIC.encrypt(np.arange(POLY_DEGREE, dtype=np.int64))[0]
FIRST_COEFFICIENT = 8 + 28 + 97


def uniform(packing: Packing, n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, packing.modulus, n)


@LAYOUT
@pytest.mark.parametrize("n", [1, POLY_DEGREE, POLY_DEGREE + 1])
def test_round_trip_of_the_whole_range(packing: Packing, n: int) -> None:
    key = KEYS[packing.name]
    slots = uniform(packing, n, n)
    slots[0] = packing.modulus - 1
    blobs = key.public().encrypt(slots)
    assert [len(b) for b in blobs] == [ciphertext_size(packing)] * chunks_for(n)
    assert np.array_equal(key.decrypt(blobs, n), slots)
    padded = key.decrypt(blobs, chunks_for(n) * POLY_DEGREE)
    assert not padded[n:].any()
    assert key.public().encrypt(slots) != blobs


@LAYOUT
def test_our_sum_is_the_native_one_bit_for_bit(packing: Packing) -> None:
    """Coefficients modulo q added by numpy, against the library's own addition."""
    key = KEYS[packing.name]
    context = key.public()._context
    sent = [key.public().encrypt(uniform(packing, 2 * POLY_DEGREE, seed)) for seed in range(5)]
    running = CiphertextSum(packing, 2)
    for blobs in sent:
        running.add(blobs)
    for at in range(2):
        native = tenseal.bfv_vector_from(context, sent[0][at])
        for blobs in sent[1:]:
            native = native + tenseal.bfv_vector_from(context, blobs[at])
        assert running.result()[at] == native.serialize()
    assert public_key_id(key.public().to_bytes(), packing) == key.public().key_id


def test_one_ciphertext_is_written_as_it_was_read() -> None:
    running = CiphertextSum(PUBLIC.packing, 1)
    running.add([BLOB])
    assert running.result() == [BLOB]


@LAYOUT
def test_noise_margin(packing: Packing) -> None:
    """After the largest sum of fresh ciphertexts, at least 3 doublings still decrypt."""
    key = KEYS[packing.name]
    running = CiphertextSum(key.public().packing, 1)
    truth = np.zeros(POLY_DEGREE, dtype=np.int64)
    for term in range(packing.max_summands):
        slots = uniform(packing, POLY_DEGREE, term)
        running.add(key.public().encrypt(slots))
        truth = (truth + slots) % packing.modulus
    with pytest.raises(ProtocolError, match="might not decrypt"):
        running.add(key.public().encrypt(truth))
    for _ in range(4):
        assert np.array_equal(key.decrypt(running.result(), POLY_DEGREE), truth)
        doubled = CiphertextSum(key.public().packing, 1)
        doubled.add(running.result())
        doubled.add(running.result())
        running, truth = doubled, truth * 2 % packing.modulus


@LAYOUT
@pytest.mark.parametrize("n", [1, 30_000, 300_000])
def test_planned_bytes_are_the_real_ones(packing: Packing, n: int) -> None:
    blobs = protect(
        np.zeros(n, dtype=np.uint64),
        packing,
        np.zeros(packing.masked_slots(n), dtype=np.int64),
        KEYS[packing.name].public(),
        np.zeros(chunks_for(packing.masked_slots(n)), dtype=np.int64),
    )
    assert sum(map(len, blobs)) == ciphertext_bytes(n, packing)


def test_bytes_a_parameter() -> None:
    assert ciphertext_bytes(3_000_000, LAYOUTS["3x15"]) / 3e6 < 5.4
    assert ciphertext_bytes(3_000_000, LAYOUTS["2x20"]) / 3e6 < 8.1


@LAYOUT
def test_keys_round_trip(packing: Packing) -> None:
    key = KEYS[packing.name]
    public = BfvPublic(key.public().to_bytes(), packing)
    again = BfvKey.from_secret_bytes(key.secret_bytes(), packing)
    assert public.key_id == key.public().key_id == again.public().key_id
    assert len(public.key_id) == 64
    assert again.secret_bytes() == key.secret_bytes()
    slots = uniform(packing, 100, 1)
    assert np.array_equal(again.decrypt(public.encrypt(slots), 100), slots)


def test_public_context_refuses_a_secret_key() -> None:
    with pytest.raises(ProtocolError, match="holds a secret key"):
        BfvPublic(KEY.secret_bytes(), PUBLIC.packing)


def test_public_bytes_hold_no_secret_and_no_evaluation_keys() -> None:
    data = PUBLIC.to_bytes()
    assert len(data) < 263_000
    secret = KEY.secret_bytes()
    assert secret.startswith(data) and secret[-1000:] not in data


def test_context_bytes_of_another_kind_are_refused() -> None:
    data, secret = PUBLIC.to_bytes(), KEY.secret_bytes()
    for bad in (b"", data[:-1], data + b"\0", data + data, data[:80], b"\x0a\x00", bytes(2**21)):
        with pytest.raises(ProtocolError):
            BfvPublic(bad, PUBLIC.packing)
    for bad in (b"", data, secret[:-1], secret + b"\0", secret + secret[-9:]):
        with pytest.raises(ProtocolError):
            BfvKey.from_secret_bytes(bad, PUBLIC.packing)
    with pytest.raises(ProtocolError, match="not the parameters of packing 2x20"):
        BfvPublic(data, LAYOUTS["2x20"])
    with pytest.raises(ProtocolError, match="not the parameters of packing 2x20"):
        BfvKey.from_secret_bytes(secret, LAYOUTS["2x20"])


@pytest.mark.parametrize("at", [*range(207), -1, -5, -9, -11])
def test_context_structure_cannot_be_flipped(at: int) -> None:
    bad = bytearray(PUBLIC.to_bytes())
    bad[at] ^= 0x41
    with pytest.raises(ProtocolError):
        BfvPublic(bytes(bad), PUBLIC.packing)


def test_mismatched_key_halves_are_refused() -> None:
    other = BfvKey.generate(PUBLIC.packing)
    mixed = PUBLIC.to_bytes() + other.secret_bytes()[len(PUBLIC.to_bytes()) :]
    with pytest.raises(ProtocolError, match="does not belong"):
        BfvKey.from_secret_bytes(mixed, PUBLIC.packing)


def test_keys_leak_nothing() -> None:
    for text in (repr(KEY), str(KEY), repr(PUBLIC)):
        assert len(text) < 80 and PUBLIC.key_id[:16] in text
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            leak(KEY)
    assert not hasattr(PUBLIC, "decrypt") and not PUBLIC._context.has_secret_key()


def test_another_key_gives_garbage() -> None:
    truth = np.arange(POLY_DEGREE)
    wrong = BfvKey.generate(PUBLIC.packing).decrypt([BLOB], POLY_DEGREE)
    assert np.count_nonzero(wrong == truth) < 5


def test_encrypt_refuses_slots_out_of_range() -> None:
    for bad in (np.array([-1]), np.array([T])):
        with pytest.raises(ValueError, match="outside"):
            PUBLIC.encrypt(bad)
    with pytest.raises(ValueError, match="dimension"):
        PUBLIC.encrypt(np.zeros((2, 2), dtype=np.int64))


def hostile() -> dict[str, list[bytes]]:
    size_field = b"\x0a\x02\x80\x40"
    assert BLOB.startswith(size_field)
    q = CIPHERTEXT_MODULUS.to_bytes(8, "little")
    start = FIRST_COEFFICIENT
    half = 4 + 4 + 28 + 97 + 8 * POLY_DEGREE
    clear = bytearray(BLOB)
    clear[half : half + 8 * POLY_DEGREE - 97] = bytes(8 * POLY_DEGREE - 97)
    clear[-97:] = bytes(97)
    return {
        "no ciphertext": [],
        "one too many": [BLOB, BLOB],
        "empty": [b""],
        "cut": [BLOB[:-1]],
        "half": [BLOB[: len(BLOB) // 2]],
        "longer": [BLOB + b"\0"],
        "no size field": [BLOB[4:]],
        "forged size": [b"\x0a\x02\x81\x40" + BLOB[4:]],
        "forged large size": [b"\x0a\x04\x80\xad\xe2\x04" + BLOB[4:]],
        "two sizes": [b"\x0a\x04\x80\x40\x80\x40" + BLOB[4:]],
        "size twice": [size_field + BLOB],
        "second ciphertext": [BLOB + BLOB[4:]],
        "unknown field": [BLOB + b"\x1a\x00"],
        "coefficient is q": [BLOB[:start] + q + BLOB[start + 8 :]],
        "coefficient is huge": [BLOB[:start] + b"\xff" * 8 + BLOB[start + 8 :]],
        "not encrypted": [bytes(clear)],
        "other packing": [KEYS["2x20"].public().encrypt(np.zeros(9, dtype=np.int64))[0]],
        "zeros": [bytes(len(BLOB))],
        "random": [np.random.default_rng(1).bytes(len(BLOB))],
        "a context": [PUBLIC.to_bytes()],
    }


@pytest.mark.parametrize("name", hostile())
def test_hostile_ciphertexts_are_refused_and_leave_the_sum_alone(name: str) -> None:
    running = CiphertextSum(PUBLIC.packing, 1)
    running.add([BLOB])
    before = running.result()
    with pytest.raises(ProtocolError):
        running.add(hostile()[name])
    assert running.result() == before and running.count == 1
    with pytest.raises(ProtocolError):
        KEY.decrypt(hostile()[name], POLY_DEGREE)


def test_structure_cannot_be_flipped() -> None:
    """Every bit in front of the coefficients, and of the second block's header."""
    running = CiphertextSum(PUBLIC.packing, 1)
    tail = len(BLOB) - 100
    for at in [*range(FIRST_COEFFICIENT), *range(tail, tail + 3)]:
        for bit in range(8):
            bad = bytearray(BLOB)
            bad[at] ^= 1 << bit
            with pytest.raises(ProtocolError):
                running.add([bytes(bad)])
    assert running.count == 0


def test_flipped_coefficients_never_crash() -> None:
    rng = np.random.default_rng(3)
    for at in rng.integers(FIRST_COEFFICIENT, len(BLOB), 60):
        bad = bytearray(BLOB)
        bad[at] ^= 1 << int(rng.integers(8))
        try:
            slots = KEY.decrypt([bytes(bad)], POLY_DEGREE)
        except ProtocolError:
            continue
        assert slots.min() >= 0 and slots.max() < T


def test_sum_refuses_nothing_and_no_chunks() -> None:
    with pytest.raises(ProtocolError, match="no encrypted update"):
        CiphertextSum(PUBLIC.packing, 1).result()
    with pytest.raises(ProtocolError, match="at least one"):
        CiphertextSum(PUBLIC.packing, 0)


def test_the_wide_layout_sums_a_thousand_sites_and_checks_both_primes() -> None:
    packing = LAYOUTS["2x28"]
    key, public = KEYS["2x28"], KEYS["2x28"].public()
    assert packing.largest_cohort(16) == packing.max_summands == 1024
    blob = public.encrypt(np.full(POLY_DEGREE, 3, dtype=np.int64))[0]
    assert len(blob) == ciphertext_size(packing) == 262_283
    running = CiphertextSum(packing, 1)
    for _ in range(1000):
        running.add([blob])
    assert (key.decrypt(running.result(), POLY_DEGREE) == 3000).all()
    # A residue that is reduced modulo the other prime only.
    low, high = ciphertext_primes(packing)
    assert low < high
    bad = blob[:FIRST_COEFFICIENT] + low.to_bytes(8, "little") + blob[FIRST_COEFFICIENT + 8 :]
    with pytest.raises(ProtocolError, match="out of range"):
        CiphertextSum(packing, 1).add([bad])
