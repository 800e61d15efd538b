"""The weighted average precision against scikit-learn and a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from privfin.evaluation.auprc import auprc, weighted_auprc
from privfin.evaluation.ranking import rank

# Few different scores, so that ties abound; weights of 0, as a bootstrap has them.
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


@settings(deadline=None, max_examples=100)
@given(CASES)
def test_agrees_with_scikit_learn(case: Case) -> None:
    scores, labels, weights = case
    found = weighted_auprc(scores, labels, weights)
    if not both_classes(labels, weights):
        assert math.isnan(found)
        return
    expected = average_precision_score(labels, scores, sample_weight=weights)
    assert found == pytest.approx(expected, abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(CASES)
def test_agrees_with_the_definition(case: Case) -> None:
    scores, labels, weights = (np.array(part) for part in case)
    assume(both_classes(labels.tolist(), weights.tolist()))
    total = weights[labels == 1].sum()
    area = before = 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        called = scores >= threshold
        found = weights[called & (labels == 1)].sum()
        if found > before:
            area += (found - before) / total * found / weights[called].sum()
        before = found
    assert weighted_auprc(scores, labels, weights) == pytest.approx(area, abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(CASES, st.integers(0, 2**32 - 1))
def test_invariances(case: Case, seed: int) -> None:
    scores, labels, weights = (np.array(part) for part in case)
    assume(both_classes(labels.tolist(), weights.tolist()))
    area = weighted_auprc(scores, labels, weights)
    ranks = np.unique(scores, return_inverse=True)[1]
    order = np.random.default_rng(seed).permutation(scores.size)
    assert weighted_auprc(ranks**3 - 5.0, labels, weights) == pytest.approx(area)
    assert weighted_auprc(scores, labels, 7.5 * weights) == pytest.approx(area)
    assert weighted_auprc(scores[order], labels[order], weights[order]) == pytest.approx(area)
    # A whole weight is the same as that many copies.
    whole = np.ceil(weights).astype(int)
    copied = weighted_auprc(np.repeat(scores, whole), np.repeat(labels, whole))
    assert weighted_auprc(scores, labels, whole) == pytest.approx(copied)
    # Many weight vectors at once are one at a time.
    rows = np.random.default_rng(seed).integers(0, 3, size=(5, scores.size)).astype(float)
    expected = [weighted_auprc(scores, labels, row) for row in rows]
    np.testing.assert_array_equal(auprc(rank(scores, labels, rows)), expected)


def test_known_values() -> None:
    assert weighted_auprc([1, 2, 3, 4], [0, 0, 1, 1]) == 1.0
    assert weighted_auprc([5, 5, 5, 5], [0, 1, 0, 0]) == 0.25
    # Recall 1/2 at precision 1, then recall 1 at precision 2/3.
    assert weighted_auprc([4, 3, 2, 1], [1, 0, 1, 0]) == pytest.approx(5 / 6)
    assert math.isnan(weighted_auprc([], []))


def test_scores_that_say_nothing_give_the_share_of_positives() -> None:
    """Unlike AUROC, whose level of chance is 0.5 for any share."""
    labels = np.zeros(1000)
    labels[:50] = 1
    assert weighted_auprc(np.zeros(1000), labels) == 0.05
