"""ROC curves close whole blocks of ties, and every rate comes with its counts and limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import roc_curve

from attacks.roc import roc, tpr_at_fpr

# Few different scores, so that ties abound.
CASES = st.lists(
    st.tuples(st.one_of(st.integers(-2, 2).map(float), st.floats(-1e6, 1e6)), st.booleans()),
    min_size=2,
    max_size=60,
)
Case = list[tuple[float, bool]]


def columns(case: Case) -> tuple[np.ndarray, np.ndarray]:
    scores, members = np.array([row[0] for row in case]), np.array([row[1] for row in case])
    assume(members.any() and not members.all())
    return scores, members


@settings(deadline=None, max_examples=80)
@given(CASES)
def test_agrees_with_scikit_learn(case: Case) -> None:
    scores, members = columns(case)
    fpr, tpr, thresholds = roc_curve(members, scores, drop_intermediate=False)
    curve = roc(scores, members)
    np.testing.assert_allclose(curve.fpr, fpr)
    np.testing.assert_allclose(curve.tpr, tpr)
    np.testing.assert_array_equal(curve.thresholds, thresholds)


@settings(deadline=None, max_examples=60)
@given(CASES, st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_order_of_rows_changes_nothing(case: Case, seed: int, target: float) -> None:
    scores, members = columns(case)
    order = np.random.default_rng(seed).permutation(scores.size)
    assert tpr_at_fpr(roc(scores, members), target) == tpr_at_fpr(
        roc(scores[order], members[order]), target
    )


@settings(deadline=None, max_examples=60)
@given(CASES, st.floats(0, 1))
def test_point_is_the_best_test_within_the_target(case: Case, target: float) -> None:
    scores, members = columns(case)
    point = tpr_at_fpr(roc(scores, members), target)
    called = scores >= point.threshold
    assert point.true_positives == np.sum(called & members)
    assert point.false_positives == np.sum(called & ~members)
    assert point.fpr <= target + 1e-12
    for threshold in np.unique(scores):
        called = scores >= threshold
        if np.sum(called & ~members) / point.nonmembers <= target:
            assert np.sum(called & members) <= point.true_positives
    assert point.tpr_limits[0] <= point.tpr <= point.tpr_limits[1]
    assert point.fpr_limits[0] <= point.fpr <= point.fpr_limits[1]


def split_favourably(scores: np.ndarray, members: np.ndarray, allowed: int) -> int:
    """A broken variant: within a block of ties, members are counted first."""
    order = np.lexsort((~members, -scores))
    hits, alarms = np.cumsum(members[order]), np.cumsum(~members[order])
    return int(hits[alarms <= allowed].max(initial=0))


def test_ties_are_not_split_in_the_attackers_favour() -> None:
    scores, members = np.ones(200), np.arange(200) < 100
    point = tpr_at_fpr(roc(scores, members), 0.01)
    assert (point.tpr, point.fpr, point.threshold) == (0.0, 0.0, math.inf)
    assert split_favourably(scores, members, 1) == 100
    # On null scores of few levels the broken variant finds members that are not there.
    rng = np.random.default_rng(3)
    scores = rng.integers(0, 5, 2000).astype(float)
    members = np.arange(2000) < 1000
    assert tpr_at_fpr(roc(scores, members), 0.01).tpr == 0.0
    assert split_favourably(scores, members, 10) > 150


def test_realised_rate_and_what_the_sample_resolves() -> None:
    scores = np.concatenate((np.full(50, 2.0), np.zeros(50), np.full(7, 2.0), np.zeros(93)))
    members = np.arange(200) < 100
    curve = roc(scores, members)
    point = tpr_at_fpr(curve, 0.1)
    assert (point.tpr, point.fpr) == (0.5, 0.07)
    assert (point.true_positives, point.false_positives) == (50, 7)
    assert point.smallest_fpr == 0.01
    assert point.is_resolved
    assert not tpr_at_fpr(curve, 0.001).is_resolved
    assert tpr_at_fpr(curve, 1.0).tpr == 1.0


def test_targets_are_not_lost_to_rounding() -> None:
    """0.29 * 100 is 28.999999999999996."""
    curve = roc(np.arange(200.0), np.arange(200) >= 100)
    reverse = roc(-np.arange(200.0), np.arange(200) >= 100)
    for count in range(101):
        assert tpr_at_fpr(curve, count / 100).false_positives == count
        assert tpr_at_fpr(reverse, count / 100).false_positives == count


def test_limits_hold_at_the_threshold_that_was_chosen() -> None:
    """The truth at the chosen threshold is inside, for a known pair of distributions."""
    rng, runs, outside = np.random.default_rng(11), 1500, {"tpr": 0, "fpr": 0}
    for _ in range(runs):
        scores = np.concatenate((rng.uniform(0.2, 1.2, 40), rng.uniform(0, 1, 60)))
        point = tpr_at_fpr(roc(scores, np.arange(100) < 40), 0.1, 0.9)
        # The test is "above the highest non-member that is not called".
        alarms = np.sort(scores[40:])[::-1][point.false_positives]
        true = {"tpr": min(1.0, 1.2 - alarms), "fpr": 1 - alarms}
        for name, (low, high) in (("tpr", point.tpr_limits), ("fpr", point.fpr_limits)):
            outside[name] += not low <= true[name] <= high
    assert max(outside.values()) <= binom.isf(1e-7, runs, 0.1)


@pytest.mark.parametrize(
    ("scores", "members", "said"),
    [
        ([1.0, math.nan], [0, 1], "finite"),
        ([1.0, math.inf], [0, 1], "finite"),
        ([1.0, 2.0], [0, 2], "0 or 1"),
        ([1.0, 2.0], [1, 1], "one non-member"),
        ([1.0, 2.0], [0, 0], "one member"),
        ([], [], "one member"),
        ([1.0, 2.0], [0, 1, 1], "one length"),
        ([[1.0, 2.0]], [[0, 1]], "one length"),
    ],
)
def test_refused(scores: list[float], members: list[int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        roc(scores, members)


@pytest.mark.parametrize("target", [-0.1, 1.1, math.nan])
def test_refuses_targets(target: float) -> None:
    with pytest.raises(ValueError, match="target_fpr"):
        tpr_at_fpr(roc([0.0, 1.0], [0, 1]), target)
