"""What is asked of shadows, and that a target hidden among them is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from attacks.scores import calibrated_loss, lira, lira_covariance, rmia, rmia_log_ratio, stacked

Attack = Callable[[Any, Any, Any], Any]
ATTACKS: dict[str, Attack] = {
    "lira": lira,
    "lira_covariance": lambda own, others, coins: lira_covariance(
        own[:, np.newaxis], others[..., np.newaxis], coins
    ),
    "rmia_log_ratio": rmia_log_ratio,
    "calibrated_loss": calibrated_loss,
    "stacked": lambda own, others, coins: stacked(
        own[:, np.newaxis], others[..., np.newaxis], coins
    ),
}


@pytest.fixture
def arrays() -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    coins = np.tile([[True], [False]], (4, 20))
    return -rng.exponential(size=20), -rng.exponential(size=(8, 20)), coins


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_the_target_may_not_be_its_own_shadow(attack: Attack, arrays: tuple[Any, Any, Any]) -> None:
    target, shadows, coins = arrays
    attack(target, shadows, coins)
    shadows[5] = target
    with pytest.raises(ValueError, match="shadow 5 is the target"):
        attack(target, shadows, coins)


def test_a_population_may_not_hold_it_either(arrays: tuple[Any, Any, Any]) -> None:
    target, shadows, coins = arrays
    rng = np.random.default_rng(1)
    own, others = -rng.exponential(size=30), -rng.exponential(size=(8, 30))
    rmia(target, shadows, coins, own, others)
    others[2] = own
    with pytest.raises(ValueError, match="shadow 2 is the target"):
        rmia(target, shadows, coins, own, others)


def test_models_of_few_outputs_may_agree() -> None:
    rng = np.random.default_rng(2)
    target = rng.integers(0, 3, 20).astype(float)
    shadows = rng.integers(0, 3, (8, 20)).astype(float)
    shadows[5] = target
    assert np.isfinite(lira(target, shadows, np.tile([[True], [False]], (4, 20)))).all()


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_coins_are_those_of_the_shadows(attack: Attack, arrays: tuple[Any, Any, Any]) -> None:
    target, shadows, coins = arrays
    for wrong in (coins[0], coins[:, :5], coins[:3], coins.T):
        with pytest.raises(ValueError, match="membership must be of shape"):
            attack(target, shadows, wrong)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_arguments_are_left_as_they_were(attack: Attack, arrays: tuple[Any, Any, Any]) -> None:
    before = [part.copy() for part in arrays]
    attack(*arrays)
    for part, old in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(part, old)
