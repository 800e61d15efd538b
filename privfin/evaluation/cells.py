"""The metrics of one availability cell, with confidence intervals over patients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from privfin.errors import DataError
from privfin.evaluation.auprc import auprc, weighted_auprc
from privfin.evaluation.auroc import auroc, weighted_auroc
from privfin.evaluation.bootstrap import Interval, patient_draws, percentile_interval
from privfin.evaluation.calibration import brier_score, expected_calibration_error
from privfin.evaluation.ranking import FloatArray, rank


@dataclass(frozen=True)
class LabelResult:
    """One label's figures in a cell. ``_low`` and ``_high`` are ends of bootstrap intervals.

    Attributes:
        name: the label.
        positives: records known to have it.
        negatives: records known not to have it.
        auroc: in [0, 1]; NaN when either class is absent.
        auprc: average precision in [0, 1]; NaN when either class is absent.
        ece: expected calibration error in [0, 1]; NaN without a known record or bins.
        brier: Brier score in [0, 1]; NaN without a known record or bins.
        left_out: why the label is not in the macro figures; empty when it is.
    """

    name: str
    positives: int
    negatives: int
    auroc: float
    auroc_low: float
    auroc_high: float
    auprc: float
    auprc_low: float
    auprc_high: float
    ece: float
    brier: float
    left_out: str

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, ready for JSON; NaN becomes None."""
        return {**_json_numbers(vars(self)), "left_out": self.left_out or None}


