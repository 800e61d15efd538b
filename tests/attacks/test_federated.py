"""Scores of whoever watches a federation train, against loops, closed forms and ties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress, norm

from attacks.federated import (
    site_log_ratio,
    trajectory_gain,
    trajectory_mean,
    trajectory_slope,
)


def draws(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def by_loops(signals: np.ndarray, target: int) -> np.ndarray:
    rounds, sites, records = signals.shape
    others = [k for k in range(sites) if k != target]
    found = np.zeros(records)
    for r in range(rounds):
        variances = []
        for x in range(records):
            values = [signals[r, k, x] for k in others]
            mean = sum(values) / len(values)
            variances.append(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
        sd = math.sqrt(sum(variances) / records)
        for x in range(records):
            mean = sum(signals[r, k, x] for k in others) / len(others)
            found[x] += norm.logcdf((signals[r, target, x] - mean) / sd)
    return found


@pytest.mark.parametrize("target", range(4))
def test_the_log_ratio_is_that_of_plain_loops(target: int) -> None:
    signals = draws(5, 4, 7)
    assert np.allclose(site_log_ratio(signals, target), by_loops(signals, target), rtol=1e-12)


def test_trajectories_are_those_of_loops_and_of_a_regression() -> None:
    signals = draws(6, 9)
    for x in range(9):
        own = signals[:, x]
        assert trajectory_slope(signals)[x] == pytest.approx(linregress(range(6), own).slope)
        assert trajectory_gain(signals)[x] == own[5] - own[0]
        assert trajectory_mean(signals)[x] == pytest.approx(sum(own) / 6)


def test_of_two_rounds_the_slope_is_the_gain() -> None:
    signals = draws(2, 20)
    assert np.allclose(trajectory_slope(signals), trajectory_gain(signals))


@given(st.floats(-1e6, 1e6), st.integers(2, 9), st.integers(3, 8))
def test_constant_signals_give_constant_scores(value: float, rounds: int, sites: int) -> None:
    flat = np.full((rounds, sites, 4), value)
    for target in range(sites):
        assert np.allclose(site_log_ratio(flat, target), rounds * math.log(0.5), rtol=1e-12)
    assert len(set(trajectory_mean(flat[:, 0]))) == 1
    assert not trajectory_gain(flat[:, 0]).any() and not trajectory_slope(flat[:, 0]).any()


def test_sites_that_agree_say_nothing_whatever_they_agree_on() -> None:
    """The same signal from every site, different for each record: no record stands out."""
    signals = np.repeat(draws(3, 1, 50), 5, axis=1)
    assert len(set(site_log_ratio(signals, 2))) == 1


def test_tied_records_have_tied_scores_and_order_does_not_matter() -> None:
    signals = draws(4, 5, 30)
    signals[..., 10:20] = signals[..., :10]
    score = site_log_ratio(signals, 1)
    assert np.array_equal(score[10:20], score[:10])
    order = np.random.default_rng(1).permutation(30)
    assert np.allclose(site_log_ratio(signals[..., order], 1), score[order], rtol=1e-12)


def test_more_for_the_target_is_more_and_more_for_another_is_less() -> None:
    signals = draws(3, 4, 10)
    raised = signals.copy()
    raised[1, 0] += 0.5
    assert (site_log_ratio(raised, 0) > site_log_ratio(signals, 0)).all()
    assert (site_log_ratio(raised, 1) != site_log_ratio(signals, 1)).all()


def test_scale_and_shift_of_a_round_change_nothing() -> None:
    signals = draws(3, 5, 10)
    moved = signals * np.array([2.0, 0.1, 50.0])[:, None, None] + 7.0
    assert np.allclose(site_log_ratio(moved, 4), site_log_ratio(signals, 4), rtol=1e-9)


def test_a_member_is_found_with_other_sites_as_the_null() -> None:
    signals = draws(10, 4, 2000)
    members = np.arange(2000) < 1000
    signals[:, 2, members] += 1.0
    score = site_log_ratio(signals, 2)
    above = (score[members][:, None] > score[~members]).mean()
    assert above > 0.5 + 4.9 * math.sqrt(2001 / (12 * 1000 * 1000))
    elsewhere = site_log_ratio(signals, 0)
    assert (elsewhere[members][:, None] > elsewhere[~members]).mean() < 0.5


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ValueError, match="3 sites or more"):
        site_log_ratio(draws(2, 2, 3), 0)
    with pytest.raises(ValueError, match="from 0 to 2"):
        site_log_ratio(draws(2, 3, 3), 3)
    with pytest.raises(ValueError, match="at least one round"):
        site_log_ratio(np.zeros((0, 3, 3)), 0)
    with pytest.raises(ValueError, match="finite"):
        site_log_ratio(np.full((1, 3, 3), np.nan), 0)
    for score in (trajectory_gain, trajectory_slope):
        with pytest.raises(ValueError, match="2 rounds"):
            score(draws(1, 3))
