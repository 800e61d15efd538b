"""Page one: what is not covered, what a person has to decide, and how to check the report."""

from __future__ import annotations

import shlex

from privfin.reporting.numbers import number_of
from privfin.reporting.schema import Report
from privfin.reporting.summary.answer import Answer, answer, gap

# The weightier an assumption, the earlier: what breaks the guarantee if it does not hold.
_ASSUMPTIONS = (
    "secret-noise",
    "poisson-sampling",
    "clipping",
    "honest-shares",
    "ids-name-persons",
    "one-site-a-patient",
    "settings-chosen-in-advance",
    "honest-sites",
    "real-numbers",
)

# Likewise of what is not covered: parts of its wording.
_OUTSIDE = (
    "frozen",
    "public records",
    "validation patients",
    "secure metrics",
    "held-out patients",
    "privfin audit",
    "choice of configuration",
)


def not_covered(report: Report) -> Answer:
    """How much is outside the guarantee or only assumed, and the weightiest of each."""
    tuning = report.tuning.trials
    tried = (
        f"Runs that were made to choose the settings: {tuning.get():,}"
        if tuning.is_known
        else f"How many runs were made to choose the settings is {gap(tuning)}"
    )
    return answer(
        "open", _outside(report), _assumed(report), f"{tried}.",
        fields=("/other_releases/not_covered", "/accounting/assumptions", "/tuning/trials"),
    )  # fmt: skip


def _outside(report: Report) -> str:
    outside = report.other_releases.not_covered
    if not outside.is_known:
        return f"What is outside the guarantee is {gap(outside)}."
    rows = outside.get()
    if not rows:
        return "The run lists 0 things outside the guarantee."
    heaviest = min(rows, key=lambda text: _place(text, _OUTSIDE))
    are = "is" if len(rows) == 1 else "are"
    return (
        f"{number_of(len(rows), 'thing')} {are} outside the guarantee, the weightiest: "
        f"{heaviest.rstrip('.')}."
    )


def _assumed(report: Report) -> str:
    assumptions = report.accounting.assumptions
    if not assumptions.is_known:
        return f"What the guarantee assumes is {gap(assumptions)}."
    rows = assumptions.get()
    unknown = [one for one in rows if one.status == "unknown"]
    declared = sum(one.status == "declared" for one in rows)
    text = (
        f"Of {number_of(len(rows), 'assumption')}, {len(unknown)} cannot be checked and "
        f"{declared} somebody only declares"
    )
    if not unknown:
        return f"{text}."
    heaviest = min(unknown, key=lambda one: _place(one.assumption_id, _ASSUMPTIONS))
    return f"{text}; the weightiest that cannot be checked: {heaviest.text.rstrip('.')}."


def _place(text: str, order: tuple[str, ...]) -> int:
    return next((i for i, part in enumerate(order) if part in text), len(order))


def decide(report: Report) -> Answer:
    """What is still open for a person."""
    return answer(
        "open" if _is_open(report) else "plain",
        _questions(report),
        _waiting(report),
        fields=("/sign_off/questions", "/sign_off/signatures", "/risks/risks"),
    )


def _is_open(report: Report) -> bool:
    sign_off, risks = report.sign_off, report.risks.risks
    facts = (sign_off.questions, sign_off.signatures, risks)
    if not all(fact.is_known for fact in facts):
        return True
    return (
        not all(one.is_answered for one in sign_off.questions.get())
        or any(one.decision is None for one in sign_off.signatures.get())
        or any(one.decision is None for one in risks.get())
    )


def _questions(report: Report) -> str:
    questions = report.sign_off.questions
    if not questions.is_known:
        return f"Which questions a person has to answer is {gap(questions)}."
    rows = questions.get()
    still_open = [one for one in rows if not one.is_answered]
    required = [one for one in still_open if one.is_required]
    text = f"Open questions: {len(still_open)} of {len(rows)}, {len(required)} of them required"
    return f"{text}, the first: '{required[0].text}'." if required else f"{text}."


def _waiting(report: Report) -> str:
    signatures, risks = report.sign_off.signatures, report.risks.risks
    parts = []
    if signatures.is_known:
        rows = signatures.get()
        missing = [one for one in rows if one.decision is None]
        parts.append(f"open signatures: {len(missing)} of {len(rows)}")
    else:
        parts.append(f"who signs is {gap(signatures)}")
    if risks.is_known:
        waiting = sum(one.decision is None for one in risks.get())
        parts.append(f"risks without a decision: {waiting} of {len(risks.get())}")
    else:
        parts.append(f"which risks there are is {gap(risks)}")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def verify(report: Report) -> Answer:
    """The command that checks the report, and what a signature adds."""
    about = report.report
    audience = about.audience.get() if about.audience.is_known else "officer"
    run = shlex.quote(about.run_name.get()) if about.run_name.is_known else "RUN"
    files = report.reproducibility.files
    hashes = (
        f"the SHA-256 of this report and of {number_of(len(files.get()), 'file')} of the run"
        if files.is_known
        else f"the SHA-256 of this report; that of the run's files is {gap(files)}"
    )
    return answer(
        "plain",
        f"The command 'privfin report verify report-{audience}.json --run {run}' compares "
        f"{hashes}.",
        "Without a signature that finds accidents, not forgery.",
        "A report made with --sign KEY also shows whose key signed it.",
        fields=("/reproducibility/files", "/report/run_id"),
        needs=(files,),
    )
