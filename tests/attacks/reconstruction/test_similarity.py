"""PSNR and SSIM against closed forms and against a loop over windows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.reconstruction.similarity import psnr, ssim, window


def pictures(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


def test_equal_pictures() -> None:
    x = pictures(0, 3, 16, 20)
    assert np.isinf(psnr(x, x)).all()
    assert ssim(x, x) == pytest.approx(np.ones(3), abs=1e-12)


@given(st.floats(0.001, 10), st.floats(0.1, 300))
def test_psnr_of_a_constant_shift(shift: float, span: float) -> None:
    x = pictures(1, 8, 8)
    assert float(psnr(x, x + shift, span)) == pytest.approx(20 * math.log10(span / shift), abs=1e-6)


def test_ssim_of_constant_pictures() -> None:
    """No variance: only the term of the means is left."""
    a, b, c1 = 0.3, 0.8, 1e-4
    expected = (2 * a * b + c1) / (a * a + b * b + c1)
    assert float(ssim(np.full((12, 12), a), np.full((12, 12), b))) == pytest.approx(expected)


def test_ssim_of_a_picture_and_its_negative() -> None:
    """With window means of 0 in both, what is left is ``(c2 - 2 v) / (c2 + 2 v)`` < 0."""
    rows = np.where(np.arange(24) % 2, 1.0, -1.0)
    x = rows[:, None] * rows[None]
    v = 1 - (window() * rows[:11]).sum() ** 4
    assert float(ssim(x, -x)) == pytest.approx((9e-4 - 2 * v) / (9e-4 + 2 * v), abs=1e-3)


def loop_ssim(x: np.ndarray, y: np.ndarray, span: float) -> float:
    steps = np.arange(-5, 6)
    weights = np.exp(-(steps[:, None] ** 2 + steps[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    values = []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            ma, mb = (weights * a).sum(), (weights * b).sum()
            va = (weights * (a - ma) ** 2).sum()
            vb = (weights * (b - mb) ** 2).sum()
            cov = (weights * (a - ma) * (b - mb)).sum()
            light = (2 * ma * mb + c1) / (ma**2 + mb**2 + c1)
            values.append(light * (2 * cov + c2) / (va + vb + c2))
    return float(np.mean(values))


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10_000), st.sampled_from([1.0, 255.0]))
def test_ssim_is_that_of_a_loop(seed: int, span: float) -> None:
    x, y = pictures(seed, 13, 15) * span, pictures(seed + 1, 13, 15) * span
    y = 0.5 * (x + y)
    assert float(ssim(x, y, span)) == pytest.approx(loop_ssim(x, y, span), abs=1e-9)


def test_many_at_once_are_each_by_itself() -> None:
    x, y = pictures(2, 2, 3, 12, 12), pictures(3, 2, 3, 12, 12)
    assert ssim(x, y)[1, 2] == pytest.approx(float(ssim(x[1, 2], y[1, 2])))
    assert psnr(x, y)[0, 1] == pytest.approx(float(psnr(x[0, 1], y[0, 1])))


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (np.zeros((12, 12)), np.zeros((12, 13)), "one shape"),
        (np.full((12, 12), np.nan), np.zeros((12, 12)), "finite"),
        (np.zeros((10, 12)), np.zeros((10, 12)), "11x11"),
    ],
)
def test_refused(x: np.ndarray, y: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ssim(x, y)
