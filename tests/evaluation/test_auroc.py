"""The weighted AUROC against scikit-learn, and what must not change it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from privfin.evaluation.auroc import auroc, weighted_auroc
from privfin.evaluation.ranking import rank

# Few different scores, so that ties abound.
CASES = st.integers(2, 40).flatmap(
    lambda count: st.tuples(
        st.lists(
            st.one_of(st.integers(-2, 2).map(float), st.floats(-1e6, 1e6)),
            min_size=count,
            max_size=count,
        ),
        st.lists(st.integers(0, 1), min_size=count, max_size=count),
        st.lists(
            st.one_of(st.integers(0, 3).map(float), st.floats(0.01, 10)),
            min_size=count,
            max_size=count,
        ),
    )
)
Case = tuple[list[float], list[int], list[float]]


def both_classes(labels: list[int], weights: list[float]) -> bool:
    return len({label for label, weight in zip(labels, weights, strict=True) if weight}) == 2


@settings(deadline=None, max_examples=80)
@given(CASES)
def test_agrees_with_scikit_learn(case: Case) -> None:
    scores, labels, weights = case
    assume(both_classes(labels, weights))
    expected = roc_auc_score(labels, scores, sample_weight=weights)
    assert weighted_auroc(scores, labels, weights) == pytest.approx(expected, abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(CASES)
def test_agrees_with_counting_pairs(case: Case) -> None:
    scores, labels, weights = case
    won = pairs = 0.0
    for a, is_positive, first in zip(scores, labels, weights, strict=True):
        for b, is_other, second in zip(scores, labels, weights, strict=True):
            if is_positive and not is_other:
                pairs += first * second
                won += first * second * (1.0 if a > b else 0.5 if a == b else 0.0)
    found = weighted_auroc(scores, labels, weights)
    if pairs:
        assert found == pytest.approx(won / pairs, abs=1e-9)
    else:
        assert math.isnan(found)


@settings(deadline=None, max_examples=30)
@given(CASES)
def test_invariances(case: Case) -> None:
    scores, labels, weights = (np.array(part) for part in case)
    assume(both_classes(labels.tolist(), weights.tolist()))
    area = weighted_auroc(scores, labels, weights)
    ranks = np.unique(scores, return_inverse=True)[1]
    order = np.random.default_rng(1).permutation(scores.size)
    assert weighted_auroc(ranks**3 - 5.0, labels, weights) == pytest.approx(area)
    assert weighted_auroc(-scores, labels, weights) == pytest.approx(1 - area)
    assert weighted_auroc(scores, 1 - labels, weights) == pytest.approx(1 - area)
    assert weighted_auroc(scores, labels, 7.5 * weights) == pytest.approx(area)
    assert weighted_auroc(scores[order], labels[order], weights[order]) == pytest.approx(area)
    # A whole weight is the same as that many copies.
    whole = np.ceil(weights).astype(int)
    copied = weighted_auroc(np.repeat(scores, whole), np.repeat(labels, whole))
    assert weighted_auroc(scores, labels, whole) == pytest.approx(copied)


@settings(deadline=None, max_examples=30)
@given(CASES, st.integers(0, 2**32 - 1))
def test_many_is_one_at_a_time(case: Case, seed: int) -> None:
    scores, labels, _ = case
    weights = np.random.default_rng(seed).integers(0, 3, size=(6, len(scores))).astype(float)
    found = auroc(rank(scores, labels, weights))
    expected = [weighted_auroc(scores, labels, row) for row in weights]
    np.testing.assert_array_equal(found, expected)


def test_known_values() -> None:
    assert weighted_auroc([1, 2, 3, 4], [0, 0, 1, 1]) == 1.0
    assert weighted_auroc([4, 3, 2, 1], [0, 0, 1, 1]) == 0.0
    assert weighted_auroc([5, 5, 5, 5], [0, 1, 0, 1]) == 0.5
    assert weighted_auroc([1, 2, 2, 3], [0, 0, 1, 1]) == 0.875
    assert weighted_auroc([1, 2, 3], [1, 0, 1], [1, 1, 3]) == 0.75


@pytest.mark.parametrize(
    ("scores", "labels", "weights"),
    [([], [], []), ([1.0], [1], [1.0]), ([1.0, 2.0], [0, 0], [1, 1]), ([1, 2], [0, 1], [1, 0])],
)
def test_one_class_gives_nan(scores: list[float], labels: list[int], weights: list[float]) -> None:
    assert math.isnan(weighted_auroc(scores, labels, weights))


@pytest.mark.parametrize(
    ("scores", "labels", "weights", "said"),
    [
        ([1.0, math.nan], [0, 1], [1, 1], "finite"),
        ([1.0, math.inf], [0, 1], [1, 1], "finite"),
        ([1.0, 2.0], [0, 2], [1, 1], "0 or 1"),
        ([1.0, 2.0], [0, math.nan], [1, 1], "0 or 1"),
        ([1.0, 2.0], [0, 1], [1, -1], "at least 0"),
        ([1.0, 2.0], [0, 1], [1, math.nan], "at least 0"),
        ([1.0, 2.0], [0, 1, 1], [1, 1], "must be"),
        ([1.0, 2.0], [0, 1], [1, 1, 1], "must be"),
        ([[1.0, 2.0]], [[0, 1]], [1, 1], "must be"),
    ],
)
def test_refused(scores: list[float], labels: list[int], weights: list[float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        weighted_auroc(scores, labels, weights)
