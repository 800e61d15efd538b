"""LiRA against loops, and against the best attack on models whose law is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from attacks.scores import lira, lira_per_label

Make = Callable[..., Any]
Area = Callable[..., float]
Mode = Literal["online", "offline"]
Variance = Literal["record", "pooled"]
Centre = Literal["median", "mean"]
MODES: list[Mode] = ["online", "offline"]
VARIANCES: list[Variance] = ["record", "pooled"]
CENTRES: list[Centre] = ["median", "mean"]


def side(world: Any, record: int, inside: bool, variance: str, centre: str) -> tuple[float, float]:
    """Centre and scale of one record on one side, as a reader of the paper would write it."""
    middle = {"median": np.median, "mean": np.mean}[centre]
    rows = world.membership[:, record] == inside
    values = world.shadows[rows, record]
    if variance == "record":
        return float(middle(values)), float(np.std(values))
    squares, freedom = 0.0, 0
    for other in range(world.target.size):
        mine = world.shadows[world.membership[:, other] == inside, other]
        squares += float(((mine - middle(mine)) ** 2).sum())
        freedom += mine.size - 1
    return float(middle(values)), math.sqrt(squares / freedom)


@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("variance", VARIANCES)
def test_agrees_with_loops(gaussian_world: Make, variance: Variance, centre: Centre) -> None:
    world = gaussian_world(0, models=17, records=30)
    arrays = (world.target, world.shadows, world.membership)
    online = lira(*arrays, mode="online", variance=variance, centre=centre)
    offline = lira(*arrays, variance=variance, centre=centre)
    two = lira(*arrays, variance=variance, centre=centre, tails="two")
    for record in range(30):
        phi = world.target[record]
        inside = norm(*side(world, record, True, variance, centre))
        outside = norm(*side(world, record, False, variance, centre))
        assert online[record] == pytest.approx(inside.logpdf(phi) - outside.logpdf(phi))
        assert offline[record] == pytest.approx(outside.logcdf(phi))
        assert two[record] == pytest.approx(-outside.logpdf(phi))


def test_two_tails_hold_a_less_sure_model_against_the_record(gaussian_world: Make) -> None:
    world = gaussian_world(1, records=20)
    arrays = (world.target - 100.0, world.shadows, world.membership)
    usual = (world.target, world.shadows, world.membership)
    assert (lira(*arrays) < lira(*usual)).all()
    assert (lira(*arrays, tails="two") > lira(*usual, tails="two")).all()


def test_online_approaches_the_best_attack(gaussian_world: Make, auc: Area) -> None:
    # Some records give themselves away, most hardly: no offline test can know which.
    found: dict[str, list[float]] = {"best": [], "few": [], "online": [], "offline": []}
    for seed in range(12):
        world = gaussian_world(seed, models=512, records=600, rises=(0.2, 0.5, 4.0))
        arrays = (world.target, world.shadows, world.membership)
        few = (world.target, world.shadows[:12], world.membership[:12])
        enough = np.abs(world.membership[:12].sum(axis=0) - 6) <= 4
        found["best"].append(auc(world.log_ratio, world.members))
        found["online"].append(auc(lira(*arrays, mode="online"), world.members))
        found["offline"].append(auc(lira(*arrays), world.members))
        part = (few[0][enough], few[1][:, enough], few[2][:, enough])
        found["few"].append(auc(lira(*part, mode="online"), world.members[enough]))
    mean = {name: float(np.mean(values)) for name, values in found.items()}
    assert abs(mean["online"] - mean["best"]) < 0.005
    assert mean["offline"] < mean["best"] - 0.01
    assert mean["few"] < mean["online"] - 0.02


def test_with_equal_rises_the_area_is_that_of_two_gaussians(
    gaussian_world: Make, auc: Area
) -> None:
    # log-ratio N(±r²/2, r²): AUC = Φ(r / √2), and z alone is as good as the ratio.
    for rise in (0.5, 1.5):
        areas = []
        for seed in range(10):
            world = gaussian_world(seed, models=256, records=1000, rises=(rise,))
            scores = lira(world.target, world.shadows, world.membership)
            areas.append(auc(scores, world.members))
        # Noise of one area at most √(1/(6·500)); of the mean of ten a third of it.
        assert np.mean(areas) == pytest.approx(norm.cdf(rise / math.sqrt(2)), abs=5 * 0.0058)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("variance", VARIANCES)
def test_nothing_to_find_is_chance(
    gaussian_world: Make, auc: Area, mode: Mode, variance: Variance
) -> None:
    members, scores = [], []
    for seed in range(10):
        world = gaussian_world(seed, models=32, records=500, rises=(0.0,))
        scores.append(
            lira(world.target, world.shadows, world.membership, mode=mode, variance=variance)
        )
        members.append(world.members)
    found = auc(np.concatenate(scores), np.concatenate(members))
    # About 2500 a side: standard error √(1/(6·2500)).
    assert abs(found - 0.5) < 5 * math.sqrt(1 / (6 * 2500))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from(MODES), st.sampled_from(VARIANCES))
def test_invariances(seed: int, mode: Mode, variance: Variance) -> None:
    rng = np.random.default_rng(seed)
    target, shadows = rng.normal(size=(25, 3)), rng.normal(size=(12, 25, 3))
    hidden = rng.random((25, 3)) < 0.3
    target[hidden], shadows[:, hidden] = np.nan, np.nan
    # Six with and six without, of shuffled models: enough on either side.
    inside = rng.permuted(np.tile(np.arange(12)[:, np.newaxis] < 6, (1, 25)), axis=0)

    def attack(own: Any, others: Any, coins: Any) -> Any:
        return lira(own, others, coins, mode=mode, variance=variance)

    found = attack(target, shadows, inside)
    models, records, labels = (rng.permutation(size) for size in (12, 25, 3))
    np.testing.assert_allclose(attack(target, shadows[models], inside[models]), found)
    moved = attack(target[records], shadows[:, records], inside[:, records])
    np.testing.assert_allclose(moved, found[records])
    np.testing.assert_allclose(attack(target[:, labels], shadows[..., labels], inside), found)
    # The unit and origin of the signals.
    np.testing.assert_allclose(attack(7 * target - 3, 7 * shadows - 3, inside), found, rtol=1e-6)


@pytest.mark.parametrize("variance", VARIANCES)
def test_labels_are_summed(gaussian_world: Make, variance: Variance) -> None:
    world = gaussian_world(3, models=24, records=30, labels=4)
    target, shadows = world.target.copy(), world.shadows.copy()
    hidden = np.random.default_rng(0).random((30, 4)) < 0.3
    hidden[0] = True
    target[hidden], shadows[:, hidden] = np.nan, np.nan
    for mode in MODES:
        each = lira_per_label(target, shadows, world.membership, mode=mode, variance=variance)
        together = lira(target, shadows, world.membership, mode=mode, variance=variance)
        assert (np.isnan(each) == hidden).all()
        for record in range(30):
            known = np.flatnonzero(~hidden[record])
            if mode == "online":
                expected = each[record, known].sum()
            else:
                z = norm.ppf(np.exp(each[record, known]))
                expected = norm.logcdf(z.sum() / math.sqrt(max(1, known.size)))
            assert together[record] == pytest.approx(expected, rel=1e-6, abs=1e-9)
        assert together[0] == (0.0 if mode == "online" else pytest.approx(math.log(0.5)))


def test_more_labels_find_more(gaussian_world: Make, auc: Area) -> None:
    one, all_labels = [], []
    for seed in range(6):
        world = gaussian_world(seed, records=500, labels=6, rises=(0.7,))
        one.append(
            auc(lira(world.target[:, 0], world.shadows[..., 0], world.membership), world.members)
        )
        all_labels.append(auc(lira(world.target, world.shadows, world.membership), world.members))
    assert np.mean(all_labels) > np.mean(one) + 0.1


def test_few_known_labels_are_comparable_with_many(gaussian_world: Make, auc: Area) -> None:
    """Without members the number of known labels must say nothing."""
    scores, plain, many = [], [], []
    for seed in range(8):
        world = gaussian_world(seed, models=128, records=500, labels=8, rises=(0.0,))
        target, shadows = world.target.copy(), world.shadows.copy()
        target[:250, 2:], shadows[:, :250, 2:] = np.nan, np.nan
        # The mean leaves no bias, and 128 shadows little spread, in z.
        arrays = (target, shadows, world.membership)
        scores.append(lira(*arrays, centre="mean", variance="pooled"))
        plain.append(np.nansum(lira_per_label(*arrays, variance="pooled"), axis=1))
        many.append(np.arange(500) >= 250)
    found = auc(np.concatenate(scores), np.concatenate(many))
    assert abs(found - 0.5) < 5 * math.sqrt(1 / (6 * 2000))
    # A plain sum of log Φ(z) hardly says more than how many labels there are.
    assert auc(np.concatenate(plain), np.concatenate(many)) < 0.1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("variance", VARIANCES)
def test_constant_signals_are_no_evidence(mode: Mode, variance: Variance) -> None:
    inside = np.tile([[True], [False]], (4, 10))
    found = lira(np.full(10, 0.1), np.full((8, 10), 0.1), inside, mode=mode, variance=variance)
    np.testing.assert_allclose(found, 0.0 if mode == "online" else math.log(0.5))
    apart = lira(np.full(10, 5.0), np.full((8, 10), 0.1), inside, mode=mode, variance=variance)
    assert np.isfinite(apart).all()
    # What single precision rounds away is no evidence worth a certainty.
    close = lira(np.full(10, 0.1 + 1e-8), np.full((8, 10), 0.1), inside, variance=variance)
    np.testing.assert_allclose(close, math.log(0.5), atol=0.02)


def test_offline_never_looks_at_models_with_the_record(gaussian_world: Make) -> None:
    world = gaussian_world(5, records=40)
    spoilt = np.where(world.membership, 1e6, world.shadows)
    for variance in VARIANCES:
        np.testing.assert_array_equal(
            lira(world.target, world.shadows, world.membership, variance=variance),
            lira(world.target, spoilt, world.membership, variance=variance),
        )


def test_pooled_spread_is_not_the_spread_between_records() -> None:
    """A slip of other libraries: the raw spread of all signals hides what a record gives away."""
    rng = np.random.default_rng(0)
    usual = rng.normal(0, 1000.0, 50)
    shadows = usual + rng.normal(size=(40, 50))
    inside = np.tile([[True], [False]], (20, 50))
    scores = lira(usual + 6.0, shadows, inside, variance="pooled")
    assert (scores > norm.logcdf(4.0)).all()


def test_sides_have_their_own_spread() -> None:
    """The authors' code takes both fixed variances from the models with the record."""
    rng = np.random.default_rng(1)
    inside = np.tile([[True], [False]], (200, 50))
    shadows = rng.normal(size=(400, 50)) * np.where(inside, 0.1, 5.0)
    found = lira(np.zeros(50), shadows, inside, mode="online", variance="pooled")
    np.testing.assert_allclose(found, math.log(50.0), atol=0.3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"target": np.zeros((2, 2, 2))}, "axes"),
        ({"target": np.zeros(9)}, "shape"),
        ({"shadows": np.full((8, 10), math.inf)}, "finite"),
        ({"membership": np.full((8, 10), 0.5)}, "0 or 1"),
        ({"membership": np.zeros((8, 9))}, "shape"),
        ({"membership": np.ones((8, 10))}, "record 0 has 0 shadows trained without it and needs 2"),
        ({"target": np.full(10, math.nan)}, "the same in target and in every shadow"),
        ({"mode": "both"}, "mode"),
        ({"variance": "fixed"}, "variance"),
        ({"mode": "online", "tails": "two"}, "two"),
        ({"mode": "online", "membership": np.zeros((8, 10))}, "trained with it"),
    ],
)
def test_refused(change: dict[str, Any], said: str) -> None:
    rng = np.random.default_rng(0)
    arguments: dict[str, Any] = {
        "target": rng.normal(size=10),
        "shadows": rng.normal(size=(8, 10)),
        "membership": np.tile([[True], [False]], (4, 10)),
    }
    lira(**arguments)
    with pytest.raises(ValueError, match=said):
        lira(**{**arguments, **change})


def test_one_shadow_a_record_has_no_spread() -> None:
    with pytest.raises(ValueError, match="two shadows on one side"):
        lira([0.0, 1.0], [[1.0, 2.0]], [[False, False]], variance="pooled")
