"""The pooled figure always lies within the bounds that are computed from histograms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    log_loss,
    roc_auc_score,
)

from privfin.errors import DataError
from privfin.evaluation.calibration import expected_calibration_error
from privfin.evaluation.histograms import (
    LARGEST_LOSS,
    RANKING_BINS,
    Bounded,
    LabelSums,
    auprc_from,
    auroc_from,
    brier_from,
    ece_from,
    label_sums,
    loss_from,
    score_edges,
)

B = 10
EDGES = score_edges(ranking=True, calibration_bins=B)
COARSE = np.array([0.25, 0.5, 0.75])


def added(parts: list[LabelSums]) -> LabelSums:
    """The sum that the secure sum gives."""
    names = ("positives", "negatives", "beyond", "squared_error", "loss", "probability")
    return LabelSums(**{name: sum(getattr(p, name) for p in parts) for name in names})


def holds(bounded: Bounded, pooled: float) -> bool:
    return bounded.low <= pooled <= bounded.high and bounded.low <= bounded.value <= bounded.high


scores_in = st.one_of(
    st.floats(0.0, 1.0),
    st.sampled_from([0.0, 1.0, 0.5, 0.1, 0.3, 1e-13, 1 - 1e-13, 0.25, *EDGES[:3], *EDGES[-3:]]),
    # Close together, so that many fall into one bin.
    st.floats(0.5, 0.503),
)
records = st.lists(
    st.tuples(scores_in, st.sampled_from([0.0, 1.0, math.nan]), st.integers(0, 3)),
    min_size=1,
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(records, st.sampled_from(["fine", "coarse"]))
def test_every_pooled_figure_lies_within_its_bounds(rows: list[Any], kind: str) -> None:
    edges = EDGES if kind == "fine" else np.unique(np.concatenate([COARSE, np.arange(1, B) / B]))
    score, label, site = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    total = added([label_sums(score[site == s], label[site == s], edges, B) for s in range(4)])
    known = ~np.isnan(label)
    score, label = score[known], label[known]
    assert total.counts == (int((label == 1).sum()), int((label == 0).sum()))
    auroc = auroc_from(total.positives, total.negatives)
    auprc = auprc_from(total.positives, total.negatives)
    if 0 < label.sum() < label.size:
        assert holds(auroc, roc_auc_score(label, score))
        # scikit-learn's sum may exceed 1 in its last digit.
        assert holds(auprc, min(1.0, average_precision_score(label, score)))
    else:
        assert math.isnan(auroc.value) and math.isnan(auprc.value)
    if not label.size:
        assert all(
            math.isnan(f.value)
            for f in (ece_from(total, edges, 4), brier_from(total, 4), loss_from(total, 4))
        )
        return
    assert holds(ece_from(total, edges, 4), expected_calibration_error(score, label, B))
    assert holds(brier_from(total, 4), float(np.mean((score - label) ** 2)))
    with np.errstate(divide="ignore"):
        loss = np.where(label == 1, -np.log(score), -np.log1p(-score)).mean()
    assert holds(loss_from(total, 4), loss)
    assert math.isinf(loss_from(total, 4).high) == (total.beyond > 0)


def test_bounds_are_narrow_and_agree_with_scikit_learn() -> None:
    """What a weak and a strong model's scores cost in accuracy; the figures are in the docs."""
    rng = np.random.default_rng(7)
    for spread, shift, widest in ((0.3, 0.2, 0.008), (2.0, 1.5, 0.0015)):
        label = (rng.random(4000) < 0.15).astype(np.float64)
        logit = rng.normal(-1.7 + shift * label, spread)
        score = 1 / (1 + np.exp(-logit))
        sums = label_sums(score, label, EDGES, B)
        for bounded, pooled in (
            (auroc_from(sums.positives, sums.negatives), roc_auc_score(label, score)),
            (auprc_from(sums.positives, sums.negatives), average_precision_score(label, score)),
        ):
            assert holds(bounded, pooled)
            assert bounded.high - bounded.low < widest
        assert brier_from(sums, 1).value == pytest.approx(brier_score_loss(label, score), abs=1e-8)
        assert loss_from(sums, 1).value == pytest.approx(log_loss(label, score), abs=1e-8)


