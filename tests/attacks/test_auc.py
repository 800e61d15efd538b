"""The area against scikit-learn, and its limits against the definition and by coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import binom, norm
from sklearn.metrics import roc_auc_score

from attacks.auc import Auc, auc

CASES = st.lists(
    st.tuples(st.one_of(st.integers(-2, 2).map(float), st.floats(-1e6, 1e6)), st.booleans()),
    min_size=4,
    max_size=60,
)


def variance_by_definition(scores: np.ndarray, members: np.ndarray) -> float:
    """DeLong et al. 1988, eq. 4 and 5, pair by pair."""
    x, y = scores[members], scores[~members]
    won = (x[:, None] > y[None]) + 0.5 * (x[:, None] == y[None])
    inside, outside = won.mean(axis=1), won.mean(axis=0)
    return float(inside.var(ddof=1) / x.size + outside.var(ddof=1) / y.size)


@settings(deadline=None, max_examples=80)
@given(CASES, st.integers(0, 2**32 - 1))
def test_area_and_delong_by_definition(case: list[tuple[float, bool]], seed: int) -> None:
    scores, members = np.array([row[0] for row in case]), np.array([row[1] for row in case])
    assume(2 <= members.sum() <= members.size - 2)
    found = auc(scores, members, confidence=0.9)
    area = roc_auc_score(members, scores)
    assert found.area == pytest.approx(area, abs=1e-12)
    variance = variance_by_definition(scores, members)
    if variance > 1e-12:
        half = norm.ppf(0.95) * math.sqrt(variance)
        assert found.low == pytest.approx(max(0.0, area - half), abs=1e-9)
        assert found.high == pytest.approx(min(1.0, area + half), abs=1e-9)
    order = np.random.default_rng(seed).permutation(scores.size)
    shuffled = auc(scores[order], members[order], confidence=0.9)
    for name in ("area", "low", "high"):
        assert getattr(shuffled, name) == pytest.approx(getattr(found, name), abs=1e-9)
    mirrored = auc(-scores, members, confidence=0.9)
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - found.high, 1 - found.low))


def test_delong_covers_a_gaussian() -> None:
    """N(1, 1) against N(0, 1) has an area of Φ(1/√2) = 0.760250."""
    true, rng, runs, missed = float(ndtr(1 / math.sqrt(2))), np.random.default_rng(5), 1500, 0
    assert true == pytest.approx(0.760250, abs=1e-6)
    for _ in range(runs):
        scores = np.concatenate((rng.normal(1, 1, 200), rng.normal(0, 1, 300)))
        found = auc(scores, np.arange(500) < 200)
        missed += not found.low <= true <= found.high
    # An asymptotic interval: 0.06 leaves room for its own error at this size.
    assert missed <= binom.isf(1e-7, runs, 0.06)
    assert missed >= binom.ppf(1e-7, runs, 0.04)


def test_bootstrap_agrees_with_delong() -> None:
    rng = np.random.default_rng(6)
    scores = np.round(np.concatenate((rng.normal(0.5, 1, 400), rng.normal(0, 1, 600))), 1)
    members = np.arange(1000) < 400
    one, other = auc(scores, members), auc(scores, members, interval="bootstrap")
    assert other.area == one.area
    assert other.high - other.low == pytest.approx(one.high - one.low, rel=0.1)
    assert other.low == pytest.approx(one.low, abs=0.005)
    again = auc(scores, members, interval="bootstrap")
    assert again == other
    assert auc(scores, members, interval="bootstrap", seed=1) != other


@pytest.mark.parametrize("interval", ["delong", "bootstrap"])
def test_copies_of_a_patient_are_no_evidence(interval: str) -> None:
    """Every record five times: limits stay as they were with patients, and shrink without."""
    rng = np.random.default_rng(7)
    scores, members = rng.normal(0, 1, 120), np.arange(120) < 60
    many, labels = np.repeat(scores, 5), np.repeat(members, 5)
    once = auc(scores, members, interval=interval)
    whole = auc(
        many,
        labels,
        interval=interval,
        patients=[f"p{i // 5}" for i in range(600)],
    )
    naive = auc(many, labels, interval=interval)
    width = once.high - once.low
    assert whole.area == pytest.approx(once.area)
    assert whole.high - whole.low == pytest.approx(width, rel=1e-9 if interval == "delong" else 0.1)
    assert naive.high - naive.low < 0.6 * width


def test_clustered_limits_cover() -> None:
    """Null scores that a patient's records share: without patients the limits are too narrow."""
    rng, runs = np.random.default_rng(8), 600
    patients, members = np.repeat(np.arange(80), 4), np.repeat(np.arange(80) < 40, 4)
    missed = {True: 0, False: 0}
    for _ in range(runs):
        scores = rng.normal(size=80)[patients] + 0.3 * rng.normal(size=320)
        for known in missed:
            found = auc(scores, members, patients=patients if known else None)
            missed[known] += not found.low <= 0.5 <= found.high
    assert missed[True] <= binom.isf(1e-7, runs, 0.07)
    assert missed[False] > binom.isf(1e-7, runs, 0.07)


def test_one_outcome_does_not_collapse_to_a_point() -> None:
    members = np.arange(30) < 20
    slack = 1 - 0.025**0.1
    for interval in ("delong", "bootstrap"):
        apart = auc(members * 1.0, members, interval=interval)
        assert apart == Auc(1.0, pytest.approx(1 - slack), 1.0)
        inverse = auc(members * -1.0, members, interval=interval)
        assert inverse == Auc(0.0, 0.0, pytest.approx(slack))
        tied = auc(np.ones(30), members, interval=interval)
        assert tied == Auc(0.5, pytest.approx(0.5 - slack / 2), pytest.approx(0.5 + slack / 2))
    # One patient in a group tells nothing.
    alone = auc(members * 1.0, members, patients=[0] * 20 + list(range(1, 11)))
    assert alone == Auc(1.0, 0.0, 1.0)


def test_refused() -> None:
    with pytest.raises(ValueError, match="one member"):
        auc([1.0, 2.0], [0, 0])
    with pytest.raises(ValueError, match="among the members and among"):
        auc([1.0, 2.0, 3.0], [0, 1, 1], patients=[1, 1, 2])
    with pytest.raises(ValueError, match="one entry a record"):
        auc([1.0, 2.0, 3.0], [0, 1, 1], patients=[1, 2])
    with pytest.raises(ValueError, match="delong or bootstrap"):
        auc([1.0, 2.0, 0.0, 3.0], [0, 1, 1, 0], interval="wald")
    with pytest.raises(ValueError, match="resamples"):
        auc([1.0, 2.0, 0.0, 3.0], [0, 1, 1, 0], interval="bootstrap", resamples=0)
    with pytest.raises(ValueError, match="confidence"):
        auc([1.0, 2.0], [0, 1], confidence=1.0)
