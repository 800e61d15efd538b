"""The example report in the documentation is whole, signed, and of the schema of today."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from privfin.reporting.schema import report_schema
from privfin.reporting.sealing.verify import verify_report

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "example-report"


@pytest.mark.parametrize("audience", ["officer", "public"])
def test_the_example_is_as_it_was_signed(audience: str) -> None:
    key = (EXAMPLE / "public-key.txt").read_text().strip()
    checks = verify_report(EXAMPLE / f"report-{audience}.html", public_key=key)
    assert [one for one in checks if one.holds is False] == []
    held = {one.subject for one in checks if one.holds}
    assert {"signature", "fingerprint", f"report-{audience}.json"} <= held


@pytest.mark.parametrize("audience", ["officer", "public"])
def test_the_example_follows_the_schema(audience: str) -> None:
    content = json.loads((EXAMPLE / f"report-{audience}.json").read_text())
    jsonschema.validate(content, report_schema())
    assert content["data"]["is_simulated"]["value"] is True
    assert content["audit"]["was_done"]["value"] is True


def test_the_public_example_has_no_exact_count() -> None:
    officer, public = (
        json.loads((EXAMPLE / f"report-{name}.json").read_text()) for name in ("officer", "public")
    )
    assert isinstance(officer["data"]["training_patients"]["value"], int)
    assert str(public["data"]["training_patients"]["value"]).startswith("about ")
    assert public["mechanism"]["sites"]["value"][0]["sampling_rate"] is None
