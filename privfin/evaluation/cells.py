"""The metrics of one availability cell, with a confidence interval over patients."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

from privfin.errors import DataError
from privfin.evaluation.auroc import weighted_auroc, weighted_auroc_many

FloatArray = npt.NDArray[np.float64]

# Weights held at once, replicates times records: 32 MiB.
_WEIGHTS_AT_ONCE = 2**22


@dataclass(frozen=True)
class LabelResult:
    """One label's figures in a cell.

    Attributes:
        name: the label.
        positives: records known to have it.
        negatives: records known not to have it.
        auroc: in [0, 1]; NaN when either class is absent.
        auprc: average precision in [0, 1]; NaN when either class is absent.
        left_out: why the label is not in the macro figures; empty when it is.
    """

    name: str
    positives: int
    negatives: int
    auroc: float
    auprc: float
    left_out: str

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, ready for JSON; NaN becomes None."""
        return {
            "name": self.name,
            "positives": self.positives,
            "negatives": self.negatives,
            "auroc": _json_number(self.auroc),
            "auprc": _json_number(self.auprc),
            "left_out": self.left_out or None,
        }


@dataclass(frozen=True)
class CellResult:
    """All figures of one availability cell.

    Attributes:
        records: records in the cell.
        patients: different patients among them.
        macro_auroc: mean AUROC over the labels that have both classes; NaN when none has.
        macro_auroc_low: lower end of the bootstrap interval; NaN without a usable replicate.
        macro_auroc_high: upper end of the bootstrap interval; NaN without a usable replicate.
        macro_auprc: mean average precision over the same labels; NaN when there are none.
        confidence: the interval's level, in (0, 1).
        bootstrap: replicates drawn.
        replicates_used: replicates in which at least one label had both classes.
        labels: one entry a label, in the order given.
    """

    records: int
    patients: int
    macro_auroc: float
    macro_auroc_low: float
    macro_auroc_high: float
    macro_auprc: float
    confidence: float
    bootstrap: int
    replicates_used: int
    labels: tuple[LabelResult, ...]

    @property
    def left_out(self) -> dict[str, str]:
        """The labels that are not in the macro figures, each with the reason."""
        return {label.name: label.left_out for label in self.labels if label.left_out}

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, ready for JSON; NaN becomes None."""
        return {
            "records": self.records,
            "patients": self.patients,
            "macro_auroc": _json_number(self.macro_auroc),
            "macro_auroc_low": _json_number(self.macro_auroc_low),
            "macro_auroc_high": _json_number(self.macro_auroc_high),
            "macro_auprc": _json_number(self.macro_auprc),
            "confidence": self.confidence,
            "bootstrap": self.bootstrap,
            "replicates_used": self.replicates_used,
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
    seed: int,
) -> CellResult:
    """Evaluate the scores of one availability cell.

    The interval is the percentile bootstrap (Efron and Tibshirani, "An Introduction to the
    Bootstrap", 1993, chapter 13) over *patients*: a replicate draws as many patients as there are,
    with replacement, and a record counts as often as its patient was drawn. Records of one patient
    resemble each other, so drawing records instead would give too narrow an interval. A label whose
    positives or negatives all miss a replicate is left out of that replicate's mean only, and a
    replicate without any label is left out of the interval.

    Args:
        scores: (n, L) finite numbers; higher means more likely positive.
        labels: (n, L) of 0, 1, or NaN for unknown; unknown labels are not counted.
        patient_ids: (n,) which patient each record belongs to.
        label_names: the L labels' names.
        bootstrap: replicates, >= 0; none leaves the interval NaN.
        confidence: the interval's level, in (0, 1).
        seed: of the bootstrap's draws; the same seed gives the same interval. It protects nothing.

    Returns:
        The cell's figures. Macro figures are means over the labels with both classes.

    Raises:
        DataError: when a label is not 0, 1 or NaN, or a score is not finite.
        ValueError: when shapes differ, or ``bootstrap`` or ``confidence`` is out of range.
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

    results = tuple(
        _evaluate_label(name, score[known[:, at], at], label[known[:, at], at])
        for at, name in enumerate(names)
    )
    counted = [at for at, result in enumerate(results) if not result.left_out]
    patients, patient_of_record = np.unique(ids, return_inverse=True)
    macros: list[FloatArray] = []
    if counted and bootstrap:
        for multiplicity in _patient_draws(patients.size, ids.size, bootstrap, seed):
            weights = multiplicity[:, patient_of_record]
            areas = np.stack(
                [
                    weighted_auroc_many(
                        score[known[:, at], at], label[known[:, at], at], weights[:, known[:, at]]
                    )
                    for at in counted
                ]
            )
            defined = ~np.isnan(areas)
            usable = defined.any(axis=0)
            total = np.where(defined, areas, 0.0).sum(axis=0)
            macros.append(total[usable] / defined.sum(axis=0)[usable])
    replicates = np.concatenate(macros) if macros else np.empty(0)
    low, high = math.nan, math.nan
    if replicates.size:
        tail = (1.0 - confidence) / 2.0
        low, high = (float(end) for end in np.quantile(replicates, [tail, 1.0 - tail]))
    return CellResult(
        records=ids.size,
        patients=patients.size,
        macro_auroc=_mean([results[at].auroc for at in counted]),
        macro_auroc_low=low,
        macro_auroc_high=high,
        macro_auprc=_mean([results[at].auprc for at in counted]),
        confidence=confidence,
        bootstrap=bootstrap,
        replicates_used=replicates.size,
        labels=results,
    )


def _evaluate_label(name: str, scores: FloatArray, labels: FloatArray) -> LabelResult:
    """The figures of one label over the records where it is known."""
    positives = int((labels == 1.0).sum())
    negatives = labels.size - positives
    if positives and negatives:
        return LabelResult(
            name=name,
            positives=positives,
            negatives=negatives,
            auroc=weighted_auroc(scores, labels),
            auprc=float(average_precision_score(labels, scores)),
            left_out="",
        )
    reason = "no positive record" if negatives else "no negative record"
    return LabelResult(
        name=name,
        positives=positives,
        negatives=negatives,
        auroc=math.nan,
        auprc=math.nan,
        left_out=reason if labels.size else "no record where it is known",
    )


def _patient_draws(patients: int, records: int, replicates: int, seed: int) -> Iterator[FloatArray]:
    """How often each patient was drawn: (some replicates, patients) at a time."""
    random = np.random.default_rng(seed)
    at_once = max(1, _WEIGHTS_AT_ONCE // max(records, 1))
    for start in range(0, replicates, at_once):
        rows = min(at_once, replicates - start)
        drawn = random.integers(patients, size=(rows, patients))
        drawn += np.arange(rows)[:, np.newaxis] * patients
        counts = np.bincount(drawn.ravel(), minlength=rows * patients)
        yield counts.reshape(rows, patients).astype(np.float64)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _json_number(value: float) -> float | None:
    return value if math.isfinite(value) else None
