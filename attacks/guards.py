"""Guards that refuse to print a number: a membership attack can look strong for other reasons.

Most published failures of membership attacks are failures of the comparison (Rezaei and Liu,
arXiv:2103.07101; Meeus et al., "SoK: Membership Inference Attacks on LLMs are Rushing Nowhere",
arXiv:2406.17975): members and non-members that differ before any model has seen them, patients on
both sides, models in training mode, or shadow models that were trained in another way than the
target. Each guard raises :class:`~attacks.errors.AuditRefusedError` with one line that says which.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from attacks.auc import auc
from attacks.errors import AuditRefusedError
from attacks.limits import check_scores

_FEWEST = 10
# Two classifiers are tried, so each is held to half of the error.
_CLASSIFIERS = 2


@dataclass(frozen=True)
class BlindResult:
    """How well a classifier that never saw the model tells members apart, on other patients.

    Attributes:
        value: area under its ROC curve, the largest of the classifiers.
        low: lower confidence limit, corrected for their number; by patients if these were given.
        classifier: which one.
    """

    value: float
    low: float
    classifier: str


def check_disjoint(members: Iterable[str], nonmembers: Iterable[str]) -> None:
    """Refuse patients that are members and non-members at once.

    Args:
        members: patient identifiers of the records that were trained on.
        nonmembers: of the records that were not.

    Raises:
        AuditRefusedError: some are both, or a side is empty.
    """
    inside, outside = set(members), set(nonmembers)
    if not inside or not outside:
        raise AuditRefusedError("an audit needs members and non-members")
    both = len(inside & outside)
    if both:
        raise AuditRefusedError(
            f"{both} patients are members and non-members at once: split by patient, not by record"
        )


def blind_auc(
    inputs: npt.ArrayLike,
    members: npt.ArrayLike,
    *,
    patients: npt.ArrayLike | None = None,
    confidence: float = 0.99,
    seed: int = 0,
) -> BlindResult:
    """Tell members from non-members by their inputs alone, with no model to attack.

    A logistic regression and a random forest learn from half of the patients and are judged on the
    other half. Cross-validation would use all of them, but its scores depend on one another, so
    that limits on them are too narrow and fair pools would be refused too often.

    Args:
        inputs: (n, features) finite numbers that describe the records: pixels or features of fixed
            encoders, word counts, age, site, which modality is there, the labels.
        members: (n,) of False and True.
        patients: (n,) whose records they are; every record is its own patient if left out.
        confidence: of the lower limit, in (0.5, 1).
        seed: of the halves and the trees.

    Returns:
        the classifier whose lower limit is largest.

    Raises:
        ValueError: shapes differ, or there are fewer than ten patients on a side.
    """
    table = np.asarray(inputs, dtype=np.float64)
    if table.ndim != 2 or not np.isfinite(table).all():
        raise ValueError("inputs must be a finite (n, features) table")
    _, labels = check_scores(np.zeros(len(table)), members)
    groups = np.arange(len(table)) if patients is None else np.asarray(patients)
    if groups.shape != labels.shape:
        raise ValueError("patients must name one patient a record")
    if min(np.unique(groups[labels]).size, np.unique(groups[~labels]).size) < _FEWEST:
        raise ValueError(f"a blind classifier needs at least {_FEWEST} patients on each side")
    corrected = 1.0 - (1.0 - confidence) / _CLASSIFIERS
    learn, judge = _halves(labels, groups, seed)
    found = []
    for name, model in _classifiers(seed).items():
        scores = model.fit(table[learn], labels[learn]).predict_proba(table[judge])[:, 1]
        area = auc(scores, labels[judge], confidence=2.0 * corrected - 1.0, patients=groups[judge])
        found.append(BlindResult(area.area, area.low, name))
    return max(found, key=lambda one: one.low)


def check_blind(
    inputs: npt.ArrayLike,
    members: npt.ArrayLike,
    *,
    patients: npt.ArrayLike | None = None,
    confidence: float = 0.99,
    seed: int = 0,
) -> BlindResult:
    """:func:`blind_auc`, refused where members can be told apart without the model.

    Raises:
        AuditRefusedError: the lower limit is above one half.
    """
    found = blind_auc(inputs, members, patients=patients, confidence=confidence, seed=seed)
    if found.low > 0.5:
        raise AuditRefusedError(
            f"members differ from non-members before any model has seen them: {found.classifier} "
            f"on the inputs alone has an AUC of {found.value:.3f} (at least {found.low:.3f}); "
            "split one pool at random, by patient"
        )
    return found


def check_evaluation_mode(model: torch.nn.Module) -> None:
    """Refuse a model that would answer with dropout or batch statistics.

    Raises:
        AuditRefusedError: naming the first module that is in training mode.
    """
    for name, module in model.named_modules():
        if module.training:
            where = f"its module '{name}'" if name else "it"
            raise AuditRefusedError(f"the model is not in evaluation mode: {where} trains")


def check_same_recipe(target: Mapping[str, object], shadow: Mapping[str, object]) -> None:
    """Refuse shadow models that were not made as the target was.

    Args:
        target: everything that the target's training depends on, but its seed and split.
        shadow: the same of the shadow models.

    Raises:
        AuditRefusedError: naming what differs or is missing.
    """
    differing = sorted(
        key for key in {*target, *shadow}
        if key not in target or key not in shadow or target[key] != shadow[key]
    )  # fmt: skip
    if differing:
        raise AuditRefusedError(
            f"the shadow models were not trained as the target was: {', '.join(differing)} differ"
        )


def _classifiers(seed: int) -> dict[str, Pipeline | RandomForestClassifier]:
    return {
        "a logistic regression": make_pipeline(
            StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)
        ),
        "a random forest": RandomForestClassifier(50, min_samples_leaf=5, random_state=seed),
    }


def _halves(
    labels: npt.NDArray[np.bool_], groups: npt.NDArray[np.generic], seed: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Half of the patients of each side to learn from, and the others: masks of records."""
    rng = np.random.default_rng(seed)
    learn = np.zeros(labels.size, dtype=bool)
    for side in (labels, ~labels):
        names = rng.permutation(np.unique(groups[side]))
        learn |= side & np.isin(groups, names[: names.size // 2])
    return learn, ~learn
