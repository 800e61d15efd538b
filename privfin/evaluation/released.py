"""Only the metrics that a run may release (``evaluation.metrics``): the others become NaN."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from privfin.evaluation.cells import CellResult

# The fields of each metric, of a label's results; with ``macro_`` in front those of a cell.
_FIELDS = {
    "auroc": ("auroc", "auroc_low", "auroc_high"),
    "auprc": ("auprc", "auprc_low", "auprc_high"),
    "brier": ("brier",),
    "calibration": ("ece",),
}


def released(cells: dict[str, CellResult], metrics: Collection[str]) -> dict[str, CellResult]:
    """The same results with NaN for everything that ``metrics`` does not list.

    Numbers of records and patients stay: they are not metrics, and every statement lists them as
    not covered.
    """
    names = [name for metric, own in _FIELDS.items() if metric not in metrics for name in own]
    blank: dict[str, Any] = dict.fromkeys(names, math.nan)
    macro: dict[str, Any] = {f"macro_{name}": math.nan for name in names}
    return {
        cell: replace(result, labels=tuple(replace(r, **blank) for r in result.labels), **macro)
        for cell, result in cells.items()
    }
