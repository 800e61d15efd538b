"""Reads an image file into a small grey square."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from privfin.data.tables import inside
from privfin.errors import DataError, UserInputError

_SKIP_HINT = "replace the file, or leave its record out with --skip-bad"


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image that stays in its file until it is asked for; ``place`` names its row in errors."""

    path: Path
    size: int
    place: str = ""

    def load(self) -> npt.NDArray[np.uint8]:
        """See :func:`read_grey_image`; the row is named in front."""
        try:
            return read_grey_image(self.path, self.size)
        except DataError as error:
            raise DataError(f"{self.place}: {error}" if self.place else str(error)) from error

    def content(self) -> bytes:
        """The file's bytes and the size it is read at; empty bytes for a file that is not there."""
        try:
            return self.path.read_bytes() + str(self.size).encode()
        except OSError:
            return b""


@dataclass(frozen=True, slots=True)
class ListedImage:
    """A :class:`StoredImage` of a table with very many rows: it takes a fifth of the memory.

    ``name`` is the path below ``folder``; whether it stays inside is checked when it is opened.
    """

    folder: Path
    name: str
    size: int
    place: str

    def load(self) -> npt.NDArray[np.uint8]:
        """See :func:`read_grey_image`. Also raises DataError for a path that leaves the folder."""
        return self._stored().load()

    def content(self) -> bytes:
        """See :meth:`StoredImage.content`."""
        return self._stored().content()

    def _stored(self) -> StoredImage:
        return StoredImage(inside(self.folder, self.name, self.place), self.size, self.place)


@dataclass(frozen=True, slots=True, eq=False)
class ArrayImage:
    """An image that lies in memory as published: (H, W) or (H, W, 3) of uint8.

    It becomes a square of ``size`` only when asked for, so that many large squares need no room.
    """

    values: npt.NDArray[np.uint8]
    size: int

    def load(self) -> npt.NDArray[np.uint8]:
        """The grey square (``size``, ``size``), made as :func:`read_grey_image` makes it."""
        return _square(_to_grey(Image.fromarray(self.values)), self.size)

    def content(self) -> bytes:
        """The published pixels, their shape and the size they are read at."""
        return repr((self.values.shape, self.size)).encode() + self.values.tobytes()


def read_grey_image(path: Path, size: int, advice: str = _SKIP_HINT) -> npt.NDArray[np.uint8]:
    """Decode an 8- or 16-bit PNG or JPEG to a grey square (``size``, ``size``) of uint8.

    The longer side is scaled to ``size`` with antialiasing and the shorter one is padded with
    black, so that proportions (such as the width of the heart to that of the chest) stay. 8-bit
    colour is turned to luma (ITU-R 601); 16-bit values are divided by 257.

    Raises :class:`DataError`, naming the file and ending in ``advice``, if it is missing, truncated
    or cannot be decoded, and :class:`UserInputError` if ``size`` < 1.
    """
    if size < 1:
        raise UserInputError(f"an image size must be at least 1 pixel, got {size}")
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as opened:
            opened.load()
            grey = _to_grey(opened)
    except FileNotFoundError as error:
        raise DataError(f"image {path} does not exist; {advice}") from error
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        SyntaxError,
        ValueError,
    ) as error:
        # Pillow reports a broken PNG chunk as SyntaxError and bad sizes as ValueError.
        raise DataError(f"image {path} cannot be decoded ({error}); {advice}") from error
    return _square(grey, size)


def _to_grey(image: Image.Image) -> Image.Image:
    """A grey image of 32-bit floats in [0, 255]."""
    if image.mode.startswith("I"):  # 16-bit PNG: I;16, or I in older pillow
        values = np.asarray(image, dtype=np.float32) / np.float32(257.0)
        return Image.fromarray(np.clip(values, 0.0, 255.0))
    return image.convert("L").convert("F")


def _square(grey: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    scale = size / max(grey.size)
    width, height = (max(1, round(side * scale)) for side in grey.size)
    resized = grey.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=None)
    values = np.clip(np.asarray(resized, dtype=np.float32) + 0.5, 0, 255).astype(np.uint8)
    square = np.zeros((size, size), dtype=np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = values
    return square
