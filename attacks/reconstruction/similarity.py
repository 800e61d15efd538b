"""How alike two grey pictures are: PSNR, and SSIM of Wang et al. 2004."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import correlate1d

FloatArray = npt.NDArray[np.float64]

#: Side and standard deviation of SSIM's Gaussian window, in pixels.
WINDOW, SIGMA = 11, 1.5
_K1, _K2 = 0.01, 0.03


def psnr(truth: npt.ArrayLike, guess: npt.ArrayLike, span: float = 1.0) -> FloatArray:
    """Peak signal-to-noise ratio ``10 log10(span^2 / mean squared error)`` in dB.

    Args:
        truth, guess: (..., height, width) of one shape.
        span: distance of the blackest from the whitest value, > 0.

    Returns:
        (...); infinite where the pictures are equal.

    Raises:
        ValueError: shapes differ, a value is not finite, or ``span`` is not positive.
    """
    x, y = _pair(truth, guess, span)
    error = np.square(x - y).mean(axis=(-2, -1))
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(span**2 / error), dtype=np.float64)


def ssim(truth: npt.ArrayLike, guess: npt.ArrayLike, span: float = 1.0) -> FloatArray:
    """Structural similarity (Wang, Bovik, Sheikh and Simoncelli 2004, equation 13), averaged.

    Means, variances and the covariance are weighted by an 11x11 Gaussian window (sigma 1.5) whose
    weights sum to 1, at every place where the window lies inside the picture; K1 = 0.01 and
    K2 = 0.03.

    Args:
        truth, guess: (..., height, width) of one shape, at least 11x11.
        span: distance of the blackest from the whitest value, > 0.

    Returns:
        (...) in [-1, 1]; 1 only for equal pictures.

    Raises:
        ValueError: as :func:`psnr`, or the pictures are smaller than the window.
    """
    x, y = _pair(truth, guess, span)
    if min(x.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs pictures of at least {WINDOW}x{WINDOW} pixels")
    mean_x, mean_y = _blurred(x), _blurred(y)
    var_x = _blurred(x * x) - mean_x**2
    var_y = _blurred(y * y) - mean_y**2
    shared = _blurred(x * y) - mean_x * mean_y
    c1, c2 = (_K1 * span) ** 2, (_K2 * span) ** 2
    light = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * shared + c2) / (var_x + var_y + c2)
    return np.asarray((light * structure).mean(axis=(-2, -1)), dtype=np.float64)


def window() -> FloatArray:
    """Weights of the window along one side, (11,), summing to 1."""
    steps = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(steps**2) / (2 * SIGMA**2))
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def _blurred(pictures: FloatArray) -> FloatArray:
    """Windowed means where the whole window lies inside, (..., height - 10, width - 10)."""
    along = correlate1d(pictures, window(), axis=-1, mode="constant")
    both = correlate1d(along, window(), axis=-2, mode="constant")
    edge = WINDOW // 2
    return np.asarray(both[..., edge:-edge, edge:-edge], dtype=np.float64)


def _pair(truth: npt.ArrayLike, guess: npt.ArrayLike, span: float) -> tuple[FloatArray, FloatArray]:
    x, y = np.asarray(truth, dtype=np.float64), np.asarray(guess, dtype=np.float64)
    if x.shape != y.shape or x.ndim < 2:
        raise ValueError(f"two pictures of one shape are needed, not {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("the pictures hold values that are not finite")
    if not span > 0:
        raise ValueError("the span must be greater than 0")
    return x, y
