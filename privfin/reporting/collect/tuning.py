"""Block ``tuning``: how the settings came about, and what that cost."""

from __future__ import annotations

from privfin.reporting.answers.answers import Answers
from privfin.reporting.answers.questions import answered, unanswered
from privfin.reporting.blocks_people import Tuning
from privfin.reporting.evidence import Evidence
from privfin.reporting.facts import measured


def tuning_block(evidence: Evidence, answers: Answers) -> Tuning:
    """The block: earlier runs by what people answered, the reported round by the run."""
    trials = "tuning.trials"
    return Tuning(
        trials=answers.count(trials)
        if answers.has(trials)
        else unanswered(evidence, answers, trials),
        is_counted=answered(evidence, answers, "tuning.is_counted"),
        chosen_by=measured(str(evidence.metrics["chosen_by"]), "metrics.json"),
    )
