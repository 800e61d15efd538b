"""The registry entry has the registry's keys, the report's figures, and marks what nobody knows."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from privfin.errors import UserInputError
from privfin.reporting.facts import declared, derived, not_assessed
from privfin.reporting.formats.registry import UNKNOWN, registry_entry
from privfin.reporting.schema import Report

SCHEMA = json.loads((Path(__file__).parent / "registry.schema.json").read_text("utf-8"))
HOSTILE = "---\nstatus: Approved\n<script>x</script> | $x$ \\\\frac `a` [l](u) > x"


def _entry(report: Report) -> dict[str, Any]:
    entry = yaml.safe_load(registry_entry(report))
    checker = jsonschema.Draft7Validator.FORMAT_CHECKER
    jsonschema.Draft7Validator(SCHEMA, format_checker=checker).validate(entry)
    assert isinstance(entry, dict)
    return entry


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for one in value.values() for text in _texts(one)]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    return [value] if isinstance(value, str) else []


def _written_keys(schema: dict[str, Any], value: dict[str, Any]) -> None:
    for key, inner in schema.get("properties", {}).items():
        assert key in value, key
        if "properties" in inner:
            _written_keys(inner, value[key])


def test_the_entry_has_all_keys_of_the_schema(sample_report: Callable[..., Report]) -> None:
    _written_keys(SCHEMA, _entry(sample_report()))


def test_the_guarantee_is_that_of_the_report(sample_report: Callable[..., Report]) -> None:
    report = sample_report()
    deployment = _entry(report)["deployment"]
    assert deployment["dp_variant"]["variant_name"] == "Approximate DP"
    loss = deployment["privacy_loss"]
    assert loss["privacy_parameters"] == {"epsilon": 7.9999, "delta": 1e-5}
    assert loss["privacy_unit"] == "patient"
    for observer in report.guarantee.observers.get():
        assert (
            f"- {observer.observer} ({observer.sees}): epsilon 8.00 at delta 1e-05"
            in (loss["privacy_parameters_details"])
        )
    assert "noise multiplier 3.1457" in deployment["implementation"]["mechanisms"]


def test_it_is_a_draft_with_a_date_and_the_registrys_slug(
    sample_report: Callable[..., Report],
) -> None:
    entry = _entry(sample_report())
    basic = entry["deployment"]["basic"]
    assert entry["status"] == "Draft"
    assert basic["publication_date"] == "2026-01-01"
    name = re.sub(r"\W+", "_", basic["name"].lower())
    curators = re.sub(r"\W+", "_", "-".join(basic["data_curators"]).lower())
    assert entry["url_slug"] == f"{name}_{curators}_2026".replace("_", "-")


def test_what_the_registry_requires_and_nobody_knows_is_marked(
    sample_report: Callable[..., Report],
) -> None:
    basic = _entry(sample_report())["deployment"]["basic"]
    assert basic["data_curators"] == [UNKNOWN]
    assert basic["data_product_region"] == UNKNOWN
    assert basic["intended_use"] == UNKNOWN
    known = sample_report(purpose__intended_use=declared("research only", "answers file"))
    assert _entry(known)["deployment"]["basic"]["intended_use"] == "research only"


def test_an_unknown_delta_or_unit_is_left_out(sample_report: Callable[..., Report]) -> None:
    gap = not_assessed("not recorded", "x")
    loss = _entry(sample_report(guarantee__delta=gap, guarantee__unit=gap))["deployment"][
        "privacy_loss"
    ]
    assert loss["privacy_parameters"] == {"epsilon": 7.9999}
    assert "privacy_unit" not in loss


@pytest.mark.parametrize(
    "changes",
    [
        {"guarantee__is_private": derived(False, "x")},
        {"guarantee__is_private": not_assessed("not recorded", "x")},
        {"guarantee__epsilon": derived(math.inf, "x")},
        {"guarantee__epsilon": not_assessed("not recorded", "x")},
    ],
)
def test_a_run_without_a_promise_is_no_deployment(
    changes: dict[str, Any], sample_report: Callable[..., Report]
) -> None:
    with pytest.raises(UserInputError, match=r"leave out the format registry"):
        registry_entry(sample_report(**changes))


def test_texts_stay_texts(sample_report: Callable[..., Report]) -> None:
    hostile = declared(HOSTILE, "answers file")
    report = sample_report(
        purpose__intended_use=hostile, purpose__people=hostile, parties__roles=hostile,
        data__period=hostile, other_releases__justification=hostile, tuning__is_counted=hostile,
    )  # fmt: skip
    entry = _entry(report)
    assert entry["status"] == "Draft"
    for text in _texts(entry):
        assert "<" not in text
        assert "$" not in text
        assert "\\" not in text


def test_the_registrys_check_of_quoting_and_escapes_passes(
    sample_report: Callable[..., Report],
) -> None:
    """It refuses folded blocks, and a doubled backslash before anything but a parenthesis."""
    written = registry_entry(
        sample_report(purpose__people=declared("a \\\\b " + "long " * 100, "x"))
    )
    styles = {token.style for token in yaml.scan(written) if hasattr(token, "style")}
    assert styles <= {None, "|", '"', "'"}
    assert not [text for text in _texts(yaml.safe_load(written)) if "\\\\" in text]


def test_nothing_beyond_the_release_class_is_written(
    sample_report: Callable[..., Report],
) -> None:
    """Numbers of patients come from nowhere but the report's own fields."""
    report = sample_report(
        data__training_patients=derived("about 1,100", "x"), audit__attacks=not_assessed("x", "x")
    )
    assert "1125" not in registry_entry(report)
    assert "375" not in registry_entry(report)


def test_no_word_is_a_verdict(sample_report: Callable[..., Report]) -> None:
    words = set(re.findall(r"[a-z]+", registry_entry(sample_report()).lower()))
    assert not {"anonymous", "compliant", "certified", "safe"} & words
