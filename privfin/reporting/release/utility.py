"""A public copy of how well the model does: no figure of few people, nor one to subtract it from.

Counts of 1 to 10 are not shown, and neither is any figure that is computed from so few. Where just
one part of a whole would be left out (a group, a label), the smallest other part is left out too:
the whole minus the parts that are shown would be the first one.
"""

from __future__ import annotations

from collections.abc import Sequence

from privfin.reporting.blocks_people import Count
from privfin.reporting.blocks_results import (
    CellResult,
    ComparedRun,
    ComparisonBlock,
    GroupResult,
    Interval,
    LabelResult,
    PrivacyCost,
    Utility,
)
from privfin.reporting.facts import Fact
from privfin.reporting.release.audit import coarse_interval
from privfin.reporting.release.coarse import (
    HIDDEN,
    coarse_count,
    digits_up,
    is_hidden,
    nearest,
    places_for,
    power_of_ten_up,
    size_of,
)
from privfin.reporting.release.facts import Withheld, changed

FEW = "1 to 10 patients or records"
PARTNER = "with it, the figure of a part of 1 to 10 could be calculated"
_UTILITY = (
    "figures are rounded to at most three decimal places; those computed from 1 to 10 patients or "
    "records are left out, and so is the smallest other part where one alone would be missing"
)
_OTHERS = (
    "identifiers of other runs are left out, and so are their settings that describe data, sites "
    "or counts"
)

# Sections of a configuration that say nothing about data and who holds how many of them.
_SHOWN_SECTIONS = ("crypto", "evaluation", "model", "training")
_OTHER_RUN = "another run"
_NOTHING = Interval(value=None)


def release_utility(block: Utility, done: Withheld) -> Utility:
    """What may be shown of a model's figures."""
    cells = changed(block.cells, lambda rows: tuple(map(_cell, rows)))
    hidden = hidden_cells(cells)
    after = block.model_copy(
        update={
            "cells": cells,
            "groups": changed(block.groups, _groups),
            "cost_of_privacy": changed(
                block.cost_of_privacy,
                lambda rows: tuple(_cost(row) for row in rows if row.cell not in hidden),
            ),
        }
    )
    return done.note(block, after, _UTILITY)


def hidden_cells(cells: Fact[tuple[CellResult, ...]]) -> set[str]:
    """Names of cells whose figures are left out of a released block."""
    return {row.cell for row in cells.get() if row.withheld} if cells.is_known else set()


def _cell(row: CellResult) -> CellResult:
    if is_hidden(row.patients) or is_hidden(row.records):
        return _without_figures(row, FEW)
    labels = _labels(row.labels)
    if row.labels and _is_one_alone(labels):
        return _without_figures(row.model_copy(update={"labels": labels}), PARTNER)
    places = places_for(10 * size_of(row.patients))
    return row.model_copy(
        update={
            "records": coarse_count(row.records),
            "patients": coarse_count(row.patients),
            "auroc": coarse_interval(row.auroc, places),
            "auprc": coarse_interval(row.auprc, places),
            "ece": _rounded(row.ece, places),
            "brier": _rounded(row.brier, places),
            "labels": labels,
        }
    )


def _without_figures(row: CellResult, why: str) -> CellResult:
    """Nothing but the name and, for a small one, that it is small."""
    is_small = why == FEW
    return row.model_copy(
        update={
            "records": HIDDEN if is_small else coarse_count(row.records),
            "patients": _small_or_hidden(row.patients) if is_small else coarse_count(row.patients),
            "auroc": _NOTHING,
            "auprc": _NOTHING,
            "ece": None,
            "brier": None,
            "labels": () if is_small else row.labels,
            "withheld": row.withheld or why,
        }
    )


def _small_or_hidden(count: Count) -> Count:
    return coarse_count(count) if is_hidden(count) else HIDDEN


def _rounded(value: float | None, places: int) -> float | None:
    return None if value is None else nearest(value, places)


def _labels(rows: Sequence[LabelResult]) -> tuple[LabelResult, ...]:
    """Labels with figures where there are enough of both kinds.

    The mean over the labels minus the labels that are shown would be the only one that is not.
    """
    few = {row.label for row in rows if is_hidden(row.positives) or is_hidden(row.negatives)}
    in_mean = [row for row in rows if row.left_out is None]
    missing = [row for row in in_mean if row.label in few]
    partner = ""
    if len(missing) == 1 and missing[0].withheld is None:
        others = [row for row in in_mean if row.label not in few]
        partner = min(others, key=lambda row: (_fewest(row), row.label)).label if others else ""
    return tuple(
        _label_without_figures(row, FEW if row.label in few else PARTNER)
        if row.label in few or row.label == partner
        else _label(row)
        for row in rows
    )


