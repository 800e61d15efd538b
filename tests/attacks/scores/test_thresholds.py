"""Attacks with one threshold, against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from attacks.scores import (
    calibrated_loss,
    class_logit,
    entropy,
    label_entropy,
    label_losses,
    label_modified_entropy,
    loss,
    modified_entropy,
)

NAN = math.nan


def test_loss_is_turned_round() -> None:
    np.testing.assert_array_equal(loss([0.0, 2.0]), [0.0, -2.0])
    np.testing.assert_array_equal(loss([[1.0, NAN], [1.0, 3.0]]), [-1.0, -2.0])


def test_entropies_of_a_softmax_are_their_sums() -> None:
    rng = np.random.default_rng(0)
    logits, classes = rng.normal(0, 3, (60, 4)), rng.integers(0, 4, 60)
    plain, modified = entropy(logits), modified_entropy(logits, classes)
    for record, (row, y) in enumerate(zip(logits, classes, strict=True)):
        p = np.exp(row) / np.exp(row).sum()
        assert plain[record] == pytest.approx(sum(x * math.log(x) for x in p))
        expected = (1 - p[y]) * math.log(p[y])
        expected += sum(p[c] * math.log(1 - p[c]) for c in range(4) if c != y)
        assert modified[record] == pytest.approx(expected)


def test_entropies_of_sigmoids_are_those_of_two_classes() -> None:
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(0, 3, (60, 3)), rng.choice([0.0, 1.0, NAN], (60, 3))
    labels[:, 0] = rng.integers(0, 2, 60)
    plain, modified = label_entropy(logits, labels), label_modified_entropy(logits, labels)
    for record in range(60):
        known = np.flatnonzero(~np.isnan(labels[record]))
        pairs = np.stack([np.zeros(known.size), logits[record, known]], axis=1)
        truth = labels[record, known].astype(int)
        assert plain[record] == pytest.approx(entropy(pairs).mean())
        assert modified[record] == pytest.approx(modified_entropy(pairs, truth).mean())


def test_only_the_modified_entropy_tells_surely_wrong_from_surely_right() -> None:
    logits = [[30.0, 0.0], [30.0, 0.0]]
    right, wrong = modified_entropy(logits, [0, 1])
    assert right > -1e-9
    assert wrong == pytest.approx(-60.0)
    assert entropy(logits)[0] == entropy(logits)[1]


@pytest.mark.parametrize("classes", [2, 3, 5, 7, 12, 40])
def test_a_model_that_says_the_same_of_every_record_ties_them_exactly(classes: int) -> None:
    """Whatever it says and whatever the truth is: a last digit must not rank records by label."""
    constants = np.array([0.0, 1.3, -2.7, 11.1, 900.0])
    logits = np.repeat(constants, classes)[:, np.newaxis] * np.ones(classes)
    truth = np.tile(np.arange(classes), constants.size)
    for found in (entropy(logits), modified_entropy(logits, truth), class_logit(logits, truth)):
        assert np.unique(found).size == 1


def test_the_order_of_the_classes_changes_no_digit() -> None:
    rng = np.random.default_rng(3)
    logits, truth = rng.normal(0, 3, (200, 11)).round(1), rng.integers(0, 11, 200)
    order = rng.permutation(11)
    np.testing.assert_array_equal(entropy(logits[:, order]), entropy(logits))
    np.testing.assert_array_equal(
        modified_entropy(logits[:, order], np.argsort(order)[truth]),
        modified_entropy(logits, truth),
    )


def test_classes_that_share_the_largest_logit_are_told_apart_by_nothing() -> None:
    logits = np.array([[0.1, 2.3, 2.3, 2.3, -1.0]] * 3)
    assert np.unique(modified_entropy(logits, [1, 2, 3])).size == 1


def test_certain_models_give_finite_scores() -> None:
    logits = np.array([[900.0, 0.0, -900.0], [0.0, 0.0, 0.0]])
    for y in range(3):
        assert np.isfinite(modified_entropy(logits, [y, y])).all()
    assert np.isfinite(entropy(logits)).all()
    for y in (0.0, 1.0):
        truth = np.full((2, 3), y)
        assert np.isfinite(label_entropy(logits, truth)).all()
        assert np.isfinite(label_modified_entropy(logits, truth)).all()


def test_calibrated_loss_uses_the_shadows_without_the_record() -> None:
    rng = np.random.default_rng(2)
    target, shadows = rng.exponential(size=40), rng.exponential(size=(9, 40))
    inside = rng.random((9, 40)) < 0.5
    inside[0] = False
    found = calibrated_loss(target, shadows, inside)
    for record in range(40):
        usual = [shadows[m, record] for m in range(9) if not inside[m, record]]
        assert found[record] == pytest.approx(np.mean(usual) - target[record])
    # Nothing that a shadow says of its own members matters.
    np.testing.assert_array_equal(
        found, calibrated_loss(target, np.where(inside, 1e6, shadows), inside)
    )


def test_unknown_labels_reach_no_score() -> None:
    rng = np.random.default_rng(3)
    logits, labels = rng.normal(size=(30, 4)), rng.choice([0.0, 1.0, NAN], (30, 4))
    labels[:, 0] = 1.0
    for other in (1e300, NAN, math.inf):
        changed = np.where(np.isnan(labels), other, logits)
        for score in (label_entropy, label_modified_entropy):
            np.testing.assert_array_equal(score(logits, labels), score(changed, labels))
        np.testing.assert_array_equal(
            loss(label_losses(logits, labels)), loss(label_losses(changed, labels))
        )


def test_records_of_which_nothing_is_known_are_refused() -> None:
    for score in (label_entropy, label_modified_entropy):
        with pytest.raises(ValueError, match="nothing is known of record 1"):
            score([[1.0], [1.0]], [[1.0], [NAN]])
    with pytest.raises(ValueError, match="nothing is known of record 0"):
        loss([[NAN, NAN]])


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="axes"):
        entropy([1.0, 2.0])
    with pytest.raises(ValueError, match="axes"):
        modified_entropy(np.zeros((2, 3, 4)), np.zeros(3, dtype=int))
    with pytest.raises(ValueError, match="axes"):
        label_entropy(np.zeros((2, 3, 4)), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="finite"):
        loss([math.inf])
    with pytest.raises(ValueError, match="needs 1"):
        calibrated_loss([1.0], [[1.0]], [[True]])
