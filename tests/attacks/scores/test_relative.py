"""RMIA against loops in plain probabilities, the slips of other libraries, and tuning."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import log_expit

from attacks.scores import loss, rmia, rmia_log_ratio, tune_rmia

Array = npt.NDArray[np.float64]
Make = Callable[..., Any]
Area = Callable[..., float]
MODES: list[Literal["online", "offline"]] = ["online", "offline"]


def population(seed: int, models: int, size: int) -> tuple[Array, Array]:
    """log p(z|θ) of a target and of shadows that never saw z."""
    rng = np.random.default_rng([seed, 99])
    logs = log_expit(rng.normal(0.0, 3.0, size) + rng.normal(size=(models + 1, size)))
    return logs[0], logs[1:]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("a", "gamma"), [(0.0, 1.0), (0.3, 2.0), (1.0, 0.7)])
def test_agrees_with_loops(
    gaussian_world: Make, mode: Literal["online", "offline"], a: float, gamma: float
) -> None:
    world = gaussian_world(0, models=9, records=60)
    coins = world.membership.copy()
    coins[0], coins[1] = False, True
    target, shadows = log_expit(world.target), log_expit(world.shadows)
    own, others = population(0, 9, 70)
    ratios = rmia_log_ratio(target, shadows, coins, mode=mode, a=a)
    found = rmia(target, shadows, coins, own, others, mode=mode, a=a, gamma=gamma)

    def usual(outside: list[float], inside: list[float]) -> float:
        out = float(np.mean(outside))
        if mode == "online":
            return 0.5 * (float(np.mean(inside)) + out) if inside else out
        return 0.5 * ((1 + a) * out + 1 - a)

    strangers = [
        math.exp(own[z]) / usual([math.exp(others[m, z]) for m in range(9)], []) for z in range(70)
    ]
    for x in range(60):
        outside = [math.exp(shadows[m, x]) for m in range(9) if not coins[m, x]]
        inside = [math.exp(shadows[m, x]) for m in range(9) if coins[m, x]]
        ratio = math.exp(target[x]) / usual(outside, inside)
        assert ratios[x] == pytest.approx(math.log(ratio), abs=1e-9)
        assert found[x] == np.mean([ratio / stranger >= gamma for stranger in strangers])


def test_probabilities_that_underflow_are_compared() -> None:
    coins = np.zeros((3, 2))
    found = rmia_log_ratio([-1500.0, -1600.0], np.full((3, 2), -1600.0), coins, a=1.0)
    np.testing.assert_allclose(found, [100.0, 0.0])
    # With a < 1 the line's 1 - a swamps it, as in the paper.
    assert rmia_log_ratio([-1500.0], [[-1600.0]], [[0]], a=0.5)[0] == pytest.approx(
        -1500.0 - math.log(0.25)
    )


def test_all_shadows_without_the_record_count() -> None:
    """ML Privacy Meter and PrivacyGuard average the largest ones: the smallest would not matter."""
    coins = np.array([[0], [0], [1], [1]])
    for shadow in (0, 1):
        logs = np.full((4, 1), -1.0)
        logs[shadow] = -9.0
        expected = -1.0 - math.log((math.exp(-1.0) + math.exp(-9.0)) / 2)
        assert rmia_log_ratio([-1.0], logs, coins, a=1.0)[0] == pytest.approx(expected)
    own, others = np.array([-1.0]), np.array([[-1.0], [-1.0], [-1.0], [-9.0]])
    # The record's ratio is 0; the stranger's is above 0 only if its smallest probability counts.
    even = np.full((4, 1), -1.0)
    assert rmia([-1.0], even, coins, own, others, a=1.0)[0] == 0.0


@pytest.mark.parametrize("mode", MODES)
def test_the_share_is_a_step_function_of_the_ratio(
    gaussian_world: Make, mode: Literal["online", "offline"]
) -> None:
    world = gaussian_world(1, records=300)
    arrays = (log_expit(world.target), log_expit(world.shadows), world.membership)
    own, others = population(1, 64, 50)
    order = np.argsort(rmia_log_ratio(*arrays, mode=mode))
    before = np.full(300, 2.0)
    for gamma in (0.5, 1.0, 2.0):
        shares = rmia(*arrays, own, others, mode=mode, gamma=gamma)
        assert (np.diff(shares[order]) >= 0).all()
        np.testing.assert_allclose(shares * 50, np.round(shares * 50), atol=1e-9)
        assert (shares <= before).all()
        before = shares


def test_finds_members_better_than_the_loss(gaussian_world: Make, auc: Area) -> None:
    areas: dict[str, list[float]] = {"online": [], "offline": [], "loss": []}
    for seed in range(5):
        world = gaussian_world(seed, records=500, rises=(2.0,))
        arrays = (log_expit(world.target), log_expit(world.shadows), world.membership)
        own, others = population(seed, 64, 2000)
        for mode in MODES:
            areas[mode].append(auc(rmia(*arrays, own, others, mode=mode, a=0.9), world.members))
        areas["loss"].append(auc(loss(-arrays[0]), world.members))
    assert np.mean(areas["online"]) > np.mean(areas["loss"]) + 0.1
    assert np.mean(areas["offline"]) > np.mean(areas["loss"]) + 0.1


@pytest.mark.parametrize("mode", MODES)
def test_nothing_to_find_is_chance(
    gaussian_world: Make, auc: Area, mode: Literal["online", "offline"]
) -> None:
    scores, members = [], []
    for seed in range(10):
        world = gaussian_world(seed, models=32, records=500, rises=(0.0,))
        own, others = population(seed, 32, 500)
        arrays = (log_expit(world.target), log_expit(world.shadows), world.membership)
        scores.append(rmia(*arrays, own, others, mode=mode))
        members.append(world.members)
    found = auc(np.concatenate(scores), np.concatenate(members))
    assert abs(found - 0.5) < 5 * math.sqrt(1 / (6 * 2500))


@pytest.mark.parametrize("mode", MODES)
def test_constant_probabilities_tie(mode: Literal["online", "offline"]) -> None:
    """Means over different numbers of shadows differ in the last digit; that is no evidence."""
    rng = np.random.default_rng(0)
    coins = rng.random((30, 200)) < 0.5
    arrays = (np.full(200, -0.1), np.full((30, 200), -0.1), coins)
    scores = rmia(*arrays, np.full(70, -0.1), np.full((30, 70), -0.1), mode=mode)
    np.testing.assert_array_equal(scores, 1.0)
    np.testing.assert_allclose(
        rmia_log_ratio(*arrays, mode=mode), rmia_log_ratio(*arrays, mode=mode)[0], atol=1e-12
    )


def test_ratios_that_differ_by_rounding_tie() -> None:
    """A stranger of whom the same models say the same, in another order, is no less a surprise."""
    rng = np.random.default_rng(4)
    logs = -rng.exponential(size=(12, 60))
    nobody = np.zeros((12, 1))
    for record in range(60):
        mine = logs[:, [record]]
        share = rmia([-1.0], mine, nobody, [-1.0], rng.permutation(mine), a=1.0)
        assert share[0] == 1.0


@pytest.mark.parametrize("mode", MODES)
def test_invariances(gaussian_world: Make, mode: Literal["online", "offline"]) -> None:
    world = gaussian_world(2, records=50)
    target, shadows = log_expit(world.target), log_expit(world.shadows)
    own, others = population(2, 64, 80)
    found = rmia(target, shadows, world.membership, own, others, mode=mode)
    rng = np.random.default_rng(0)
    models, records, strangers = (rng.permutation(size) for size in (64, 50, 80))
    moved = rmia(target, shadows[models], world.membership[models], own, others[models], mode=mode)
    np.testing.assert_array_equal(moved, found)
    moved = rmia(
        target[records],
        shadows[:, records],
        world.membership[:, records],
        own[strangers],
        others[:, strangers],
        mode=mode,
    )
    np.testing.assert_array_equal(moved, found[records])


def test_a_is_tuned_by_attacking_the_shadows(gaussian_world: Make, auc: Area) -> None:
    world = gaussian_world(3, models=8, records=300, rises=(2.0,))
    shadows, coins = log_expit(world.shadows), world.membership
    coins = coins.copy()
    # Enough shadows without each record, whichever is left out.
    coins[:3, coins.sum(axis=0) > 5] = False
    grid = (0.0, 0.25, 0.5, 0.75, 1.0)
    expected = []
    for a in grid:
        areas = []
        for model in (2, 5):
            rest = [m for m in range(8) if m != model]
            ratio = rmia_log_ratio(shadows[model], shadows[rest], coins[rest], a=a)
            areas.append(auc(ratio, coins[model]))
        expected.append(np.mean(areas))
    found = tune_rmia(shadows, coins, references=(2, 5), grid=grid)
    assert found == grid[int(np.argmax(expected))]
    everyone = tune_rmia(shadows, coins, grid=grid)
    order = np.random.default_rng(0).permutation(8)
    assert tune_rmia(shadows[order], coins[order], grid=grid) == everyone


def test_of_equals_the_smallest_a_is_taken() -> None:
    coins = np.tile([[1, 0], [0, 1]], (3, 1))
    assert tune_rmia(np.full((6, 2), -1.0), coins) == 0.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"a": 1.1}, "a must be"),
        ({"a": math.nan}, "a must be"),
        ({"gamma": 0.0}, "gamma"),
        ({"mode": "both"}, "mode"),
        ({"target": [0.1, -1.0]}, "at most 0"),
        ({"target": [-math.inf, -1.0]}, "finite"),
        ({"membership": np.ones((4, 2))}, "without it"),
        ({"mode": "online", "membership": np.zeros((4, 2))}, "with it"),
        ({"shadow_population": np.full((3, 5), -1.0)}, "shape"),
        ({"target_population": [], "shadow_population": np.zeros((4, 0))}, "shape"),
    ],
)
def test_refused(change: dict[str, Any], said: str) -> None:
    arguments: dict[str, Any] = {
        "target": [-1.0, -1.0],
        "shadows": np.full((4, 2), -1.0),
        "membership": np.tile([[1], [0]], (2, 2)),
        "target_population": np.full(5, -1.0),
        "shadow_population": np.full((4, 5), -1.0),
    }
    rmia(**arguments)
    with pytest.raises(ValueError, match=said):
        rmia(**{**arguments, **change})


def test_tuning_refused() -> None:
    logs = np.full((4, 2), -1.0)
    with pytest.raises(ValueError, match="empty"):
        tune_rmia(logs, np.tile([[1, 0], [0, 1]], (2, 1)), grid=())
    with pytest.raises(ValueError, match="a must be"):
        tune_rmia(logs, np.tile([[1, 0], [0, 1]], (2, 1)), grid=(0.5, 2.0))
    with pytest.raises(ValueError, match="all records or on none"):
        tune_rmia(logs, np.tile([[1], [0]], (2, 2)))
