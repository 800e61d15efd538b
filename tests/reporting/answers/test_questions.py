"""People are asked what they alone know, for this run, and what they said is never lost."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privfin.errors import UserInputError
from privfin.reporting.answers.answers import Answers, read_answers
from privfin.reporting.answers.asked import ASKED, ROLES
from privfin.reporting.answers.questions import (
    answered,
    answers_template,
    is_simulated,
    need,
    questions,
    toml_text,
    unanswered,
)
from privfin.reporting.evidence import Evidence

RISKS = ("membership", "identity-linkage")
ABOUT_PATIENTS = {
    "purpose.people", "purpose.legal_basis", "purpose.necessity", "purpose.permit",
    "purpose.impact_assessment", "purpose.protection_officer", "parties.roles",
    "parties.coordinator", "data.period", "data.label_origin", "data.consent",
    "tuning.is_counted", "other_releases.justification", "security.raw_data",
}  # fmt: skip


def _keys(evidence: Evidence, answers: Answers, **of: bool) -> set[str]:
    return {
        one.key
        for one in questions(evidence, answers, RISKS)
        if all(getattr(one, name) is value for name, value in of.items())
    }


def _read(text: str, path: Path) -> Answers:
    path.write_text(text, encoding="utf-8")
    return read_answers(path)


def test_real_patients_need_everything_but_two_things(real: Evidence) -> None:
    assert not is_simulated(real)
    required = _keys(real, Answers({}), is_required=True)
    assert set(ASKED) - {"report.supersedes"} <= required
    assert {
        f"risks.{r}.{f}" for r in RISKS for f in ("severity", "likelihood", "decision")
    } < required
    for role in ("controller", "protection_officer"):
        assert {f"sign_off.{role}.{f}" for f in ("name", "date", "decision")} < required
    optional = _keys(real, Answers({}), is_required=False)
    assert optional == {
        "report.supersedes", "sign_off.controller.comment", "sign_off.protection_officer.comment",
    }  # fmt: skip


def test_made_up_patients_need_no_legal_basis_but_an_intended_use(
    edited: Callable[..., Evidence],
) -> None:
    evidence = edited("dp")
    assert is_simulated(evidence)
    assert _keys(evidence, Answers({}), is_required=True) == {"purpose.intended_use"}
    asked = _keys(evidence, Answers({}))
    assert not asked & ABOUT_PATIENTS
    gap = answered(evidence, Answers({}), "purpose.legal_basis")
    assert (gap.status, gap.note) == ("not_applicable", "all patients are made up")
    # What somebody says all the same is kept and shown.
    said = answered(evidence, Answers({"purpose.legal_basis": "none"}), "purpose.legal_basis")
    assert (said.status, said.value) == ("declared", "none")
    assert answered(evidence, Answers({}), "purpose.intended_use").status == "not_assessed"


def test_a_mix_with_one_real_part_is_real(edited: Callable[..., Evidence]) -> None:
    def mix(*sources: str) -> Callable[[dict[str, Any]], None]:
        def change(manifest: dict[str, Any]) -> None:
            manifest["config"]["data"] |= {
                "source": "mix",
                "part": [{"name": f"p{i}", "source": s} for i, s in enumerate(sources)],
            }

        return change

    assert is_simulated(edited(name="a", manifest=mix("phantom", "phantom")))
    assert not is_simulated(edited(name="b", manifest=mix("phantom", "openi")))


def test_whether_trials_count_is_asked_only_where_there_is_an_epsilon(
    real: Evidence, edited: Callable[..., Evidence]
) -> None:
    key = "tuning.is_counted"
    assert need(real, Answers({}), key).level == "required"
    assert need(real, Answers({"tuning.trials": 3}), key).level == "required"
    assert need(real, Answers({"tuning.trials": 0}), key).level == "none"

    def not_private(content: dict[str, Any]) -> None:
        content["claim"] = "NOT PRIVATE: ..."

    def manifest(content: dict[str, Any]) -> None:
        content["config"]["data"]["source"] = "manifest"

    other = edited(name="open", privacy=not_private, manifest=manifest)
    assert unanswered(other, Answers({}), key).status == "not_applicable"


def test_a_line_that_somebody_began_must_be_finished(edited: Callable[..., Evidence]) -> None:
    evidence = edited("dp")
    begun = Answers({"sign_off.clinical_lead.name": "A. Example"})
    required = _keys(evidence, begun, is_required=True, is_answered=False)
    assert {"sign_off.clinical_lead.date", "sign_off.clinical_lead.decision"} <= required
    assert "sign_off.clinical_lead.comment" not in required
    assert not any("clinical_lead" in key for key in _keys(evidence, Answers({})))


def test_an_answered_question_is_no_longer_open(real: Evidence) -> None:
    before = _keys(real, Answers({}), is_answered=False)
    after = _keys(real, Answers({"purpose.people": "adults"}), is_answered=False)
    assert before - after == {"purpose.people"}


def test_an_unchanged_template_answers_nothing(real: Evidence, tmp_path: Path) -> None:
    text = answers_template(real, None, RISKS)
    answers = _read(text, tmp_path / "a.toml")
    assert answers.values == {}
    assert questions(real, answers, RISKS) == questions(real, Answers({}), RISKS)


def test_the_template_asks_what_the_report_lists_and_explains_it(real: Evidence) -> None:
    text = answers_template(real, None, RISKS)
    content = tomllib.loads(text)
    found = questions(real, Answers({}), RISKS)
    for one in found:
        place: Any = content
        for part in one.key.split("."):
            place = place[part]
        assert place == ""
        mark = "REQUIRED. " if one.is_required else "Optional. "
        flat = " ".join(line.removeprefix("# ") for line in text.splitlines())
        assert mark + one.text in flat
    assert text.count(' = ""') == len(found)
    assert text.count("# Example: ") == text.count("# Asked by: ") >= len(ASKED)
    assert "GDPR 35(7)(b)" in text
    assert all(len(line) <= 100 for line in text.splitlines())
    assert all(role in text for role in ROLES)


def test_the_template_of_made_up_patients_leaves_out_what_nobody_has_to_say(
    edited: Callable[..., Evidence],
) -> None:
    evidence = edited("dp")
    text = answers_template(evidence)
    assert "legal_basis" not in text
    assert "risks" not in text
    kept = answers_template(evidence, Answers({"purpose.legal_basis": "none"}))
    assert 'legal_basis = "none"' in kept
    assert "Not needed: all patients are made up." in kept


def test_an_odd_name_of_a_run_does_not_break_the_file(edited: Callable[..., Evidence]) -> None:
    evidence = edited("dp", name='a"\n[purpose]\nintended_use = "x"\n\x7f')
    assert tomllib.loads(answers_template(evidence))["purpose"]["intended_use"] == ""


def test_answers_about_other_risks_are_not_dropped_silently(real: Evidence) -> None:
    answers = Answers({"risks.memership.severity": "limited"})
    for call in (questions, answers_template):
        with pytest.raises(UserInputError, match="did you mean 'membership'"):
            call(real, answers, RISKS)


TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from('\n\t"\\#=[]'))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    texts=st.dictionaries(
        st.sampled_from(sorted(k for k, q in ASKED.items() if q.kind == "text")), TEXTS
    ),
    trials=st.none() | st.integers(0, 10**9),
    level=st.sampled_from(["", "negligible", "maximal"]),
    comment=TEXTS,
)
def test_what_was_answered_comes_back_from_the_template(
    real: Evidence,
    tmp_path: Path,
    texts: dict[str, str],
    trials: int | None,
    level: str,
    comment: str,
) -> None:
    given: dict[str, Any] = {
        **texts,
        "risks.membership.severity": level,
        "sign_off.auditor.comment": comment,
    }
    if trials is not None:
        given["tuning.trials"] = trials
    answers = Answers(given)
    kept = {k: v.strip() if isinstance(v, str) else v for k, v in given.items()}
    assert answers.values == {k: v for k, v in kept.items() if v != ""}
    again = _read(answers_template(real, answers, RISKS), tmp_path / "a.toml")
    assert again.values == answers.values


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_any_text_is_written_as_toml(text: str) -> None:
    assert tomllib.loads(f"x = {toml_text(text)}")["x"] == text
