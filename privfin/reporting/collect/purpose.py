"""Block ``purpose``: what the model predicts, and what it is for."""

from __future__ import annotations

from privfin.reporting.answers.answers import Answers
from privfin.reporting.answers.questions import answered
from privfin.reporting.blocks_people import Purpose
from privfin.reporting.evidence import Evidence
from privfin.reporting.facts import Fact, derived, measured

_MANIFEST = "manifest.json"


def purpose_block(evidence: Evidence, answers: Answers) -> Purpose:
    """The block; all but ``task`` and ``labels`` is what people answered."""

    def said(name: str) -> Fact[str]:
        return answered(evidence, answers, f"purpose.{name}")

    return Purpose(
        task=derived(_task(evidence), _MANIFEST),
        labels=measured(evidence.run.label_names, _MANIFEST),
        intended_use=said("intended_use"),
        people=said("people"),
        out_of_scope=said("out_of_scope"),
        legal_basis=said("legal_basis"),
        necessity=said("necessity"),
        permit=said("permit"),
        impact_assessment=said("impact_assessment"),
        protection_officer=said("protection_officer"),
    )


def _task(evidence: Evidence) -> str:
    config, labels = evidence.config, evidence.run.label_names
    names = list(config.modalities)
    what = f"the probability of {labels[0]}" if len(labels) == 1 else (
        f"the probability of each of {len(labels)} labels"
    )  # fmt: skip
    if len(names) == 1:
        return f"{what}, from {names[0]}"
    inputs = ", ".join(names[:-1]) + f" and {names[-1]}"
    return f"{what}, from {inputs} or a part of them (imputer: {config.model.imputer})"
