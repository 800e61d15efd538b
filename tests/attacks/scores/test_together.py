"""The attacks on trained models: overfitted they give their patients away, drowned in noise not.

Ridge regressions of several labels on more features than half of the patients can pin down, and a
third of the labels unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from attacks.scores import (
    joint_log_probability,
    joint_logit,
    label_losses,
    label_signals,
    lira,
    lira_covariance,
    loss,
    rmia,
    stacked,
    tune_rmia,
)
from attacks.scores.shadows import leave_one_out

Array = npt.NDArray[np.float64]
Area = Callable[..., float]
MODELS, RECORDS, FEATURES, LABELS = 49, 300, 60, 4


class Study:
    """Logits of a target and of its shadows on audited records and on strangers."""

    def __init__(self, seed: int, noise: float) -> None:
        rng = np.random.default_rng(seed)
        inputs = rng.normal(size=(RECORDS + 400, FEATURES))
        truth = inputs @ rng.normal(size=(FEATURES, LABELS)) / 4
        truth += rng.normal(0, 3.0, truth.shape)
        labels = (truth > 0).astype(float)
        labels[rng.random(labels.shape) < 1 / 3] = np.nan
        self.coins = rng.random((MODELS, RECORDS)) < 0.5
        logits = np.empty((MODELS, RECORDS + 400, LABELS))
        for model in range(MODELS):
            x, y = inputs[:RECORDS][self.coins[model]], labels[:RECORDS][self.coins[model]]
            # An unknown label asks nothing of the model.
            goal = np.where(np.isnan(y), 0.0, 2 * y - 1)
            weights = np.linalg.solve(x.T @ x + 0.1 * np.eye(FEATURES), x.T @ goal)
            weights += noise * rng.normal(size=weights.shape)
            logits[model] = 4 * inputs @ weights
        self.logits, self.strangers = logits[:, :RECORDS], logits[:, RECORDS:]
        self.labels, self.foreign = labels[:RECORDS], labels[RECORDS:]


def areas(noise: float, auc: Area, studies: int = 3) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for seed in range(studies):
        study = Study(seed, noise)
        coins, members = study.coins[1:], study.coins[0]
        signals = label_signals(study.logits, study.labels)
        joint = joint_logit(study.logits, study.labels)
        logs = joint_log_probability(study.logits, study.labels)
        foreign = joint_log_probability(study.strangers, study.foreign)
        a = tune_rmia(logs[1:], coins, references=range(4))
        known = ~np.isnan(study.labels).all(axis=1)

        def features(model: int, others: Any, joint: Array = joint, study: Study = study) -> Array:
            inside = study.coins[others]
            whole = lira(joint[model], joint[others], inside, variance="pooled")
            summed = label_signals(study.logits, study.labels)
            each = lira(summed[model], summed[others], inside, variance="pooled")
            return np.stack([whole, each], axis=-1)

        everyone = np.arange(1, MODELS)
        shadows = np.stack([features(m + 1, everyone[o]) for m, o in leave_one_out(MODELS - 1)])
        scores = {
            "lira summed": lira(signals[0], signals[1:], coins),
            "lira summed online": lira(signals[0], signals[1:], coins, mode="online"),
            "lira joint": lira(joint[0], joint[1:], coins),
            "lira covariance": lira_covariance(signals[0], signals[1:], coins),
            "rmia": rmia(logs[0], logs[1:], coins, foreign[0], foreign[1:], a=a),
            "stacked": stacked(features(0, everyone), shadows, coins),
        }
        for name, score in scores.items():
            assert np.isfinite(score).all(), name
            found.setdefault(name, []).append(auc(score, members))
        losses = loss(label_losses(study.logits[0], study.labels)[known])
        found.setdefault("loss", []).append(auc(losses, members[known]))
    return {name: float(np.mean(values)) for name, values in found.items()}


@pytest.fixture(scope="module")
def overfitted(auc: Area) -> dict[str, float]:
    return areas(0.0, auc)


NAMES = [
    "lira summed",
    "lira summed online",
    "lira joint",
    "lira covariance",
    "rmia",
    "stacked",
    "loss",
]


@pytest.mark.parametrize("name", NAMES)
def test_overfitted_models_give_their_patients_away(
    overfitted: dict[str, float], name: str
) -> None:
    assert set(overfitted) == set(NAMES)
    # About 450 a side: standard error √(1/(6·450)) of a chance attack.
    assert overfitted[name] > 0.5 + 5 * math.sqrt(1 / (6 * 450))
    if name in ("lira summed online", "lira joint", "rmia"):
        assert overfitted[name] > overfitted["loss"]


def test_models_drowned_in_noise_do_not(auc: Area) -> None:
    for name, area in areas(50.0, auc).items():
        assert abs(area - 0.5) < 5 * math.sqrt(1 / (6 * 440)), name
