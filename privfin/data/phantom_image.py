"""Draws the phantom's chest X-rays: a body with lungs, heart and ribs, findings, and exposure.

Coordinates and densities are those of :mod:`privfin.data.phantom_findings`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from privfin.data.phantom_findings import (
    DRAWS,
    PAINTERS,
    VISIBLE,
    Canvas,
    F,
    bump,
    column,
    only_geometry,
    ramp,
    wave,
)


@dataclass(frozen=True)
class StudyFacts:
    """What is true of n studies, shared by the image and the report.

    ``present`` (n, 13) bool and ``severity`` (n, 13) in [0, 1] in the order of ``findings``;
    ``side`` (n, 13) is -1 for the patient's right, 1 for left, 0 for both; ``minor`` (n,) is the
    kind of an abnormality without a label of its own (0 none, 1 calcified granuloma, 2 prominent
    aorta, 3 flattened diaphragms); ``body`` (n, 8) uniform numbers, the same in all studies of a
    patient.
    """

    findings: tuple[str, ...]
    present: npt.NDArray[np.bool_]
    severity: npt.NDArray[np.float64]
    side: npt.NDArray[np.int64]
    minor: npt.NDArray[np.int64]
    body: npt.NDArray[np.float64]


def draw_images(
    facts: StudyFacts, size: int, rng: np.random.Generator, grain: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Chest X-rays (n, ``size``, ``size``) of the studies, uint8.

    ``rng`` decides what is drawn where, ``grain`` the noise, so that the same study looks the same
    at another size apart from its noise.
    """
    n, k = facts.present.shape
    u = rng.random((n, k, DRAWS))
    pose = rng.standard_normal((n, 6))
    exposure = rng.random((n, 4))
    visible = np.array([VISIBLE[name] for name in facts.findings])
    shown = facts.present & (rng.random((n, k)) < visible)
    strength = np.where(shown, 0.35 + 0.65 * facts.severity, 0.0)

    pixel = 2.0 / size
    grid = ((np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(pixel)) - 1
    tilt = column(0.025 * pose[:, 0])
    x0 = grid[None, None, :] - column(0.035 * pose[:, 1])
    y0 = grid[None, :, None] - column(0.035 * pose[:, 2])
    wide = column(0.92 + 0.16 * facts.body[:, 0] + 0.015 * pose[:, 3])
    tall = column(0.92 + 0.16 * facts.body[:, 1] + 0.02 * pose[:, 4])
    x = (x0 + tilt * y0) / wide
    y = (y0 - tilt * x0) / tall

    density, wall, lung = _anatomy(facts, strength, x, y)
    for finding, name in enumerate(facts.findings):
        rows = np.flatnonzero(shown[:, finding])
        if rows.size == 0 or PAINTERS[name] is only_geometry:
            continue
        side = column(facts.side[rows, finding].astype(np.float64))
        xs = np.where(side == 0, np.abs(x[rows]), x[rows] * side)
        canvas = Canvas(xs, y[rows], wall[rows], lung[rows], pixel)
        draws = u[rows, finding].T.astype(np.float32)[..., None, None]
        density[rows] += column(strength[rows, finding]) * PAINTERS[name](canvas, draws)
    return _expose(density, exposure, grain)


def _anatomy(facts: StudyFacts, strength: npt.NDArray[np.float64], x: F, y: F) -> tuple[F, F, F]:
    """Densities of a body without painted findings, distance to the lung wall, and lung share."""
    body = facts.body
    heart_growth = strength[:, facts.findings.index("Cardiomegaly")]
    wide_middle = strength[:, facts.findings.index("Enlarged Cardiomediastinum")]
    ax = np.abs(x)
    torso = ramp((0.98 - 0.55 * np.clip(-0.62 - y, 0.0, 1.0) * 2.2 - ax) * 12.0)
    neck = ramp((0.26 - ax) * 10.0)
    outside = np.maximum(torso * ramp((y + 0.93) * 6.0), neck)
    flat = column(np.where(facts.minor == 3, 0.14, 0.0))
    wall = np.sqrt(((ax - 0.44) / 0.38) ** 2 + ((y + 0.06) / (0.76 + flat)) ** 2)
    dome_top = column(0.36 + 0.12 * body[:, 2]) + np.where(x < 0, 0.0, 0.07) + flat
    dome = dome_top + 0.9 * (0.6 - flat * 3.0) * (ax - 0.40) ** 2
    lung = ramp((1.0 - wall) * 7.0) * ramp((dome - y) * 9.0)

    density = outside * (0.60 + 0.14 * np.clip(y, 0.0, 1.0)) - 0.36 * lung
    ribs = np.maximum(wave(y * 3.4 - 1.1 * ax * ax + column(body[:, 3])), 0.0)
    density += (0.13 * lung + 0.05 * outside) * ribs * ramp((0.6 - y) * 4.0)
    collar = ramp((0.035 - np.abs(y + 0.66 + 0.22 * (ax - 0.35))) * 18.0) * (ax > 0.1) * (ax < 0.75)
    density += 0.14 * collar
    hilum = bump(((ax - 0.20) / 0.16) ** 2 + ((y + 0.02) / 0.30) ** 2)
    vessels = wave(ax * 3.1 + y * 1.3) * wave(y * 2.9 - ax * 0.7)
    density += lung * (0.14 * hilum + 0.035 * vessels)

    # The spine shows through; mediastinum and heart cover the lung, so they are a maximum.
    middle = column(0.11 + 0.04 * body[:, 4] + 0.15 * wide_middle)
    upper = ramp((middle - ax) * 9.0) * ramp((y + 0.95) * 5.0)
    # The heart leans to the patient's left and rests on the diaphragm: wider the lower it goes.
    growth = 1.0 + 0.40 * heart_growth
    half_width = column((0.34 + 0.05 * body[:, 5]) * growth)
    half_height = column((0.44 + 0.04 * body[:, 6]) * (1.0 + 0.10 * heart_growth))
    lean = 0.11 + 0.22 * (y - 0.30)
    taper = half_width * (0.88 + 0.45 * np.clip(y - 0.20, -0.5, 0.35))
    heart = ramp((1.0 - np.sqrt(((x - lean) / taper) ** 2 + ((y - 0.32) / half_height) ** 2)) * 2.6)
    shadow = np.maximum(0.64 * upper, 0.70 * heart)
    knob = column(np.where(facts.minor == 2, 0.30, 0.06))
    shadow = np.maximum(
        shadow, 0.62 * ramp((knob - np.sqrt((x - 0.08) ** 2 + (y + 0.36) ** 2)) * 9.0)
    )
    density = np.maximum(density, shadow * outside)
    density += 0.06 * ramp((0.05 - ax) * 14.0) * outside
    stomach = bump(((x - 0.42) / 0.20) ** 2 + ((y - 0.78) / 0.14) ** 2)
    density -= 0.16 * stomach * column(body[:, 7])
    dot = bump(((x + 0.45) / 0.09) ** 2 + ((y + 0.10 - column(0.3 * body[:, 7])) / 0.09) ** 2)
    density += column(np.where(facts.minor == 1, 0.5, 0.0)) * dot
    return density.astype(np.float32), wall.astype(np.float32), lung.astype(np.float32)


def _expose(
    density: F, exposure: npt.NDArray[np.float64], grain: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Turn densities into grey values with varying exposure, slow shading and grain."""
    n, size, _ = density.shape
    coarse = grain.standard_normal((n, 6, 6), dtype=np.float32)
    place = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(5.0 / size)
    low = np.minimum(place.astype(np.int64), 4)
    part = place - low
    rows = coarse[:, low] * (1 - part)[None, :, None] + coarse[:, low + 1] * part[None, :, None]
    slow = rows[:, :, low] * (1 - part) + rows[:, :, low + 1] * part
    fine = grain.standard_normal((n, size, size), dtype=np.float32)
    level = density + np.float32(0.03) * slow + column(0.02 + 0.03 * exposure[:, 0]) * fine
    level = np.clip(level, 0.0, 1.0)
    level = level + column(0.5 * (exposure[:, 1] - 0.5)) * level * (1 - level)
    level = level * column(0.80 + 0.24 * exposure[:, 2]) + column(0.08 * exposure[:, 3])
    return np.asarray(np.clip(level * 255.0 + 0.5, 0, 255), dtype=np.uint8)
