"""Augmented copies: small, seeded moves of a record's own image, never mirrored, never shared."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from privfin.data.augment import LARGEST_SHIFT, LARGEST_TURN, MovedImage, move_image, with_copies
from privfin.data.records import Dataset, Record, load_input
from privfin.errors import DataError


def smooth_image(seed: int = 0, side: int = 32) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((side, side))
    field = ndimage.gaussian_filter(noise, 3)
    field = (field - field.min()) / (field.max() - field.min())
    return (255 * field).astype(np.uint8)


def dataset(count: int = 4) -> Dataset:
    return Dataset(
        "test",
        ("a",),
        tuple(
            Record(
                f"r{i}",
                f"p{i}",
                {"image": smooth_image(i), "text": f"report {i}"} if i != 1 else {"text": "one"},
                np.array([i % 2], dtype=np.float32),
            )
            for i in range(count)
        ),
    )


def test_a_shift_by_whole_pixels_moves_them() -> None:
    image = smooth_image()
    moved = move_image(image, right=2 / 32, down=-3 / 32, degrees=0.0)
    assert np.array_equal(moved[:-3, 2:], image[3:, :-2])
    # What comes in is mirrored at the border, so it is no black edge.
    assert np.array_equal(moved[:-3, 1::-1], image[3:, :2])


def test_a_quarter_turn_is_that_of_numpy() -> None:
    """Counter-clockwise, about the middle of the image, without losing a pixel."""
    image = smooth_image()
    turned = move_image(image, 0.0, 0.0, 90.0).astype(int)
    assert np.abs(turned - np.rot90(image)).max() <= 1  # the cosine of 90 degrees is not quite 0


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 999), degrees=st.floats(-LARGEST_TURN, LARGEST_TURN))
def test_a_turn_is_that_of_scipy(seed: int, degrees: float) -> None:
    image = smooth_image(seed)
    wanted = ndimage.rotate(image.astype(float), degrees, reshape=False, order=1, mode="reflect")
    found = move_image(image, 0.0, 0.0, degrees).astype(float)
    assert np.abs(found - wanted).max() <= 2.0


def test_an_image_that_is_not_moved_is_the_same() -> None:
    image = smooth_image()
    assert np.array_equal(move_image(image, 0.0, 0.0, 0.0), image)


def test_rows_of_a_record_are_contiguous_and_start_with_the_record_itself() -> None:
    made = with_copies(dataset(), ["image"], 3, seed=5)
    assert [r.patient_id for r in made.records] == [f"p{i}" for i in range(4) for _ in range(3)]
    for i, original in enumerate(dataset().records):
        first, *others = made.records[3 * i : 3 * i + 3]
        assert np.array_equal(first.labels, original.labels)
        assert {k: str(v) for k, v in first.inputs.items()} == {
            k: str(v) for k, v in original.inputs.items()
        }
        for copy in others:
            assert copy.inputs["text"] == original.inputs["text"]
            assert np.array_equal(copy.labels, original.labels)
            assert ("image" in copy.inputs) == ("image" in original.inputs)
            if "image" in copy.inputs:
                moved = load_input(copy.inputs["image"])
                assert isinstance(moved, np.ndarray)
                assert moved.shape == (32, 32)
                assert not np.array_equal(moved, original.inputs["image"])


def test_copies_are_seeded_and_differ_between_records() -> None:
    first, again, other = (with_copies(dataset(), ["image"], 3, seed=s) for s in (5, 5, 6))

    def moves(made: Dataset) -> list[tuple[float, ...]]:
        images = [r.inputs.get("image") for r in made.records]
        return [(x.right, x.down, x.degrees) for x in images if isinstance(x, MovedImage)]

    assert moves(first) == moves(again) != moves(other)
    assert len(set(moves(first))) == len(moves(first)) == 6
    for right, down, degrees in moves(first):
        assert max(abs(right), abs(down)) <= LARGEST_SHIFT
        assert abs(degrees) <= LARGEST_TURN


def test_a_records_copies_do_not_depend_on_other_records() -> None:
    """One patient more or less must not change how another patient's images are moved."""
    whole = with_copies(dataset(4), ["image"], 4, seed=1).records[12:]
    left = with_copies(
        Dataset("test", ("a",), dataset(4).records[3:]), ["image"], 4, seed=1
    ).records
    for one, other in zip(whole, left, strict=True):
        assert np.array_equal(load_input(one.inputs["image"]), load_input(other.inputs["image"]))


def test_no_copy_is_a_mirror_image() -> None:
    """A heart on the right is a finding: copies stay nearer to the image than to its mirror."""
    image = smooth_image(4).astype(float)
    record = Record("r", "p", {"image": smooth_image(4)}, np.zeros(1, dtype=np.float32))
    made = with_copies(Dataset("test", ("a",), (record,)), ["image"], 64, seed=0)
    for copy in made.records:
        moved = np.asarray(load_input(copy.inputs["image"]), dtype=float)
        assert np.abs(moved - image).mean() < np.abs(moved - image[:, ::-1]).mean()


def test_what_is_not_a_grey_image_is_refused() -> None:
    with pytest.raises(DataError, match="only grey images"):
        MovedImage("a report", 0.0, 0.0, 1.0).load()


def test_content_tells_copies_apart() -> None:
    """A cache of features by content must not give one copy's features to another."""
    image = smooth_image()
    contents = {MovedImage(image, r, 0.0, d).content() for r in (0.0, 0.1) for d in (0.0, 1.0)}
    assert len(contents) == 4


def test_sites_hold_copies_of_images_only(tiny, prepared) -> None:
    """The prepared rows: K at sites with images, one at sites with reports alone."""
    config = tiny(training__augmentations=3)
    data, plain = prepared(config), prepared(tiny())
    for name, site in data.sites.items():
        before = plain.sites[name]
        assert site.copies == (1 if name == "site-02" else 3)
        assert site.patients == before.patients
        assert site.fingerprint == before.fingerprint
        for m in site.batch.inputs:
            first = site.batch.inputs[m][:: site.copies]
            assert torch.allclose(first, before.batch.inputs[m], atol=1e-6)
            # Held-out patients are never augmented.
            assert len(data.test.batch) == len(plain.test.batch)
        assert torch.equal(
            site.batch.labels.nan_to_num(-1),
            before.batch.labels.repeat_interleave(site.copies, dim=0).nan_to_num(-1),
        )
    image = data.sites["site-01"].batch.inputs["image"]
    assert not torch.allclose(image[0], image[1])
