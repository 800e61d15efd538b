"""Figures are those of metrics.json, whole or not at all; a missing one says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privfin.errors import UserInputError
from privfin.evaluation.cells import evaluate_cell
from privfin.evaluation.groups import GroupResult
from privfin.federation.plan import make_plan
from privfin.federation.training_run import complete_run, start_run
from privfin.reporting.blocks_results import CellResult
from privfin.reporting.collect.utility import cell_results, utility_block
from privfin.reporting.evidence import Evidence, read_evidence


def _cells(evidence: Evidence) -> dict[str, CellResult]:
    return {row.cell: row for row in utility_block(evidence).cells.get()}


def test_every_figure_is_that_of_the_file(edited: Callable[..., Evidence]) -> None:
    evidence = edited()
    found = _cells(evidence)
    assert list(found) == ["both", "image only", "text only"]
    for name, one in evidence.metrics["cells"].items():
        row = found[name]
        assert (row.records, row.patients) == (one["records"], one["patients"])
        for metric in ("auroc", "auprc"):
            interval = getattr(row, metric)
            assert [interval.value, interval.low, interval.high] == [
                one[f"macro_{metric}{end}"] for end in ("", "_low", "_high")
            ]
        assert (row.ece, row.brier, row.confidence) == (one["macro_ece"], one["macro_brier"], 0.95)
        assert row.withheld is None
        for label, said in zip(row.labels, one["labels"], strict=True):
            assert label.label == said["name"]
            assert (label.positives, label.negatives) == (said["positives"], said["negatives"])
            assert (label.auroc.value, label.auroc.low) == (said["auroc"], said["auroc_low"])
            assert (label.auprc.value, label.auprc.high) == (said["auprc"], said["auprc_high"])
            assert (label.ece, label.brier, label.left_out) == (
                said["ece"], said["brier"], said["left_out"],
            )  # fmt: skip
    # The tiny data have a label without a positive record, which must not vanish.
    assert any(label.left_out for row in found.values() for label in row.labels)
    block = utility_block(evidence)
    assert block.is_secure.get() is False
    assert block.noise.get() == evidence.metrics["noise"]


def test_figures_that_the_configuration_keeps_back_are_called_withheld(
    edited: Callable[..., Evidence],
) -> None:
    def hide(metrics: dict[str, Any]) -> None:
        for cell in metrics["cells"].values():
            for end in ("", "_low", "_high"):
                cell[f"macro_auroc{end}"] = None

    def manifest(content: dict[str, Any]) -> None:
        content["config"]["evaluation"]["metrics"] = ["auprc", "brier"]

    row = _cells(edited(metrics=hide, manifest=manifest))["both"]
    assert row.auroc.value is None
    assert row.withheld == "evaluation.metrics leaves out auroc, calibration"


def test_no_cell_is_a_gap(edited: Callable[..., Evidence]) -> None:
    fact = utility_block(edited(metrics=lambda m: m.update(cells={}))).cells
    assert (fact.status, fact.note) == ("not_assessed", "no held-out record fits a cell")


@pytest.fixture(scope="session")
def secure(
    tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., Any], prepared: Callable[..., Any]
) -> Callable[[str], Path]:
    """Runs with secure metrics: of four sites, and of two, which are too few to add up."""
    kinds = {
        "four": {"federation__sites": 4, "data__patients": 300},
        "two": {"federation__sites": 2},
    }
    known: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in known:
            config = tiny(evaluation__secure=True, federation__modalities="0:0:1", **kinds[kind])
            data = prepared(config)
            path = tmp_path_factory.mktemp("secure") / kind
            run = start_run(path, config, make_plan(config, data.declarations), data)
            assert complete_run(run, config, data) is not None
            known[kind] = path
        return known[kind]

    return get


def test_secure_figures_have_the_bounds_of_the_sums(secure: Callable[[str], Path]) -> None:
    evidence = read_evidence(secure("four"))
    sums = evidence.metrics["federated"]
    block = utility_block(evidence)
    assert block.is_secure.get() is True
    found = {row.cell: row for row in block.cells.get()}
    assert found
    for name, one in sums["cells"].items():
        row = found[name]
        assert row.auroc.model_dump() == one["macro"]["auroc"]
        low, value, high = row.auroc.low, row.auroc.value, row.auroc.high
        assert low is not None
        assert value is not None
        assert high is not None
        assert 0.0 <= low <= value <= high <= 1.0
        assert row.auprc.model_dump() == one["macro"]["auprc"]
        assert (row.ece, row.brier) == (
            one["macro"]["ece"]["value"],
            one["macro"]["brier"]["value"],
        )
        assert row.confidence == 1.0
        shown = {label.label: label for label in row.labels}
        assert set(shown) == {label["name"] for label in one["labels"]} | set(one["not_opened"])
        for label in one["labels"]:
            assert shown[label["name"]].auroc.model_dump() == label["auroc"]
            assert shown[label["name"]].positives == label["positives"]
        for label, why in one["not_opened"].items():
            assert shown[label].positives == "not opened"
            assert shown[label].auroc.value is None
            assert shown[label].left_out == f"not opened: {why}"
    assert block.groups.status == "not_assessed"
    assert "encrypted sums" in block.groups.note


def test_a_cell_that_was_not_opened_is_shown_without_figures(
    secure: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / "run"
    path.mkdir()
    for name in ("manifest.json", "metrics.json", "privacy.json", "model.safetensors"):
        (path / name).write_bytes((secure("four") / name).read_bytes())
    metrics = json.loads((path / "metrics.json").read_text())
    del metrics["federated"]["cells"]["image only"]
    metrics["federated"]["not_opened"]["image only"] = "2 sites have such records"
    (path / "metrics.json").write_text(json.dumps(metrics))
    row = _cells(read_evidence(path))["image only"]
    assert (row.records, row.patients, row.auroc.value, row.brier) == (
        "not opened", "not opened", None, None,
    )  # fmt: skip
    assert row.withheld == "not opened: 2 sites have such records"


def test_too_few_sites_to_add_up_is_a_gap(secure: Callable[[str], Path]) -> None:
    evidence = read_evidence(secure("two"))
    fact = utility_block(evidence).cells
    assert fact.status == "not_assessed"
    assert "each could subtract its own counts" in fact.note
    assert {row.withheld for row in cell_results(evidence)} == {fact.note}


def _group() -> dict[str, Any]:
    cell = evaluate_cell(
        [[0.2], [0.7], [0.6]], [[0], [1], [0]], ["a", "b", "c"],
        label_names=["sick"], bootstrap=10, seed=0,
    )  # fmt: skip
    return GroupResult({"both": cell}, {"text only": "fewer than 20 patients"}).to_dict()


def test_groups_keep_their_cells_and_what_was_left_out(edited: Callable[..., Evidence]) -> None:
    groups = {"sex": {"female": _group(), "male": _group()}, "age": {"under 40": _group()}}
    rows = utility_block(edited(metrics=lambda m: m.update(groups=groups))).groups.get()
    assert [(row.by, row.group) for row in rows] == [
        ("sex", "female"), ("sex", "male"), ("age", "under 40"),
    ]  # fmt: skip
    assert rows[0].left_out == {"text only": "fewer than 20 patients"}
    (cell,) = rows[0].cells
    assert (cell.cell, cell.records, cell.auroc.value) == ("both", 3, 1.0)


def test_no_groups_says_why(edited: Callable[..., Evidence]) -> None:
    def without(manifest: dict[str, Any]) -> None:
        manifest["config"]["evaluation"]["metrics"] = ["auroc"]

    nobody = utility_block(edited(name="a")).groups
    kept_back = utility_block(edited(name="b", manifest=without)).groups
    assert nobody.status == kept_back.status == "not_assessed"
    assert "state no sex" in nobody.note
    assert kept_back.note == "evaluation.metrics leaves out groups"


def test_the_cost_of_privacy_is_the_difference_on_the_same_patients(
    edited: Callable[..., Evidence],
) -> None:
    evidence, free = edited("dp", name="with"), edited("inf", name="without")
    rows = utility_block(evidence, [free]).cost_of_privacy.get()
    assert [row.cell for row in rows] == list(evidence.metrics["cells"])
    for row in rows:
        private, not_private = (
            one.metrics["cells"][row.cell]["macro_auroc"] for one in (evidence, free)
        )
        assert (row.private, row.not_private, row.other_run) == (private, not_private, "without")
        assert row.difference == private - not_private


def test_other_differences_than_privacy_are_said(edited: Callable[..., Evidence]) -> None:
    evidence = edited("dp", name="with")

    def more_rounds(manifest: dict[str, Any]) -> None:
        manifest["config"]["training"]["rounds"] = 9

    same = utility_block(evidence, [edited("inf", name="a")]).cost_of_privacy
    other = utility_block(evidence, [edited("inf", name="b", manifest=more_rounds)])
    assert same.note == ""
    assert other.cost_of_privacy.note == ("b also differs in: training.rounds is 2 here, 9 there")


@pytest.mark.parametrize(
    ("kind", "manifest", "why"),
    [
        ("dp", lambda m: None, "was trained with privacy too"),
        ("inf", lambda m: m["data_sha256"].update({"held-out": "0"}), "other held-out patients"),
        ("inf", lambda m: m.update(label_names=["sick"]), "has other labels"),
    ],
)
def test_a_run_that_does_not_fit_costs_nothing(
    edited: Callable[..., Evidence], kind: str, manifest: Any, why: str
) -> None:
    other = edited(kind, name="other", manifest=manifest)
    fact = utility_block(edited("dp"), [other]).cost_of_privacy
    assert fact.status == "not_assessed"
    assert f"other {why}" in fact.note or f"other was measured on {why}" in fact.note


def test_without_another_run_or_without_privacy_there_is_no_cost(
    edited: Callable[..., Evidence],
) -> None:
    alone = utility_block(edited("dp", name="a")).cost_of_privacy
    open_run = utility_block(edited("inf", name="b"), [edited("dp", name="c")]).cost_of_privacy
    assert (alone.status, open_run.status) == ("not_assessed", "not_applicable")


def test_a_damaged_file_is_refused_in_one_line(edited: Callable[..., Evidence]) -> None:
    evidence = edited(metrics=lambda m: m["cells"]["both"].pop("macro_ece"))
    with pytest.raises(UserInputError, match=r"metrics\.json is damaged .*macro_ece"):
        utility_block(evidence)
