"""Quantisation: unbiased rounding, exact zero, bounded error of a decoded sum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privfin.crypto.quantize import Quantizer
from privfin.errors import ConfigError, ProtocolError
from privfin.randomness import RandomStream


def stream(*labels: str | int) -> RandomStream:
    return RandomStream.reproducible(7, "quantize", *labels)


@pytest.mark.parametrize("value", [0.013, -0.37, 0.49999, -0.5, 0.2718])
def test_stochastic_rounding_is_unbiased(value: float) -> None:
    quantizer = Quantizer(bound=0.5, value_bits=8)
    n = 200_000
    levels = quantizer.levels(np.full(n, value), stream(str(value)))
    assert np.unique(levels).size <= 2
    # A step's rounding error has a standard deviation of at most 1/2: six of them, p < 2e-9.
    assert abs(levels.mean() - value / quantizer.step) <= 6 * 0.5 / np.sqrt(n) + 1e-9


def draws(quantizer: Quantizer, fraction: float, n: int) -> np.ndarray:
    """Rounding errors in levels of a value this far above a level, by the system's generator."""
    value = (3 + fraction) * quantizer.step
    levels = quantizer.levels(np.full(n, value), RandomStream.system())
    return levels - value / quantizer.step


# Each of the tests below fails by chance with a probability below 1e-7 (Hoeffding's bound).
FRACTIONS = pytest.mark.parametrize("fraction", [0.0, 0.01, 0.25, 0.5, 0.77, 0.999])
N = 200_000
SLACK = float(np.sqrt(np.log(2 / 1e-8) / (2 * N)))


def is_unbiased(errors: np.ndarray) -> bool:
    """Whether the mean of errors, which span one level, is that of unbiased rounding."""
    return bool(abs(errors.mean()) <= SLACK + 1e-9)


@FRACTIONS
def test_mean_and_variance_of_rounding_are_those_of_a_coin(fraction: float) -> None:
    """Up with probability f: mean 0, variance f (1 - f), never above a quarter of a level."""
    errors = draws(Quantizer(bound=0.5, value_bits=11), fraction, N)
    assert is_unbiased(errors)
    # The share of ups lies within SLACK of f, so its variance within SLACK of f (1 - f).
    assert abs(errors.var() - fraction * (1 - fraction)) <= SLACK + 1e-6
    assert np.abs(errors).max() <= 1 + 1e-9


def test_roundings_that_are_biased_would_be_noticed() -> None:
    """To the nearest level, always down, and up with a probability that is 1 % off."""
    ups = np.random.default_rng(1).random(N)
    for fraction, wrong in (
        (0.3, np.full(N, -0.3)),
        (0.7, np.full(N, -0.7)),
        (0.5, (ups < 0.51) - 0.5),
    ):
        assert not is_unbiased(wrong), fraction
    assert is_unbiased((ups < 0.5) - 0.5)


def test_errors_of_neighbours_and_of_sites_are_independent() -> None:
    """So that the variance of an average falls with the number of sites."""
    quantizer = Quantizer(1.0, 8)
    errors = np.stack([draws(quantizer, 0.5, 50_000) for _ in range(4)])
    # Six standard deviations of a correlation of independent coins, p < 2e-9 each.
    limit = 6 / np.sqrt(50_000)
    assert np.abs(np.corrcoef(errors) - np.eye(4)).max() < limit
    assert abs(np.corrcoef(errors[0, :-1], errors[0, 1:])[0, 1]) < limit
    assert abs(errors.mean(axis=0).var() - 0.25 / 4) < 6 * 0.25 / 4 * np.sqrt(2 / 50_000)


@pytest.mark.parametrize("sites", [2, 64])
def test_a_decoded_sum_is_unbiased_over_rounds(sites: int) -> None:
    """What the model sees: the mean over rounds tends to the real sum, whatever the level."""
    quantizer = Quantizer(1.0, 8)
    x = np.random.default_rng(sites).uniform(-1, 1, (sites, 50))
    truth, rounds = x.sum(axis=0), 400
    stream = RandomStream.system()
    total = np.zeros(50)
    for _ in range(rounds):
        codes = quantizer.encode(x, stream).astype(np.int64).sum(axis=0)
        total += quantizer.decode_sum(codes, sites)
    # A sum of sites * rounds errors of at most one step each; 50 of them, p < 1e-7 in all.
    limit = quantizer.step * np.sqrt(sites * rounds * np.log(2 * 50 / 1e-7) / 2)
    assert np.abs(total - rounds * truth).max() <= limit


def test_rounding_noise_differs_between_draws() -> None:
    quantizer = Quantizer(1.0, 8)
    x = np.full(1000, 0.3)
    source = stream("draws")
    assert not np.array_equal(quantizer.encode(x, source), quantizer.encode(x, source))


@given(bits=st.integers(2, 32), bound=st.floats(1e-6, 1e6))
def test_zero_and_ends_are_exact(bits: int, bound: float) -> None:
    quantizer = Quantizer(bound, bits)
    codes = quantizer.encode(np.array([0.0, -0.0, bound, -bound, 9 * bound]), stream())
    top = 2 ** (bits - 1) - 1
    assert codes.tolist() == [top + 1, top + 1, 2 * top + 1, 1, 2 * top + 1]
    assert codes.dtype == np.uint32


@settings(max_examples=50)
@given(
    data=st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=30),
    bits=st.integers(2, 20),
    count=st.integers(1, 16),
)
def test_sum_error_is_below_one_step_a_site(data: list[float], bits: int, count: int) -> None:
    quantizer = Quantizer(2.0, bits)
    x = np.array(data, dtype=np.float32)
    source = stream("sum")
    total = sum(quantizer.encode(x, source).astype(np.int64) for _ in range(count))
    decoded = quantizer.decode_sum(np.asarray(total), count)
    truth = count * np.clip(x.astype(np.float64), -2, 2)
    assert decoded.dtype == np.float64
    assert np.abs(decoded - truth).max() <= count * quantizer.step * (1 + 1e-9)


def test_shift_saturates_noisy_levels() -> None:
    quantizer = Quantizer(1.0, 4)
    assert quantizer.shift(np.array([-100, -7, 0, 7, 100])).tolist() == [1, 1, 8, 15, 15]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_refuses_what_is_not_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        Quantizer(1.0, 8).encode(np.array([0.0, bad]), stream())


@pytest.mark.parametrize(("bound", "bits"), [(0, 8), (-1, 8), (np.nan, 8), (1, 1), (1, 33)])
def test_refuses_bad_settings(bound: float, bits: int) -> None:
    with pytest.raises(ConfigError):
        Quantizer(bound, bits)


@pytest.mark.parametrize("total", [[1, 5], [5, 511]])
def test_refuses_an_impossible_sum(total: list[int]) -> None:
    with pytest.raises(ProtocolError, match="outside"):
        Quantizer(1.0, 8).decode_sum(np.array(total), 2)


def test_empty_arrays_pass() -> None:
    quantizer = Quantizer(1.0, 8)
    codes = quantizer.encode(np.empty(0, dtype=np.float32), stream())
    assert quantizer.decode_sum(codes, 3).shape == (0,)
