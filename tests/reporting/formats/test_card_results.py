"""Attacks come with what they could have found, figures with their intervals."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

from markdown_it import MarkdownIt

from privfin.reporting.blocks_results import AttributeResult, CanaryTest, Inversion
from privfin.reporting.facts import derived, measured, not_assessed
from privfin.reporting.formats.card_results import attacks_section, results_section
from privfin.reporting.schema import Report


def _rendered(report: Report) -> str:
    text = "\n\n".join([*attacks_section(report), *results_section(report)])
    return MarkdownIt("commonmark").enable("table").render(text)


def _table(report: Report, first: str) -> list[dict[str, str]]:
    """The rows of the table with this first column, by name of column."""
    for found in re.findall(r"<table>(.*?)</table>", _rendered(report), re.DOTALL):
        head, *rows = [
            [html.unescape(cell) for cell in re.findall(r"<t[hd]>(.*?)</t[hd]>", row)]
            for row in re.findall(r"<tr>(.*?)</tr>", found, re.DOTALL)
        ]
        if head[0] == first:
            return [dict(zip(head, row, strict=True)) for row in rows]
    raise AssertionError(f"no table starts with {first}")


def test_every_attack_is_shown_with_its_ceiling(sample_report: Callable[..., Report]) -> None:
    report = sample_report()
    rows = _table(report, "attack")
    assert len(rows) == len(report.audit.attacks.get())
    assert rows[1]["members found at 1 % false alarms"] == "2.1 % (1.05 to 4.2 %)"
    assert rows[1]["epsilon at least"] == "0.20"
    assert rows[1]["ceiling: could have shown"] == "3.50"
    assert rows[2]["ceiling: could have shown"] == "not stated"


def test_bounds_and_ceilings_are_rounded_down(
    sample_report: Callable[..., Report],
) -> None:
    attack = sample_report().audit.attacks.get()[0]
    changed = attack.model_copy(update={"epsilon_bound": 0.12999, "epsilon_ceiling": 3.4601})
    report = sample_report(
        audit__attacks=measured((changed,), "x"), audit__best_attack=derived(0, "x")
    )
    row = _table(report, "attack")[0]
    assert (row["epsilon at least"], row["ceiling: could have shown"]) == ("0.12", "3.46")


def test_results_stand_with_their_intervals(sample_report: Callable[..., Report]) -> None:
    rows = _table(sample_report(), "held-out records with")
    assert rows[0]["AUROC"] == "0.685 (0.655 to 0.715)"
    assert rows[0]["low to high"] == "95 % interval"
    assert "sex: F, text only: fewer than 20 patients" in _rendered(sample_report())


def test_bounds_of_encrypted_sums_are_not_called_intervals(
    sample_report: Callable[..., Report],
) -> None:
    report = sample_report(utility__is_secure=measured(True, "x"))
    assert _table(report, "held-out records with")[0]["low to high"] == "bounds"
    assert "they say nothing of other patients" in _rendered(report)


def test_what_an_audit_found_is_said_and_what_it_left_out(
    sample_report: Callable[..., Report],
) -> None:
    report = sample_report(
        audit__verdict=measured("contradiction", "x"),
        audit__contradictions=measured(("canaries show epsilon 9.1",), "x"),
        audit__risks=measured(("AUC above 0.6",), "x"),
        audit__left_out=measured(("inversion: no time",), "x"),
    )
    text = _rendered(report)
    assert "Finding: contradiction (measured)" in text
    for line in (
        "Contradiction of the guarantee: canaries show epsilon 9.1",
        "Rule that was passed: AUC above 0.6",
        "Attack that was not made: inversion: no time",
    ):
        assert f"<li>{line}</li>" in text


def test_canaries_are_shown_with_their_ceiling(sample_report: Callable[..., Report]) -> None:
    canary = {
        "kind": "all kinds", "level": "patient", "observer": "outsider", "canaries": 200,
        "epsilon_bound": 1.23456, "epsilon_ceiling": 4.56101, "claim": 7.9999,
        "is_contradiction": False,
    }  # fmt: skip
    report = sample_report(
        audit__canaries={"status": "measured", "value": [canary], "source": "audit.json"}
    )
    (row,) = _table(report, "kind")
    assert row["canaries"] == "200"
    assert (row["epsilon at least"], row["ceiling: could have shown"]) == ("1.23", "4.56")
    assert (row["epsilon claimed"], row["contradiction"]) == ("8.00", "no")


def test_every_attack_that_was_made_is_a_table_and_every_other_a_gap(
    sample_report: Callable[..., Report],
) -> None:
    """Rows are made from the schema, so that the test holds for fields that are added later."""
    for field, kind in (
        ("canaries", CanaryTest), ("attributes", AttributeResult), ("inversion", Inversion)
    ):  # fmt: skip
        schema = kind.model_json_schema()
        row = {name: _example(of.annotation) for name, of in kind.model_fields.items()}
        report = sample_report(
            **{f"audit__{field}": {"status": "measured", "value": [row], "source": "x"}}
        )
        names = {"canaries": "Canaries", "attributes": "Attribute inference",
                 "inversion": "Gradient inversion"}  # fmt: skip
        text = _rendered(report)
        assert f"<p>{names[field]}:</p>\n<table>" in text
        assert text.count("0.77") >= sum(
            "number" in str(of) or "Interval" in str(of) for of in schema["properties"].values()
        )
        assert f"{names[field]}: not assessed" in _rendered(sample_report())


def _example(kind: Any) -> Any:
    """A value of the type of a field."""
    text = str(kind)
    if "Interval" in text:
        return {"value": 0.77, "low": 0.6, "high": 0.9}
    if "bool" in text:
        return False
    if "float" in text or "Extended" in text:
        return 0.77
    return 17 if "int" in text else "words"


def test_the_cost_of_privacy_has_its_sign(sample_report: Callable[..., Report]) -> None:
    cost = {"cell": "both", "private": 0.685, "not_private": 0.712, "difference": -0.027,
            "other_run": "b"}  # fmt: skip
    report = sample_report(
        utility__cost_of_privacy={"status": "derived", "value": [cost], "source": "x"}
    )
    (row,) = _table(report, "cost of privacy, held-out records with")
    assert row["difference"] == "-0.027"


def test_an_audit_that_was_not_made_shows_no_finding(
    sample_report: Callable[..., Report],
) -> None:
    gap = not_assessed("nobody attacked this run", "run directory")
    text = _rendered(sample_report(audit__attacks=gap, audit__verdict=gap))
    assert "Membership attacks: not assessed: nobody attacked this run" in text
    assert "Finding" not in text
