"""The bill of materials is valid CycloneDX 1.6, with the report's figures."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from privfin.reporting.facts import derived, measured, not_assessed
from privfin.reporting.formats.cyclonedx import bill_of_materials
from privfin.reporting.schema import Report, report_content

GAP = not_assessed("nobody looked", "test")


def _bill(report: Report) -> dict[str, Any]:
    bill = bill_of_materials(report)
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill, allow_nan=False))
    assert error is None, str(error)[:500]
    return bill


def _model(report: Report) -> dict[str, Any]:
    model = _bill(report)["metadata"]["component"]
    assert isinstance(model, dict)
    return model


def _properties(report: Report) -> dict[str, str]:
    return {one["name"]: one["value"] for one in _model(report)["properties"]}


def test_the_validator_finds_faults(sample_report: Callable[..., Report]) -> None:
    """Else the other tests would show nothing."""
    bill = bill_of_materials(sample_report())
    bill["metadata"]["component"]["modelCard"]["epsilon"] = 8
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is not None


def test_the_model_is_named_by_its_run_and_hash(sample_report: Callable[..., Report]) -> None:
    model = _model(sample_report())
    assert model["type"] == "machine-learning-model"
    assert model["version"] == "17bb450b9995ddaf2693f1d9a914f898"
    assert model["hashes"] == [{"alg": "SHA-256", "content": "02" * 32}]


def test_packages_have_addresses_and_the_model_depends_on_them(
    sample_report: Callable[..., Report],
) -> None:
    report = sample_report(
        implementation__components=measured(
            ({"name": "python", "version": "3.11.7"},
             {"name": "Some_Package", "version": "2.13.0+cpu"},
             {"name": "some-package", "version": "2.13.0+cpu"}), "x")
    )  # fmt: skip
    bill = _bill(report)
    addresses = [one["purl"] for one in bill["components"]]
    assert addresses == ["pkg:generic/python@3.11.7", "pkg:pypi/some-package@2.13.0%2Bcpu"]
    assert bill["dependencies"][0] == {"ref": "model", "dependsOn": addresses}
    assert [one["ref"] for one in bill["dependencies"][1:]] == addresses


def test_metrics_are_those_of_the_report_with_their_intervals(
    sample_report: Callable[..., Report],
) -> None:
    report = sample_report()
    metrics = _model(report)["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    by_place = {(one["type"], one["slice"]): one for one in metrics}
    assert len(by_place) == len(metrics)
    for cell in report.utility.cells.get():
        found = by_place["macro AUROC, 95 % interval", f"held-out records with: {cell.cell}"]
        assert float(found["value"]) == cell.auroc.value
        assert float(found["confidenceInterval"]["lowerBound"]) == cell.auroc.low
        assert float(found["confidenceInterval"]["upperBound"]) == cell.auroc.high
    lira = "lira; observer: outsider; patients: all"
    share = "attack: members found at 1 % false alarms, as a share, 95 % interval"
    assert by_place[share, lira]["value"] == "0.021"
    assert by_place["attack: largest epsilon that it could have shown", lira]["value"] == "3.5"


def test_bounds_of_encrypted_sums_are_no_confidence_intervals(
    sample_report: Callable[..., Report],
) -> None:
    report = sample_report(utility__is_secure=measured(True, "x"), audit__attacks=GAP)
    metrics = _model(report)["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert metrics[0]["type"].startswith("macro AUROC, bounds 0.655 to 0.715")
    assert not [one for one in metrics if "confidenceInterval" in one]


def test_withheld_figures_are_no_metrics(sample_report: Callable[..., Report]) -> None:
    cell = report_content(sample_report())["utility"]["cells"]["value"][0]
    nothing = {"value": None, "low": None, "high": None}
    cell |= {"auroc": nothing, "auprc": nothing, "ece": None, "brier": None, "labels": []}
    report = sample_report(
        utility__cells={"status": "measured", "value": [cell], "source": "x"},
        utility__groups=GAP, audit__attacks=GAP,
    )  # fmt: skip
    assert _model(report)["modelCard"]["quantitativeAnalysis"]["performanceMetrics"] == []


def test_the_guarantee_is_in_properties_with_statuses(
    sample_report: Callable[..., Report],
) -> None:
    found = _properties(sample_report())
    assert float(found["privfin:guarantee:epsilon"]) == 7.9999
    assert found["privfin:guarantee:epsilon:status"] == "derived"
    assert float(found["privfin:guarantee:delta"]) == 1e-5
    assert found["privfin:guarantee:is_private"] == "true"
    assert found["privfin:tuning:trials"].startswith("not assessed: ")
    assert found["privfin:tuning:trials:status"] == "not_assessed"
    assert found["privfin:accounting:assumption:real-numbers"].startswith("unknown: ")


def test_no_promise_is_infinite(sample_report: Callable[..., Report]) -> None:
    report = sample_report(
        guarantee__epsilon=derived(math.inf, "x"), guarantee__is_private=derived(False, "x"),
        guarantee__claim=measured("NOT PRIVATE: no noise", "x"),
    )  # fmt: skip
    found = _properties(report)
    assert found["privfin:guarantee:epsilon"] == "inf"
    assert found["privfin:guarantee:claim"] == "NOT PRIVATE: no noise"


def test_gaps_show(sample_report: Callable[..., Report]) -> None:
    considerations = _model(sample_report())["modelCard"]["considerations"]
    assert considerations["useCases"] == ["not assessed: a person has to answer this"]
    assert considerations["performanceTradeoffs"] == [
        "Cost of privacy: not assessed: no run without privacy was given"
    ]


def test_a_report_with_nothing_known_still_gives_a_valid_bill(
    sample_report: Callable[..., Report],
) -> None:
    content = report_content(sample_report())
    for block in content.values():
        if isinstance(block, dict):
            for field in block:
                if field not in ("report_id", "created", "tool"):
                    block[field] = GAP.model_dump()
    bill = _bill(Report.model_validate(content))
    assert bill["components"] == []
    assert "hashes" not in bill["metadata"]["component"]


def test_real_data_are_called_sensitive(sample_report: Callable[..., Report]) -> None:
    for simulated, known in ((True, False), (False, True), (None, True)):
        fact = GAP if simulated is None else measured(simulated, "x")
        card = _model(sample_report(data__is_simulated=fact))["modelCard"]
        (data,) = card["modelParameters"]["datasets"]
        assert ("sensitiveData" in data) is known


def test_the_bill_is_the_same_each_time_and_its_number_follows_the_report(
    sample_report: Callable[..., Report],
) -> None:
    first, again = _bill(sample_report()), _bill(sample_report())
    assert first == again
    other = _bill(sample_report(report__report_id=measured("1e" * 16, "random")))
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", first["serialNumber"])
    assert other["serialNumber"] != first["serialNumber"]


@pytest.mark.parametrize("word", ["anonymous", "compliant", "certified"])
def test_no_word_is_a_verdict(word: str, sample_report: Callable[..., Report]) -> None:
    assert word not in json.dumps(_bill(sample_report())).lower()
