"""Signals against plain formulas, at both ends of the range, and with unknown labels."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.scores import (
    class_log_probability,
    class_logit,
    joint_log_probability,
    joint_logit,
    label_losses,
    label_signals,
    mean_loss,
)

NAN = math.nan
LOGITS = st.lists(st.floats(-20, 20), min_size=1, max_size=6)


def sigmoid(s: float) -> float:
    return 1.0 / (1.0 + math.exp(-s))


@settings(deadline=None, max_examples=60)
@given(LOGITS, st.integers(0, 2**32 - 1))
def test_label_signals_are_log_odds_of_the_truth(logits: list[float], seed: int) -> None:
    labels = np.random.default_rng(seed).choice([0.0, 1.0, NAN], len(logits))
    found = label_signals([logits], [labels])[0]
    losses = label_losses([logits], [labels])[0]
    for z, y, s, loss in zip(logits, labels, found, losses, strict=True):
        if math.isnan(y):
            assert math.isnan(s)
            assert math.isnan(loss)
        else:
            p = sigmoid(z) if y else sigmoid(-z)
            wrong = sigmoid(-z) if y else sigmoid(z)
            assert s == pytest.approx(math.log(p / wrong), abs=1e-9)
            assert loss == pytest.approx(-math.log(p), abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(LOGITS, st.integers(0, 2**32 - 1))
def test_joint_signals_are_products(logits: list[float], seed: int) -> None:
    labels = np.random.default_rng(seed).choice([0.0, 1.0, NAN], len(logits))
    known = [(z if y else -z) for z, y in zip(logits, labels, strict=True) if not math.isnan(y)]
    log_p = float(joint_log_probability([logits], [labels])[0])
    logit = float(joint_logit([logits], [labels])[0])
    if not known:
        assert log_p == 0.0
        assert math.isnan(logit)
        return
    # Exact rational arithmetic on the probabilities: no cancellation to hide.
    product = Fraction(1)
    for s in known:
        weight = Fraction(math.exp(s))
        product *= weight / (1 + weight)
    assert log_p == pytest.approx(math.log(product), abs=1e-9)
    expected = math.log(product) - math.log(1 - product)
    assert logit == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_one_known_label_makes_the_joint_logit_the_label_signal() -> None:
    logits = np.array([[3.0, 900.0], [-900.0, 1.0], [900.0, 2.0]])
    labels = np.array([[1.0, NAN], [1.0, NAN], [1.0, NAN]])
    np.testing.assert_allclose(joint_logit(logits, labels), [3.0, -900.0, 900.0])


def test_certain_models_give_finite_signals() -> None:
    logits = np.array([[800.0, -800.0], [-800.0, 800.0], [0.0, 0.0]])
    labels = np.array([[1.0, 0.0]] * 3)
    found = joint_logit(logits, labels)
    assert found[0] == pytest.approx(800.0 - math.log(2.0))
    assert found[1] == pytest.approx(-1600.0)
    assert found[2] == pytest.approx(math.log(0.25 / 0.75))
    assert joint_log_probability(logits, labels)[1] == pytest.approx(-1600.0)
    assert class_logit([[800.0, 0.0]], [0])[0] == 800.0
    assert class_log_probability([[0.0, 800.0]], [0])[0] == -800.0


def test_unknown_labels_reach_nothing() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 30, 4))
    labels = rng.choice([0.0, 1.0, NAN], (30, 4))
    for other in (1e300, NAN, math.inf):
        changed = np.where(np.isnan(labels), other, logits)
        for signal in (label_signals, label_losses, joint_logit, joint_log_probability):
            np.testing.assert_array_equal(signal(logits, labels), signal(changed, labels))


def test_models_are_a_leading_axis() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(5, 30, 4))
    labels = rng.choice([0.0, 1.0, NAN], (30, 4))
    for signal in (label_signals, label_losses, joint_logit, joint_log_probability):
        together = signal(logits, labels)
        for model in range(5):
            np.testing.assert_array_equal(together[model], signal(logits[model], labels))
    classes = rng.integers(0, 4, 30)
    np.testing.assert_array_equal(class_logit(logits, classes)[3], class_logit(logits[3], classes))


def test_class_signals_are_log_odds_of_a_softmax() -> None:
    rng = np.random.default_rng(2)
    logits, classes = rng.normal(0, 3, (50, 5)), rng.integers(0, 5, 50)
    for row, y, s, log_p in zip(
        logits,
        classes,
        class_logit(logits, classes),
        class_log_probability(logits, classes),
        strict=True,
    ):
        p = np.exp(row) / np.exp(row).sum()
        assert s == pytest.approx(math.log(p[y]) - math.log(1 - p[y]))
        assert log_p == pytest.approx(math.log(p[y]))


def test_mean_loss_counts_known_labels_only() -> None:
    np.testing.assert_array_equal(
        mean_loss([[1.0, 2.0, NAN], [NAN, NAN, NAN], [3.0, NAN, NAN]]), [1.5, NAN, 3.0]
    )


@pytest.mark.parametrize(
    ("logits", "labels", "said"),
    [
        ([[1.0, 2.0]], [[1.0]], "shape"),
        ([1.0], [[1.0]], "shape"),
        ([[1.0]], [[0.5]], "labels must be"),
        ([[math.inf]], [[1.0]], "finite"),
        ([[NAN]], [[1.0]], "finite"),
    ],
)
def test_refused(logits: list[float], labels: list[list[float]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        label_signals(logits, labels)


@pytest.mark.parametrize(
    ("logits", "classes", "said"),
    [
        ([[1.0, 2.0]], [2], "from 0 to 1"),
        ([[1.0, 2.0]], [-1], "from 0 to 1"),
        ([[1.0, 2.0]], [0.0], "whole"),
        ([[1.0, 2.0]], [0, 1], "shape"),
        ([[1.0]], [0], "two classes"),
        ([[1.0, NAN]], [0], "finite"),
    ],
)
def test_classes_refused(logits: list[list[float]], classes: list[float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        class_logit(logits, classes)
