"""Membership as seen from inside a federation: by a site, and by the coordinator.

Every attack ends in one score a patient, in the order of the population's sites and of their
patients. What is said of a patient is the mean over the patient's records: a step of training
draws one of them at random. Members of a site are set against held-out patients dealt to the same
site, so that both are attacked with the same null and the same modalities.

A member is a patient of the site's training data, whether or not a step of the tapped rounds drew
the patient: that is what epsilon is about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from attacks.attempt import Attempt
from attacks.federated import (
    site_log_ratio,
    trajectory_gain,
    trajectory_mean,
    trajectory_slope,
)
from attacks.gradients import LossOfOne, alignments, cosines
from attacks.patients import by_patient, owners
from privfin.auditing.population import Population, SitePool
from privfin.auditing.wire import Reading, TappedRounds, tap_rounds
from privfin.config import Encryption, RunConfig
from privfin.errors import UserInputError
from privfin.federation.local import TrainingObserver
from privfin.federation.plan import TrainingPlan
from privfin.federation.prepare import PreparedData
from privfin.models.multimodal import Batch, MultimodalModel
from privfin.models.segments import assign, initial_model
from privfin.runs import Run

FloatArray = npt.NDArray[np.float64]

_ROWS = 512


@dataclass(frozen=True)
class CoordinatorView:
    """What the coordinator can say of patients, and what its messages alone show.

    Attributes:
        attempts: FedMIA by updates and by local models.
        message_bytes: by site, the bytes of each payload that it sent.
    """

    attempts: tuple[Attempt, ...]
    message_bytes: Mapping[str, tuple[int, ...]]

    @property
    def sizes_tell_sites_apart(self) -> bool:
        """Whether some site's messages have other lengths than another's."""
        return len(set(self.message_bytes.values())) > 1


def site_view(
    run: Run, population: Population, *, public: Batch | None = None
) -> tuple[Attempt, ...]:
    """Attacks with the global model of every round, which each site has.

    The signal is minus the loss that is trained on (classification and imputation), at the
    record's own modalities.

    Args:
        run: finished, with its checkpoints.
        population: the patients.
        public: the public records of ``imputer = "retrieval"``.

    Returns:
        Mean, and with two rounds or more gain and slope of the trajectory.

    Raises:
        UserInputError: the run has no checkpoints.
    """
    model = _model(run.config, len(population.label_names), public)
    weight = run.config.training.imputation_weight
    rounds = []
    for saved in run.checkpoints():
        assign(model, saved.vector)
        rounds.append(
            np.concatenate([_patient_signals(model, p, weight) for p in population.sites])
        )
    if not rounds:
        raise UserInputError(f"{run.path} has no checkpoints: a site's view needs them")
    signals = np.stack(rounds)
    members = population.members
    note = f"minus the loss of {len(signals)} global models"
    scores = {"trajectory mean": trajectory_mean(signals)}
    if len(signals) > 1:
        scores["trajectory gain"] = trajectory_gain(signals)
        scores["trajectory slope"] = trajectory_slope(signals)
    return tuple(
        Attempt(name, "site", "all", score, members, note) for name, score in scores.items()
    )


def coordinator_view(
    config: RunConfig,
    plan: TrainingPlan,
    data: PreparedData,
    population: Population,
    *,
    rounds: int,
    encryption: Encryption,
    reading: Reading | None = None,
    observer: TrainingObserver | None = None,
    scratch: Path | None = None,
) -> CoordinatorView:
    """FedMIA on what really passes the coordinator; see :func:`~privfin.auditing.wire.tap_rounds`.

    The attack is the same whatever the encryption. Encrypted updates are read as numbers by a
    fixed rule, and the attack is given the global models as well, which encryption keeps from a
    coordinator: if the score is at chance even so, nothing else of the wire says more to it.

    Args:
        config, plan, data: those of the run.
        population: its patients; members must be those of ``data``.
        rounds: how many to train again and listen to.
        encryption: with ``none``, what would have leaked.
        reading: left out, as codes without encryption and as bytes with it.
        observer: told how training goes.
        scratch: where the replica's private folder is made.

    Raises:
        UserInputError: fewer than 3 sites, which FedMIA's null needs.
        ValueError: population and data are of different patients.
    """
    if len(plan.cohort) < 3:
        raise UserInputError(
            f"the coordinator's attack compares sites: it needs 3 or more, not {len(plan.cohort)}"
        )
    for pool in population.sites:
        if int(pool.members.sum()) != len(data.sites[pool.name].patients):
            raise ValueError(f"the members of site '{pool.name}' are not those it trains on")
    tapped = tap_rounds(
        config,
        plan,
        data,
        rounds=rounds,
        encryption=encryption,
        reading=reading,
        observer=observer,
        scratch=scratch,
    )
    model = _model(config, len(plan.label_names), data.public)
    weight = config.training.imputation_weight
    by_update, by_model = [], []
    for pool in population.sites:
        target = tapped.sites.index(pool.name)
        have = plan.site(pool.name).modalities
        trained = plan.trained_mask(have, config.model.imputer)
        along = _update_signals(model, pool, tapped, trained, weight)
        by_update.append(site_log_ratio(along, target))
        by_model.append(site_log_ratio(_model_signals(model, pool, tapped, weight), target))
    hidden = encryption != "none"
    who = "coordinator" if hidden else "coordinator, no encryption"
    what = "bytes of encrypted updates" if hidden else "updates of single sites"
    note = f"{what} in {len(tapped.starts)} rounds; the other sites are the null"
    members = population.members
    attempts = tuple(
        Attempt(name, who, "all", np.concatenate(scores), members, note)
        for name, scores in (("fedmia update", by_update), ("fedmia model", by_model))
    )
    return CoordinatorView(attempts, tapped.message_bytes)


def _update_signals(
    model: MultimodalModel,
    pool: SitePool,
    tapped: TappedRounds,
    trained: npt.NDArray[np.bool_],
    weight: float,
) -> FloatArray:
    """FedMIA-II: minus the cosine of a record's gradient with each update, over what the pool's
    site trains, (rounds, sites, patients)."""
    loss = loss_of_one(model, weight)
    records = record_tensors(pool.queries)
    found = []
    for start, sent in zip(tapped.starts, tapped.updates, strict=True):
        assign(model, start)
        updates = np.where(trained, sent, 0.0).astype(np.float64)
        named = {f"model.{name}": p for name, p in model.named_parameters()}
        products, norms = alignments(loss, named, records, updates)
        found.append(-_by_patient(cosines(products, norms, updates), pool.patients))
    return np.stack(found)


def _model_signals(
    model: MultimodalModel, pool: SitePool, tapped: TappedRounds, weight: float
) -> FloatArray:
    """FedMIA-I: minus the loss of each site's local model, (rounds, sites, patients).

    A local model is the round's global model plus the site's update. An update whose size is not
    known (read from bytes) is given that of the global model's change.
    """
    found = []
    for start, end, sent in zip(tapped.starts, tapped.ends, tapped.updates, strict=True):
        moved = float(np.linalg.norm(end - start))
        of_sites = []
        for update in sent:
            size = moved / float(np.linalg.norm(update)) if tapped.is_blind else 1.0
            assign(model, start + np.float32(size) * update)
            of_sites.append(_patient_signals(model, pool, weight))
        found.append(np.stack(of_sites))
    return np.stack(found)


def _patient_signals(model: MultimodalModel, pool: SitePool, weight: float) -> FloatArray:
    """Minus the loss, the mean over a patient's records: (patients,)."""
    losses = []
    with torch.no_grad():
        for start in range(0, len(pool.queries), _ROWS):
            rows = torch.arange(start, min(start + _ROWS, len(pool.queries)))
            losses.append(model.per_record_loss(pool.queries.rows(rows), weight).double())
    return -_by_patient(torch.cat(losses).numpy(), pool.patients)


