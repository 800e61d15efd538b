"""A cell's point estimates against scikit-learn; the interval's unit is the patient."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from privfin.errors import DataError
from privfin.evaluation import bootstrap
from privfin.evaluation.calibration import expected_calibration_error
from privfin.evaluation.cells import CellResult, evaluate_cell

Floats = npt.NDArray[np.float64]


def make_cell(seed: int, records: int = 300, labels: int = 3) -> tuple[Floats, Floats, Floats]:
    random = np.random.default_rng(seed)
    truth = (random.random((records, labels)) < 0.3).astype(float)
    scores = truth + random.normal(size=truth.shape)
    truth[random.random(truth.shape) < 0.2] = math.nan
    return scores, truth, random.integers(records // 3, size=records)


def width(result: CellResult) -> float:
    return result.macro_auroc_high - result.macro_auroc_low


def test_point_estimates_match_scikit_learn() -> None:
    scores, labels, patients = make_cell(1)
    result = evaluate_cell(scores, labels, patients, label_names=["a", "b", "c"], seed=1)
    areas, precisions = [], []
    for at, found in enumerate(result.labels):
        known = ~np.isnan(labels[:, at])
        areas.append(roc_auc_score(labels[known, at], scores[known, at]))
        precisions.append(average_precision_score(labels[known, at], scores[known, at]))
        assert found.name == "abc"[at]
        assert found.auroc == pytest.approx(areas[-1])
        assert found.auprc == pytest.approx(precisions[-1])
        assert found.positives == (labels[:, at] == 1).sum()
        assert found.negatives == (labels[:, at] == 0).sum()
    assert result.macro_auroc == pytest.approx(np.mean(areas))
    assert result.macro_auprc == pytest.approx(np.mean(precisions))
    assert result.left_out == {}
    assert (result.records, result.patients) == (300, np.unique(patients).size)
    assert result.replicates_used == result.bootstrap == 500
    assert result.macro_auroc_low < result.macro_auroc < result.macro_auroc_high


def test_labels_without_both_classes_are_left_out_and_named() -> None:
    scores, labels, patients = make_cell(2, labels=4)
    labels[:, 0] = np.where(np.isnan(labels[:, 0]), math.nan, 0.0)
    labels[:, 1] = 1.0
    labels[:, 2] = math.nan
    names = ["none sick", "all sick", "unknown", "fine"]
    result = evaluate_cell(scores, labels, patients, label_names=names, seed=1, bootstrap=50)
    assert result.left_out == {
        "none sick": "no positive record",
        "all sick": "no negative record",
        "unknown": "no record where it is known",
    }
    assert result.macro_auroc == result.labels[3].auroc
    assert result.macro_auprc == result.labels[3].auprc
    assert [label.positives for label in result.labels[:3]] == [0, 300, 0]
    assert [label.negatives for label in result.labels[1:3]] == [0, 0]


def test_nothing_to_evaluate() -> None:
    empty = evaluate_cell(
        np.empty((0, 2)), np.empty((0, 2)), [], label_names=["a", "b"], seed=1, bootstrap=10
    )
    assert (empty.records, empty.patients, empty.replicates_used) == (0, 0, 0)
    assert len(empty.left_out) == 2
    for value in (empty.macro_auroc, empty.macro_auprc, width(empty)):
        assert math.isnan(value)


def test_json_has_no_nan() -> None:
    scores, labels, patients = make_cell(3)
    labels[:, 0] = math.nan
    result = evaluate_cell(
        scores, labels, patients, label_names=["a", "b", "c"], seed=1, bootstrap=0
    )
    stored = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert stored["macro_auroc_low"] is None
    assert stored["labels"][0] == {
        "name": "a",
        "positives": 0,
        "negatives": 0,
        "auroc": None,
        "auroc_low": None,
        "auroc_high": None,
        "auprc": None,
        "auprc_low": None,
        "auprc_high": None,
        "ece": None,
        "brier": None,
        "left_out": "no record where it is known",
    }
    assert stored["labels"][1]["left_out"] is None
    assert stored["left_out"] == {"a": "no record where it is known"}
    assert stored["macro_auroc"] == pytest.approx(result.macro_auroc)


def test_the_seed_decides_the_interval_and_chunks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels, patients = make_cell(4)

    def run(seed: int) -> dict[str, Any]:
        return evaluate_cell(
            scores, labels, patients, label_names=["a", "b", "c"], seed=seed, bootstrap=64
        ).to_dict()

    whole = run(1)
    assert run(1) == whole
    assert run(2)["macro_auroc_low"] != whole["macro_auroc_low"]
    monkeypatch.setattr(bootstrap, "_WEIGHTS_AT_ONCE", 1000)
    assert run(1) == whole


def test_names_and_numbers_of_patients_are_the_same() -> None:
    scores, labels, patients = make_cell(5)
    arguments: dict[str, Any] = {"label_names": ["a", "b", "c"], "seed": 1, "bootstrap": 40}
    named = [f"patient {number:04}" for number in patients]
    first = evaluate_cell(scores, labels, named, **arguments).to_dict()
    assert first == evaluate_cell(scores, labels, patients, **arguments).to_dict()


def test_the_interval_matches_a_plain_loop() -> None:
    scores, labels, patients = make_cell(6, records=90, labels=2)
    result = evaluate_cell(
        scores, labels, patients, label_names=["a", "b"], seed=3, bootstrap=60, confidence=0.8
    )
    ids = np.unique(patients)
    random = np.random.default_rng(3)
    by_metric: dict[str, list[list[float]]] = {"auroc": [], "auprc": []}
    for _ in range(60):
        drawn = ids[random.integers(ids.size, size=ids.size)]
        rows = np.concatenate([np.flatnonzero(patients == patient) for patient in drawn])
        for name, measure in (("auroc", roc_auc_score), ("auprc", average_precision_score)):
            known = [rows[~np.isnan(labels[rows, at])] for at in range(2)]
            assert all(np.unique(labels[known[at], at]).size == 2 for at in range(2))
            areas = [measure(labels[known[at], at], scores[known[at], at]) for at in range(2)]
            by_metric[name].append(areas)
    for name, areas in by_metric.items():
        low, high = np.quantile(np.mean(areas, axis=1), [0.1, 0.9])
        assert getattr(result, f"macro_{name}_low") == pytest.approx(low)
        assert getattr(result, f"macro_{name}_high") == pytest.approx(high)
        for at, label in enumerate(result.labels):
            low, high = np.quantile(np.array(areas)[:, at], [0.1, 0.9])
            assert getattr(label, f"{name}_low") == pytest.approx(low)
            assert getattr(label, f"{name}_high") == pytest.approx(high)


def test_macro_calibration_is_the_mean_over_the_labels_of_the_macro_figures() -> None:
    scores, labels, patients = make_cell(8)
    chances = 1 / (1 + np.exp(-scores))
    labels[:, 0] = np.where(np.isnan(labels[:, 0]), math.nan, 0.0)
    result = evaluate_cell(
        chances,
        labels,
        patients,
        label_names=["a", "b", "c"],
        seed=1,
        bootstrap=0,
        calibration_bins=7,
    )
    for at, label in enumerate(result.labels):
        known = ~np.isnan(labels[:, at])
        assert label.brier == pytest.approx(brier_score_loss(labels[known, at], chances[known, at]))
        assert label.ece == expected_calibration_error(chances[known, at], labels[known, at], 7)
    assert result.macro_brier == pytest.approx(np.mean([x.brier for x in result.labels[1:]]))
    assert result.macro_ece == pytest.approx(np.mean([x.ece for x in result.labels[1:]]))
    assert result.calibration_bins == 7


def clustered(seed: int) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """60 patients with 20 nearly identical records each."""
    random = np.random.default_rng(seed)
    truth = (np.arange(60) % 2).astype(float)
    of_patient = truth + random.normal(size=60)
    patients = np.repeat(np.arange(60), 20)
    scores = of_patient[patients] + 0.01 * random.normal(size=patients.size)
    return scores[:, None], truth[patients][:, None], patients


def test_patients_not_records_are_the_unit() -> None:
    scores, labels, patients = clustered(7)
    by_patient = evaluate_cell(scores, labels, patients, label_names=["a"], seed=1)
    by_record = evaluate_cell(scores, labels, np.arange(patients.size), label_names=["a"], seed=1)
    assert by_patient.macro_auroc == by_record.macro_auroc
    # In theory sqrt(20) = 4.5 times as wide.
    assert width(by_patient) > 3.0 * width(by_record)
    # 20 copies of a patient say as little as one record of that patient.
    once = np.arange(0, patients.size, 20)
    single = evaluate_cell(scores[once], labels[once], patients[once], label_names=["a"], seed=1)
    assert width(by_patient) == pytest.approx(width(single), rel=0.1)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    # Scores of the classes are N(1, 1) and N(0, 1): the true AUROC is Phi(1 / sqrt(2)).
    truth = 0.5 * (1 + math.erf(0.5))
    covered, runs = {"patient": 0, "record": 0}, 150
    for seed in range(runs):
        scores, labels, patients = clustered(1000 + seed)
        for unit, ids in (("patient", patients), ("record", np.arange(patients.size))):
            result = evaluate_cell(
                scores, labels, ids, label_names=["a"], seed=seed, bootstrap=120, confidence=0.9
            )
            covered[unit] += result.macro_auroc_low <= truth <= result.macro_auroc_high
    # A coverage of 0.87 gives fewer than 105 of 150 less than once in a million; drawing records
    # covers about a third of the time.
    assert covered["patient"] >= 105
    assert covered["record"] < 85


def test_a_label_missing_from_a_replicate_is_left_out_of_that_replicate_only() -> None:
    # One patient holds the only positive of label b, so about 37 % of replicates lack it.
    scores = np.array([[at, at] for at in range(12)], dtype=float)
    labels = np.zeros((12, 2))
    labels[6:, 0] = 1.0
    labels[0, 1] = 1.0
    result = evaluate_cell(
        scores, labels, np.arange(12), label_names=["a", "b"], seed=1, bootstrap=200
    )
    assert result.labels[0].auroc == 1.0
    assert result.labels[1].auroc == 0.0
    assert result.macro_auroc == 0.5
    assert result.macro_auroc_high == 1.0
    assert result.replicates_used == 200


def test_replicates_without_any_label_are_counted_out() -> None:
    result = evaluate_cell(
        [[0.1], [0.9], [0.5]], [[0], [1], [0]], [1, 2, 3], label_names=["a"], seed=1, bootstrap=400
    )
    assert 200 < result.replicates_used < 400
    assert result.macro_auroc_low == result.macro_auroc_high == 1.0


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"scores": [[math.nan], [1.0]]}, DataError, "score"),
        ({"labels": [[0.5], [1.0]]}, DataError, "labels must be"),
        ({"labels": [[math.inf], [1.0]]}, DataError, "labels must be"),
        ({"scores": [[1.0]]}, ValueError, "scores and labels"),
        ({"scores": [0.0, 1.0], "labels": [0.0, 1.0]}, ValueError, "scores and labels"),
        ({"patient_ids": [1]}, ValueError, "patient ids"),
        ({"label_names": ["a", "b"]}, ValueError, "patient ids"),
        ({"bootstrap": -1}, ValueError, "bootstrap"),
        ({"confidence": 1.0}, ValueError, "confidence"),
        ({"confidence": math.nan}, ValueError, "confidence"),
    ],
)
def test_refused(changed: dict[str, Any], error: type[Exception], said: str) -> None:
    arguments: dict[str, Any] = {
        "scores": [[0.1], [0.9]],
        "labels": [[0.0], [1.0]],
        "patient_ids": [1, 2],
        "label_names": ["a"],
        "seed": 1,
    }
    arguments.update(changed)
    with pytest.raises(error, match=said):
        evaluate_cell(**arguments)
