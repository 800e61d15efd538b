"""Strata, modality gaps and the retrieval rank."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from attacks.scores import lira, lira_covariance, modality_signals, retrieval_rank, strata

Area = Callable[..., float]
IMAGE = np.array([1, 1, 0, 1, 0], dtype=bool)
TEXT = np.array([1, 0, 1, 1, 1], dtype=bool)


def test_strata_hold_every_record_once() -> None:
    found = strata(IMAGE, TEXT, [0, 1, 0, 0, 1])
    assert list(found) == ["both", "image_only", "text_only", "imputed"]
    np.testing.assert_array_equal(found["both"], [1, 0, 0, 1, 0])
    np.testing.assert_array_equal(found["image_only"], [0, 1, 0, 0, 0])
    np.testing.assert_array_equal(found["text_only"], [0, 0, 1, 0, 1])
    np.testing.assert_array_equal(found["imputed"], [0, 1, 0, 0, 1])
    assert all(mask.dtype == np.bool_ for mask in found.values())
    assert not strata(IMAGE, TEXT)["imputed"].any()
    assert all(mask.size == 0 for mask in strata([], []).values())


def test_strata_refused() -> None:
    with pytest.raises(ValueError, match="record 1 has neither"):
        strata([1, 0], [0, 0])
    with pytest.raises(ValueError, match="record 0 is imputed but has both"):
        strata([1, 1], [1, 0], [1, 1])
    with pytest.raises(ValueError, match="shape"):
        strata([1, 1], [1])
    with pytest.raises(ValueError, match="0 or 1"):
        strata([1, 2], [1, 1])
    with pytest.raises(ValueError, match="1 axis"):
        strata([[1, 1]], [[1, 1]])


def test_gaps_are_differences_where_both_are_there() -> None:
    rng = np.random.default_rng(0)
    whole, no_text, no_image = rng.normal(size=(3, 4, 5))
    found = modality_signals(whole, no_text, no_image, IMAGE, TEXT)
    both = IMAGE & TEXT
    np.testing.assert_array_equal(found.as_trained, whole)
    for record in range(5):
        for model in range(4):
            at = (model, record)
            if both[record]:
                assert found.text_gap[at] == whole[at] - no_text[at]
                assert found.image_gap[at] == whole[at] - no_image[at]
                assert found.queries()[at].tolist() == [whole[at], no_text[at], no_image[at]]
            else:
                assert math.isnan(found.text_gap[at])
                assert math.isnan(found.image_gap[at])
                assert np.isnan(found.queries()[at]).tolist() == [False, True, True]


def test_impossible_queries_reach_no_signal() -> None:
    rng = np.random.default_rng(1)
    whole, no_text, no_image = rng.normal(size=(3, 4, 5))
    expected = modality_signals(whole, no_text, no_image, IMAGE, TEXT)
    for other in (1e300, math.nan, math.inf):
        no_text[:, ~(IMAGE & TEXT)] = other
        no_image[:, ~(IMAGE & TEXT)] = other
        found = modality_signals(whole, no_text, no_image, IMAGE, TEXT)
        np.testing.assert_array_equal(found.queries(), expected.queries())
        np.testing.assert_array_equal(found.text_gap, expected.text_gap)


def test_the_gap_finds_what_the_whole_hides(auc: Area) -> None:
    """A fusion model whose sureness of records varies, but whose need of the pair is a member's."""
    rng = np.random.default_rng(2)
    models, records = 65, 600
    coins = rng.random((models, records)) < 0.5
    mood = rng.normal(0, 5.0, (models, records))
    part = rng.normal(size=records) + mood
    whole = part + rng.normal(size=(models, records)) + 1.5 * coins
    has = np.ones(records, dtype=bool)
    own = modality_signals(whole[0], part[0], part[0] + 1e-3 * mood[0], has, has)
    others = modality_signals(whole[1:], part[1:], part[1:] + 1e-3 * mood[1:], has, has)
    plain = auc(lira(own.as_trained, others.as_trained, coins[1:]), coins[0])
    gap = auc(lira(own.text_gap, others.text_gap, coins[1:]), coins[0])
    aware = auc(
        lira_covariance(own.queries(), others.queries(), coins[1:], mode="online"), coins[0]
    )
    assert gap > plain + 0.15
    assert aware > plain + 0.15


def test_signals_refused() -> None:
    ones = np.ones(5)
    with pytest.raises(ValueError, match="shape"):
        modality_signals(ones, ones[:4], ones, IMAGE, TEXT)
    with pytest.raises(ValueError, match="shape"):
        modality_signals(ones[:4], ones[:4], ones[:4], IMAGE, TEXT)
    with pytest.raises(ValueError, match="without_image must be finite"):
        modality_signals(ones, ones, np.full(5, math.nan), IMAGE, TEXT)
    with pytest.raises(ValueError, match="as_trained must be finite"):
        modality_signals(np.full(5, math.nan), ones, ones, IMAGE, TEXT)


def test_retrieval_rank_counts_less_similar_strangers() -> None:
    rng = np.random.default_rng(3)
    images, texts, strangers = (rng.normal(size=(n, 4)) for n in (20, 20, 30))

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / math.sqrt((a @ a) * (b @ b)))

    found = retrieval_rank(images, texts, strangers)
    for record in range(20):
        own = cosine(images[record], texts[record])
        below = [cosine(images[record], other) < own for other in strangers]
        assert found[record] == pytest.approx(np.mean(below))
    # Lengths say nothing, nor does who else is audited.
    np.testing.assert_allclose(retrieval_rank(7 * images, 0.1 * texts, 3 * strangers), found)
    np.testing.assert_array_equal(retrieval_rank(images[:2], texts[:2], strangers), found[:2])


def test_retrieval_ranks_of_equal_embeddings_tie() -> None:
    same = np.tile([[0.1, 0.2, 0.3]], (9, 1))
    np.testing.assert_array_equal(retrieval_rank(same, same, 5 * same), 0.5)
    np.testing.assert_array_equal(retrieval_rank([[1, 0]], [[1, 0]], [[0, 1]]), 1.0)
    np.testing.assert_array_equal(retrieval_rank([[1, 0]], [[0, 1]], [[1, 0]]), 0.0)


def test_retrieval_refused() -> None:
    ones = np.ones((2, 3))
    with pytest.raises(ValueError, match="same shape"):
        retrieval_rank(ones, np.ones((3, 3)), ones)
    with pytest.raises(ValueError, match="same width"):
        retrieval_rank(ones, ones, np.ones((2, 4)))
    with pytest.raises(ValueError, match="at least one row"):
        retrieval_rank(ones, ones, np.ones((0, 3)))
    with pytest.raises(ValueError, match="texts: embedding 1 is zero"):
        retrieval_rank(ones, [[1, 1, 1], [0, 0, 0]], ones)
