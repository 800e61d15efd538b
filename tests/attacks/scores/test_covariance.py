"""The covariance-aware LiRA against scipy's densities and on labels that move together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import multivariate_normal, norm

from attacks.scores import lira, lira_covariance

Array = npt.NDArray[np.float64]
Make = Callable[..., Any]
Area = Callable[..., float]
MODES: list[Literal["online", "offline"]] = ["online", "offline"]
COVARIANCES: list[Literal["pooled", "record"]] = ["pooled", "record"]


def correlated(
    seed: int, *, models: int, records: int, rise: Array
) -> tuple[Array, Array, npt.NDArray[np.bool_], npt.NDArray[np.bool_], Array]:
    """Labels with correlation 0.9, of different units; members rise; and the best log-ratio."""
    rng = np.random.default_rng(seed)
    labels = rise.size
    matrix = np.full((labels, labels), 0.9) + 0.1 * np.eye(labels)
    coins = rng.random((models + 1, records)) < 0.5
    z = rng.multivariate_normal(np.zeros(labels), matrix, (models + 1, records))
    z += coins[..., np.newaxis] * rise
    weights = np.linalg.solve(matrix, rise)
    best = z[0] @ weights - 0.5 * rise @ weights
    units = 10.0 ** np.arange(labels)
    signals = rng.normal(size=(records, labels)) * units + z * units
    return signals[0], signals[1:], coins[1:], coins[0], best


@pytest.mark.parametrize("labels", [1, 3])
def test_pooled_agrees_with_scipy(gaussian_world: Make, labels: int) -> None:
    world = gaussian_world(0, models=30, records=40, labels=labels)
    densities, tests = [], []
    for inside in (True, False):
        rows = world.membership == inside
        means = np.array([world.shadows[rows[:, i], i].mean(axis=0) for i in range(40)])
        matrix, freedom = np.zeros((labels, labels)), 0
        for i in range(40):
            off = world.shadows[rows[:, i], i] - means[i]
            matrix += off.T @ off
            freedom += len(off) - 1
        matrix /= freedom
        densities.append(
            [multivariate_normal(means[i], matrix).logpdf(world.target[i]) for i in range(40)]
        )
        weights = np.linalg.inv(matrix) @ np.sqrt(np.diag(matrix))
        off = (world.target - means) @ weights
        tests.append(norm.logcdf(off / math.sqrt(weights @ matrix @ weights)))
    arrays = (world.target, world.shadows, world.membership)
    online = lira_covariance(*arrays, mode="online")
    np.testing.assert_allclose(online, np.subtract(*densities), atol=1e-8)
    np.testing.assert_allclose(lira_covariance(*arrays), tests[1], rtol=1e-8)
    if labels == 1:
        for mode in MODES:
            np.testing.assert_allclose(
                lira_covariance(*arrays, mode=mode),
                lira(*arrays, mode=mode, variance="pooled", centre="mean"),
                rtol=1e-8,
            )


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_reaches_the_best_attack_where_summing_does_not(
    auc: Area, covariance: Literal["pooled", "record"]
) -> None:
    rise = np.array([1.0, 0.0, 0.2, 0.0])
    found: dict[str, list[float]] = {"best": [], "aware": [], "summed": []}
    for seed in range(4):
        *arrays, members, best = correlated(seed, models=400, records=500, rise=rise)
        found["best"].append(auc(best, members))
        aware = lira_covariance(*arrays, mode="online", covariance=covariance)
        found["aware"].append(auc(aware, members))
        found["summed"].append(auc(lira(*arrays, mode="online"), members))
    assert np.mean(found["aware"]) > np.mean(found["best"]) - 0.01
    assert np.mean(found["summed"]) < np.mean(found["best"]) - 0.05


def test_offline_is_close_to_summing_where_labels_are_independent(gaussian_world: Make) -> None:
    world = gaussian_world(1, models=200, records=500, labels=3)
    arrays = (world.target, world.shadows, world.membership)
    aware, summed = lira_covariance(*arrays), lira(*arrays, variance="pooled", centre="mean")
    np.testing.assert_allclose(aware, summed, atol=0.1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_nothing_to_find_is_chance(
    auc: Area,
    mode: Literal["online", "offline"],
    covariance: Literal["pooled", "record"],
) -> None:
    scores, coins = [], []
    for seed in range(4):
        *arrays, members, _ = correlated(seed, models=40, records=500, rise=np.zeros(4))
        scores.append(lira_covariance(*arrays, mode=mode, covariance=covariance))
        coins.append(members)
    found = auc(np.concatenate(scores), np.concatenate(coins))
    assert abs(found - 0.5) < 5 * math.sqrt(1 / (6 * 1000))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_unknown_labels_are_left_out(
    gaussian_world: Make,
    mode: Literal["online", "offline"],
    covariance: Literal["pooled", "record"],
) -> None:
    world = gaussian_world(2, models=30, records=40, labels=4)
    target, shadows = world.target.copy(), world.shadows.copy()
    target[:, 2], shadows[..., 2] = math.nan, math.nan
    rest = [0, 1, 3]
    expected = lira_covariance(
        target[:, rest], shadows[..., rest], world.membership, mode=mode, covariance=covariance
    )
    found = lira_covariance(target, shadows, world.membership, mode=mode, covariance=covariance)
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    # One record of which nothing is known, and others with holes of their own.
    target[0], shadows[:, 0] = math.nan, math.nan
    target[1:20, 0], shadows[:, 1:20, 0] = math.nan, math.nan
    found = lira_covariance(target, shadows, world.membership, mode=mode, covariance=covariance)
    assert np.isfinite(found).all()
    assert found[0] == (0.0 if mode == "online" else math.log(0.5))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_invariances(
    gaussian_world: Make,
    mode: Literal["online", "offline"],
    covariance: Literal["pooled", "record"],
) -> None:
    world = gaussian_world(3, models=30, records=40, labels=3)
    target, shadows, inside = world.target, world.shadows, world.membership

    def attack(own: Any, others: Any, coins: Any) -> Any:
        return lira_covariance(own, others, coins, mode=mode, covariance=covariance)

    found = attack(target, shadows, inside)
    rng = np.random.default_rng(0)
    models, records, labels = (rng.permutation(size) for size in (30, 40, 3))
    near = {"rtol": 1e-7, "atol": 1e-7}
    np.testing.assert_allclose(attack(target, shadows[models], inside[models]), found, **near)
    moved = attack(target[records], shadows[:, records], inside[:, records])
    np.testing.assert_allclose(moved, found[records], **near)
    turned = attack(target[:, labels], shadows[..., labels], inside)
    np.testing.assert_allclose(turned, found, **near)
    units = np.array([0.1, 1.0, 50.0])
    np.testing.assert_allclose(attack(target * units, shadows * units, inside), found, **near)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_labels_that_say_the_same_or_nothing_give_numbers(
    gaussian_world: Make,
    mode: Literal["online", "offline"],
    covariance: Literal["pooled", "record"],
) -> None:
    world = gaussian_world(4, models=30, records=40)
    target = np.stack([world.target, world.target, np.ones(40)], axis=-1)
    shadows = np.stack([world.shadows, world.shadows, np.ones((30, 40))], axis=-1)
    found = lira_covariance(target, shadows, world.membership, mode=mode, covariance=covariance)
    assert np.isfinite(found).all()
    flat = lira_covariance(
        np.ones((40, 3)), np.ones((30, 40, 3)), world.membership, mode=mode, covariance=covariance
    )
    np.testing.assert_allclose(flat, 0.0 if mode == "online" else math.log(0.5), atol=1e-9)


def test_refused(gaussian_world: Make) -> None:
    world = gaussian_world(5, records=10, labels=2)
    arrays: Any = (world.target, world.shadows, world.membership)
    with pytest.raises(ValueError, match="mode"):
        lira_covariance(*arrays, mode="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="covariance"):
        lira_covariance(*arrays, covariance="full")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs 2"):
        lira_covariance(*arrays[:2], np.ones_like(world.membership))
