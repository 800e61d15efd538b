"""A line that nobody signed stays empty and shows."""

from __future__ import annotations

from collections.abc import Callable

from privfin.reporting.answers.answers import Answers
from privfin.reporting.answers.questions import questions
from privfin.reporting.collect.sign_off import sign_off_block
from privfin.reporting.evidence import Evidence


def test_nobody_has_signed(edited: Callable[..., Evidence]) -> None:
    block = sign_off_block(edited(), Answers({}))
    lines = block.signatures.get()
    assert [one.role for one in lines] == ["controller", "data protection or privacy officer"]
    assert all(one.name is one.date is one.decision is None for one in lines)
    assert block.signatures.note == (
        "no decision yet: controller, data protection or privacy officer"
    )


def test_a_signed_line_says_what_was_said(real: Evidence) -> None:
    answers = Answers({
        "sign_off.controller.name": "A. Example", "sign_off.controller.date": "2026-12-01",
        "sign_off.controller.decision": "refused", "sign_off.auditor.comment": "not seen yet",
    })  # fmt: skip
    controller, officer, auditor = sign_off_block(real, answers).signatures.get()
    assert (controller.name, controller.date, controller.decision, controller.comment) == (
        "A. Example", "2026-12-01", "refused", "",
    )  # fmt: skip
    assert officer.decision is None
    assert (auditor.role, auditor.decision, auditor.comment) == ("auditor", None, "not seen yet")
    note = sign_off_block(real, answers).signatures.note
    assert note == "no decision yet: data protection or privacy officer, auditor"


def test_the_questions_are_those_of_the_run_and_its_risks(real: Evidence) -> None:
    answers = Answers({"risks.membership.severity": "limited"})
    block = sign_off_block(real, answers, ["membership"])
    assert block.questions.get() == questions(real, answers, ["membership"])
    assert {q.key for q in block.questions.get() if q.is_answered} == {"risks.membership.severity"}
