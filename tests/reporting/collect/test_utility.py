"""Figures are those of metrics.json, whole or not at all; a missing one says why."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from privfin.errors import UserInputError
from privfin.evaluation.cells import evaluate_cell
from privfin.evaluation.groups import GroupResult
from privfin.evaluation.histograms import Bounded
from privfin.federation.metric_results import FederatedCell, FederatedLabel, FederatedMetrics
from privfin.files import jsonable
from privfin.reporting.answers.answers import Answers
from privfin.reporting.blocks_results import CellResult
from privfin.reporting.collect.data import data_block
from privfin.reporting.collect.utility import cell_results, utility_block
from privfin.reporting.evidence import Evidence


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


def _federated() -> FederatedMetrics:
    """One open cell with an open and a hidden label, and a cell that is not opened."""

    def label(name: str, auroc: Bounded, left_out: str = "") -> FederatedLabel:
        figures = {
            "auroc": auroc,
            "auprc": Bounded(0.3, 0.2, 0.4),
            "ece": Bounded(0.1, 0.1, 0.1),
            "brier": Bounded(0.2, 0.2, 0.2),
            "loss": Bounded(0.7, 0.6, math.inf),
        }
        return FederatedLabel(name, 12, 30, figures, left_out)

    labels = (
        label("sick", Bounded(0.7, 0.65, 0.75)),
        label("worse", Bounded(0.5, 0.45, 0.75)),
        label("healthy", Bounded.undefined(), "no negative record"),
    )
    cell = FederatedCell(
        42, 40, labels, {"rare": "2 sites have it"}, ("auroc", "auprc", "ece", "brier", "loss")
    )
    return FederatedMetrics(4, 4096, {"both": cell}, {"image only": "2 sites have such records"})


@pytest.fixture
def secure(edited: Callable[..., Evidence]) -> Callable[[FederatedMetrics], Evidence]:
    """A run whose metrics are these encrypted sums, as training writes them."""

    def make(sums: FederatedMetrics) -> Evidence:
        cells = {name: cell.to_dict() for name, cell in sums.cell_results(0.95, 10).items()}
        return edited(
            metrics=lambda m: m.update(cells=jsonable(cells), federated=sums.to_dict(), groups={})
        )

    return make


def test_secure_figures_have_the_bounds_of_the_sums(
    secure: Callable[[FederatedMetrics], Evidence],
) -> None:
    block = utility_block(secure(_federated()))
    assert block.is_secure.get() is True
    both, image = block.cells.get()
    assert (both.cell, both.records, both.patients, both.confidence) == ("both", 42, 40, 1.0)
    # Means over the two labels that have both classes.
    assert both.auroc.model_dump() == pytest.approx({"value": 0.6, "low": 0.55, "high": 0.75})
    assert (both.ece, both.brier) == pytest.approx((0.1, 0.2))
    sick, worse, healthy, rare = both.labels
    assert sick.auroc.model_dump() == {"value": 0.7, "low": 0.65, "high": 0.75}
    assert (sick.positives, sick.negatives, sick.left_out) == (12, 30, None)
    assert (worse.auroc.low, healthy.left_out) == (0.45, "no negative record")
    assert (rare.label, rare.positives, rare.negatives) == ("rare", "not opened", "not opened")
    assert (rare.auroc.value, rare.brier, rare.left_out) == (
        None, None, "not opened: 2 sites have it",
    )  # fmt: skip
    assert (image.cell, image.records, image.patients) == ("image only", "not opened", "not opened")
    assert (image.auroc.value, image.brier, image.withheld) == (
        None, None, "not opened: 2 sites have such records",
    )  # fmt: skip
    assert block.groups.status == "not_assessed"
    assert "encrypted sums" in block.groups.note


def test_too_few_sites_to_add_up_is_a_gap(
    secure: Callable[[FederatedMetrics], Evidence],
) -> None:
    why = "2 sites: each could subtract its own counts from the sum"
    evidence = secure(FederatedMetrics(2, 4096, {}, {"both": why, "image only": why}))
    fact = utility_block(evidence).cells
    assert (fact.status, fact.note) == ("not_assessed", f"not opened: {why}")
    assert [row.cell for row in cell_results(evidence)] == ["both", "image only"]
    held_out = data_block(evidence, Answers({})).held_out_patients
    assert held_out.status == "not_assessed"


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
