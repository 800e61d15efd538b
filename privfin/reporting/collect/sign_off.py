"""Block ``sign_off``: who decides, and which questions are open."""

from __future__ import annotations

from collections.abc import Sequence

from privfin.reporting.answers.answers import SOURCE, Answers
from privfin.reporting.answers.asked import ROLES
from privfin.reporting.answers.questions import questions, signing_roles
from privfin.reporting.blocks_people import Signature, SignOff
from privfin.reporting.evidence import Evidence
from privfin.reporting.facts import declared, derived


def sign_off_block(evidence: Evidence, answers: Answers, risk_ids: Sequence[str] = ()) -> SignOff:
    """The block.

    Args:
        evidence: of the run.
        answers: what people answered.
        risk_ids: the risks that the report proposes.

    Raises:
        UserInputError: an answer is about a risk that is not among them.
    """
    lines = tuple(_line(answers, role) for role in signing_roles(answers))
    undecided = [one.role for one in lines if one.decision is None]
    note = f"no decision yet: {', '.join(undecided)}" if undecided else ""
    return SignOff(
        signatures=declared(lines, SOURCE, note),
        questions=derived(questions(evidence, answers, risk_ids), f"the run and {SOURCE}"),
    )


def _line(answers: Answers, role: str) -> Signature:
    key = f"sign_off.{role}"
    return Signature(
        role=ROLES[role],
        name=answers.said(f"{key}.name"),
        date=answers.said(f"{key}.date"),
        decision=answers.said(f"{key}.decision"),
        comment=answers.said(f"{key}.comment") or "",
    )
