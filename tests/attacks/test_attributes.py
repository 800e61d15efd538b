"""Attribute inference: a planted attribute is found, and nothing is gained from nothing."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from attacks.attributes import infer_attribute

PATIENTS = 120


def data(leak: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two records a patient: sex, features with it written into them, labels, patients."""
    rng = np.random.default_rng(0)
    sex = np.repeat(np.where(rng.random(PATIENTS) < 0.4, "F", "M"), 2)
    features = rng.normal(size=(2 * PATIENTS, 5))
    features[:, 0] += leak * (sex == "F")
    return sex, features, rng.normal(size=(2 * PATIENTS, 2)), np.repeat(np.arange(PATIENTS), 2)


def test_a_written_attribute_is_found() -> None:
    sex, features, labels, patients = data(4.0)
    found = infer_attribute("sex", sex, features, labels, patients, resamples=100)
    assert found.classes == ("F", "M")
    assert (found.patients, found.prior) == (PATIENTS, 0.5)
    assert found.auc.with_model > 0.95
    assert found.auc.low > 0.2
    assert found.balanced_accuracy.low > 0.2
    assert found.auc.low <= found.auc.difference <= found.auc.high
    # Not far from one classifier that saw everyone.
    reference = LogisticRegression().fit(features, sex == "F").predict_proba(features)[:, 1]
    assert found.auc.with_model > roc_auc_score(sex == "F", reference) - 0.05


def test_features_that_hold_nothing_gain_nothing() -> None:
    """By construction where they are constant; up to chance where they are noise."""
    sex, features, labels, patients = data(0.0)
    flat = infer_attribute("sex", sex, np.ones((len(sex), 3)), labels, patients, resamples=50)
    for gain in (flat.auc, flat.balanced_accuracy):
        assert (gain.difference, gain.low, gain.high) == (0.0, 0.0, 0.0)
    nothing = infer_attribute("sex", sex, features, np.zeros((len(sex), 0)), patients, resamples=50)
    assert nothing.auc.without_model == 0.5
    assert nothing.balanced_accuracy.without_model == 0.5
    # Standard error of the area of 120 patients 0.054.
    assert abs(nothing.auc.with_model - 0.5) < 5 * 0.054


def test_what_everyone_knows_is_no_leak() -> None:
    sex, features, _, patients = data(4.0)
    both = infer_attribute("sex", sex, features, features, patients, resamples=100)
    assert both.auc.without_model > 0.95
    assert abs(both.auc.difference) < 0.05


def test_several_values_and_refusals() -> None:
    sex, features, labels, patients = data(0.0)
    band = np.repeat(np.arange(PATIENTS) % 3, 2).astype(str)
    written = np.eye(3)[band.astype(int)] + 0.1 * features[:, :3]
    found = infer_attribute("age band", band, written, labels, patients, resamples=20)
    assert found.prior == 1 / 3
    assert found.balanced_accuracy.with_model > 0.95
    mixed = np.where(np.arange(len(sex)) % 2, "F", "M")
    with pytest.raises(ValueError, match="two values of sex"):
        infer_attribute("sex", mixed, features, labels, patients)
    rare = np.where(patients < 3, "F", "M")
    with pytest.raises(ValueError, match="at least 10"):
        infer_attribute("sex", rare, features, labels, patients)
    with pytest.raises(ValueError, match="one row a record"):
        infer_attribute("sex", sex, features[1:], labels, patients)
