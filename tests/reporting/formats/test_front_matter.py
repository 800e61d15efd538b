"""The head of a model card is YAML that model hubs read, and its figures are the report's."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import huggingface_hub
import pytest
import yaml

from privfin.reporting.facts import declared, derived, measured, not_assessed
from privfin.reporting.formats.card import model_card
from privfin.reporting.formats.front_matter import front_matter
from privfin.reporting.schema import Report, report_content


def _head(report: Report) -> dict[str, Any]:
    found = re.fullmatch(r"---\n(.*\n)---\n", front_matter(report), re.DOTALL)
    assert found
    head = yaml.safe_load(found[1])
    assert isinstance(head, dict)
    return head


def test_a_hub_reads_the_results_of_every_cell(sample_report: Callable[..., Report]) -> None:
    report = sample_report()
    card = huggingface_hub.ModelCard(model_card(report))
    assert card.data.library_name == "privfin"
    assert card.data.model_name == "first"
    read = {(one.task_name, one.metric_type): one.metric_value for one in card.data.eval_results}
    cells = report.utility.cells.get()
    assert len(read) == 4 * len(cells)
    for cell in cells:
        assert read[f"cell: {cell.cell}", "roc_auc"] == cell.auroc.value
        assert read[f"cell: {cell.cell}", "brier_score"] == cell.brier


def test_nothing_is_claimed_that_the_report_does_not_know(
    sample_report: Callable[..., Report],
) -> None:
    assert not {"license", "pipeline_tag", "datasets", "language"} & set(_head(sample_report()))


def test_intervals_stand_beside_their_values(sample_report: Callable[..., Report]) -> None:
    head = _head(sample_report())
    metrics = head["model-index"][0]["results"][0]["metrics"]
    assert metrics[0]["name"] == "macro AUROC, 95 % interval 0.6550 to 0.7150"
    assert head["privfin"]["results"][0]["auroc"]["low"] == pytest.approx(0.655)
    secure = _head(sample_report(utility__is_secure=measured(True, "x")))
    metrics = secure["model-index"][0]["results"][0]["metrics"]
    assert metrics[0]["name"] == "macro AUROC, bounds 0.6550 to 0.7150"


def test_the_guarantee_is_that_of_the_report(sample_report: Callable[..., Report]) -> None:
    report = sample_report()
    own, content = _head(report)["privfin"], report_content(report)
    assert own["gaps"] == {}
    for block, keys in (("guarantee", own["guarantee"]), ("audit", own["audit"])):
        for key, value in keys.items():
            if key not in ("observers", "best_attack"):
                assert value == content[block][key]["value"], (block, key)
    assert own["guarantee"]["observers"] == content["guarantee"]["observers"]["value"]
    best = content["audit"]["attacks"]["value"][1]
    del best["curve"]
    assert own["audit"]["best_attack"] == best


def test_gaps_are_named_with_their_reason(sample_report: Callable[..., Report]) -> None:
    gap = not_assessed("nobody attacked this run", "run directory")
    report = sample_report(
        audit__verdict=gap, audit__attacks=gap, audit__best_attack=gap, utility__cells=gap
    )
    head = _head(report)
    assert "model-index" not in head
    assert "metrics" not in head
    assert head["privfin"]["audit"]["verdict"] is None
    reason = "not_assessed: nobody attacked this run"
    pointers = ("/audit/verdict", "/audit/best_attack", "/utility/cells")
    assert head["privfin"]["gaps"] == dict.fromkeys(pointers, reason)


@pytest.mark.parametrize(
    ("changes", "with_tags", "without"),
    [
        ({}, {"differential-privacy", "homomorphic-encryption", "multimodal"}, {"not-private"}),
        ({"guarantee__is_private": derived(False, "x")}, {"not-private"}, {"differential-privacy"}),
        (
            {"guarantee__is_private": not_assessed("no file", "x")},
            {"not-private"},
            {"differential-privacy"},
        ),
        ({"exchange__kind": measured("none", "x")}, set(), {"homomorphic-encryption"}),
        ({"data__is_simulated": measured(True, "x")}, {"simulated-data"}, set()),
        ({"data__is_simulated": measured(False, "x")}, set(), {"simulated-data"}),
    ],
)
def test_tags_say_what_the_run_did(
    changes: dict[str, Any],
    with_tags: set[str],
    without: set[str],
    sample_report: Callable[..., Report],
) -> None:
    tags = set(_head(sample_report(**changes))["tags"])
    assert with_tags <= tags
    assert not without & tags


def test_no_promise_is_written_as_infinite(sample_report: Callable[..., Report]) -> None:
    report = sample_report(guarantee__epsilon=derived(math.inf, "x"))
    assert _head(report)["privfin"]["guarantee"]["epsilon"] == "inf"


@pytest.mark.parametrize(
    "text",
    ["---", "a\n---\nlicense: mit\n---\nb", "x: !!python/object:a.B", "%YAML 9", "&a *a",
     "\u2028---\u2029", "yes", "1e3", "~", "'", '"'],
)  # fmt: skip
def test_a_text_cannot_end_the_head_or_become_yaml(
    text: str, sample_report: Callable[..., Report]
) -> None:
    report = sample_report(
        report__run_name=measured(text, "x"), guarantee__statement=declared(text, "x"),
        data__source=measured(text, "x"), guarantee__unit=declared(text, "x"),
    )  # fmt: skip
    clean, head = _head(sample_report()), _head(report)
    assert set(head) == set(clean)
    assert head["privfin"]["guarantee"]["statement"] == " ".join(text.split())
    hub = huggingface_hub.ModelCard(model_card(report)).data
    assert hub.license is None
    assert hub.model_name == " ".join(text.split())
