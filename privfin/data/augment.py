"""Shifted and turned copies of training images, for several views inside a record's one gradient.

Copies are made from the image alone, before the front end: a front end's fixed features would not
move with the image. There are no mirror images: a heart on the other side is another diagnosis.
How a record's copies look depends on the public seed and on that record only, never on another one.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from privfin.data.records import (
    Dataset,
    LoadedInput,
    RawInput,
    Record,
    input_content,
    load_input,
)
from privfin.errors import DataError

#: Largest shift, as a share of the image's side, along each axis.
LARGEST_SHIFT = 0.06
#: Largest turn, in degrees.
LARGEST_TURN = 7.0


@dataclass(frozen=True)
class MovedImage:
    """A copy of an image, turned about its centre and shifted; made when it is asked for.

    Attributes:
        original: the image.
        right, down: shift as a share of the side.
        degrees: turn, counter-clockwise.
    """

    original: RawInput
    right: float
    down: float
    degrees: float

    def load(self) -> LoadedInput:
        """Read and move the image. Raises DataError if it cannot be read."""
        image = load_input(self.original)
        if isinstance(image, str) or image.ndim != 2 or image.dtype != np.uint8:
            raise DataError("only grey images can be shifted and turned")
        return move_image(image.astype(np.uint8), self.right, self.down, self.degrees)

    def content(self) -> bytes:
        """The original's bytes, and how it was moved."""
        moved = (self.right, self.down, self.degrees)
        return input_content(self.original) + repr(moved).encode()


def move_image(
    image: npt.NDArray[np.uint8], right: float, down: float, degrees: float
) -> npt.NDArray[np.uint8]:
    """Turn an image about its centre, then shift it; bilinear, same shape.

    Args:
        image: (height, width).
        right, down: shift as a share of width and height.
        degrees: turn, counter-clockwise.

    What comes in from outside is mirrored at the border, as the scattering front end does: black
    corners would be edges that no patient has.
    """
    height, width = image.shape
    if right == 0.0 and down == 0.0 and degrees == 0.0:
        return image
    pad = min(height, width) // 2
    source = Image.fromarray(np.pad(image, pad, mode="symmetric"))
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # Pillow asks where in the source an output pixel's centre comes from.
    middle_x, middle_y = width / 2, height / 2
    from_x, from_y = middle_x + right * width, middle_y + down * height
    coefficients = (
        cos,
        -sin,
        middle_x + pad - cos * from_x + sin * from_y,
        sin,
        cos,
        middle_y + pad - sin * from_x - cos * from_y,
    )
    moved = source.transform(
        (width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
    )
    return np.asarray(moved, dtype=np.uint8)


def with_copies(dataset: Dataset, images: Collection[str], copies: int, seed: int) -> Dataset:
    """Every record ``copies`` times in a row; images moved, apart from the first of each.

    Args:
        dataset: training records.
        images: names of the modalities that are images; the others are repeated as they are.
        copies: K >= 1; records ``i * K`` to ``i * K + K - 1`` come from record i.
        seed: the run's public seed.
    """
    if copies == 1:
        return dataset
    return Dataset(
        dataset.name,
        dataset.label_names,
        tuple(_copy(r, images, k, seed) for r in dataset.records for k in range(copies)),
        dataset.notices,
    )


def _copy(record: Record, images: Collection[str], number: int, seed: int) -> Record:
    if number == 0:
        return record
    rng = np.random.Generator(np.random.PCG64([seed, number, *record.record_id.encode()]))
    right, down = rng.uniform(-LARGEST_SHIFT, LARGEST_SHIFT, size=2).tolist()
    degrees = float(rng.uniform(-LARGEST_TURN, LARGEST_TURN))
    inputs = {
        m: MovedImage(raw, right, down, degrees) if m in images else raw
        for m, raw in record.inputs.items()
    }
    return replace(record, record_id=f"{record.record_id} (copy {number})", inputs=inputs)