@dataclass(frozen=True)
class CellResult:
    """All figures of one availability cell. ``_low`` and ``_high`` are ends of intervals.

    Attributes:
        records: records in the cell.
        patients: different patients among them.
        macro_auroc: mean AUROC over the labels that have both classes; NaN when none has.
        macro_auprc: mean average precision over the same labels; NaN when there are none.
        macro_ece: mean expected calibration error over the same labels.
        macro_brier: mean Brier score over the same labels.
        confidence: the intervals' level, in (0, 1).
        bootstrap: replicates drawn.
        replicates_used: replicates in which at least one label had both classes.
        calibration_bins: bins of the expected calibration error; None when scores are not
            probabilities, and calibration was not measured.
        labels: one entry a label, in the order given.
    """

    records: int
    patients: int
    macro_auroc: float
    macro_auroc_low: float
    macro_auroc_high: float
    macro_auprc: float
    macro_auprc_low: float
    macro_auprc_high: float
    macro_ece: float
    macro_brier: float
    confidence: float
    bootstrap: int
    replicates_used: int
    calibration_bins: int | None
    labels: tuple[LabelResult, ...]

    @property
    def left_out(self) -> dict[str, str]:
        """The labels that are not in the macro figures, each with the reason."""
        return {label.name: label.left_out for label in self.labels if label.left_out}

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, ready for JSON; NaN becomes None."""
        return {
            **_json_numbers(vars(self)),
            "labels": [label.to_dict() for label in self.labels],
            "left_out": self.left_out,
        }


def evaluate_cell(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    patient_ids: Sequence[str] | Sequence[int] | npt.NDArray[Any],
    *,
    label_names: Sequence[str],
    bootstrap: int = 500,
    confidence: float = 0.95,
    calibration_bins: int | None = None,
    seed: int,
) -> CellResult:
    """Evaluate the scores of one availability cell.

    Intervals are those of :mod:`privfin.evaluation.bootstrap`, over *patients*; AUROC and average
    precision share the draws. A label whose positives or negatives all miss a replicate is left
    out of that replicate's mean only, and a replicate without any label is left out of the
    interval. Calibration is measured over the records where a label is known, without an interval.

    Args:
        scores: (n, L) finite numbers; higher means more likely positive.
        labels: (n, L) of 0, 1, or NaN for unknown; unknown labels are not counted.
        patient_ids: (n,) which patient each record belongs to.
        label_names: the L labels' names.
        bootstrap: replicates, >= 0; none leaves the intervals NaN.
        confidence: the intervals' level, in (0, 1).
        calibration_bins: bins of the expected calibration error, >= 1; the scores must then be
            probabilities. None leaves the calibration NaN.
        seed: of the bootstrap's draws; the same seed gives the same interval. It protects nothing.

    Returns:
        The cell's figures. Macro figures are means over the labels with both classes.

    Raises:
        DataError: when a label is not 0, 1 or NaN, or a score is not finite.
        ValueError: when shapes differ, or another argument is out of range.
    """
    score = np.asarray(scores, dtype=np.float64)
    label = np.asarray(labels, dtype=np.float64)
    ids = np.asarray(patient_ids)
    names = tuple(label_names)
    if score.ndim != 2 or label.shape != score.shape:
        raise ValueError(
            f"scores and labels must both be (n, L), got {score.shape} and {label.shape}"
        )
    if ids.shape != score.shape[:1] or len(names) != score.shape[1]:
        raise ValueError(
            f"{score.shape[0]} records with {score.shape[1]} labels need as many patient ids and "
            f"names, got {ids.shape} and {len(names)}"
        )
    if bootstrap < 0:
        raise ValueError(f"bootstrap must be at least 0, got {bootstrap}")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    if not np.isfinite(score).all():
        raise DataError("the model gave a score that is not a finite number; it cannot be ranked")
    known = ~np.isnan(label)
    if not ((label == 0.0) | (label == 1.0) | ~known).all():
        raise DataError("labels must be 0, 1 or unknown")

    columns = [(score[known[:, at], at], label[known[:, at], at]) for at in range(len(names))]
    counted = [at for at, (_, truth) in enumerate(columns) if np.unique(truth).size == 2]
    patients, patient_of_record = np.unique(ids, return_inverse=True)
    replicates = bootstrap if counted else 0
    # (replicate, metric, counted label): AUROC and average precision of the same draws.
    areas = np.empty((replicates, 2, len(counted)))
    done = 0
    for drawn in patient_draws(patients.size, ids.size, replicates, seed):
        weights = drawn[:, patient_of_record]
        rows = slice(done, done + len(drawn))
        for place, at in enumerate(counted):
            ranking = rank(*columns[at], weights[:, known[:, at]])
            areas[rows, 0, place] = auroc(ranking)
            areas[rows, 1, place] = auprc(ranking)
        done += len(drawn)
    macro_auroc, macro_auprc = (
        percentile_interval(_mean_of_defined(areas[:, metric]), confidence) for metric in (0, 1)
    )
    intervals = {
        at: tuple(percentile_interval(areas[:, metric, place], confidence) for metric in (0, 1))
        for place, at in enumerate(counted)
    }
    results = tuple(
        _label_result(
            name, *columns[at], intervals.get(at, (Interval(), Interval())), calibration_bins
        )
        for at, name in enumerate(names)
    )
    shown = [results[at] for at in counted]
    return CellResult(
        records=ids.size,
        patients=patients.size,
        macro_auroc=_mean([one.auroc for one in shown]),
        macro_auroc_low=macro_auroc.low,
        macro_auroc_high=macro_auroc.high,
        macro_auprc=_mean([one.auprc for one in shown]),
        macro_auprc_low=macro_auprc.low,
        macro_auprc_high=macro_auprc.high,
        macro_ece=_mean([one.ece for one in shown]),
        macro_brier=_mean([one.brier for one in shown]),
        confidence=confidence,
        bootstrap=bootstrap,
        replicates_used=macro_auroc.used,
        calibration_bins=calibration_bins,
        labels=results,
    )


def _label_result(
    name: str,
    scores: FloatArray,
    labels: FloatArray,
    intervals: tuple[Interval, ...],
    bins: int | None,
) -> LabelResult:
    """The figures of one label over the records where it is known."""
    positives = int((labels == 1.0).sum())
    negatives = labels.size - positives
    reason = ""
    if not labels.size:
        reason = "no record where it is known"
    elif not positives or not negatives:
        reason = "no positive record" if negatives else "no negative record"
    of_auroc, of_auprc = intervals
    return LabelResult(
        name=name,
        positives=positives,
        negatives=negatives,
        auroc=weighted_auroc(scores, labels),
        auroc_low=of_auroc.low,
        auroc_high=of_auroc.high,
        auprc=weighted_auprc(scores, labels),
        auprc_low=of_auprc.low,
        auprc_high=of_auprc.high,
        ece=math.nan if bins is None else expected_calibration_error(scores, labels, bins),
        brier=math.nan if bins is None else brier_score(scores, labels),
        left_out=reason,
    )


def _mean_of_defined(areas: FloatArray) -> FloatArray:
    """The mean over labels (columns) that are not NaN, of each replicate (row); NaN if none is."""
    defined = ~np.isnan(areas)
    mean = np.full(areas.shape[0], np.nan)
    total = np.where(defined, areas, 0.0).sum(axis=1)
    np.divide(total, defined.sum(axis=1), out=mean, where=defined.any(axis=1))
    return mean


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _json_numbers(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with NaN as None."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in fields.items()
    }
