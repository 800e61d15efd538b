"""Paints findings into the phantom's chest X-rays, each where it occurs in a chest.

Coordinates: x runs from -1 (image left, the patient's right) to 1, y from -1 (top) to 1. Lengths
are in these units, densities in [0, 1] with 0 black. Everything is element-wise arithmetic on
arrays (studies, size, size), mostly of float32. The shapes are simplifications for exercising a
learner, drawn after the usual textbook descriptions; they are no medical reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

#: An array of floats, here (studies, height, width).
F = npt.NDArray[np.floating[Any]]
#: Chance that a present finding can be seen at all.
VISIBLE = {
    "Enlarged Cardiomediastinum": 0.65,
    "Cardiomegaly": 0.75,
    "Lung Opacity": 0.75,
    "Lung Lesion": 0.70,
    "Edema": 0.70,
    "Consolidation": 0.75,
    "Pneumonia": 0.70,
    "Atelectasis": 0.75,
    "Pneumothorax": 0.70,
    "Pleural Effusion": 0.75,
    "Pleural Other": 0.70,
    "Fracture": 0.70,
    "Support Devices": 0.70,
}
#: Random numbers a finding's painter may use.
DRAWS = 8


@dataclass(frozen=True)
class Canvas:
    """Where a painter draws: body coordinates, the chest cavity and the lung's share of pixels.

    ``x`` is positive on the finding's side (on both sides for a bilateral finding); ``wall`` is
    0 in the middle of a lung and 1 at its outline; ``pixel`` is one pixel's width.
    """

    x: F
    y: F
    wall: F
    lung: F
    pixel: float


def ramp(z: F) -> F:
    """A soft step: 0 below -1/2, 1 above 1/2."""
    result: F = np.clip(z + np.float32(0.5), 0.0, 1.0)
    return result


def bump(squared: F) -> F:
    """A soft spot: 1 at distance 0, 0 from squared distance 1."""
    result: F = np.clip(1.0 - squared, 0.0, 1.0) ** 2
    return result


def wave(z: F) -> F:
    """A smooth wave of period 1 between -1 and 1, from parabolas."""
    t = z - np.floor(z) - np.float32(0.5)
    result: F = np.float32(16.0) * t * (np.float32(0.5) - np.abs(t))
    return result


def column(values: npt.NDArray[np.float64]) -> F:
    """Numbers (n,) as (n, 1, 1), to combine with images."""
    return values.astype(np.float32)[:, None, None]


def _between(u: F, low: float, high: float) -> F:
    return np.float32(low) + np.float32(high - low) * u


def _line(c: Canvas, start: tuple[F, F], end: tuple[F, F], width: float) -> F:
    """A soft straight line of at least one pixel's width."""
    (x0, y0), (x1, y1) = start, end
    dx, dy = x1 - x0, y1 - y0
    along = np.clip(((c.x - x0) * dx + (c.y - y0) * dy) / (dx * dx + dy * dy), 0.0, 1.0)
    distance = np.sqrt((c.x - x0 - along * dx) ** 2 + (c.y - y0 - along * dy) ** 2)
    half = max(width, c.pixel) / 2.0
    return ramp((np.float32(half) - distance) / np.float32(c.pixel))


def _spot(c: Canvas, x: F, y: F, width: F, height: F) -> F:
    return bump(((c.x - x) / width) ** 2 + ((c.y - y) / height) ** 2)


def _lung_opacity(c: Canvas, u: F) -> F:
    spot = _spot(
        c,
        _between(u[0], 0.32, 0.50),
        _between(u[1], -0.05, 0.45),
        _between(u[2], 0.28, 0.48),
        _between(u[3], 0.28, 0.50),
    )
    return 0.42 * spot * (0.2 + 0.8 * c.lung)


def _lung_lesion(c: Canvas, u: F) -> F:
    radius = _between(u[2], 0.13, 0.22)
    x, y = _between(u[0], 0.30, 0.52), _between(u[1], -0.50, -0.10)
    return 0.75 * np.sqrt(_spot(c, x, y, radius, radius))


def _edema(c: Canvas, u: F) -> F:
    haze = _spot(
        c, _between(u[0], 0.22, 0.32), _between(u[1], -0.1, 0.1), u[2] * 0 + 0.5, 0.7 + u[3] * 0.2
    )
    septa = np.maximum(wave(c.y * 5.3 + u[4]), 0.0) * ramp((c.x - 0.4) * 4.0)
    return (0.26 * haze + 0.12 * septa) * c.lung


def _consolidation(c: Canvas, u: F) -> F:
    edge = _between(u[0], 0.05, 0.25)
    below = ramp((c.y - edge) * 8.0)
    return (
        0.45
        * (0.2 + 0.8 * c.lung)
        * below
        * _spot(c, _between(u[1], 0.36, 0.50), edge + 0.2, 0.42 + 0 * edge, 0.5 + 0 * edge)
    )


