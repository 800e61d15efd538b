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
