"""Proposed risks: evidence in this report's numbers, and nothing decided for people."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from privfin.errors import UserInputError
from privfin.reporting.answers.answers import Answers
from privfin.reporting.blocks_people import Risk
from privfin.reporting.facts import derived, measured, not_assessed
from privfin.reporting.schema import Report, report_content
from privfin.reporting.summary.risks import propose_risks, with_decisions

Sample = Callable[..., Report]

IDS = ["membership", "attribute", "reconstruction", "identity-linkage", "unwanted-change",
       "loss-of-keys"]  # fmt: skip


def _by_id(report: Report) -> dict[str, Risk]:
    return {row.risk_id: row for row in propose_risks(report).risks.get()}


def test_six_events_with_numbers_and_nothing_decided(sample_report: Sample) -> None:
    report = sample_report()
    content = report_content(report)
    rows = _by_id(report)
    assert list(rows) == IDS
    for row in rows.values():
        assert row.severity is row.likelihood is row.decision is None
        assert re.search(r"\d", row.evidence), row
        assert row.measure
        assert row.residual
        for pointer in row.fields:
            _, block, field = pointer.split("/")
            assert field in content[block], pointer


def test_the_wp29_criteria_are_all_there(sample_report: Sample) -> None:
    found = {row.criterion for row in _by_id(sample_report()).values()}
    assert found == {"singling out", "linkability", "inference", "other"}


def test_no_verdict_and_no_epsilon_alone(sample_report: Sample) -> None:
    for row in _by_id(sample_report()).values():
        text = " ".join((row.event, row.evidence, row.measure, row.residual)).lower()
        for word in ("anonym", "complian", "certif", "safe"):
            assert word not in text
        if "epsilon" in row.evidence:
            assert "delta" in row.evidence
            assert "patient" in row.evidence


def test_membership_has_odds_attack_and_ceiling(sample_report: Sample) -> None:
    text = _by_id(sample_report())["membership"].evidence
    for part in ("from 50:50 to at most 79:21", "2.1 % of all members", "3.50 at most"):
        assert part in text
    untested = sample_report(audit__was_done=measured(False, "audit.json"))
    assert "Not tested: 0 attacks" in _by_id(untested)["membership"].evidence


def test_without_privacy_no_measure_is_named_against_learning(sample_report: Sample) -> None:
    rows = _by_id(sample_report(guarantee__is_private=derived(False, "privacy.json")))
    for name in ("membership", "attribute", "reconstruction"):
        assert rows[name].measure.startswith("none: the run promises nothing")
    assert "from 50:50 to 100:0" in rows["membership"].evidence
    assert "epsilon" not in rows["identity-linkage"].evidence


def test_attribute_and_reconstruction_say_what_was_measured_or_that_nothing_was(
    sample_report: Sample,
) -> None:
    before = _by_id(sample_report())
    assert "Not tested" in before["attribute"].evidence
    assert "was not tested" in before["reconstruction"].evidence
    interval = {"value": 0.62, "low": 0.58, "high": 0.66}
    after = _by_id(
        sample_report(
            audit__attributes=measured(
                ({"attribute": "sex", "seen": "features", "patients": 375, "chance": 0.5,
                  "with_model": {"value": 0.62}, "without_model": {"value": 0.6},
                  "difference": interval | {"value": 0.02, "low": -0.03, "high": 0.07}},),
                "audit.json"),
            audit__inversion=measured(
                ({"view": "as sent", "measure": "PSNR, dB", "value": 11.27, "prior": 13.9,
                  "difference": {"value": -2.63, "low": -3.1, "high": -2.2},
                  "verdict": "no better than guessing"},
                 {"view": "one record", "measure": "PSNR, dB", "value": 88.0, "prior": 13.9,
                  "difference": {"value": 74.1}, "verdict": "rebuilt"}), "audit.json"),
        )
    )  # fmt: skip
    text = after["attribute"].evidence
    assert "sex: with the model 0.62, without it 0.60, difference 0.02 (-0.03 to 0.07)" in text
    text = after["reconstruction"].evidence
    assert "as sent, PSNR, dB 11 (guessed without any update 14); 1 row on what nobody" in text
    assert "88" not in text


def test_of_many_views_the_best_and_the_worst_are_named(sample_report: Sample) -> None:
    rows = tuple(
        {"view": f"as sent, {name}", "measure": measure, "value": value, "prior": prior,
         "difference": {"value": value - prior}, "verdict": ""}
        for name, measure, value, prior in (
            ("one step", "PSNR, dB", 11.0, 14.0), ("four steps", "SSIM", 0.3, 0.2),
            ("a batch", "recall of words", 0.1, 0.2))
    )  # fmt: skip
    report = sample_report(audit__inversion=measured(rows, "audit.json"))
    text = _by_id(report)["reconstruction"].evidence
    assert "best of 3 rows: as sent, four steps, SSIM 0.3 (" in text
    assert "worst: as sent, a batch, recall of words 0.1 (" in text
    assert "one step" not in text


def test_what_people_answered_is_filled_in_and_only_that(sample_report: Sample) -> None:
    proposed = propose_risks(sample_report())
    answers = Answers(
        {"risks.membership.severity": "limited", "risks.membership.decision": "accepted"}
    )
    decided = with_decisions(proposed, answers).risks.get()
    assert (decided[0].severity, decided[0].likelihood) == ("limited", None)
    assert decided[0].decision == "accepted"
    assert decided[1:] == proposed.risks.get()[1:]
    with pytest.raises(UserInputError, match="risk that this report does not have"):
        with_decisions(proposed, Answers({"risks.meteorite.severity": "limited"}))


@pytest.mark.parametrize(
    ("kind", "evidence", "residual"),
    [("bfv", "shared by 3 sites", "masks still hide"),
     ("ckks", "shared by 3 sites", "every single"), ("none", "not encrypted", "nothing to steal")],
)  # fmt: skip
def test_keys_by_encryption(sample_report: Sample, kind: str, evidence: str, residual: str) -> None:
    row = _by_id(sample_report(exchange__kind=measured(kind, "manifest.json")))["loss-of-keys"]
    assert evidence in row.evidence
    assert residual in row.residual


@pytest.mark.parametrize(
    ("field", "risk"),
    [("guarantee__observers", "membership"), ("audit__attributes", "attribute"),
     ("audit__inversion", "reconstruction"), ("exchange__kind", "loss-of-keys"),
     ("parties__sites", "unwanted-change"), ("reproducibility__files", "unwanted-change"),
     ("guarantee__no_person_at_two_sites", "identity-linkage"),
     ("ledger__budgets", "identity-linkage"), ("mechanism__trust", "attribute"),
     ("security__keys", "loss-of-keys"), ("security__authentication", "unwanted-change")],
)  # fmt: skip
def test_gaps_are_said(sample_report: Sample, field: str, risk: str) -> None:
    row = _by_id(sample_report(**{field: not_assessed("nobody looked", "a test")}))[risk]
    assert re.search("nobody looked|No trade-off curve", f"{row.evidence} {row.measure}")
