"""Which questions a person must answer for one run, and the file in which they are asked."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from privfin.privacy.ledger.datasets import PHANTOM
from privfin.reporting.answers.answers import SOURCE, Answers
from privfin.reporting.answers.asked import (
    ASKED,
    ROLES,
    SIGNING_ROLES,
    Asked,
    asked,
    risk_keys,
    signature_keys,
)
from privfin.reporting.blocks_people import Question
from privfin.reporting.evidence import Evidence
from privfin.reporting.facts import Fact, not_applicable, not_assessed

_WIDTH = 96
_SIMULATED = "all patients are made up"
#: Where nobody is a patient, there is nothing to say about these.
_ABOUT_PATIENTS = frozenset(
    {
        *("purpose.people", "purpose.legal_basis", "purpose.necessity", "purpose.permit"),
        *("purpose.impact_assessment", "purpose.protection_officer"),
        *("parties.roles", "parties.coordinator"),
        *("data.period", "data.label_origin", "data.consent"),
        *("tuning.is_counted", "other_releases.justification", "security.raw_data"),
    }
)


@dataclass(frozen=True)
class Need:
    """Whether a run needs an answer: ``required``, ``optional``, or ``none`` and ``why`` not."""

    level: Literal["required", "optional", "none"]
    why: str = ""


_REQUIRED, _OPTIONAL = Need("required"), Need("optional")


def is_simulated(evidence: Evidence) -> bool:
    """Whether all patients of a run are made up."""
    data = evidence.config.data
    sources = {part.source for part in data.part} if data.source == "mix" else {data.source}
    return sources == {PHANTOM}


def need(evidence: Evidence, answers: Answers, key: str) -> Need:
    """Whether this run needs an answer to a question.

    With made-up patients only the intended use is required: somebody may take the model for a real
    one. Without a guarantee nobody has to say whether earlier runs are in its epsilon.
    """
    section, _, rest = key.partition(".")
    simulated = is_simulated(evidence)
    if simulated and key in _ABOUT_PATIENTS:
        return Need("none", _SIMULATED)
    if key == "tuning.is_counted":
        if evidence.privacy["claim"] != "dp":
            return Need("none", "no epsilon is claimed")
        if answers.said("tuning.trials") == "0":
            return Need("none", "no runs were made to choose the settings")
    if key == "report.supersedes" or key.endswith(".comment"):
        return _OPTIONAL
    if section == "sign_off":
        # A line that somebody began has to be finished, whoever it is.
        role = rest.partition(".")[0]
        must = role in SIGNING_ROLES and not simulated
        return _REQUIRED if must or _has_begun(answers, role) else _OPTIONAL
    if simulated and key != "purpose.intended_use":
        return _OPTIONAL
    return _REQUIRED


def answered(evidence: Evidence, answers: Answers, key: str) -> Fact[str]:
    """The answer as a declared fact; a gap if nobody gave it, or if there is nothing to ask."""
    return answers.text(key) if answers.has(key) else unanswered(evidence, answers, key)


def unanswered(evidence: Evidence, answers: Answers, key: str) -> Fact[Any]:
    """The gap that a question leaves which nobody has answered."""
    wanted = need(evidence, answers, key)
    if wanted.level == "none":
        return not_applicable(wanted.why, "manifest.json")
    return not_assessed("nobody has answered this yet", SOURCE)


def questions(
    evidence: Evidence, answers: Answers, risk_ids: Sequence[str] = ()
) -> tuple[Question, ...]:
    """What a person must or may answer for this run.

    Args:
        evidence: of the run.
        answers: what was answered so far.
        risk_ids: the risks that the report proposes.

    Raises:
        UserInputError: an answer is about a risk that is not among them.
    """
    answers.check_risks(risk_ids)
    found = []
    for key in _keys(answers, risk_ids):
        wanted, one = need(evidence, answers, key), _asked(key)
        if wanted.level != "none":
            found.append(Question(
                key=key, text=one.text, is_required=wanted.level == "required",
                is_answered=answers.has(key),
            ))  # fmt: skip
    return tuple(found)


def answers_template(
    evidence: Evidence, existing: Answers | None = None, risk_ids: Sequence[str] = ()
) -> str:
    """An answers file (TOML) with the questions of this run, explained; answers given are kept.

    Read back without a change it says what ``existing`` said, and nothing without one.

    Args:
        evidence: of the run.
        existing: what was answered before.
        risk_ids: the risks that the report proposes.

    Raises:
        UserInputError: an answer is about a risk that is not among them.
    """
    answers = existing or Answers({})
    answers.check_risks(risk_ids)
    blocks = [_head(evidence)]
    table = ""
    explained: set[str] = set()
    for key in _keys(answers, risk_ids):
        wanted = need(evidence, answers, key)
        if wanted.level == "none" and not answers.has(key):
            continue
        one = _asked(key)
        path, _, name = key.rpartition(".")
        if path != table:
            table = path
            blocks.append(f"[{path}]")
        # What is asked of every risk and every role is explained once.
        is_new = one.why not in explained
        explained.add(one.why)
        blocks.append(_entry(one, name, wanted, answers.values.get(key), is_new))
    others = ", ".join(role for role in ROLES if role not in signing_roles(answers))
    blocks.append(
        _comment(f"Others may sign too, in a table [sign_off.ROLE] of their own: {others}.")
    )
    return "\n\n".join(blocks) + "\n"


def signing_roles(answers: Answers) -> list[str]:
    """Whose lines a report shows: the two that it needs, and everybody who began one."""
    return [role for role in ROLES if role in SIGNING_ROLES or _has_begun(answers, role)]


def _has_begun(answers: Answers, role: str) -> bool:
    return any(map(answers.has, signature_keys([role])))


def _keys(answers: Answers, risk_ids: Sequence[str]) -> list[str]:
    return [*ASKED, *risk_keys(risk_ids), *signature_keys(signing_roles(answers))]


def _asked(key: str) -> Asked:
    one = asked(key)
    if one is None:
        raise ValueError(f"'{key}' is no question: is a risk's name in lower case, with hyphens?")
    return one


def _head(evidence: Evidence) -> str:
    name = toml_text(evidence.run.path.resolve().name)
    lines = [
        f"Answers for the report on run {name} ({evidence.run.run_id}).",
        "",
        "Here stands only what a person has to say; what the run knows is not asked. An empty "
        "answer is none: the report shows it as open. A text of several lines stands between "
        'three quotes ("""). Laws and standards are named to say who asks; that is no advice.',
        "",
        "REQUIRED: while one of these is empty, privfin report --strict fails.",
    ]
    return "\n".join(_comment(line) for line in lines)


def _entry(one: Asked, name: str, wanted: Need, value: str | int | None, is_explained: bool) -> str:
    mark = {
        "required": "REQUIRED. ",
        "optional": "Optional. ",
        "none": f"Not needed: {wanted.why}. ",
    }[wanted.level]
    comments = [mark + one.text]
    if is_explained:
        comments += [f"Why: {one.why}", f"Asked by: {one.law}.", f"Example: {one.example}"]
    given = value if isinstance(value, int) else toml_text(value or "")
    return "\n".join([*(_comment(line) for line in comments), f"{name} = {given}"])


def _comment(text: str) -> str:
    lines = textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join(f"# {line}" for line in lines) or "#"


def toml_text(text: str) -> str:
    """A text as a TOML basic string; of several lines between three quotes, a line each."""
    lines = [_escaped(line) for line in text.split("\n")]
    return f'"{lines[0]}"' if len(lines) == 1 else '"""\n{}"""'.format("\n".join(lines))


def _escaped(line: str) -> str:
    # JSON's escapes are TOML's, but for the one control character that JSON lets through.
    return json.dumps(line, ensure_ascii=False)[1:-1].replace("\x7f", "\\u007f")
