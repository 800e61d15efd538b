"""The schema keeps its promises: every field has a status and a source, and gaps show."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import jsonschema
import pydantic
import pytest

from privfin.errors import UserInputError
from privfin.reporting.facts import Extended, Fact, Strict, not_assessed
from privfin.reporting.schema import Report, read_report, report_content, report_schema


def _blocks() -> dict[str, type[Strict]]:
    return {
        name: field.annotation
        for name, field in Report.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Strict)
    }


def test_every_field_of_every_block_has_a_status_and_a_source() -> None:
    blocks = _blocks()
    assert len(blocks) == len(Report.model_fields) - 2  # schema_version and summary
    for name, block in blocks.items():
        for field, of in block.model_fields.items():
            assert isinstance(of.annotation, type), f"{name}.{field}"
            assert issubclass(of.annotation, Fact), f"{name}.{field} carries no status"
            assert of.is_required(), f"{name}.{field} may be left out without a word"


@pytest.mark.parametrize("status", ["measured", "derived", "declared"])
def test_a_known_value_cannot_be_missing(status: Any) -> None:
    with pytest.raises(pydantic.ValidationError, match="cannot be None"):
        Fact[int](status=status, source="x")


@pytest.mark.parametrize("status", ["not_assessed", "not_applicable"])
def test_a_gap_has_no_value_and_says_why(status: Any) -> None:
    with pytest.raises(pydantic.ValidationError, match="cannot be 0"):
        Fact[int](status=status, value=0, source="x", note="why")
    with pytest.raises(pydantic.ValidationError, match="says why"):
        Fact[int](status=status, source="x")
    assert not Fact[int](status=status, source="x", note="why").is_known


def test_a_source_is_never_empty() -> None:
    with pytest.raises(pydantic.ValidationError):
        Fact[int](status="measured", value=1, source="")


def test_infinity_survives_json_and_not_a_number_does_not_pass() -> None:
    fact = Fact[Extended](status="derived", value=math.inf, source="x")
    assert json.loads(fact.model_dump_json())["value"] == "inf"
    assert Fact[Extended].model_validate_json(fact.model_dump_json()).value == math.inf
    with pytest.raises(pydantic.ValidationError):
        Fact[Extended](status="derived", value=math.nan, source="x")


def test_the_json_validates_against_the_schema_and_reads_back(
    sample_report: Callable[..., Report],
) -> None:
    report = sample_report()
    content = report_content(report)
    validator = jsonschema.Draft202012Validator(report_schema())
    validator.check_schema(report_schema())
    validator.validate(content)
    assert read_report(json.dumps(content), "r.json") == report


@pytest.mark.parametrize(
    "break_it",
    [
        lambda c: c["guarantee"].pop("epsilon"),
        lambda c: c["guarantee"]["epsilon"].update(status="fine"),
        lambda c: c["audit"].update(more=1),
        lambda c: c["guarantee"]["observers"]["value"][0].update(epsilon="large"),
    ],
)
def test_what_the_schema_refuses_the_reader_refuses(
    break_it: Any, sample_report: Callable[..., Report]
) -> None:
    content = report_content(sample_report())
    break_it(content)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, report_schema())
    with pytest.raises(UserInputError, match=r"r\.json is not a report"):
        read_report(json.dumps(content), "r.json")


def test_a_gap_survives_json(sample_report: Callable[..., Report]) -> None:
    gap = not_assessed("nobody asked", "answers file")
    report = sample_report(data__period=gap)
    read = read_report(json.dumps(report_content(report)), "r.json")
    assert (read.data.period.status, read.data.period.note) == ("not_assessed", "nobody asked")


def test_other_versions_are_refused(sample_report: Callable[..., Report]) -> None:
    content = {**report_content(sample_report()), "schema_version": "2.0"}
    with pytest.raises(UserInputError, match=r"schema version 2\.0, this program reads 1\.0"):
        read_report(json.dumps(content), "r.json")
