"""The noise margin: a bound that real ciphertexts obey, and a figure that doubling confirms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from privfin.crypto.bfv import BfvKey
from privfin.crypto.ciphertext_sum import CiphertextSum
from privfin.crypto.noise_margin import (
    LARGEST_FAILURE_LOG2,
    SMALLEST_MARGIN_BITS,
    check_noise,
    failure_log2,
    margin_bits,
)
from privfin.crypto.pack import LAYOUTS, MAX_SUMMANDS, POLY_DEGREE, Packing
from privfin.errors import PlanError

LAYOUT = pytest.mark.parametrize("packing", LAYOUTS.values(), ids=lambda p: p.name)


def doubled_until_it_fails(packing: Packing, summands: int) -> int:
    """Doublings that a sum of fresh ciphertexts of uniform slots survives."""
    key, rng = BfvKey.generate(packing), np.random.default_rng(summands)
    running = CiphertextSum(packing, 1)
    truth = np.zeros(POLY_DEGREE, dtype=np.int64)
    for _ in range(summands):
        slots = rng.integers(0, packing.modulus, POLY_DEGREE)
        running.add(key.public().encrypt(slots))
        truth = (truth + slots) % packing.modulus
    for doublings in range(70):
        if not np.array_equal(key.decrypt(running.result(), POLY_DEGREE), truth):
            return doublings - 1
        blobs = running.result()
        running = CiphertextSum(packing, 1)
        running.add(blobs)
        running.add(blobs)
        truth = 2 * truth % packing.modulus
    raise AssertionError("it never failed")


@LAYOUT
@pytest.mark.parametrize("summands", [1, MAX_SUMMANDS])
def test_measured_margin_is_the_stated_one(packing: Packing, summands: int) -> None:
    measured = [doubled_until_it_fails(packing, summands) for _ in range(3)]
    # The largest of 8192 coefficients differs from key to key, by less than a factor of two.
    assert all(abs(bits - margin_bits(packing, summands)) <= 1 for bits in measured)
    # One of them is six standard deviations out in 2 of 100,000 sums, so the median decides.
    assert sorted(measured)[1] >= SMALLEST_MARGIN_BITS


@LAYOUT
def test_every_cohort_that_the_layouts_allow_passes(packing: Packing) -> None:
    for sites in range(1, packing.max_summands + 1):
        check_noise(packing, sites, 10**12)
    assert failure_log2(packing, packing.max_summands, 10**12) < -4000


def test_bound_and_margin_move_the_right_way() -> None:
    wide, narrow = LAYOUTS["2x20"], LAYOUTS["3x15"]
    assert failure_log2(wide, 64, 100) < failure_log2(narrow, 64, 100)
    assert failure_log2(narrow, 64, 100) < failure_log2(narrow, 65, 100)
    two = failure_log2(narrow, 64, 200) - failure_log2(narrow, 64, 100)
    assert two == pytest.approx(1)
    assert margin_bits(wide, 1) == 12 and margin_bits(narrow, 1) == 7
    assert [margin_bits(narrow, k) for k in (16, 64)] == [5, 4]
    assert failure_log2(narrow, 10**9, 1) == 0 and margin_bits(narrow, 10**9) == 0


def test_a_plan_without_margin_is_refused() -> None:
    """A plain modulus of 53 bits: the margin is gone, and more summands break the bound too."""
    broken = replace(LAYOUTS["3x15"], modulus=2**53 + 1)
    with pytest.raises(PlanError, match="might not decrypt") as caught:
        check_noise(broken, 64, 1)
    assert caught.value.exit_code == 2
    # Here the bound holds and the bits are missing; the other way round cannot happen.
    thin = replace(LAYOUTS["3x15"], modulus=2**47 + 1)
    assert failure_log2(thin, 64, 1) < LARGEST_FAILURE_LOG2
    with pytest.raises(PlanError, match="2 bits of noise margin"):
        check_noise(thin, 64, 1)


def test_the_bound_holds_on_random_terms_of_a_smaller_ring() -> None:
    """Monte Carlo of rho1 s, with every coefficient of s set, as the bound allows at worst."""
    rng = np.random.default_rng(3)
    n, summands, draws = 64, 4, 100_000
    signs = rng.choice([-1, 1], n)
    total = sum(rng.uniform(-0.5, 0.5, (draws, n)) @ signs for _ in range(summands))
    proxy = summands * n / 12
    for limit in (5.0, 10.0, 15.0, 18.0):
        bound = 2 * math.exp(-(limit**2) / (2 * proxy))
        seen = float(np.mean(np.abs(total) >= limit))
        # Six standard deviations of the count.
        assert seen <= bound + 6 * math.sqrt(bound / draws)
