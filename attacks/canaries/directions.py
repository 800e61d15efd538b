"""Gradients of canaries that have no record: unit vectors in the space of parameters.

A gradient canary attacks the noisy sum of one step. It is the worst that a patient can do to it: a
gradient of the full clipping norm in a direction that the auditor knows (Nasr et al. 2021,
arXiv:2101.04535, and 2023, arXiv:2302.07956). Whether the sum has the canary is then the whole
difference between N(0, (σ C)²) and N(C, (σ C)²) along that direction. Orthogonal directions do not
disturb one another, so that several canaries in one step are as good as several steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from attacks.limits import FloatArray


def coordinate_directions(coordinates: Sequence[int], parameters: int) -> FloatArray:
    """Dirac canaries: (len(coordinates), parameters), each 1 at one coordinate and 0 elsewhere.

    Best on coordinates that real gradients leave alone, as the weights of an unused input (Nasr et
    al. 2023, section 4.1). On a coordinate in use a canary pulls one weight a long way.

    Raises:
        ValueError: a coordinate is out of range or named twice.
    """
    chosen = np.asarray(coordinates, dtype=np.int64)
    if np.unique(chosen).size != chosen.size:
        raise ValueError("coordinates must differ")
    if chosen.size and not 0 <= chosen.min() <= chosen.max() < parameters:
        raise ValueError(f"coordinates must lie in [0, {parameters})")
    found = np.zeros((chosen.size, parameters))
    found[np.arange(chosen.size), chosen] = 1.0
    return found


def orthonormal_directions(
    count: int, parameters: int, generator: np.random.Generator
) -> FloatArray:
    """``count`` orthonormal vectors (count, parameters), uniform among all such sets.

    The Q of a QR decomposition of normal numbers, with the signs of R's diagonal (Mezzadri 2007,
    arXiv:math-ph/0609050). Each pulls on every weight a little (Andrew et al. 2023,
    arXiv:2302.03098), so that it hardly moves what the model says.

    Args:
        count: in [1, parameters].
        parameters: the dimension.
        generator: where they come from.

    Raises:
        ValueError: ``count`` is out of range.
    """
    if not 1 <= count <= parameters:
        raise ValueError(f"count must lie in [1, {parameters}], got {count}")
    normal: npt.NDArray[np.float64] = generator.standard_normal((parameters, count))
    q, r = np.linalg.qr(normal)
    found: FloatArray = np.ascontiguousarray((q * np.sign(np.diagonal(r))).T)
    return found
