"""What an attacker has without any gradient: public pictures, and public words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from attacks.reconstruction.similarity import FloatArray


def mean_picture(public: npt.ArrayLike) -> FloatArray:
    """The mean of public pictures (n, height, width): of all constant guesses the one with the
    smallest squared error on pictures like them."""
    pictures: FloatArray = np.asarray(public, dtype=np.float64)
    return np.asarray(pictures.mean(axis=0), dtype=np.float64)


def nearest_pictures(public: npt.ArrayLike, wanted: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """For each of ``wanted`` (m, height, width) the public picture (n, height, width) of the
    smallest squared error, as positions (m,).

    Looked up with the truth it is an oracle: nobody can choose it without knowing the answer.
    """
    known = np.asarray(public, dtype=np.float64).reshape(len(np.asarray(public)), -1)
    asked = np.asarray(wanted, dtype=np.float64).reshape(len(np.asarray(wanted)), -1)
    squared = (known**2).sum(axis=1)[None] - 2 * asked @ known.T
    return np.asarray(squared.argmin(axis=1), dtype=np.int64)


def commonest(public: npt.ArrayLike, count: int) -> npt.NDArray[np.bool_]:
    """The ``count`` entries that most public rows (n, entries) hold (non-zero), (entries,) bool.

    Raises:
        ValueError: ``count`` is not in [0, entries].
    """
    often = (np.asarray(public) != 0).mean(axis=0)
    return largest(often, count)


def largest(values: npt.ArrayLike | Sequence[float], count: int) -> npt.NDArray[np.bool_]:
    """Which of (entries,) are the ``count`` largest; among equals those that come first."""
    each = np.asarray(values, dtype=np.float64)
    if not 0 <= count <= each.size:
        raise ValueError(f"there are {each.size} entries, not {count}")
    chosen = np.zeros(each.size, dtype=np.bool_)
    chosen[np.argsort(-each, kind="stable")[:count]] = True
    return chosen
