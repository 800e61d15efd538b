"""From the sums over all sites to the figures that a run writes down: nothing else goes in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from privfin.evaluation.cells import CellResult, LabelResult
from privfin.evaluation.histograms import (
    Bounded,
    LabelSums,
    auprc_from,
    auroc_from,
    brier_from,
    ece_from,
    loss_from,
)
from privfin.federation.metric_plan import FEWEST_SITES, CellSums, MetricPlan, Opening

#: The figures by the metric that allows them.
_FIGURES = {
    "auroc": "auroc",
    "auprc": "auprc",
    "calibration": "ece",
    "brier": "brier",
    "loss": "loss",
}
Figures = dict[str, Bounded]


@dataclass(frozen=True)
class FederatedLabel:
    """One label's counts and figures in a cell; ``left_out`` says why it is not in the means."""

    name: str
    positives: int
    negatives: int
    figures: Figures
    left_out: str

    def figure(self, name: str) -> Bounded:
        """A figure, undefined if it may not be measured."""
        return self.figures.get(name, Bounded.undefined())


@dataclass(frozen=True)
class FederatedCell:
    """One cell: the labels that are opened, and why the others are not."""

    records: int
    patients: int
    labels: tuple[FederatedLabel, ...]
    not_opened: dict[str, str]
    metrics: tuple[str, ...]

    def macro(self, name: str) -> Bounded:
        """The mean of a figure over the opened labels with both classes."""
        return Bounded.mean(
            [one.figures[name] for one in self.labels if not one.left_out and name in one.figures]
        )

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; what is not defined or not bounded is None."""
        return {
            "records": self.records,
            "patients": self.patients,
            "macro": {name: _json(self.macro(name)) for name in self.metrics},
            "labels": [
                {
                    "name": one.name,
                    "positives": one.positives,
                    "negatives": one.negatives,
                    **{name: _json(figure) for name, figure in one.figures.items()},
                    "left_out": one.left_out or None,
                }
                for one in self.labels
            ],
            "not_opened": self.not_opened,
        }


@dataclass(frozen=True)
class FederatedMetrics:
    """Everything that the sum of all sites' counts says of the held-out patients.

    Attributes:
        sites: sites that were added.
        bins: bins of a score.
        cells: the opened cells.
        not_opened: the other cells, each with the reason.
        bytes_up, bytes_down: bytes sent for it over all sites.
    """

    sites: int
    bins: int
    cells: dict[str, FederatedCell]
    not_opened: dict[str, str]
    bytes_up: int = 0
    bytes_down: int = 0

    def to_dict(self) -> dict[str, Any]:
        """``metrics.json``'s block, ready for JSON."""
        return {
            "is": (
                "from counts of all sites that were added up under encryption and masks; the "
                "figure of the pooled scores lies between low and high"
            ),
            "sites": self.sites,
            "fewest_sites": FEWEST_SITES,
            "bins": self.bins,
            "bytes": {"up": self.bytes_up, "down": self.bytes_down},
            "cells": {name: cell.to_dict() for name, cell in self.cells.items()},
            "not_opened": self.not_opened,
        }

    def cell_results(self, confidence: float, calibration_bins: int) -> dict[str, CellResult]:
        """The opened cells as other runs have them, without intervals over patients."""
        return {
            name: _cell_result(cell, confidence, calibration_bins)
            for name, cell in self.cells.items()
        }


def too_few_sites(plan: MetricPlan) -> FederatedMetrics:
    """What a federation says that is too small to add anything up."""
    reason = (
        f"{plan.sites} sites: each could subtract its own counts from the sum, so at least "
        f"{FEWEST_SITES} are needed"
    )
    return FederatedMetrics(plan.sites, plan.edges.size + 1, {}, dict.fromkeys(plan.cells, reason))


def federated_metrics(
    plan: MetricPlan, opening: Opening, sums: Sequence[CellSums]
) -> FederatedMetrics:
    """The figures of everything that was opened.

    Args:
        plan: the layout.
        opening: what enough sites have.
        sums: over all sites.
    """
    cells: dict[str, FederatedCell] = {}
    not_opened: dict[str, str] = {}
    figures = tuple(_FIGURES[metric] for metric in _FIGURES if metric in plan.metrics)
    each = zip(plan.cells, sums, opening.cells, opening.labels, strict=True)
    for name, cell, reason, reasons in each:
        if reason:
            not_opened[name] = reason
            continue
        labels = tuple(
            _label(plan, label, own)
            for label, own, why in zip(plan.labels, cell.labels, reasons, strict=True)
            if not why
        )
        hidden = {label: why for label, why in zip(plan.labels, reasons, strict=True) if why}
        cells[name] = FederatedCell(cell.records, cell.patients, labels, hidden, figures)
    return FederatedMetrics(plan.sites, plan.edges.size + 1, cells, not_opened)


def _label(plan: MetricPlan, name: str, sums: LabelSums) -> FederatedLabel:
    positives, negatives = sums.counts
    every = {
        "auroc": auroc_from(sums.positives, sums.negatives),
        "auprc": auprc_from(sums.positives, sums.negatives),
        "calibration": ece_from(sums, plan.edges, plan.sites),
        "brier": brier_from(sums, plan.sites),
        "loss": loss_from(sums, plan.sites),
    }
    figures = {_FIGURES[m]: figure for m, figure in every.items() if m in plan.metrics}
    reason = ""
    if not positives or not negatives:
        reason = "no positive record" if negatives else "no negative record"
    return FederatedLabel(name, positives, negatives, figures, reason)


def _cell_result(cell: FederatedCell, confidence: float, calibration_bins: int) -> CellResult:
    none = math.nan
    return CellResult(
        records=cell.records,
        patients=cell.patients,
        macro_auroc=cell.macro("auroc").value,
        macro_auroc_low=none,
        macro_auroc_high=none,
        macro_auprc=cell.macro("auprc").value,
        macro_auprc_low=none,
        macro_auprc_high=none,
        macro_ece=cell.macro("ece").value,
        macro_brier=cell.macro("brier").value,
        confidence=confidence,
        bootstrap=0,
        replicates_used=0,
        calibration_bins=calibration_bins,
        labels=tuple(
            LabelResult(
                name=one.name,
                positives=one.positives,
                negatives=one.negatives,
                auroc=one.figure("auroc").value,
                auroc_low=none,
                auroc_high=none,
                auprc=one.figure("auprc").value,
                auprc_low=none,
                auprc_high=none,
                ece=one.figure("ece").value,
                brier=one.figure("brier").value,
                left_out=one.left_out,
            )
            for one in cell.labels
        ),
    )


def _json(figure: Bounded) -> dict[str, float | None]:
    return {
        name: number if math.isfinite(number) else None for name, number in vars(figure).items()
    }
