"""What a report asks people: every question with why it is asked, for whom, and an example."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "count", "date", "level"]

#: The four levels of severity and likelihood, lowest first.
LEVELS = ("negligible", "limited", "significant", "maximal")

#: Who may sign, by the name in the answers file.
ROLES = {
    "controller": "controller",
    "protection_officer": "data protection or privacy officer",
    "ethics_board": "ethics or privacy board",
    "access_committee": "data access committee",
    "security_officer": "information security officer",
    "clinical_lead": "clinical lead",
    "expert": "expert on re-identification",
    "patient_board": "patient board",
    "auditor": "auditor",
}
#: Whose line a report on real patients needs.
SIGNING_ROLES = ("controller", "protection_officer")

_RISK_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Asked:
    """A question.

    Attributes:
        key: of the answers file.
        text: the question.
        why: what is done with the answer, and what it should hold.
        law: laws and standards that ask for it.
        example: an answer as it is written in TOML.
        kind: what an answer is.
    """

    key: str
    text: str
    why: str
    law: str
    example: str
    kind: Kind = "text"


_ASKED = (
    Asked(
        "purpose.intended_use",
        "What is the model for: which clinical or research use, by whom?",
        "The report states it on page one, and everything else is judged by it.",
        "GDPR 35(7)(a); AI Act, Annex IV 1(a)",
        '"Research: triage of chest X-rays in a retrospective study; no use on patients."',
    ),
    Asked(
        "purpose.people",
        "Whose data are these: which patients, from where, from which kind of care?",
        "The run knows identifiers and counts, not who the people are.",
        "GDPR 35(7)(a)",
        '"Adults with a chest X-ray in the emergency departments of three hospitals."',
    ),
    Asked(
        "purpose.out_of_scope",
        "Which uses is the model not for?",
        "A reader who gets the model later has to know where its figures say nothing.",
        "AI Act, Annex IV 1(a)",
        '"Children; decisions without a radiologist; devices from before 2015."',
    ),
    Asked(
        "purpose.legal_basis",
        "On which legal basis are the patients' data processed?",
        "Name the basis of the processing and, for health data, the exception that allows it.",
        "GDPR, lawfulness of processing and special categories; HIPAA, authorization or waiver",
        '"Public interest and scientific research, with the state hospital act."',
    ),
    Asked(
        "purpose.necessity",
        "Why are patients' data needed for this, and why not fewer of them?",
        "No program can weigh purpose against intrusion.",
        "GDPR 35(7)(b); HIPAA, minimum necessary",
        '"Public images have no such reports; 3000 patients give the width of interval needed."',
    ),
    Asked(
        "purpose.permit",
        "What is the number of the ethics vote, waiver or data permit?",
        "If none is needed, say so and why.",
        "EHDS, data permit; ethics or privacy board",
        '"Ethics vote 123/2026 of the medical faculty."',
    ),
    Asked(
        "purpose.impact_assessment",
        "Where is the data protection impact assessment, or why is there none?",
        "This report is evidence for such an assessment and does not replace it.",
        "GDPR 35; EDPB Opinion 28/2024, documentation",
        '"DPIA 2026-14, version 2, in the records of the data protection office."',
    ),
    Asked(
        "purpose.protection_officer",
        "Who is the data protection or privacy officer?",
        "Name and office, so that readers and patients know whom to ask.",
        "GDPR 35, advice of the data protection officer",
        '"A. Example, data protection office of Example Hospital."',
    ),
    Asked(
        "parties.roles",
        "Which party is controller, joint controller or processor?",
        "One line a party: every site, the coordinator, and who gets the model.",
        "GDPR, joint controllers and processors; NIST SP 800-226, trust model",
        '"site-01 to site-03: joint controllers; coordinator: processor of all three."',
    ),
    Asked(
        "parties.coordinator",
        "Who runs the coordinator, and where?",
        "What the coordinator could see depends on who it is and on what else it can reach.",
        "GDPR, processors; NIST SP 800-226, trust model",
        '"The university\'s computing centre, which holds no patient data."',
    ),
    Asked(
        "parties.recipients",
        "Who gets the model and its figures?",
        "The guarantee against an outsider counts for each of them.",
        "GDPR 35(7)(a); HIPAA 164.514(b)(1), the anticipated recipient",
        '"The three hospitals only; no publication of weights."',
    ),
    Asked(
        "data.period",
        "From which years are the data?",
        "Runs on overlapping years use the same patients' budget.",
        "AI Act, Annex IV 2(d)",
        '"2018 to 2025."',
    ),
    Asked(
        "data.label_origin",
        "How were the labels made, and who checked them?",
        "Figures measure agreement with these labels, right or wrong.",
        "AI Act, Annex IV 2(d)",
        '"Mined from reports by a rule-based labeller; 200 checked by two radiologists."',
    ),
    Asked(
        "data.consent",
        "Consent, waiver or opt-out: which, and were objections taken out before the run?",
        "The program cannot see who objected.",
        "GDPR, consent and objection; AI Act, Annex IV 2(d)",
        '"Broad consent; 41 patients who withdrew were removed on 2026-03-01."',
    ),
    Asked(
        "tuning.trials",
        "How many runs were made on these patients to choose the settings?",
        "Every one of them learned from the same patients. 0 if settings were chosen without them.",
        "NIST SP 800-226; reporting advice for differential privacy",
        "12",
        "count",
    ),
    Asked(
        "tuning.is_counted",
        "Are those runs in the stated epsilon or in a ledger, or were they on public data?",
        "A run does not see earlier ones: epsilon here is that of this run alone.",
        "NIST SP 800-226; reporting advice for differential privacy",
        '"All on the phantom, none on patients."',
    ),
    Asked(
        "other_releases.justification",
        "Why is it acceptable that the listed figures were computed without noise?",
        "The report lists what the guarantee does not cover; a person has to accept it.",
        "NIST SP 800-226; GDPR 35(7)(d)",
        '"Figures stay with the three hospitals; groups below 20 patients are not shown."',
    ),
    Asked(
        "security.raw_data",
        "Who can read the patients' data and the features kept of them, and how is that limited?",
        "The program protects what leaves a site, not the disks that it reads.",
        "GDPR 35(7)(d), security of processing; HIPAA, technical safeguards",
        '"Two named researchers on an encrypted server without access to the internet."',
    ),
    Asked(
        "security.retention",
        "How long are runs, models, checkpoints and ledgers kept, and who deletes them?",
        "Checkpoints say as much of patients as the model does; ledgers must outlive the runs.",
        "GDPR, storage limitation; AI Act, keeping of documentation and logs",
        '"Checkpoints: until publication; model, report and ledger: 10 years."',
    ),
    Asked(
        "report.valid_until",
        "Until when may this report be relied on before somebody looks again?",
        "Attacks get better and data are used again: a finding does not hold for ever.",
        "GDPR 35, review when the risk changes; HIPAA 164.514(b)(1), time-limited findings",
        '"2027-12-31"',
        "date",
    ),
    Asked(
        "report.supersedes",
        "Which earlier report does this one replace?",
        "Its report_id, so that an old finding is not relied on beside a new one.",
        "ISO/IEC 42001, documented information",
        '"0f3c9a..."',
    ),
)

ASKED = {one.key: one for one in _ASKED}

_RISK = {
    "severity": Asked(
        "severity",
        "How bad would it be for a patient if this happened ({})?",
        "One of negligible, limited, significant, maximal.",
        "GDPR 35(7)(c)",
        '"limited"',
        "level",
    ),
    "likelihood": Asked(
        "likelihood",
        "How likely is it, with the measures that the report lists ({})?",
        "One of negligible, limited, significant, maximal; the report lists the evidence.",
        "GDPR 35(7)(c)",
        '"negligible"',
        "level",
    ),
    "decision": Asked(
        "decision",
        "Is the remaining risk accepted, by whom, or what has to be done first ({})?",
        "The program proposes risks and measures; it decides nothing.",
        "GDPR 35(7)(c) and (d)",
        '"Accepted by the steering committee while the model stays with the three hospitals."',
    ),
}
_SIGNATURE = {
    "name": Asked(
        "name",
        "Who signs as {}?",
        "A person, not an office.",
        "AI Act, Annex IV 2(g): dated and signed by the responsible persons",
        '"A. Example"',
    ),
    "date": Asked(
        "date",
        "On which day did the {} decide?",
        "Year, month, day.",
        "AI Act, Annex IV 2(g): dated and signed by the responsible persons",
        '"2026-12-01"',
        "date",
    ),
    "decision": Asked(
        "decision",
        "What did the {} decide?",
        "In a few words: approved, approved with conditions, or refused, and for what.",
        "GDPR 35; HIPAA 164.514(b)(1), the expert's finding",
        '"Approved for the study named above."',
    ),
    "comment": Asked(
        "comment",
        "What else does the {} want to have on record?",
        "Conditions, reservations, or a reference.",
        "GDPR 35, advice of the data protection officer",
        '"To be looked at again before the model goes to a fourth hospital."',
    ),
}


def asked(key: str) -> Asked | None:
    """The question of a key, or None if there is none of that name."""
    if key in ASKED:
        return ASKED[key]
    match key.split("."):
        case ["risks", risk, field] if field in _RISK and _RISK_ID.fullmatch(risk):
            return _about(_RISK[field], key, risk)
        case ["sign_off", role, field] if field in _SIGNATURE and role in ROLES:
            return _about(_SIGNATURE[field], key, ROLES[role])
    return None


def risk_keys(risk_ids: Iterable[str]) -> list[str]:
    """Keys of all questions about these risks."""
    return [f"risks.{risk}.{field}" for risk in risk_ids for field in _RISK]


def signature_keys(roles: Iterable[str] = ROLES) -> list[str]:
    """Keys of all lines that these roles sign."""
    return [f"sign_off.{role}.{field}" for role in roles for field in _SIGNATURE]


def _about(one: Asked, key: str, what: str) -> Asked:
    return Asked(key, one.text.format(what), one.why, one.law, one.example, one.kind)
