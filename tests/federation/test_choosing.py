"""Choosing a round: only on patients kept for it, said wherever results and privacy are stated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from privfin.config import RunConfig
from privfin.data.load import load_source
from privfin.data.partition import split_patients, split_validation
from privfin.data.records import Dataset, Record
from privfin.errors import PlanError, UserInputError
from privfin.federation import choosing
from privfin.federation.assessment import predict_scores
from privfin.federation.plan import make_plan
from privfin.federation.prepare import prepare
from privfin.federation.training_run import complete_run, fingerprints, start_run
from privfin.models.segments import assign, flatten, initial_model
from privfin.runs import Run, load_run

ROUNDS = 5


@pytest.fixture
def started(
    tiny: Callable[..., RunConfig], prepared: Any, tmp_path: Path
) -> Callable[..., tuple[Run, RunConfig, Any]]:
    def make(name: str = "run", **options: Any) -> tuple[Run, RunConfig, Any]:
        config = tiny(
            **{
                "training__rounds": ROUNDS,
                "evaluation__choose_round": "validation",
                "data__validation_fraction": 0.2,
                "privacy__reproducible": True,
                **options,
            }
        )
        data = prepared(config)
        plan = make_plan(config, data.declarations)
        return start_run(tmp_path / name, config, plan, data), config, data

    return make


def scores_by_sklearn(run: Run, config: RunConfig, data: Any) -> list[float]:
    """Macro AUROC of every round on the validation patients, by another library."""
    labels = data.validation.batch.labels.numpy()
    model = initial_model(config, labels.shape[1])
    found = []
    for state in run.checkpoints():
        assign(model, state.vector)
        scores = predict_scores(model, data.validation.batch)
        each = []
        for column, truth in zip(scores.T, labels.T, strict=True):
            known = ~np.isnan(truth)
            if len(set(truth[known])) == 2:
                each.append(roc_auc_score(truth[known], column[known]))
        found.append(float(np.mean(each)))
    return found


@given(count=st.integers(10, 300), fraction=st.floats(0.1, 0.9), seed=st.integers(0, 99))
def test_validation_patients_are_drawn_from_the_training_patients(
    count: int, fraction: float, seed: int
) -> None:
    train = [f"p{i}" for i in range(count)]
    kept, validation = split_validation(train, fraction, seed)
    assert sorted([*kept, *validation]) == sorted(train)
    assert len(validation) == round(fraction * count)
    assert [p for p in train if p in set(kept)] == kept
    assert split_validation(train, fraction, seed) == (kept, validation)


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_an_empty_part_is_refused(fraction: float) -> None:
    with pytest.raises(UserInputError, match="validation_fraction"):
        split_validation(["a", "b", "c"], fraction, 0)


def test_nobody_is_in_two_of_training_validation_and_test(started: Callable[..., Any]) -> None:
    _, config, data = started()
    dataset = load_source(config).dataset
    train, test = split_patients(dataset, config.data.test_fraction, config.training.seed)
    validation = set(data.validation.patient_ids)
    assert set(data.test.patient_ids) <= set(test)
    assert validation <= set(train)
    assert len(validation) == round(0.2 * len(train))
    trained_on = sum(len(site.patients) for site in data.sites.values())
    assert trained_on == len(train) - len(validation)
    assert fingerprints(data).keys() == {*data.sites, "held-out", "validation patients"}


def test_the_best_round_by_another_library_is_the_one_reported(
    started: Callable[..., Any],
) -> None:
    run, config, data = started()
    assert complete_run(run, config, data) is not None
    scores = scores_by_sklearn(run, config, data)
    assert len(set(scores)) > 1
    best = int(np.argmax(scores))
    told = run.metrics["chosen_round"]
    assert told["round"] == best + 1
    assert told["macro_auroc_on_validation"] == pytest.approx(scores[best])
    assert told["validation_patients"] == len(set(data.validation.patient_ids))
    assert np.array_equal(flatten(run.model()), list(run.checkpoints())[best].vector)


@pytest.mark.parametrize(
    ("scores", "wanted"), [([3, 1, 2, 0, 1], 1), ([1, 1, 1, 1, 1], 1), ([0, 1, 4, 4, 2], 3)]
)
def test_of_equal_rounds_the_earliest_is_taken(
    started: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    scores: list[float],
    wanted: int,
) -> None:
    run, config, data = started()
    given_scores = iter(scores)
    monkeypatch.setattr(choosing, "validation_auroc", lambda *_: next(given_scores) / 10)
    assert complete_run(run, config, data) is not None
    assert run.metrics["chosen_round"]["round"] == wanted


def test_it_is_stated_as_data_access_and_only_when_it_happens(
    started: Callable[..., Any],
) -> None:
    run, config, data = started()
    assert complete_run(run, config, data) is not None
    last, last_config, last_data = started("last", evaluation__choose_round="last")
    assert complete_run(last, last_config, last_data) is not None
    assert run.metrics["chosen_by"].startswith(f"validation: of {ROUNDS} rounds, round ")
    extra = set(run.privacy["not_covered"]) - set(last.privacy["not_covered"])
    assert len(extra) == 1
    assert extra.pop().startswith("the validation patients: ")
    assert last.metrics["chosen_by"].startswith("nothing: ")
    assert "chosen_round" not in last.metrics
    assert last_data.validation is None
    # Without a choice those patients are trained on.
    count = sum(len(site.patients) for site in last_data.sites.values())
    assert count > sum(len(site.patients) for site in data.sites.values())


def test_a_resumed_run_chooses_the_same_round(started: Callable[..., Any]) -> None:
    whole, config, data = started("whole")
    assert complete_run(whole, config, data) is not None
    run, _, _ = started("cut")
    asked = iter([False, False, True])
    assert complete_run(run, config, data, should_stop=lambda: next(asked)) is None
    assert complete_run(load_run(run.path), config, data) is not None
    assert run.metrics["chosen_round"] == whole.metrics["chosen_round"]
    assert flatten(run.model()).tobytes() == flatten(whole.model()).tobytes()


def test_fine_tuning_starts_from_the_chosen_round(
    started: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from privfin.federation.local_training import LocalTrainer

    run, config, data = started(training__fine_tune_steps=1)
    starts = []
    real = LocalTrainer.fine_tune

    def fine_tune(self: LocalTrainer, start: Any, steps: int) -> Any:
        starts.append(start.tobytes())
        return real(self, start, steps)

    monkeypatch.setattr(LocalTrainer, "fine_tune", fine_tune)
    assert complete_run(run, config, data) is not None
    assert set(starts) == {flatten(run.model()).tobytes()}


@pytest.mark.parametrize("labels", [[], [[1, 0]], [[1, 0], [1, 0]], [[1, np.nan], [np.nan, 0]]])
def test_validation_patients_that_cannot_choose_are_refused_before_training(
    tiny: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, labels: list[list[float]]
) -> None:
    """AUROC needs a positive and a negative of some label; hours of training would be in vain."""
    records = tuple(
        Record(f"r{i}", f"p{i}", {"text": "x"}, np.array(row, dtype=np.float32))
        for i, row in enumerate(labels)
    )
    chosen = Dataset("validation", ("a", "b"), records)
    real = Dataset.of_patients
    monkeypatch.setattr(
        Dataset,
        "of_patients",
        lambda self, ids, name: chosen if name == "validation" else real(self, ids, name),
    )
    with pytest.raises(PlanError, match="both positive and negative validation patients"):
        prepare(tiny(evaluation__choose_round="validation"))
