"""Nothing of the target's membership reaches a score; attacks that peek are caught.

Two nets. On a target that learned nothing, an attack must come out at chance over many worlds. And
when the target's coins are thrown anew while what the target says stays as it is, no score may
change. Variants with mistakes that other libraries made must be caught.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import log_expit

import attacks.scores
from attacks.scores import (
    calibrated_loss,
    gaussian_margin,
    leave_one_out,
    lira,
    lira_covariance,
    loss,
    quantile_margin,
    rmia,
    rmia_log_ratio,
    stacked,
    tune_rmia,
)

Array = npt.NDArray[np.float64]
Coins = npt.NDArray[np.bool_]
# What an attack on a world may use: the world, and (if it peeks) the target's coins.
Attack = Callable[[Any, Coins], Array]


def features(target: Array, others: Array, coins: Coins) -> Array:
    """Two scores of one model, given other models."""
    return np.stack([lira(target, others, coins, variance="pooled"), target], axis=-1)


def shadow_features(world: Any) -> Array:
    rows = [
        features(world.shadows[m], world.shadows[o], world.membership[o])
        for m, o in leave_one_out(len(world.shadows))
    ]
    return np.stack(rows)


def strangers(models: int) -> Array:
    return log_expit(np.random.default_rng(7).normal(0.0, 3.0, (models + 1, 300)))


def by_rmia(world: Any, coins: Coins) -> Array:
    target, shadows = log_expit(world.target), log_expit(world.shadows)
    logs = strangers(len(shadows))
    a = tune_rmia(shadows, world.membership, references=(0,))
    return rmia(target, shadows, world.membership, logs[0], logs[1:], a=a)


def by_quantile(world: Any, coins: Coins) -> Array:
    known = np.random.default_rng(8).normal(size=(500, 2))
    inputs = np.random.default_rng(9).normal(size=(world.target.size, 2))
    return quantile_margin(world.target, inputs, known[:, 0], known, level=0.9) + gaussian_margin(
        world.target, inputs, known[:, 0], known
    )


BLIND: dict[str, Attack] = {
    "loss": lambda world, coins: loss(-world.target),
    "calibrated loss": lambda world, coins: calibrated_loss(
        -world.target, -world.shadows, world.membership
    ),
    "lira": lambda world, coins: lira(world.target, world.shadows, world.membership),
    "lira online": lambda world, coins: lira(
        world.target, world.shadows, world.membership, mode="online"
    ),
    "lira covariance": lambda world, coins: lira_covariance(
        world.target[:, np.newaxis], world.shadows[..., np.newaxis], world.membership, mode="online"
    ),
    "rmia": by_rmia,
    "quantile": by_quantile,
    "stacked": lambda world, coins: stacked(
        features(world.target, world.shadows, world.membership),
        shadow_features(world),
        world.membership,
    ),
}


def with_the_target(world: Any, coins: Coins) -> Array:
    """The target among its shadows, hidden from the guard by a rounding."""
    shadows = np.concatenate([world.shadows, world.target[np.newaxis] + 1e-9])
    return lira(
        world.target, shadows, np.concatenate([world.membership, coins[np.newaxis]]), mode="online"
    )


def stacked_on_the_target(world: Any, coins: Coins) -> Array:
    own = features(world.target, world.shadows, world.membership)
    # Many signals of nothing: enough to learn 300 coins by heart.
    noise = np.random.default_rng(5).normal(size=(1, own.shape[0], 100))
    mine = np.concatenate([own, noise[0]], axis=-1)
    return stacked(mine, mine[np.newaxis] + 1e-9, coins[np.newaxis], regularization=1e-3)


def tuned_on_the_target(world: Any, coins: Coins) -> Array:
    """As ML Privacy Meter's modules/mia: a is the one that does best on the target."""
    target, shadows = log_expit(world.target), log_expit(world.shadows)

    def ahead(scores: Array) -> float:
        return float(np.sign(scores[coins][:, np.newaxis] - scores[~coins]).mean())

    tried = [rmia_log_ratio(target, shadows, world.membership, a=a) for a in np.linspace(0, 1, 11)]
    return max(tried, key=ahead)


def members_for_population(world: Any, coins: Coins) -> Array:
    """As LeakPro: the population is drawn from all records, the target's members among them."""
    target, shadows = log_expit(world.target), log_expit(world.shadows)
    out = ~coins
    return rmia(target, shadows, world.membership, target[out], shadows[:, out])


PEEKING: dict[str, Attack] = {
    "the target among the shadows": with_the_target,
    "stacked on the target": stacked_on_the_target,
    "a tuned on the target": tuned_on_the_target,
    "non-members for a population": members_for_population,
}


def peeks(attack: Attack, world: Any) -> bool:
    """Whether the scores change with the target's coins while its signals do not."""
    rng = np.random.default_rng(11)
    found = attack(world, world.members)
    throws = [rng.random(world.members.size) < 0.5 for _ in range(10)] + [~world.members]
    return any(not np.array_equal(attack(world, coins), found) for coins in throws)


@pytest.mark.parametrize("attack", BLIND.values(), ids=BLIND.keys())
def test_the_targets_coins_reach_no_score(
    gaussian_world: Callable[..., Any], attack: Attack
) -> None:
    assert not peeks(attack, gaussian_world(0, models=16, records=200, rises=(0.5,)))


@pytest.mark.parametrize("attack", PEEKING.values(), ids=PEEKING.keys())
def test_peeking_is_caught(gaussian_world: Callable[..., Any], attack: Attack) -> None:
    assert peeks(attack, gaussian_world(0, models=16, records=200, rises=(0.5,)))


def area_over_worlds(
    attack: Attack, make: Callable[..., Any], auc: Callable[..., float], worlds: int = 12
) -> float:
    """Over targets whose coins have nothing to do with what they say; their shadows' have."""
    ranks, members = [], []
    for seed in range(worlds):
        world = make(seed, models=24, records=300, rises=(1.5,))
        coins = np.random.default_rng([seed, 1]).random(300) < 0.5
        # Within a world only: each has its own scale of scores.
        ranks.append(np.unique(attack(world, coins), return_inverse=True)[1])
        members.append(coins)
    return auc(np.concatenate(ranks), np.concatenate(members))


# About 1800 a side: standard error √(1/(6·1800)).
NOISE = 5 * math.sqrt(1 / (6 * 1800))


@pytest.mark.parametrize("attack", BLIND.values(), ids=BLIND.keys())
def test_a_target_that_learned_nothing_is_chance(
    gaussian_world: Callable[..., Any], auc: Callable[..., float], attack: Attack
) -> None:
    assert abs(area_over_worlds(attack, gaussian_world, auc) - 0.5) < NOISE


@pytest.mark.parametrize(
    "attack", [with_the_target, stacked_on_the_target], ids=["among", "stacked"]
)
def test_peeking_finds_members_where_there_is_nothing_to_find(
    gaussian_world: Callable[..., Any], auc: Callable[..., float], attack: Attack
) -> None:
    assert area_over_worlds(attack, gaussian_world, auc) > 0.5 + NOISE


def test_no_function_takes_the_targets_membership() -> None:
    """`membership` is that of shadows: (models, records), or refused (test_shadows.py)."""
    for name in attacks.scores.__all__:
        member = getattr(attacks.scores, name)
        for parameter in inspect.signature(member).parameters:
            assert "member" not in parameter or parameter == "membership", (name, parameter)
            if parameter == "membership":
                assert "shadows" in inspect.signature(member).parameters, name
