"""Attribute inference: what an observer learns of a person from a model, beyond what it knew.

Jayaraman and Evans, "Are Attribute Inference Attacks Just Imputation?", 2022, arXiv:2209.01292: an
attribute that can be guessed from what everyone knows is not leaked by the model. So every attack
stands beside the same classifiers without the model.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from attacks.limits import BoolArray, FloatArray, IntArray, check_confidence
from attacks.patients import by_patient

_FEWEST = 10


@dataclass(frozen=True)
class Gain:
    """A figure with the model, without it, and the difference with its limits."""

    with_model: float
    without_model: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class AttributeResult:
    """One attribute, as guessed by one observer.

    Attributes:
        attribute: its name.
        classes: its values.
        patients: how many were guessed, one guess each.
        prior: balanced accuracy of always guessing the commonest value: 1 / classes.
        balanced_accuracy: mean recall over the classes.
        auc: mean over the classes of the area under the ROC curve, one class against the rest.
    """

    attribute: str
    classes: tuple[str, ...]
    patients: int
    prior: float
    balanced_accuracy: Gain
    auc: Gain

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, ready for JSON."""
        return asdict(self)


def infer_attribute(
    attribute: str,
    values: npt.ArrayLike,
    observed: npt.ArrayLike,
    known: npt.ArrayLike,
    patients: npt.ArrayLike,
    *,
    folds: int = 5,
    resamples: int = 400,
    confidence: float = 0.95,
    seed: int = 0,
) -> AttributeResult:
    """Guess an attribute from what is known without the model, and from that with the model's.

    A logistic regression and a small forest learn from all folds but one and guess on that one;
    the mean of their probabilities, over a patient's records, is the guess. Folds hold whole
    patients, as equally as may be of each value, and are the same with and without the model.
    Columns that are constant are left out, so that where the model says nothing both are equal.

    The interval is a paired bootstrap over patients within each value. It takes the classifiers as
    they are: it knows nothing of other data to learn from.

    Args:
        attribute: its name.
        values: (records,) strings; the same for all records of a patient.
        observed: (records, a) finite: what the model adds, as features, logits, imputations.
        known: (records, b) finite: what the observer has without it; b may be 0.
        patients: (records,) whose they are.
        folds: at least 2.
        resamples: of the bootstrap.
        confidence: of the intervals, in (0, 1).
        seed: of folds, forests and bootstrap.

    Raises:
        ValueError: shapes differ, there is one value only, a value has fewer than ten patients, or
            a patient has two values.
    """
    names, truth = np.unique(np.asarray(values).astype(str), return_inverse=True)
    owner = np.unique(np.asarray(patients), return_inverse=True)[1]
    tables = [np.asarray(t, dtype=np.float64) for t in (known, observed)]
    if owner.shape != truth.shape or any(t.ndim != 2 or len(t) != len(truth) for t in tables):
        raise ValueError("values, patients, observed and known must have one row a record")
    if not all(np.isfinite(t).all() for t in tables):
        raise ValueError("observed and known must be finite")
    lowest, highest = by_patient(-truth, owner, "max"), by_patient(truth, owner, "max")
    own = highest.astype(np.int64)
    if not np.array_equal(-lowest, highest):
        raise ValueError(f"a patient has two values of {attribute}")
    counts = np.bincount(own)
    if counts.size < 2 or counts.min() < _FEWEST:
        raise ValueError(
            f"{attribute} needs two values with at least {_FEWEST} patients each, has "
            f"{dict(zip(names.tolist(), counts.tolist(), strict=True))}"
        )
    if folds < 2:
        raise ValueError(f"folds must be at least 2, got {folds}")
    fold = _folds(own, folds, seed)[owner]
    without = by_patient(_guesses(tables[0], truth, fold, seed).T, owner).T
    with_model = by_patient(_guesses(np.hstack(tables), truth, fold, seed).T, owner).T
    guesses, error = (with_model, without), check_confidence(confidence)
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(own == c) for c in range(len(names))]
    drawn = np.array([
        _figures(own, guesses, np.concatenate([rng.choice(g, g.size) for g in groups]))
        for _ in range(resamples)
    ])  # fmt: skip
    gains = []
    for (there, alone), again in zip(
        _figures(own, guesses, np.arange(own.size)), np.moveaxis(drawn, 1, 0), strict=True
    ):
        low, high = np.quantile(again[:, 0] - again[:, 1], [error / 2, 1 - error / 2])
        gains.append(Gain(there, alone, there - alone, float(low), float(high)))
    return AttributeResult(
        attribute, tuple(names.tolist()), own.size, 1.0 / len(names), gains[0], gains[1]
    )


def _folds(values: IntArray, folds: int, seed: int) -> IntArray:
    """(patients,) folds, dealt in turn within each value."""
    rng = np.random.default_rng(seed)
    fold = np.zeros(values.size, dtype=np.int64)
    for value in np.unique(values):
        rows = rng.permutation(np.flatnonzero(values == value))
        fold[rows] = np.arange(rows.size) % folds
    return fold


def _guesses(table: FloatArray, truth: IntArray, fold: IntArray, seed: int) -> FloatArray:
    """(records, classes) probabilities, each from classifiers that did not see that patient."""
    classes = int(truth.max()) + 1
    said = np.full((truth.size, classes), 1.0 / classes)
    informative = table[:, table.min(axis=0) < table.max(axis=0)]
    if not informative.shape[1]:
        return said
    for at in np.unique(fold):
        learn, judge = fold != at, fold == at
        linear = make_pipeline(
            StandardScaler(), LogisticRegression(C=0.1, max_iter=1000, class_weight="balanced")
        )
        forest = RandomForestClassifier(
            30, min_samples_leaf=5, class_weight="balanced", random_state=seed
        )
        said[judge] = np.mean(
            [
                model.fit(informative[learn], truth[learn]).predict_proba(informative[judge])
                for model in (linear, forest)
            ],
            axis=0,
        )
    return said


def _figures(
    values: IntArray, guesses: tuple[FloatArray, FloatArray], rows: IntArray
) -> list[list[float]]:
    """[balanced accuracy, AUC] of both guesses on some patients."""
    truth, found = values[rows], [g[rows] for g in guesses]
    classes = range(int(values.max()) + 1)
    return [
        [
            float(np.mean([(g[truth == c].argmax(axis=1) == c).mean() for c in classes]))
            for g in found
        ],
        [float(np.mean([_area(truth == c, g[:, c]) for c in classes])) for g in found],
    ]


def _area(positive: BoolArray, score: FloatArray) -> float:
    """The Mann-Whitney statistic, a tie counting half: many resamples need no limits of it."""
    inside = int(positive.sum())
    won = rankdata(score)[positive].sum() - inside * (inside + 1) / 2
    return float(won / (inside * (positive.size - inside)))
