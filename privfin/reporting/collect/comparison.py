"""Block ``comparison``: several runs beside each other."""

from __future__ import annotations

from collections.abc import Sequence

from privfin.comparison.finished import FinishedRun, load_finished, show_value
from privfin.comparison.results import comparison_notices
from privfin.comparison.settings import group_settings
from privfin.reporting.blocks_results import ComparedRun, ComparisonBlock
from privfin.reporting.collect.utility import cell_results
from privfin.reporting.evidence import Evidence
from privfin.reporting.facts import measured, not_applicable
from privfin.runs import option_differences


def comparison_block(evidence: Evidence, others: Sequence[Evidence] = ()) -> ComparisonBlock:
    """The block: the report's own run first, then the others.

    Args:
        evidence: of the report's run.
        others: the runs beside it.

    Raises:
        UserInputError: a run twice, or runs with different labels.
    """
    if not others:
        return ComparisonBlock(runs=not_applicable("one run was given", "command line"))
    every = [evidence, *others]
    finished = load_finished([one.run.path for one in every])
    rows = tuple(_row(one, of, evidence) for one, of in zip(every, finished, strict=True))
    notices = comparison_notices(group_settings(finished))
    return ComparisonBlock(
        runs=measured(rows, "files of the runs", "; ".join(dict.fromkeys(notices)))
    )


def _row(one: Evidence, finished: FinishedRun, first: Evidence) -> ComparedRun:
    return ComparedRun(
        name=finished.name,
        run_id=finished.run_id,
        claim=finished.claim,
        epsilon=finished.epsilon,
        delta=float(one.privacy["population"]["delta"]),
        encryption=one.config.crypto.encryption,
        auroc={row.cell: row.auroc for row in cell_results(one)},
        audit_verdict=None if one.audit is None else str(one.audit["verdict"]),
        differences={
            key: show_value(here) for key, _, here in option_differences(first.config, one.config)
        },
    )
