"""Image files of every promised form become small grey squares; broken ones are named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from privfin.data.images import read_grey_image
from privfin.errors import DataError, UserInputError


def ramp(height: int = 40, width: int = 40) -> np.ndarray:
    row = np.linspace(0, 255, width)
    return np.tile(row, (height, 1)).astype(np.uint8)


def save(path: Path, values: np.ndarray, mode: str | None = None) -> Path:
    image = Image.fromarray(values)
    (image.convert(mode) if mode else image).save(path)
    return path


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "CMYK"])
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_every_colour_mode_becomes_the_same_grey(tmp_path, mode, ending) -> None:
    if (ending == "jpg" and mode in ("RGBA", "LA", "P")) or (ending == "png" and mode == "CMYK"):
        return
    read = read_grey_image(save(tmp_path / f"a.{ending}", ramp(), mode), 20)
    assert read.shape == (20, 20)
    assert read.dtype == np.uint8
    expected = ramp()[:20].reshape(20, 20, 2).mean(axis=2)
    assert np.abs(read - expected).max() < 6


def test_sixteen_bits_keep_their_range(tmp_path) -> None:
    path = save(tmp_path / "a.png", ramp().astype(np.uint16) * 257)
    read = read_grey_image(path, 40)
    assert np.array_equal(read, ramp())


def test_the_same_size_is_left_alone(tmp_path) -> None:
    assert np.array_equal(read_grey_image(save(tmp_path / "a.png", ramp()), 40), ramp())


@pytest.mark.parametrize(("height", "width"), [(60, 30), (30, 60), (300, 1), (1, 300)])
def test_proportions_stay_and_the_rest_is_black(tmp_path, height, width) -> None:
    path = save(tmp_path / "a.png", np.full((height, width), 200, dtype=np.uint8))
    read = read_grey_image(path, 24)
    assert set(np.unique(read)) == {0, 200}
    bright_rows, bright_columns = (read == 200).any(axis=1).sum(), (read == 200).any(axis=0).sum()
    longest = max(height, width)
    assert bright_rows == max(1, round(24 * height / longest))
    assert bright_columns == max(1, round(24 * width / longest))


def test_shrinking_is_antialiased(tmp_path) -> None:
    # Stripes one pixel wide: taking every eighth pixel would give all black or all white.
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (160, 80))
    read = read_grey_image(save(tmp_path / "a.png", stripes), 20)
    assert np.abs(read[:, 1:-1].astype(float) - 127.5).max() < 15


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"gone\.png does not exist.*--skip-bad"):
        read_grey_image(tmp_path / "gone.png", 20)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_truncated_file_is_named(tmp_path, ending) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    path = save(tmp_path / f"cut.{ending}", noise)
    whole = path.read_bytes()
    for share in (0.0, 0.3, 0.6, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DataError, match=rf"cut\.{ending} cannot be decoded.*--skip-bad"):
            read_grey_image(path, 20)


def test_a_damaged_chunk_is_named(tmp_path) -> None:
    path = save(tmp_path / "damaged.png", ramp())
    raw = bytearray(path.read_bytes())
    raw[30] ^= 0xFF  # inside the checksum of the header
    path.write_bytes(bytes(raw))
    with pytest.raises(DataError, match=r"damaged\.png cannot be decoded"):
        read_grey_image(path, 20)


def test_other_files_are_refused(tmp_path) -> None:
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(DataError, match=r"text\.png cannot be decoded"):
        read_grey_image(tmp_path / "text.png", 20)
    with pytest.raises(DataError, match="cannot be decoded"):
        read_grey_image(tmp_path, 20)
    Image.fromarray(ramp()).save(tmp_path / "a.gif")
    with pytest.raises(DataError, match=r"a\.gif cannot be decoded"):
        read_grey_image(tmp_path / "a.gif", 20)


def test_a_size_below_one_is_refused(tmp_path) -> None:
    with pytest.raises(UserInputError, match="size"):
        read_grey_image(save(tmp_path / "a.png", ramp()), 0)
