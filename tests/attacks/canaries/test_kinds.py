"""Kinds of canary: made by number, unlike one another and unlike any real record."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from attacks.canaries import (
    coordinate_directions,
    flipped_labels,
    orthonormal_directions,
    outlier_image,
    random_labels,
    rare_phrase,
)


def test_flipped_labels_are_wrong_wherever_the_truth_is_known() -> None:
    labels = np.array([[1.0, 0.0, np.nan], [0.0, np.nan, 1.0]])
    flipped = flipped_labels(labels)
    assert np.array_equal(np.isnan(flipped), np.isnan(labels))
    assert np.array_equal(flipped_labels(flipped), labels.astype(np.float32), equal_nan=True)
    assert not (flipped == labels).any()
    with pytest.raises(ValueError, match="labels"):
        flipped_labels([0.3])


def test_images_are_unlike_one_another() -> None:
    images = [outlier_image(number, 48) for number in range(40)]
    assert all(image.shape == (48, 48) and image.dtype == np.uint8 for image in images)
    assert len({image.tobytes() for image in images}) == 40
    assert np.array_equal(images[7], outlier_image(7, 48))
    flat = np.corrcoef([image.reshape(-1).astype(float) for image in images])
    assert np.abs(flat - np.eye(40)).max() < 0.8
    assert outlier_image(0, 1).shape == (1, 1)


def test_phrases_share_hardly_a_word_and_no_pair_of_words() -> None:
    phrases = [rare_phrase(number).rstrip(".").split() for number in range(100)]
    assert all(len(words) == 16 for words in phrases)
    pairs = [pair for words in phrases for pair in pairwise(words)]
    assert len(set(pairs)) == len(pairs)
    words = [word for phrase in phrases for word in phrase]
    assert len(set(words)) > 0.99 * len(words)
    assert rare_phrase(3) == rare_phrase(3)


def test_labels_are_coins_of_their_own() -> None:
    drawn = np.array([random_labels(number, 20) for number in range(500)])
    assert set(np.unique(drawn)) == {0.0, 1.0}
    assert abs(drawn.mean() - 0.5) < 5 * 0.5 / np.sqrt(drawn.size)
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.25


@pytest.mark.parametrize("call", [lambda: outlier_image(-1, 8), lambda: outlier_image(0, 0)])
def test_image_values_are_checked(call: object) -> None:
    with pytest.raises(ValueError, match=r"number|side"):
        call()  # type: ignore[operator]


def test_directions_are_orthonormal() -> None:
    found = orthonormal_directions(7, 50, np.random.default_rng(0))
    assert found.shape == (7, 50)
    assert np.allclose(found @ found.T, np.eye(7), atol=1e-12)
    diracs = coordinate_directions([3, 0], 5)
    assert np.array_equal(diracs, [[0, 0, 0, 1, 0], [1, 0, 0, 0, 0]])
    with pytest.raises(ValueError, match="count"):
        orthonormal_directions(6, 5, np.random.default_rng(0))
    with pytest.raises(ValueError, match="differ"):
        coordinate_directions([1, 1], 5)
    with pytest.raises(ValueError, match="must lie"):
        coordinate_directions([5], 5)


def test_directions_have_no_preferred_sign() -> None:
    """Without the signs of R, Q's would be fixed by the algorithm, and no direction uniform."""
    generator = np.random.default_rng(1)
    first = [orthonormal_directions(2, 4, generator)[0, 0] for _ in range(400)]
    assert 140 < sum(value > 0 for value in first) < 260