def _fewest(row: LabelResult) -> int:
    return min(size_of(row.positives), size_of(row.negatives))


def _label(row: LabelResult) -> LabelResult:
    if row.withheld:
        return row
    places = places_for(size_of(row.positives) * size_of(row.negatives))
    return row.model_copy(
        update={
            "positives": coarse_count(row.positives),
            "negatives": coarse_count(row.negatives),
            "auroc": coarse_interval(row.auroc, places),
            "auprc": coarse_interval(row.auprc, places),
            "ece": _rounded(row.ece, places),
            "brier": _rounded(row.brier, places),
        }
    )


def _label_without_figures(row: LabelResult, why: str) -> LabelResult:
    return row.model_copy(
        update={
            "positives": coarse_count(row.positives),
            "negatives": coarse_count(row.negatives),
            "auroc": _NOTHING,
            "auprc": _NOTHING,
            "ece": None,
            "brier": None,
            "withheld": row.withheld or why,
        }
    )


def _is_one_alone(labels: Sequence[LabelResult]) -> bool:
    """Whether the mean over the labels is the figure of the one that is left out."""
    in_mean = [row for row in labels if row.left_out is None]
    return len(in_mean) == 1 and in_mean[0].withheld is not None


def _groups(rows: tuple[GroupResult, ...]) -> tuple[GroupResult, ...]:
    """Groups with figures where there are enough people, and never all but one of them."""
    partners = set(_partners(rows))
    return tuple(
        row.model_copy(
            update={
                "cells": tuple(
                    _group_partner(cell)
                    if (row.by, row.group, cell.cell) in partners
                    else _cell(cell)
                    for cell in row.cells
                )
            }
        )
        for row in rows
    )


def _group_partner(cell: CellResult) -> CellResult:
    return _without_figures(
        cell.model_copy(update={"records": HIDDEN, "patients": HIDDEN, "labels": ()}), PARTNER
    )


def _partners(rows: Sequence[GroupResult]) -> list[tuple[str, str, str]]:
    """(by, group, cell) of the smallest group shown wherever just one other is not."""
    found = []
    for by in dict.fromkeys(row.by for row in rows):
        groups = [row for row in rows if row.by == by]
        names = {cell.cell for row in groups for cell in row.cells}
        for name in sorted(names):
            here = [(row.group, cell) for row in groups for cell in row.cells if cell.cell == name]
            shown = [(g, c) for g, c in here if not _is_missing(c)]
            missing = len(here) - len(shown) + sum(name in row.left_out for row in groups)
            if missing == 1 and shown:
                group, _ = min(shown, key=lambda pair: (size_of(pair[1].patients), pair[0]))
                found.append((by, group, name))
    return found


def _is_missing(cell: CellResult) -> bool:
    return is_hidden(cell.patients) or is_hidden(cell.records) or cell.withheld is not None


def _cost(row: PrivacyCost) -> PrivacyCost:
    private, not_private = nearest(row.private, 3), nearest(row.not_private, 3)
    return row.model_copy(
        update={
            "private": private,
            "not_private": not_private,
            "difference": nearest(private - not_private, 3),
            "other_run": _OTHER_RUN,
        }
    )


def release_comparison(
    block: ComparisonBlock, hidden: set[str], run_id: str, done: Withheld
) -> ComparisonBlock:
    """Runs beside each other.

    Args:
        block: the comparison.
        hidden: cells whose figures are left out.
        run_id: of the report's own run.
        done: keeps what was done.
    """
    after = block.model_copy(
        update={
            "runs": changed(
                block.runs, lambda rows: tuple(_run(row, hidden, run_id) for row in rows)
            )
        }
    )
    return done.note(block, after, _OTHERS)


def _run(row: ComparedRun, hidden: set[str], run_id: str) -> ComparedRun:
    return row.model_copy(
        update={
            "run_id": row.run_id if row.run_id == run_id else HIDDEN,
            "epsilon": digits_up(row.epsilon),
            "delta": power_of_ten_up(row.delta),
            "auroc": {
                cell: _NOTHING if cell in hidden else coarse_interval(value, 3)
                for cell, value in row.auroc.items()
            },
            "differences": {
                name: value if name.partition(".")[0] in _SHOWN_SECTIONS else HIDDEN
                for name, value in row.differences.items()
            },
        }
    )
