"""The clause map points at evidence that exists, and never says more than the report knows."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from privfin.reporting.blocks_people import Clause
from privfin.reporting.clauses import clause_data, clause_map
from privfin.reporting.facts import Fact, Strict, not_assessed
from privfin.reporting.schema import Report, report_content

GAP = not_assessed("nobody looked", "test")

#: Numbers that were read in the original; every other has to be marked as not verified.
READ = {
    "GDPR": {"35(7)(a)", "35(7)(b)", "35(7)(c)", "35(7)(d)"},
    "EDPB Opinion 28/2024": set(),
    "AI Act, Annex IV": {"1", "2(a)", "2(b)", "2(c)", "2(d)", "2(e)", "2(f)", "2(g)", "2(h)"},
    "HIPAA": {"164.514(b)(1)"},
    "NIST SP 800-226": {"2.4"},
    "ISO/IEC 27559": {"6.2", "6.3", "7.2", "7.3", "8.2.2", "8.2.3", "8.3", "8.3.4", "9.2", "9.3",
                      "9.4"},
    "NIST AI RMF": set(),
}  # fmt: skip


def _clause(report: Report, framework: str, number: str) -> Clause:
    (found,) = [
        one
        for one in clause_map(report).clauses.get()
        if (one.framework, one.clause) == (framework, number)
    ]
    return found


def _places() -> set[str]:
    """Pointers to all blocks and fields, read off the schema, not off a report."""
    found = set()
    for block, of in Report.model_fields.items():
        if isinstance(of.annotation, type) and issubclass(of.annotation, Strict):
            found.add(f"/{block}")
            for field, inner in of.annotation.model_fields.items():
                assert isinstance(inner.annotation, type)
                assert issubclass(inner.annotation, Fact)
                found.add(f"/{block}/{field}")
    return found


def test_every_pointer_names_a_block_or_a_fact_of_the_schema() -> None:
    places = _places()
    for law in clause_data().frameworks:
        for entry in law.clauses:
            missing = set(entry.fields) - places
            assert not missing, f"{law.framework} {entry.clause}: {missing}"
            assert len(set(entry.fields)) == len(entry.fields)


def test_no_pointer_names_the_map_the_summary_or_an_answer_that_is_always_there() -> None:
    """An audit that was not made, or a budget that nobody counts, is known; it is no evidence."""
    useless = {"/audit", "/audit/was_done", "/ledger", "/ledger/status", "/clause_map",
               "/sign_off/signatures", "/sign_off/questions", "/guarantee/is_private"}  # fmt: skip
    for law in clause_data().frameworks:
        for entry in law.clauses:
            assert not useless & set(entry.fields), f"{law.framework} {entry.clause}"


def test_only_numbers_that_were_read_are_verified() -> None:
    verified = {
        law.framework: {one.clause for one in law.clauses if one.is_verified}
        for law in clause_data().frameworks
    }
    assert verified == READ


def test_no_clause_is_there_twice_and_every_edition_has_a_date() -> None:
    for law in clause_data().frameworks:
        numbers = [one.clause for one in law.clauses]
        assert len(set(numbers)) == len(numbers)
        assert re.search(r"\b(20\d\d)\b", law.edition), law.edition


def test_no_wording_is_a_verdict() -> None:
    text = clause_data().model_dump_json().lower()
    for word in ("compliant", "anonym", "certified", "safe ", "fulfils", "satisfies"):
        assert word not in text, word


@pytest.mark.parametrize(
    ("known", "evidence"),
    [((), "missing"), (("legal_basis",), "partly"), (("legal_basis", "necessity"), "here")],
)
def test_evidence_follows_from_the_statuses(
    known: tuple[str, ...], evidence: str, sample_report: Callable[..., Report]
) -> None:
    answer = {"status": "declared", "value": "because", "source": "answers file", "note": ""}
    report = sample_report(**{f"purpose__{field}": answer for field in known})
    assert _clause(report, "GDPR", "35(7)(b)").evidence == evidence


def test_a_clause_without_fields_has_no_evidence(sample_report: Callable[..., Report]) -> None:
    report = sample_report()
    empty = [one for one in clause_map(report).clauses.get() if not one.fields]
    assert empty
    assert {one.evidence for one in empty} == {"missing"}


def test_what_is_not_applicable_does_not_count(sample_report: Callable[..., Report]) -> None:
    declared = {"status": "declared", "value": "2027-01-01", "source": "answers file", "note": ""}
    nothing = {"status": "not_applicable", "value": None, "source": "x", "note": "the first"}
    clause = ("ISO/IEC 27559", "8.3.4")
    both = sample_report(report__valid_until=declared, report__supersedes=nothing)
    assert _clause(both, *clause).evidence == "here"
    none = sample_report(report__valid_until=nothing, report__supersedes=nothing)
    assert _clause(none, *clause).evidence == "missing"


def test_a_run_that_nobody_attacked_has_no_evidence_of_attacks(
    sample_report: Callable[..., Report],
) -> None:
    def fields(report: Report) -> dict[str, Any]:
        return {f"audit__{name}": GAP for name in type(report.audit).model_fields}

    was_done = {"status": "measured", "value": False, "source": "run directory", "note": ""}
    report = sample_report(**{**fields(sample_report()), "audit__was_done": was_done})
    for clause in (("ISO/IEC 27559", "8.2.3"), ("EDPB Opinion 28/2024", "para. 55")):
        assert _clause(report, *clause).evidence == "missing"


def test_with_every_fact_unknown_nothing_is_here(sample_report: Callable[..., Report]) -> None:
    content = report_content(sample_report())
    for block in content.values():
        if isinstance(block, dict):
            for field in block:
                if field not in ("report_id", "created"):
                    block[field] = GAP.model_dump()
    report = Report.model_validate(content)
    assert {one.evidence for one in clause_map(report).clauses.get()} <= {"missing", "partly"}
    assert _clause(report, "GDPR", "35(7)(c)").evidence == "missing"


def test_the_map_says_how_old_it_is(sample_report: Callable[..., Report]) -> None:
    data = clause_data()
    fresh = clause_map(sample_report())
    assert fresh.edition.get() == data.edition
    assert (fresh.as_of.get(), fresh.as_of.note) == (data.as_of.isoformat(), "")
    later = {"status": "measured", "value": "2028-01-01T00:00:00+00:00", "source": "clock"}
    assert "older than a year" in clause_map(sample_report(report__created=later)).as_of.note


def test_the_map_fits_into_the_report(sample_report: Callable[..., Report]) -> None:
    report = sample_report()
    whole = report.model_copy(update={"clause_map": clause_map(report)})
    assert Report.model_validate(report_content(whole)) == whole