def _by_patient(values: FloatArray, patients: Sequence[Sequence[int]]) -> FloatArray:
    """Means (..., patients) over each patient's records of (..., records)."""
    return by_patient(values, owners(patients, values.shape[-1]))


def _model(config: RunConfig, labels: int, public: Batch | None) -> MultimodalModel:
    model = initial_model(config, labels)
    model.use_public(public)
    model.eval()
    return model


def record_tensors(batch: Batch) -> dict[str, Tensor]:
    """A batch as tensors by name, which torch.func can take apart."""
    found = {"labels": batch.labels}
    for name in batch.inputs:
        found[f"input {name}"] = batch.inputs[name]
        found[f"present {name}"] = batch.present[name]
    return found


class _Loss(nn.Module):
    """The model's loss of one record, as what a module computes, for ``functional_call``."""

    def __init__(self, model: MultimodalModel, weight: float) -> None:
        super().__init__()
        self.model, self.weight = model, weight

    def forward(self, record: Mapping[str, Tensor]) -> Tensor:
        """The loss () of one record's tensors, without the axis of records."""
        names = self.model.modalities
        row = Batch(
            {m: record[f"input {m}"][None] for m in names},
            {m: record[f"present {m}"][None] for m in names},
            record["labels"][None],
        )
        return self.model.per_record_loss(row, self.weight)[0]


def loss_of_one(model: MultimodalModel, weight: float) -> LossOfOne:
    """The training loss of one record, for parameters named ``model.`` and their name.

    Records are taken one by one from :func:`record_tensors`; ``weight`` is that of imputation.
    """
    module = _Loss(model, weight)

    def loss(parameters: Mapping[str, Tensor], record: Mapping[str, Tensor]) -> Tensor:
        found: Tensor = torch.func.functional_call(module, dict(parameters), (record,))
        return found

    return loss
