"""CKKS: sums within a stated error, a range that cannot wrap silently, hostile input refused."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import tenseal

from privfin.crypto.bfv import BfvKey
from privfin.crypto.bfv_format import CIPHERTEXT_MODULUS, context_bytes
from privfin.crypto.ckks import (
    DATA_SLOTS,
    LARGEST_SUM,
    TAG_MODULUS,
    TOLERANCE,
    CkksKey,
    CkksPublic,
    CkksSum,
    check_range,
    chunks_for,
    ciphertext_bytes,
    clip,
    public_key_id,
    read_sum,
    real_tags,
)
from privfin.crypto.ckks_format import (
    CIPHERTEXT_BYTES,
    SCALE,
    SLOTS,
    read_ciphertext,
    write_ciphertext,
)
from privfin.crypto.isolated import IsolatedCkksKey, IsolatedKey
from privfin.crypto.pack import LAYOUTS, POLY_DEGREE
from privfin.errors import PlanError, ProtocolError

KEY = CkksKey.generate()
PUBLIC = KEY.public()
BLOB = PUBLIC.encrypt(np.linspace(-1, 1, DATA_SLOTS), np.ones(1))[0]
FIRST_COEFFICIENT = 8 + 28 + 97


def summed(updates: np.ndarray, public: CkksPublic = PUBLIC, tag: float = 1.0) -> list[bytes]:
    total = CkksSum(chunks_for(updates.shape[1]))
    for row in updates:
        total.add(public.encrypt(row, np.full(chunks_for(row.size), tag)))
    return total.result()


def opened(
    blobs: list[bytes], n: int, count: int, bound: float, key: CkksKey = KEY, tag: float = 1.0
) -> np.ndarray:
    return read_sum(key.decrypt(blobs), n, count, bound, np.full(chunks_for(n), tag))


@pytest.mark.parametrize("sites", [1, 2, 5, 17, 64])
@pytest.mark.parametrize("n", [1, DATA_SLOTS, DATA_SLOTS + 1])
def test_sums_are_right_at_both_ends_of_the_range(sites: int, n: int) -> None:
    bound = LARGEST_SUM / 64
    check_range(sites, bound)
    updates = np.random.default_rng(sites).uniform(-bound, bound, (sites, n))
    updates[:, : n // 3] = bound
    updates[:, n // 3 : 2 * (n // 3)] = -bound
    blobs = summed(updates)
    assert [len(b) for b in blobs] == [CIPHERTEXT_BYTES] * chunks_for(n)
    assert sum(map(len, blobs)) == ciphertext_bytes(n)
    found = opened(blobs, n, sites, bound)
    # A thousandth of what would be refused; the usual error is 1e-8 sqrt(sites).
    assert np.abs(found - updates.sum(axis=0)).max() < TOLERANCE / 100


def test_bytes_a_parameter() -> None:
    assert ciphertext_bytes(1_000_000) / 1e6 < 32.2


def test_added_by_hand_is_added_by_the_library() -> None:
    """The coordinator adds without a native parser; TenSEAL's own addition gives the same bytes."""
    other = PUBLIC.encrypt(np.linspace(1, 2, DATA_SLOTS), np.ones(1))[0]
    total = CkksSum(1)
    total.add([BLOB])
    total.add([other])
    vectors = [tenseal.ckks_vector_from(PUBLIC._context, blob) for blob in (BLOB, other)]
    assert total.result() == [(vectors[0] + vectors[1]).serialize()]
    assert write_ciphertext(read_ciphertext(BLOB)) == BLOB


def test_encryption_is_randomised_and_by_the_public_key() -> None:
    values = np.ones(5)
    assert PUBLIC.encrypt(values, np.ones(1)) != PUBLIC.encrypt(values, np.ones(1))
    assert not PUBLIC._context.has_secret_key()
    assert not hasattr(PUBLIC, "decrypt")


def test_what_could_wrap_is_refused_when_the_plan_is_made() -> None:
    check_range(64, LARGEST_SUM / 64)
    with pytest.raises(PlanError, match="update_bound of at most") as caught:
        check_range(64, LARGEST_SUM / 64 * 1.001)
    assert caught.value.exit_code == 2
    with pytest.raises(PlanError, match="at most 64 sites"):
        check_range(65, 1e-3)
    # Half the modulus is where a sum wraps; the largest one stays 256 times below it.
    assert LARGEST_SUM * SCALE * 256 <= CIPHERTEXT_MODULUS / 2


