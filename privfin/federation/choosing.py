"""Choosing the round to report: by macro AUROC on patients who are kept for nothing else.

Every round's model is private already, and the validation patients are in neither training nor
test, so the guarantee of the patients trained on stays as it is. The validation patients
themselves are read without noise; the privacy statement lists that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from privfin.config import RunConfig
from privfin.evaluation.auroc import weighted_auroc
from privfin.federation.assessment import predict_scores
from privfin.federation.local import TrainingObserver
from privfin.federation.plan import TrainingPlan
from privfin.federation.prepare import PreparedData, TestData
from privfin.models.multimodal import MultimodalModel
from privfin.models.segments import Vector, assign, initial_model
from privfin.runs import Run


@dataclass(frozen=True)
class ChosenRound:
    """The round with the best model.

    Attributes:
        round: its number, from 1.
        macro_auroc: its macro AUROC on the validation patients.
        patients: how many validation patients there are.
        vector: its parameters.
    """

    round: int
    macro_auroc: float
    patients: int
    vector: Vector

    def describe(self, rounds: int) -> str:
        """One sentence for ``metrics.json``."""
        return (
            f"validation: of {rounds} rounds, round {self.round} has the best macro AUROC on "
            f"{self.patients} validation patients, who are in neither training nor test and are "
            "read without noise"
        )

    def to_dict(self) -> dict[str, float]:
        """For ``metrics.json``."""
        return {
            "round": self.round,
            "macro_auroc_on_validation": self.macro_auroc,
            "validation_patients": self.patients,
        }


def choose_round(
    config: RunConfig,
    plan: TrainingPlan,
    data: PreparedData,
    validation: TestData,
    run: Run,
    rounds: int,
    observer: TrainingObserver,
) -> ChosenRound:
    """Measure the model after every round and take the best; of equals the earliest.

    ``rounds`` is how many there are. That AUROC can be measured at all was seen to when the data
    were prepared.
    """
    model = initial_model(config, len(plan.label_names))
    model.use_public(data.public)
    patients = len(set(validation.patient_ids))
    best: ChosenRound | None = None
    for number, state in enumerate(run.checkpoints(), start=1):
        observer.choosing_round(number, rounds)
        assign(model, state.vector)
        score = validation_auroc(model, validation)
        if best is None or score > best.macro_auroc:
            best = ChosenRound(state.round, score, patients, state.vector)
    if best is None:
        raise ValueError("a run without a finished round has no model to choose")
    return best


def validation_auroc(model: MultimodalModel, validation: TestData) -> float:
    """Mean AUROC over the labels with both classes, each record with what it has; or NaN."""
    scores = predict_scores(model, validation.batch)
    labels = validation.batch.labels.numpy()
    found = []
    for column in range(labels.shape[1]):
        known = ~np.isnan(labels[:, column])
        found.append(weighted_auroc(scores[known, column], labels[known, column]))
    counted = [value for value in found if not math.isnan(value)]
    return sum(counted) / len(counted) if counted else math.nan
