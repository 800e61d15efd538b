"""Results by group: the right records in the right cell, and small groups named but not shown."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from privfin.config import RunConfig
from privfin.evaluation.cells import evaluate_cell
from privfin.evaluation.groups import Groups
from privfin.federation.assessment import assess, assess_groups, predict_scores
from privfin.federation.prepare import PreparedData, TestData
from privfin.models.multimodal import MultimodalModel
from privfin.models.segments import initial_model

LABELS = tuple(f"label {i}" for i in range(14))
Prepared = Callable[[RunConfig], PreparedData]


@pytest.fixture
def case(
    tiny: Callable[..., RunConfig], prepared: Prepared
) -> tuple[RunConfig, TestData, MultimodalModel]:
    """Held-out records of known sex and age; three of the patients are 90."""
    config = tiny(evaluation__smallest_group=10)
    test = prepared(config).test
    patients = {p: i for i, p in enumerate(dict.fromkeys(test.patient_ids))}
    number = [patients[p] for p in test.patient_ids]
    return (
        config,
        replace(
            test,
            sex=tuple("F" if i % 3 else "M" for i in number),
            age=tuple(90.0 if i < 3 else 30.0 + i % 2 * 20 for i in number),
        ),
        initial_model(config, 14),
    )


def grouped(case: tuple[RunConfig, TestData, MultimodalModel]) -> Groups:
    config, test, model = case
    return assess_groups(model, test, LABELS, config.evaluation, 0)


def test_a_group_is_evaluated_on_its_own_records(
    case: tuple[RunConfig, TestData, MultimodalModel],
) -> None:
    config, test, model = case
    found = grouped(case)
    assert list(found) == ["sex", "age"]
    assert list(found["sex"]) == ["female", "male"]
    for sex, name in (("F", "female"), ("M", "male")):
        at = [i for i, one in enumerate(test.sex) if one == sex]
        for cell, held in (("both", {"image", "text"}), ("image only", {"image"})):
            rows = test.batch.rows(torch.tensor(at)).only(held)
            expected = evaluate_cell(
                predict_scores(model, rows),
                rows.labels.numpy(),
                [test.patient_ids[i] for i in at],
                label_names=LABELS,
                bootstrap=20,
                calibration_bins=10,
                seed=0,
            ).to_dict()
            assert json.dumps(found["sex"][name].cells[cell].to_dict()) == json.dumps(expected)
    total = assess(model, test, LABELS, config.evaluation, 0)["both"].records
    assert sum(group.cells["both"].records for group in found["sex"].values()) == total


def test_small_groups_are_named_and_not_shown(
    case: tuple[RunConfig, TestData, MultimodalModel],
) -> None:
    old = grouped(case)["age"]["80 and over"]
    assert old.cells == {}
    assert set(old.left_out) == {"both", "image only", "text only"}
    # Not even their number, which would be that of a small group.
    assert set(old.left_out.values()) == {"fewer than 10 patients"}


def test_the_smallest_group_counts_patients_in_the_cell_not_records(
    case: tuple[RunConfig, TestData, MultimodalModel],
) -> None:
    config, test, model = case
    women = [i for i, one in enumerate(test.sex) if one == "F"]
    with_text = np.zeros(len(test.sex), dtype=bool)
    few = list(dict.fromkeys(test.patient_ids[i] for i in women))[:9]
    with_text[[i for i in women if test.patient_ids[i] in few]] = True
    with_text[[i for i, one in enumerate(test.sex) if one == "M"]] = True
    assert sum(with_text[women]) > 9  # enough records, too few patients
    present = {**test.batch.present, "text": torch.from_numpy(with_text)}
    batch = replace(test.batch, present=present)
    found = grouped((config, replace(test, batch=batch), model))["sex"]["female"]
    assert set(found.cells) == {"image only"}
    assert set(found.left_out) == {"both", "text only"}


def test_without_groups_nothing_is_said(
    case: tuple[RunConfig, TestData, MultimodalModel],
) -> None:
    config, test, model = case
    unknown = replace(test, sex=("",) * len(test.sex), age=(math.nan,) * len(test.age))
    assert grouped((config, unknown, model)) == {}


def test_the_parts_of_a_mix_are_groups(
    case: tuple[RunConfig, TestData, MultimodalModel],
) -> None:
    config, test, model = case
    source = tuple("a" if one == "F" else "b" for one in test.sex)
    found = grouped((config, replace(test, source=source), model))
    assert [list(found[by]) for by in ("sex", "source")] == [["female", "male"], ["a", "b"]]
    by_sex, by_source = found["sex"]["female"].to_dict(), found["source"]["a"].to_dict()
    assert json.dumps(by_sex) == json.dumps(by_source)


def test_the_group_table_fits_80_columns(
    case: tuple[RunConfig, TestData, MultimodalModel],
) -> None:
    import io

    from rich.console import Console

    from privfin.cli.summary import print_groups

    out = io.StringIO()
    print_groups(Console(file=out, width=80), ("both", "image only", "text only"), grouped(case))
    lines: list[Any] = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "Groups not shown (fewer than 10 patients): age 80 and over\n" in out.getvalue()
    for word in ("female", "male", "under 40", "40 to 59"):
        assert word in out.getvalue()