def test_bounds_are_attained() -> None:
    """Scores inside one bin that reach either bound: a tighter bound would be wrong."""
    inside = np.array([0.30, 0.31, 0.32, 0.33, 0.34])
    for score, label, end in (
        ([0.34, 0.34, 0.30, 0.31, 0.6], [1.0, 1.0, 0.0, 0.0, 0.0], "high"),
        ([0.30, 0.31, 0.34, 0.33, 0.6], [1.0, 1.0, 0.0, 0.0, 0.0], "low"),
    ):
        assert set(score[:4]) <= set(inside)
        sums = label_sums(score, label, COARSE, 0)
        auroc = auroc_from(sums.positives, sums.negatives)
        auprc = auprc_from(sums.positives, sums.negatives)
        assert getattr(auroc, end) == pytest.approx(roc_auc_score(label, score), abs=1e-8)
        assert getattr(auprc, end) == pytest.approx(average_precision_score(label, score), abs=1e-8)


def test_the_best_strict_order_is_no_upper_bound_of_average_precision() -> None:
    """Tied positives do better than any strict order; a bound from orders would be passed."""
    score, label = [0.6, 0.34, 0.34, 0.34], [0.0, 1.0, 1.0, 1.0]
    best_order = sum(j / (j + 1) for j in (1, 2, 3)) / 3
    pooled = average_precision_score(label, score)
    sums = label_sums(score, label, COARSE, 0)
    assert best_order < pooled <= auprc_from(sums.positives, sums.negatives).high


def test_edges_are_public_increasing_and_hold_the_calibration_edges() -> None:
    assert EDGES.size >= RANKING_BINS - 1
    assert (np.diff(EDGES) > 0).all() and EDGES[0] > 0 and EDGES[-1] < 1
    for bins in (2, 7, 10, 100):
        assert set(np.arange(1, bins) / bins) <= set(
            score_edges(ranking=True, calibration_bins=bins)
        )
    assert score_edges(ranking=False, calibration_bins=None).size == 0
    assert score_edges(ranking=False, calibration_bins=4).tolist() == [0.25, 0.5, 0.75]
    # The tails are kept apart.
    assert np.unique(np.searchsorted(EDGES, [1e-7, 1e-6, 1e-5, 1e-4, 1e-3])).size == 5


def test_a_loss_beyond_the_largest_has_no_upper_bound() -> None:
    sums = label_sums([0.0, 0.5], [1.0, 1.0], EDGES, B)
    found = loss_from(sums, 1)
    assert sums.beyond == 1
    assert found.high == math.inf
    assert found.low == pytest.approx((LARGEST_LOSS + math.log(2)) / 2, abs=1e-4)


def test_rounding_that_the_bound_left_out_would_be_noticed() -> None:
    """A bound for one site does not hold for sixty-four, so the number of sites must be counted."""
    score = np.full(64, 0.5 + 2.0**-18 * 0.9)
    parts = [label_sums(score[i : i + 1], [0.0], EDGES, B) for i in range(64)]
    total, pooled = added(parts), expected_calibration_error(score, np.zeros(64), B)
    assert holds(ece_from(total, EDGES, 64), pooled)
    assert not holds(ece_from(total, EDGES, 1), pooled)


@pytest.mark.parametrize(
    ("score", "label", "error"),
    [
        ([math.nan], [1.0], DataError),
        ([math.inf], [1.0], DataError),
        ([0.5], [2.0], DataError),
        ([1.5], [1.0], ValueError),
        ([0.5, 0.5], [1.0], ValueError),
    ],
)
def test_what_cannot_be_counted_is_refused(score: Any, label: Any, error: type) -> None:
    with pytest.raises(error):
        label_sums(score, label, EDGES, B)
