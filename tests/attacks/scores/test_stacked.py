"""The stacked attack: what it weighs, and that it learns on shadows only."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from attacks.scores import leave_one_out, lira, stacked

Array = npt.NDArray[np.float64]
Area = Callable[..., float]


def two_signals(
    seed: int, rise: float = 1.0
) -> tuple[Array, Array, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Two independent signals of membership, the second in another unit, and one of nothing."""
    rng = np.random.default_rng(seed)
    coins = rng.random((13, 300)) < 0.5
    scores = rng.normal(size=(13, 300, 3))
    scores[..., :2] += rise * coins[..., np.newaxis]
    scores[..., 1] = 1000.0 * scores[..., 1] - 7.0
    return scores[0], scores[1:], coins[1:], coins[0]


def test_weighs_signals_as_the_best_attack_does(auc: Area) -> None:
    areas, firsts, best = [], [], []
    for seed in range(8):
        target, shadows, coins, members = two_signals(seed)
        areas.append(auc(stacked(target, shadows, coins), members))
        firsts.append(auc(target[:, 0], members))
        best.append(auc(target[:, 0] + (target[:, 1] + 7.0) / 1000.0, members))
    assert np.mean(areas) == pytest.approx(np.mean(best), abs=0.005)
    assert np.mean(areas) > np.mean(firsts) + 0.04


def test_scores_are_log_odds() -> None:
    # Two unit Gaussians a distance 1 apart: log-odds x - ½ for each signal.
    target, shadows, coins, _ = two_signals(1)
    expected = target[:, 0] + (target[:, 1] + 7.0) / 1000.0 - 1.0
    found = stacked(target, shadows, coins)
    assert np.abs(found - expected).mean() < 0.15


def test_signals_that_point_the_other_way_are_turned_round(auc: Area) -> None:
    target, shadows, coins, members = two_signals(2)
    assert auc(stacked(-target, -shadows, coins), members) > 0.7


def test_nothing_to_find_is_chance(auc: Area) -> None:
    scores, inside = [], []
    for seed in range(12):
        target, shadows, coins, members = two_signals(seed, rise=0.0)
        # Only the order within a target counts: each has its own classifier.
        scores.append(np.argsort(np.argsort(stacked(target, shadows, coins))))
        inside.append(members)
    found = auc(np.concatenate(scores), np.concatenate(inside))
    assert abs(found - 0.5) < 5 * math.sqrt(1 / (6 * 1800))


def test_stacks_attacks_on_each_shadow_left_out(
    gaussian_world: Callable[..., Any], auc: Area
) -> None:
    areas, chance = [], []
    for seed in range(4):
        world = gaussian_world(seed, models=24, records=300, rises=(1.5,))
        shadows, coins = world.shadows, world.membership
        own = np.stack([lira(world.target, shadows, coins, variance="pooled"), world.target], -1)
        others = np.stack(
            [
                np.stack(
                    [lira(shadows[m], shadows[o], coins[o], variance="pooled"), shadows[m]], -1
                )
                for m, o in leave_one_out(24)
            ]
        )
        areas.append(auc(stacked(own, others, coins), world.members))
        chance.append(auc(own[:, 0], world.members))
    assert np.mean(areas) > np.mean(chance) - 0.01


def test_invariances() -> None:
    target, shadows, coins, _ = two_signals(3)
    found = stacked(target, shadows, coins)
    rng = np.random.default_rng(0)
    models, records, signals = (rng.permutation(size) for size in (12, 300, 3))
    near = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(stacked(target, shadows[models], coins[models]), found, **near)
    np.testing.assert_allclose(stacked(target[records], shadows, coins), found[records], **near)
    turned = stacked(target[:, signals], shadows[..., signals], coins)
    np.testing.assert_allclose(turned, found, **near)
    np.testing.assert_allclose(stacked(3 * target + 1, 3 * shadows + 1, coins), found, **near)


def test_constant_scores_say_nothing() -> None:
    coins = np.tile([[True], [False]], (4, 10))
    for own in (2.0, 50.0):
        found = stacked(np.full((10, 2), own), np.full((8, 10, 2), 2.0), coins)
        np.testing.assert_allclose(found, 0.0, atol=1e-9)


def test_leave_one_out() -> None:
    assert [(m, o.tolist()) for m, o in leave_one_out(3)] == [(0, [1, 2]), (1, [0, 2]), (2, [0, 1])]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"target": np.zeros((10, 3))}, "shape"),
        ({"target": np.full((10, 2), math.nan)}, "finite"),
        ({"shadows": np.zeros((8, 10))}, "axes"),
        ({"membership": np.zeros(10)}, "shape"),
        ({"membership": np.zeros((8, 10))}, "members and non-members"),
        ({"regularization": 0.0}, "regularization"),
    ],
)
def test_refused(change: dict[str, Any], said: str) -> None:
    arguments: dict[str, Any] = {
        "target": np.zeros((10, 2)),
        "shadows": np.zeros((8, 10, 2)),
        "membership": np.tile([[True], [False]], (4, 10)),
    }
    stacked(**arguments)
    with pytest.raises(ValueError, match=said):
        stacked(**{**arguments, **change})