def _pneumonia(c: Canvas, u: F) -> F:
    patch = _spot(
        c,
        _between(u[0], 0.3, 0.45),
        _between(u[1], -0.15, 0.1),
        _between(u[2], 0.3, 0.4),
        0.4 + 0 * u[2],
    )
    bronchi = wave((c.x + c.y) * 3.7 + u[3])
    return patch * (0.34 + 0.22 * bronchi)


def _atelectasis(c: Canvas, u: F) -> F:
    total = np.zeros_like(c.x)
    for k, offset in enumerate((0.0, 0.16)):
        y = _between(u[k], 0.22, 0.36) + offset
        slope = _between(u[k + 2], -0.10, 0.14)
        x0 = _between(u[4], 0.18, 0.28)
        total += _line(c, (x0, y), (x0 + 0.40, y - slope), 0.07)
    return 0.38 * np.minimum(total, 1.0) * (0.2 + 0.8 * c.lung)


def _pneumothorax(c: Canvas, u: F) -> F:
    depth = _between(u[0], 0.45, 0.65)
    low = _between(u[1], -0.05, 0.30)
    rim = ramp((c.wall - 1.0 + depth) * 6.0) * c.lung * ramp((low - c.y) * 5.0) * ramp(c.x * 20.0)
    edge = bump(((c.wall - 1.0 + depth) / 0.16) ** 2) * ramp((low - c.y) * 5.0) * ramp(c.x * 20.0)
    return 0.28 * edge * c.lung - 0.34 * rim


def _pleural_effusion(c: Canvas, u: F) -> F:
    level = _between(u[0], 0.20, 0.50)
    meniscus = level + 0.35 * np.clip(0.75 - c.x, 0.0, 1.0)
    inside = ramp((1.15 - c.wall) * 4.0) * ramp((c.x - 0.12) * 8.0)
    return 0.42 * ramp((c.y - meniscus) * 6.0) * inside * (0.15 + 0.85 * c.lung)


def _pleural_other(c: Canvas, u: F) -> F:
    rim = bump(((c.wall - 0.9) / _between(u[0], 0.22, 0.32)) ** 2) * ramp((c.x - 0.35) * 8.0)
    return 0.55 * rim * ramp((0.5 - np.abs(c.y - _between(u[1], -0.1, 0.1))) * 5.0)


def _fracture(c: Canvas, u: F) -> F:
    x, y = _between(u[0], 0.60, 0.70), _between(u[1], -0.30, 0.05)
    gap = _spot(c, x, y, 0.13 + 0 * x, 0.11 + 0 * x)
    step = _line(c, (x - 0.12, y - 0.16), (x + 0.10, y + 0.20), 0.07)
    return 0.60 * step - 0.40 * gap


def _support_devices(c: Canvas, u: F) -> F:
    zero = np.zeros_like(u[0])
    tip = _between(u[1], -0.15, 0.15)
    bend = _between(u[2], -0.62, -0.50)
    line = np.maximum(
        _line(c, (zero + 0.62, bend - 0.12), (zero + 0.14, bend), 0.05),
        _line(c, (zero + 0.14, bend), (zero + 0.12, tip), 0.05),
    )
    tube = _line(c, (zero, zero - 1.0), (zero, _between(u[3], -0.45, -0.25)), 0.07)
    box = ramp((0.13 - np.abs(c.x - 0.55)) * 20.0) * ramp((0.10 - np.abs(c.y + 0.52)) * 20.0)
    lead = _line(c, (zero + 0.45, zero - 0.50), (zero + 0.12, _between(u[3], 0.25, 0.40)), 0.05)
    wires = _line(c, (zero + 0.75, zero - 0.75), (_between(u[3], 0.2, 0.4), zero + 0.55), 0.05)
    kind = u[0]
    picture = np.where(kind < 0.45, line, np.maximum(box, lead))
    picture = np.where(kind > 0.65, wires, picture)
    result: F = 0.45 * np.maximum(picture, tube * (u[4] < 0.45))
    return result


def only_geometry(c: Canvas, u: F) -> F:
    """Heart and mediastinum change size with the anatomy: nothing is painted on top."""
    return np.zeros_like(c.x)


PAINTERS: dict[str, Callable[[Canvas, F], F]] = {
    "Enlarged Cardiomediastinum": only_geometry,
    "Cardiomegaly": only_geometry,
    "Lung Opacity": _lung_opacity,
    "Lung Lesion": _lung_lesion,
    "Edema": _edema,
    "Consolidation": _consolidation,
    "Pneumonia": _pneumonia,
    "Atelectasis": _atelectasis,
    "Pneumothorax": _pneumothorax,
    "Pleural Effusion": _pleural_effusion,
    "Pleural Other": _pleural_other,
    "Fracture": _fracture,
    "Support Devices": _support_devices,
}