def test_tenseal_alone_wraps_silently() -> None:
    """Why the range is checked: beyond it the sum is another number, and nothing says so."""
    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS, POLY_DEGREE, coeff_mod_bit_sizes=[60, 60], n_threads=1
    )
    context.global_scale = SCALE
    large = tenseal.ckks_vector(context, [0.4 * CIPHERTEXT_MODULUS / 2 / SCALE] * SLOTS)
    assert (large + large + large).decrypt()[0] < 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2 * LARGEST_SUM])
def test_what_is_not_a_usable_number_is_not_encrypted(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN"):
        PUBLIC.encrypt(np.array([0.0, bad]), np.ones(1))
    if not np.isfinite(bad):
        with pytest.raises(ValueError, match="NaN or infinity"):
            clip(np.array([bad]), 1.0)


def test_wrong_shapes_are_not_encrypted() -> None:
    for bad in (np.zeros(0), np.zeros((2, 2))):
        with pytest.raises(ValueError, match="vector"):
            PUBLIC.encrypt(bad, np.ones(1))


def test_clip_cuts_to_the_bound() -> None:
    found = clip(np.array([-3, -0.5, 0, 0.5, 3], dtype=np.float32), 1.5)
    assert found.tolist() == [-1.5, -0.5, 0, 0.5, 1.5]
    assert found.dtype == np.float64


def test_missing_doubled_or_too_large_contributions_are_noticed() -> None:
    updates = np.random.default_rng(1).uniform(-1, 1, (3, 100))
    blobs = summed(updates)
    opened(blobs, 100, 3, 1.0)
    for count in (2, 4):
        with pytest.raises(ProtocolError, match="does not decrypt cleanly"):
            opened(blobs, 100, count, 1.0)
    with pytest.raises(ProtocolError, match="does not decrypt cleanly"):
        opened(blobs, 100, 3, 0.1)
    with pytest.raises(ProtocolError, match="does not decrypt cleanly"):
        opened(blobs, 100, 3, 1.0, CkksKey.generate())
    with pytest.raises(ProtocolError, match="does not decrypt cleanly"):
        opened(blobs, 50, 3, 1.0)


def test_a_sum_of_something_else_is_noticed() -> None:
    """Tags say what a payload is: another round's sum has others, though all else is right."""
    tags = real_tags(np.array([0, 1, TAG_MODULUS // 2, TAG_MODULUS - 1]))
    assert tags.min() == 1 and tags.max() < 16
    assert 64 * tags.max() < LARGEST_SUM
    updates = np.random.default_rng(1).uniform(-1, 1, (3, 100))
    blobs = summed(updates, tag=3.25)
    assert np.abs(opened(blobs, 100, 3, 1.0, tag=3.25) - updates.sum(axis=0)).max() < 1e-6
    for tag in (1.0, 3.2501):
        with pytest.raises(ProtocolError, match="does not decrypt cleanly"):
            opened(blobs, 100, 3, 1.0, tag=tag)


def test_keys_round_trip_in_a_process_of_their_own() -> None:
    isolated = IsolatedCkksKey.from_secret_bytes(KEY.secret_bytes())
    assert isolated.public().key_id == PUBLIC.key_id == public_key_id(PUBLIC.to_bytes())
    assert np.array_equal(isolated.decrypt([BLOB]), KEY.decrypt([BLOB]))
    assert len(repr(isolated)) < 80
    with pytest.raises(ProtocolError):
        isolated.decrypt([BLOB[:-1]])
    # The worker knows one key at a time, of either scheme.
    bfv = IsolatedKey.generate(LAYOUTS["3x15"])
    slots = np.arange(9)
    assert np.array_equal(bfv.decrypt(bfv.public().encrypt(slots), 9), slots)
    assert np.array_equal(isolated.decrypt([BLOB]), KEY.decrypt([BLOB]))
    mixed = PUBLIC.to_bytes() + CkksKey.generate().secret_bytes()[len(PUBLIC.to_bytes()) :]
    with pytest.raises(ProtocolError, match="does not belong"):
        IsolatedCkksKey.from_secret_bytes(mixed)


def test_keys_round_trip_and_leak_nothing() -> None:
    again = CkksKey.from_secret_bytes(KEY.secret_bytes())
    public = CkksPublic(PUBLIC.to_bytes())
    assert public.key_id == PUBLIC.key_id == again.public().key_id
    assert again.secret_bytes() == KEY.secret_bytes()
    assert KEY.secret_bytes()[-1000:] not in PUBLIC.to_bytes()
    assert len(PUBLIC.to_bytes()) < 263_000
    with pytest.raises(ProtocolError, match="holds a secret key"):
        CkksPublic(KEY.secret_bytes())
    for text in (repr(KEY), str(KEY), repr(PUBLIC)):
        assert len(text) < 80 and PUBLIC.key_id[:16] in text
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            leak(KEY)


def test_contexts_of_another_kind_are_refused() -> None:
    data, secret = PUBLIC.to_bytes(), KEY.secret_bytes()
    bfv = BfvKey.generate(LAYOUTS["3x15"])
    other = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS, POLY_DEGREE, coeff_mod_bit_sizes=[60, 60], n_threads=1
    )
    other.global_scale = 2.0**30
    rescaled = context_bytes(other, secret=False)
    for bad in (b"", data[:-1], data + b"\0", data[:80], bfv.public().to_bytes(), rescaled):
        with pytest.raises(ProtocolError):
            CkksPublic(bad)
    for bad in (b"", data, secret[:-1], secret + b"\0", bfv.secret_bytes()):
        with pytest.raises(ProtocolError):
            CkksKey.from_secret_bytes(bad)
    mixed = data + CkksKey.generate().secret_bytes()[len(data) :]
    with pytest.raises(ProtocolError, match="does not belong"):
        CkksKey.from_secret_bytes(mixed)


def hostile() -> dict[str, list[bytes]]:
    assert BLOB.startswith(b"\x0a\x02\x80\x20")
    start = FIRST_COEFFICIENT
    clear = write_ciphertext(
        np.concatenate([np.ones(POLY_DEGREE), np.zeros(POLY_DEGREE)]).astype(np.uint64)
    )
    q = CIPHERTEXT_MODULUS.to_bytes(8, "little")
    bfv = BfvKey.generate(LAYOUTS["2x20"]).public().encrypt(np.zeros(9, dtype=np.int64))[0]
    return {
        "no ciphertext": [],
        "one too many": [BLOB, BLOB],
        "empty": [b""],
        "cut": [BLOB[:-1]],
        "half": [BLOB[: len(BLOB) // 2]],
        "longer": [BLOB + b"\0"],
        "no size field": [BLOB[4:]],
        "forged size": [b"\x0a\x02\x81\x20" + BLOB[4:]],
        "forged size of the same length": [b"\x0a\x02\xff\x7f" + BLOB[4:]],
        "two sizes": [b"\x0a\x04\x80\x20\x80\x20" + BLOB[4:]],
        "another scale": [BLOB[:-8] + np.float64(2.0**30).tobytes()],
        "scale of NaN": [BLOB[:-8] + np.float64(np.nan).tobytes()],
        "scale left out": [BLOB[:-9]],
        "coefficient is q": [BLOB[:start] + q + BLOB[start + 8 :]],
        "coefficient is huge": [BLOB[:start] + b"\xff" * 8 + BLOB[start + 8 :]],
        "not encrypted": [clear],
        "of bfv": [bfv],
        "zeros": [bytes(len(BLOB))],
        "random": [np.random.default_rng(1).bytes(len(BLOB))],
        "a context": [PUBLIC.to_bytes()],
    }


@pytest.mark.parametrize("name", hostile())
def test_hostile_ciphertexts_are_refused_and_leave_the_sum_alone(name: str) -> None:
    running = CkksSum(1)
    running.add([BLOB])
    before = running.result()
    with pytest.raises(ProtocolError):
        running.add(hostile()[name])
    assert running.result() == before and running.count == 1
    with pytest.raises(ProtocolError):
        opened(hostile()[name], DATA_SLOTS, 1, 1.0)


def test_structure_cannot_be_flipped() -> None:
    """Every bit in front of the coefficients, of the second block's header and of the scale."""
    tail = 36 + (1 << 17)
    for at in [*range(FIRST_COEFFICIENT), *range(tail, tail + 3), *range(-9, 0)]:
        for bit in range(8):
            bad = bytearray(BLOB)
            bad[at] ^= 1 << bit
            with pytest.raises(ProtocolError):
                read_ciphertext(bytes(bad))


def test_flipped_coefficients_never_crash_and_are_noticed() -> None:
    rng = np.random.default_rng(3)
    for at in rng.integers(FIRST_COEFFICIENT, len(BLOB) - 200, 40):
        bad = bytearray(BLOB)
        bad[at] ^= 1 << int(rng.integers(8))
        try:
            found = opened([bytes(bad)], DATA_SLOTS, 1, 1.0)
        except ProtocolError:
            continue
        assert np.isfinite(found).all()


def test_sum_refuses_nothing_no_chunks_and_too_many() -> None:
    with pytest.raises(ProtocolError, match="no encrypted update"):
        CkksSum(1).result()
    with pytest.raises(ProtocolError, match="at least one"):
        CkksSum(0)
    full = CkksSum(1)
    for _ in range(64):
        full.add([BLOB])
    with pytest.raises(ProtocolError, match="more than 64"):
        full.add([BLOB])
