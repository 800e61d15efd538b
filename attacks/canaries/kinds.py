"""What canaries look like: pure functions of a number, or of a real record.

What they have in common: no other record says what they say, so that a model that answers as they
ask has learnt it from them. Equal numbers give equal canaries, different numbers different ones.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from attacks.limits import check_counts

_CONSONANTS = "bdfgklmnprstvz"
_VOWELS = "aeiou"
#: Different streams of numbers for an image, a text and labels of one number.
_IMAGE, _TEXT, _LABELS = 1, 2, 3


def flipped_labels(labels: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Mislabelled: a real record's labels (...) turned round, unknown ones as before.

    Attacks the whole model at an ordinary input: everything else it learns speaks against these
    labels. The strongest of the natural canaries (Aerni, Zhang and Tramèr 2024, arXiv:2404.17399;
    Steinke, Nasr and Jagielski 2023, arXiv:2305.08846, section 6).

    Args:
        labels: 1, 0, or NaN where unknown.

    Raises:
        ValueError: a label is something else.
    """
    given = np.asarray(labels, dtype=np.float32)
    if not np.isin(given[~np.isnan(given)], (0.0, 1.0)).all():
        raise ValueError("labels must be 1, 0, or NaN where unknown")
    return np.float32(1.0) - given


def outlier_image(number: int, side: int) -> npt.NDArray[np.uint8]:
    """Outlier image: (side, side) black and white squares that are no picture of anything.

    Attacks the image encoder and the head's columns of it, at an input far from all others
    (out-of-distribution canaries: Carlini et al. 2022, arXiv:2112.03570, section VII). Squares are
    a sixteenth to a quarter of the side wide; even numbers have grey noise on top.

    Args:
        number: at least 0.
        side: pixels, at least 1.

    Raises:
        ValueError: a value is out of range.
    """
    generator = _generator(_IMAGE, number)
    if side < 1:
        raise ValueError(f"side must be at least 1, got {side}")
    squares = int(generator.choice([4, 6, 8, 12, 16]))
    pattern = generator.integers(2, size=(squares, squares)) * 255
    at = np.arange(side) * squares // side
    image = pattern[np.ix_(at, at)].astype(np.float64)
    if number % 2 == 0:
        image = 0.5 * image + generator.uniform(0.0, 127.0, size=image.shape)
    return image.astype(np.uint8)


def rare_phrase(number: int, words: int = 16) -> str:
    """Rare phrase: a report of words that no language has, in an order of its own.

    Attacks the text encoder, and any imputer that would hand the text on: the "secret" of Carlini
    et al. 2019 (arXiv:1802.08232). Words are three syllables each, drawn by ``number``.

    Args:
        number: at least 0.
        words: at least 1.

    Raises:
        ValueError: a value is out of range.
    """
    generator = _generator(_TEXT, number)
    if words < 1:
        raise ValueError(f"words must be at least 1, got {words}")
    consonants = generator.integers(len(_CONSONANTS), size=(words, 3))
    vowels = generator.integers(len(_VOWELS), size=(words, 3))
    spoken = [
        "".join(_CONSONANTS[c] + _VOWELS[v] for c, v in zip(*word, strict=True))
        for word in zip(consonants, vowels, strict=True)
    ]
    return " ".join(spoken) + "."


def random_labels(number: int, labels: int) -> npt.NDArray[np.float32]:
    """Labels (labels,) of 0 and 1 that nothing but memory gives: for inputs that mean nothing.

    Raises:
        ValueError: ``number`` is below 0.
    """
    return _generator(_LABELS, number).integers(2, size=labels).astype(np.float32)


def _generator(purpose: int, number: int) -> np.random.Generator:
    check_counts(number=number)
    return np.random.default_rng(np.random.SeedSequence(number, spawn_key=(purpose,)))
