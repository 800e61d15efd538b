"""Noise multipliers that were calibrated before, kept on this machine: a plan then takes no time.

A kept value is never trusted. The accountant computes its epsilon again, which is one evaluation
instead of ten, and a value that misses the target on either side is calibrated anew. So a file that
is stale, damaged or tampered with can cost time, but no privacy.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from privfin.errors import UserInputError
from privfin.files import cache_folder, write_bytes
from privfin.privacy.accounting import SubsampledGaussianEvent, accountant_name
from privfin.privacy.accounting import epsilon as spent_epsilon
from privfin.privacy.calibration import LARGEST_NOISE, SMALLEST_NOISE, calibrate_noise

#: Raise it when the search itself changes.
_VERSION = 1
_FILE = "calibration.json"
_MOST_ENTRIES = 2000
# What a right calibration may stay below its target, with room to spare.
_TOLERANCE = 0.02


def remembered_noise(epsilon: float, delta: float, sampling_rate: float, steps: int) -> float:
    """As :func:`calibrate_noise`, from the cache if the accountant confirms what is there.

    Raises:
        PlanError: see :func:`calibrate_noise`.
    """
    folder = cache_folder()
    if folder is None or not math.isfinite(epsilon):
        return calibrate_noise(epsilon, delta, sampling_rate, steps)
    path = folder / _FILE
    kept = _read(path)
    key = _key(epsilon, delta, sampling_rate, steps)
    found = _noise(kept.get(key))
    if found is not None and _meets(found, epsilon, delta, sampling_rate, steps):
        return found
    noise = calibrate_noise(epsilon, delta, sampling_rate, steps)
    kept = {**_read(path), key: noise}
    newest = dict(list(kept.items())[-_MOST_ENTRIES:])
    with suppress(UserInputError, OSError):  # a cache that cannot be written is no cache
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_bytes(path, (json.dumps(newest, indent=1) + "\n").encode())
    return noise


def _meets(noise: float, epsilon: float, delta: float, rate: float, steps: int) -> bool:
    found = spent_epsilon([SubsampledGaussianEvent(noise, rate, steps)], delta)
    is_least = noise == SMALLEST_NOISE
    return found <= epsilon and (is_least or found >= epsilon * (1.0 - _TOLERANCE))


def _noise(value: Any) -> float | None:
    """A noise multiplier in range, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if SMALLEST_NOISE <= value <= LARGEST_NOISE else None


def _key(*figures: float) -> str:
    return " ".join([*map(repr, figures), *accountant_name().values(), f"v{_VERSION}"])


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
