"""Packing: round trips, exact sums at both ends of the range, refused overflows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privfin.crypto.bfv_format import CIPHERTEXT_MODULUS, ciphertext_primes
from privfin.crypto.pack import DATA_SLOTS, LAYOUTS, MAX_SUMMANDS, POLY_DEGREE, Packing
from privfin.errors import ConfigError, PlanError

LAYOUT = pytest.mark.parametrize("packing", LAYOUTS.values(), ids=lambda p: p.name)
COHORT_BITS = {"2x20": 16, "3x15": 11, "2x28": 16}


def is_prime(n: int) -> bool:
    """Miller-Rabin with bases that decide every number below 3.3e24."""
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41):
        x = pow(base, odd, n)
        if x in (1, n - 1):
            continue
        for _ in range(twos - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True


def batching_primes(bits: int, count: int) -> list[int]:
    """The ``count`` largest primes below 2^bits that are 1 modulo 2N."""
    found: list[int] = []
    candidate = 2**bits - 2 * POLY_DEGREE + 1
    while len(found) < count:
        if is_prime(candidate):
            found.append(candidate)
        candidate -= 2 * POLY_DEGREE
    return found


@LAYOUT
def test_modulus_is_the_largest_batching_prime(packing: Packing) -> None:
    assert packing.modulus == batching_primes(packing.fields * packing.field_bits, 1)[0]


def test_ciphertext_moduli_are_the_primes_after_the_one_for_keys() -> None:
    first, second, third = batching_primes(60, 3)
    assert ciphertext_primes(LAYOUTS["2x20"]) == (second,) == (CIPHERTEXT_MODULUS,)
    assert ciphertext_primes(LAYOUTS["2x28"]) == (third, second)
    assert first > second > third


@LAYOUT
@settings(max_examples=60)
@given(data=st.data())
def test_round_trip(packing: Packing, data: st.DataObject) -> None:
    top = 2**packing.field_bits - 2
    values = np.array(data.draw(st.lists(st.integers(0, top), max_size=40)), dtype=np.uint64)
    slots = packing.pack(values)
    assert slots.dtype == np.int64 and slots.shape == (packing.slots(values.size),)
    assert np.array_equal(packing.unpack(slots, values.size), values)


@LAYOUT
@pytest.mark.parametrize("sites", range(1, MAX_SUMMANDS + 1))
@pytest.mark.parametrize("fill", ["lowest", "highest", "mixed"])
def test_sums_are_exact_at_both_ends(packing: Packing, sites: int, fill: str) -> None:
    bits = packing.largest_value_bits(sites)
    assert bits >= COHORT_BITS[packing.name] or sites > 16
    packing.check_headroom(sites, bits)
    rng = np.random.default_rng(sites)
    top = 2**bits - 1
    values = {
        "lowest": np.zeros((sites, 50), dtype=np.uint64),
        "highest": np.full((sites, 50), top, dtype=np.uint64),
        "mixed": rng.choice(np.array([0, 1, top - 1, top], dtype=np.uint64), (sites, 50)),
    }[fill]
    total = sum(packing.pack(row) for row in values)
    assert isinstance(total, np.ndarray)
    assert total.max() < packing.modulus
    assert np.array_equal(packing.unpack(total, 50), values.sum(axis=0))


@LAYOUT
@given(bits=st.integers(1, 20), sites=st.integers(1, 100))
def test_headroom_is_exactly_what_fits(packing: Packing, bits: int, sites: int) -> None:
    field = sites * (2**bits - 1)
    packed = sum(field << (i * packing.field_bits) for i in range(packing.fields))
    fits = (
        field < 2**packing.field_bits and packed < packing.modulus and sites <= packing.max_summands
    )
    assert (packing.largest_cohort(bits) >= sites) == fits
    if fits:
        packing.check_headroom(sites, bits)
    else:
        with pytest.raises(PlanError) as caught:
            packing.check_headroom(sites, bits)
        assert caught.value.exit_code == 2


def test_refusal_says_what_to_change() -> None:
    with pytest.raises(PlanError, match=r"largest cohort 16.*at most 16 sites.*value_bits of at "):
        LAYOUTS["2x20"].check_headroom(17, 16)
    with pytest.raises(PlanError, match=r"largest cohort 0.*value_bits of at most 11.*'2x20'"):
        LAYOUTS["3x15"].check_headroom(16, 16)


@LAYOUT
def test_full_fields_would_wrap_and_are_refused(packing: Packing) -> None:
    # Every field at its largest value passes the modulus: the reason for the second condition.
    top = 2**packing.field_bits - 1
    assert packing.largest_cohort(packing.field_bits) == 0
    with pytest.raises(ValueError, match="modulus"):
        packing.pack(np.full(packing.fields, top, dtype=np.uint64))


@LAYOUT
def test_refuses_wrong_shapes_and_ranges(packing: Packing) -> None:
    with pytest.raises(ValueError, match="fit"):
        packing.pack(np.array([2**packing.field_bits], dtype=np.uint64))
    with pytest.raises(ValueError, match="dimension"):
        packing.pack(np.zeros((2, 2), dtype=np.uint64))
    with pytest.raises(ValueError, match="slots"):
        packing.unpack(np.zeros(3, dtype=np.int64), 1)
    for slot in (-1, packing.modulus):
        with pytest.raises(ValueError, match="outside"):
            packing.unpack(np.array([slot]), 1)


@LAYOUT
@given(n=st.integers(1, 10**7))
def test_masked_slots_leave_a_check_slot_in_every_ciphertext(packing: Packing, n: int) -> None:
    chunks, rest = divmod(packing.masked_slots(n), POLY_DEGREE)
    assert rest == 0
    assert (chunks - 1) * DATA_SLOTS < packing.slots(n) <= chunks * DATA_SLOTS


def test_unknown_layout_is_named() -> None:
    with pytest.raises(ConfigError, match="did you mean '2x2"):
        Packing.named("2x2")
    assert Packing.named("3x15") is LAYOUTS["3x15"]
