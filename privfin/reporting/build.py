"""From a run's evidence to a whole report: collect, propose, coarsen, and put into words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from privfin.reporting.answers.answers import Answers
from privfin.reporting.blocks_people import Audience, ClauseMap, ReleaseClass, Risks
from privfin.reporting.clauses import clause_map
from privfin.reporting.collect.about import about_block
from privfin.reporting.collect.accounting import accounting_block
from privfin.reporting.collect.audit import audit_block
from privfin.reporting.collect.comparison import comparison_block
from privfin.reporting.collect.data import data_block
from privfin.reporting.collect.exchange import exchange_block
from privfin.reporting.collect.guarantee import guarantee_block
from privfin.reporting.collect.implementation import implementation_block
from privfin.reporting.collect.ledger import ledger_block
from privfin.reporting.collect.mechanism import mechanism_block
from privfin.reporting.collect.other_releases import other_releases_block
from privfin.reporting.collect.parties import parties_block
from privfin.reporting.collect.purpose import purpose_block
from privfin.reporting.collect.reproducibility import reproducibility_block
from privfin.reporting.collect.security import security_block
from privfin.reporting.collect.sign_off import sign_off_block
from privfin.reporting.collect.tuning import tuning_block
from privfin.reporting.collect.utility import utility_block
from privfin.reporting.evidence import Evidence
from privfin.reporting.facts import Fact, not_assessed
from privfin.reporting.release.release import for_release
from privfin.reporting.schema import Report
from privfin.reporting.summary.page_one import summarise
from privfin.reporting.summary.risks import RISK_IDS, propose_risks, with_decisions

#: How far a report for each audience may travel.
RELEASE_CLASSES: dict[Audience, ReleaseClass] = {
    "officer": "internal",
    "engineer": "internal",
    "public": "public",
}


def build_report(
    evidence: Evidence,
    answers: Answers,
    *,
    audience: Audience = "officer",
    others: Sequence[Evidence] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """A report on one run.

    Args:
        evidence: of the run.
        answers: what persons stated.
        audience: for whom; ``public`` gets coarse counts and no small cells.
        others: further runs to show beside it.
        progress: told what is being done.

    Raises:
        UserInputError: a file of the run is damaged, states less epsilon than its events cost, or
            the other runs cannot be compared.
    """
    evidence.run.model()  # refuses one that is damaged or does not fit the configuration
    waiting: Fact[Any] = not_assessed("made from the other blocks", "privfin")
    with evidence.reading("privacy.json"):
        progress("calculating epsilon again")
        guarantee = guarantee_block(evidence)
        accounting = accounting_block(evidence)
        mechanism = mechanism_block(evidence)
        exchange = exchange_block(evidence)
        implementation = implementation_block(evidence)
        progress("reading the ledger")
        ledger = ledger_block(evidence)
    progress("reading results")
    with evidence.reading("metrics.json"):
        utility = utility_block(evidence, others)
        comparison = comparison_block(evidence, others)
    with evidence.reading("manifest.json"):
        report = Report(
            schema_version="1.0",
            report=about_block(evidence, answers, audience, others),
            summary=(),
            purpose=purpose_block(evidence, answers),
            parties=parties_block(evidence, answers),
            data=data_block(evidence, answers),
            guarantee=guarantee,
            mechanism=mechanism,
            accounting=accounting,
            ledger=ledger,
            tuning=tuning_block(evidence, answers),
            other_releases=other_releases_block(evidence, answers),
            audit=audit_block(evidence),
            exchange=exchange,
            utility=utility,
            implementation=implementation,
            security=security_block(evidence, answers),
            reproducibility=reproducibility_block(evidence),
            risks=Risks(risks=waiting),
            clause_map=ClauseMap(edition=waiting, as_of=waiting, clauses=waiting),
            sign_off=sign_off_block(evidence, answers, RISK_IDS),
            comparison=comparison,
        )
    risks = with_decisions(propose_risks(report), answers)
    report = report.model_copy(update={"risks": risks})
    report = report.model_copy(update={"clause_map": clause_map(report)})
    report = for_release(report, RELEASE_CLASSES[audience])
    return report.model_copy(update={"summary": summarise(report)})
