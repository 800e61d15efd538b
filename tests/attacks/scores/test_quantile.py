"""The quantile attack where the strangers' quantiles are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binom, norm

from attacks.scores import gaussian_margin, loss, quantile_margin

Array = npt.NDArray[np.float64]
Area = Callable[..., float]


def draw(rng: np.random.Generator, size: int) -> tuple[Array, Array]:
    """Features, and signals of strangers: N(5 x, 1 + x) with a second feature of noise."""
    features = rng.uniform(0.0, 2.0, (size, 2))
    level, scale = 5 * features[:, 0], 1 + features[:, 0]
    return features, rng.normal(level, scale)


@pytest.fixture(scope="module")
def drawn() -> tuple[Array, Array, Array, Array]:
    rng = np.random.default_rng(0)
    return *draw(rng, 4000), *draw(rng, 4000)


def test_false_alarms_are_as_promised(drawn: tuple[Array, Array, Array, Array]) -> None:
    known, strangers, features, fresh = drawn
    for level in (0.5, 0.9, 0.99):
        flagged = int((quantile_margin(fresh, features, strangers, known, level=level) > 0).sum())
        # Half as many again or half as few for the error of the regression, then chance < 1e-6.
        low, high = 0.5 * (1 - level), min(1.0, 2 * (1 - level))
        assert binom.ppf(1e-6, 4000, low) <= flagged <= binom.isf(1e-6, 4000, high)
    margins = gaussian_margin(fresh, features, strangers, known)
    assert margins.mean() == pytest.approx(0.0, abs=0.1)
    assert margins.std() == pytest.approx(1.0, abs=0.15)
    for rate in (0.5, 0.1, 0.01):
        assert (margins > norm.isf(rate)).mean() == pytest.approx(rate, rel=0.5, abs=0.005)


def test_margins_are_those_of_the_law(drawn: tuple[Array, Array, Array, Array]) -> None:
    known, strangers, features, fresh = drawn
    level, scale = 5 * features[:, 0], 1 + features[:, 0]
    truth = (fresh - level) / scale
    found = gaussian_margin(fresh, features, strangers, known)
    assert np.corrcoef(found, truth)[0, 1] > 0.95
    found = quantile_margin(fresh, features, strangers, known, level=0.9)
    expected = fresh - (level + norm.ppf(0.9) * scale)
    assert np.abs(found - expected).mean() < 0.6


def test_finds_members_that_one_threshold_misses(
    drawn: tuple[Array, Array, Array, Array], auc: Area
) -> None:
    known, strangers, features, fresh = drawn
    inside = np.random.default_rng(1).random(4000) < 0.5
    signals = fresh + inside * 1.5 * (1 + features[:, 0])
    plain = auc(loss(-signals), inside)
    for score in (
        gaussian_margin(signals, features, strangers, known),
        quantile_margin(signals, features, strangers, known, level=0.9),
    ):
        assert auc(score, inside) > plain + 0.05
    nothing = auc(gaussian_margin(fresh, features, strangers, known), inside)
    assert abs(nothing - 0.5) < 5 * math.sqrt(1 / (6 * 1900))


def test_few_strangers_do_not_make_the_spread_too_small() -> None:
    """The residuals of records that the regression was fitted on would."""
    spreads = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        known, strangers = draw(rng, 300)
        features, fresh = draw(rng, 2000)
        spreads.append(gaussian_margin(fresh, features, strangers, known).std())
    assert np.mean(spreads) < 1.35


def test_repeats_and_moves_with_the_records(drawn: tuple[Array, Array, Array, Array]) -> None:
    known, strangers, features, fresh = (part[:1000] for part in drawn)
    order = np.random.default_rng(2).permutation(1000)
    for attack in (gaussian_margin, quantile_margin):
        found = attack(fresh, features, strangers, known)
        np.testing.assert_array_equal(attack(fresh, features, strangers, known), found)
        moved = attack(fresh[order], features[order], strangers, known)
        np.testing.assert_array_equal(moved, found[order])
        # One record's score does not depend on who else is audited.
        np.testing.assert_array_equal(attack(fresh[:3], features[:3], strangers, known), found[:3])


def test_missing_features_and_constant_signals_give_numbers() -> None:
    rng = np.random.default_rng(3)
    known, features = rng.normal(size=(1000, 2)), rng.normal(size=(50, 2))
    known[::3, 1], features[::2, 0] = math.nan, math.nan
    for attack in (gaussian_margin, quantile_margin):
        np.testing.assert_array_equal(
            attack(np.full(50, 2.0), features, np.full(1000, 2.0), known), 0.0
        )
        assert np.isfinite(attack(np.full(50, 3.0), features, np.full(1000, 2.0), known)).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"features": np.zeros((9, 2))}, "a row for each"),
        ({"features": np.zeros((10, 3))}, "same columns"),
        ({"stranger_features": np.zeros((9, 2))}, "a row for each"),
        ({"target": np.full(10, math.nan)}, "finite"),
        ({"strangers": np.full(1000, math.inf)}, "finite"),
        ({"strangers": np.zeros(90), "stranger_features": np.zeros((90, 2))}, "not 90"),
    ],
)
def test_refused(change: dict[str, Any], said: str) -> None:
    arguments: dict[str, Any] = {
        "target": np.zeros(10),
        "features": np.zeros((10, 2)),
        "strangers": np.zeros(1000),
        "stranger_features": np.zeros((1000, 2)),
    }
    for attack in (gaussian_margin, quantile_margin):
        attack(**arguments)
        with pytest.raises(ValueError, match=said):
            attack(**{**arguments, **change})
    for level in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="level"):
            quantile_margin(**arguments, level=level)
