"""Comparisons that would make an attack look strong are refused; fair ones are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from attacks.errors import AuditRefusedError
from attacks.guards import (
    blind_auc,
    check_blind,
    check_disjoint,
    check_evaluation_mode,
    check_same_recipe,
)


def pool(seed: int, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 8)), rng.random(n) < 0.5


def test_patients_on_both_sides_are_refused() -> None:
    check_disjoint(["a", "b"], ["c"])
    with pytest.raises(AuditRefusedError, match="2 patients are members and non-members"):
        check_disjoint(["a", "b", "b", "c"], ["b", "c", "d"])
    for sides in ((["a"], []), ([], ["a"])):
        with pytest.raises(AuditRefusedError, match="needs members and non-members"):
            check_disjoint(*sides)


def test_fair_coins_over_one_pool_pass() -> None:
    """At a confidence of 99 % one fair pool in a hundred is refused: of 60, hardly ever eight."""
    refused = 0
    for seed in range(60):
        inputs, members = pool(seed)
        refused += blind_auc(inputs, members).low > 0.5
    assert refused <= 7  # binomial(60, 0.01): more has a chance of 7e-8
    assert check_blind(*pool(0)).value < 0.65


def shifted(inputs: np.ndarray, members: np.ndarray) -> np.ndarray:
    """A mean that differs: another hospital, another year."""
    return inputs + 0.4 * members[:, None] * np.eye(inputs.shape[1])[0]


def spread(inputs: np.ndarray, members: np.ndarray) -> np.ndarray:
    """The same mean and another variance: a line through the middle finds nothing."""
    found = inputs.copy()
    found[members, 0] *= 2.5
    return found


def missing(inputs: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Members have a report more often: a difference in what is there at all."""
    has = np.random.default_rng(1).random(len(inputs)) < np.where(members, 0.7, 0.4)
    return np.column_stack([inputs, has])


@pytest.mark.parametrize("change", [shifted, spread, missing])
def test_planted_differences_are_refused(change) -> None:  # type: ignore[no-untyped-def]
    inputs, members = pool(3, 1000)
    with pytest.raises(AuditRefusedError, match="before any model has seen them"):
        check_blind(change(inputs, members), members)


def test_records_of_one_patient_do_not_vouch_for_each_other() -> None:
    """Each patient's records are alike. By record the folds would leak; by patient they do not."""
    rng = np.random.default_rng(4)
    patients = np.repeat(np.arange(60), 10)
    inputs = rng.normal(size=(60, 6))[patients] + 0.01 * rng.normal(size=(600, 6))
    members = (rng.random(60) < 0.5)[patients]
    naive = blind_auc(inputs, members)
    assert naive.low > 0.8  # why the guard needs to know who is who
    assert blind_auc(inputs, members, patients=patients).low < 0.5


def test_a_verdict_does_not_depend_on_the_order_of_features_or_scale() -> None:
    inputs, members = pool(5, 600)
    inputs = shifted(inputs, members)
    first = blind_auc(inputs, members)
    assert first.low > 0.5
    assert blind_auc(1e6 * inputs[:, ::-1] + 3, members).value == pytest.approx(
        first.value, abs=0.02
    )


def test_wrong_tables_are_named() -> None:
    inputs, members = pool(6, 60)
    for bad, who in ((inputs[0], members), (np.full((50, 2), np.nan), members)):
        with pytest.raises(ValueError, match="finite"):
            blind_auc(bad, who)
    with pytest.raises(ValueError, match="one patient a record"):
        blind_auc(inputs, members, patients=np.arange(3))
    with pytest.raises(ValueError, match="at least 10 patients"):
        blind_auc(inputs, members, patients=np.where(members, 1, np.arange(60)))


def test_a_model_in_training_mode_is_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(), nn.Linear(2, 1)))
    with pytest.raises(AuditRefusedError, match="evaluation mode"):
        check_evaluation_mode(model)
    model.eval()
    check_evaluation_mode(model)
    model[1][0].train()
    with pytest.raises(AuditRefusedError, match=r"its module '1\.0' trains"):
        check_evaluation_mode(model)
    assert isinstance(model(torch.zeros(1, 2)), torch.Tensor)


def test_another_recipe_is_refused_and_named() -> None:
    recipe = {"loss": "bce", "rounds": 30, "sigma": 1.2, "imputer": "fin"}
    check_same_recipe(recipe, dict(recipe))
    for change, named in (
        ({"imputer": "zero"}, "imputer"),
        ({"rounds": 3, "sigma": 0.0}, "rounds, sigma"),
        ({"sites": 4}, "sites"),
    ):
        with pytest.raises(AuditRefusedError, match=f": {named} differ"):
            check_same_recipe(recipe, {**recipe, **change})
    with pytest.raises(AuditRefusedError, match="loss differ"):
        check_same_recipe(recipe, {k: v for k, v in recipe.items() if k != "loss"})
