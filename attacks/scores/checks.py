"""What every score asks of its arrays, said in one line when it is not so."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


def floats(
    name: str, values: npt.ArrayLike, dimensions: int, *, unknown: bool = False
) -> FloatArray:
    """``values`` as float64 with that many dimensions.

    Args:
        name: of the argument, for the error.
        values: any numbers.
        dimensions: how many axes they must have.
        unknown: whether NaN is allowed; infinities never are.

    Raises:
        ValueError: when the number of axes differs or a value is not allowed.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != dimensions:
        raise ValueError(f"{name} must have {dimensions} axes, not {array.ndim}")
    if np.isinf(array).any() or (not unknown and np.isnan(array).any()):
        raise ValueError(f"{name} must be finite{' or NaN' if unknown else ''}")
    return array


def booleans(name: str, values: npt.ArrayLike, shape: tuple[int, ...]) -> BoolArray:
    """``values`` as booleans of that shape; 0 and 1 count as such.

    Raises:
        ValueError: when the shape differs or a value is neither.
    """
    array = np.asarray(values)
    if array.shape != shape:
        raise ValueError(f"{name} must be of shape {shape}, not {array.shape}")
    if not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name} must be 0 or 1")
    return array.astype(np.bool_)


def log_probabilities(name: str, values: npt.ArrayLike, dimensions: int) -> FloatArray:
    """``values`` as finite logarithms of probabilities.

    Raises:
        ValueError: when one is above 0, or as in :func:`floats`.
    """
    array = floats(name, values, dimensions)
    # A mean over labels or a sum in single precision may pass 0 by rounding.
    if (array > 1e-6).any():
        raise ValueError(f"{name} must be logarithms of probabilities, at most 0")
    return np.minimum(array, 0.0)
