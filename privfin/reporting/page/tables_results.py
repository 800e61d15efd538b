"""Tables of how well models do, and of several runs."""

from __future__ import annotations

from collections.abc import Sequence

from privfin.reporting.blocks_results import (
    CellResult,
    ComparedRun,
    GroupResult,
    LabelResult,
)
from privfin.reporting.numbers import at_most, counted, delta_text
from privfin.reporting.page.tables import Table
from privfin.reporting.page.wording import (
    NOT_STATED,
    interval,
    percent,
)

_SCORES = ("AUROC", "AUPRC", "calibration error", "Brier score")


def _scores(row: CellResult | LabelResult) -> tuple[str, str, str, str]:
    ece, brier = (NOT_STATED if x is None else f"{x:.3f}" for x in (row.ece, row.brier))
    return (interval(row.auroc), interval(row.auprc), ece, brier)


def _withheld(words: str | None) -> str:
    return words or "nothing"


def cells(rows: Sequence[CellResult], which: str) -> Table:
    """Results of availability cells."""
    levels = sorted({_level(row.confidence) for row in rows})
    return Table(
        f"{which}, macro over labels; {', '.join(levels)}",
        ("available", "records", "patients", *_SCORES, "withheld"),
        tuple(
            (row.cell, counted(row.records), counted(row.patients), *_scores(row),
             _withheld(row.withheld))
            for row in rows
        ),
        frozenset(range(1, 7)),
    )  # fmt: skip


def _level(confidence: float) -> str:
    return "bounds that always hold" if confidence == 1.0 else f"intervals of {percent(confidence)}"


def labels(row: CellResult) -> Table:
    """Results of the labels of one cell."""
    return Table(
        f"Labels where {row.cell} is available",
        ("label", "with", "without", *_SCORES, "left out or withheld"),
        tuple(
            (one.label, counted(one.positives), counted(one.negatives), *_scores(one),
             "; ".join(filter(None, (one.left_out, one.withheld))) or "no")
            for one in row.labels
        ),
        frozenset(range(1, 7)),
    )  # fmt: skip


def groups(by: str, rows: Sequence[GroupResult]) -> list[Table]:
    """Results of the subgroups of one kind, and what was left out of them."""
    results = Table(
        f"Subgroups by {by}, macro over labels",
        ("subgroup", "available", "records", "patients", *_SCORES, "withheld"),
        tuple(
            (group.group, row.cell, counted(row.records), counted(row.patients), *_scores(row),
             _withheld(row.withheld))
            for group in rows
            for row in group.cells
        ),
        frozenset(range(2, 8)),
    )  # fmt: skip
    left = Table(
        f"Left out of the subgroups by {by}",
        ("subgroup", "what", "why"),
        tuple((group.group, what, why) for group in rows for what, why in group.left_out.items()),
    )
    return [table for table in (results, left) if table.rows]


def promises(runs: Sequence[ComparedRun]) -> Table:
    """What each of several runs promises."""
    return Table(
        "Runs and what they promise, for one protected unit",
        ("run", "identifier", "claim", "epsilon", "delta", "encryption", "attacks"),
        tuple(
            (run.name, run.run_id, run.claim, at_most(run.epsilon), delta_text(run.delta),
             run.encryption, run.audit_verdict or "not attacked")
            for run in runs
        ),
        frozenset({3, 4}),
    )  # fmt: skip


def compared(runs: Sequence[ComparedRun], which: Sequence[str]) -> list[Table]:
    """How well several runs do in each cell, and how they differ."""
    keys = list(dict.fromkeys(key for run in runs for key in run.differences))
    results = Table(
        "Macro AUROC by available modalities",
        ("run", *which),
        tuple(
            (run.name, *(interval(run.auroc[c]) if c in run.auroc else NOT_STATED for c in which))
            for run in runs
        ),
        frozenset(range(1, len(which) + 1)),
    )
    options = Table(
        "Options that differ from the first run",
        ("run", *keys),
        tuple((run.name, *(run.differences.get(key, "as first") for key in keys)) for run in runs),
    )
    return [*([results] if which else []), *([options] if keys else [])]
