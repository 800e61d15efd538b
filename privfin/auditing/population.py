"""The patients of an audit: those a run trained on, and held-out ones dealt to sites likewise.

A held-out patient was held out by a public coin, before any site was chosen. To be compared with a
site's training patients it gets a site as they did: by its place where sites have places, else as
a training patient of the same dominant label, drawn at random. What that site lacks, and what
``missingness.train`` takes away, is then taken from it as from the others. Otherwise members would
differ from non-members before any model has seen them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from privfin.config import RunConfig
from privfin.data.load import load_source
from privfin.data.partition import deal_like, split_validation
from privfin.data.records import Dataset
from privfin.errors import PlanError
from privfin.federation.encoding import Encoding
from privfin.federation.plan import site_modalities, site_names
from privfin.federation.prepare import (
    Progress,
    augmented,
    deal,
    deal_by_place,
    silent,
    split_data,
    training_records,
)
from privfin.models.feature_cache import FeatureCache
from privfin.models.multimodal import Batch

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SitePool:
    """Patients that a site trained on, and held-out ones that it could as well have trained on.

    Attributes:
        name: of the site.
        batch: what training reads: rows ``i * copies`` to ``i * copies + copies - 1`` belong to
            record i, with the modalities that the site holds (and what missingness left).
        copies: rows a record has.
        patients: for each patient, the positions of that patient's records.
        members: (patients,) whether the run trained on that patient.
        queries: one row a record, not augmented, with the modalities it is trained with.
        full: the same records with every modality that the study has.
        patient_ids: one a patient.
        sex: one a patient, ``F``, ``M`` or empty.
        age: (patients,) years, NaN where unknown.
    """

    name: str
    batch: Batch
    copies: int
    patients: list[list[int]]
    members: BoolArray
    queries: Batch
    full: Batch
    patient_ids: tuple[str, ...] = field(repr=False, default=())
    sex: tuple[str, ...] = ()
    age: tuple[float, ...] = ()


@dataclass(frozen=True)
class Population:
    """All patients of an audit, by site.

    ``is_random_split`` says whether held-out patients were drawn at random; a source may name its
    own instead, and then membership is no coin.
    """

    sites: tuple[SitePool, ...]
    label_names: tuple[str, ...]
    is_random_split: bool = True

    @property
    def members(self) -> BoolArray:
        """(patients,) of all sites in order: whether the run trained on that patient."""
        return np.concatenate([site.members for site in self.sites])

    @property
    def records(self) -> list[list[int]]:
        """For each patient of all sites in order, the rows of :meth:`queries`."""
        found: list[list[int]] = []
        offset = 0
        for site in self.sites:
            found += [[offset + row for row in rows] for rows in site.patients]
            offset += len(site.queries)
        return found

    def queries(self) -> Batch:
        """One row a record of all sites in order, with the modalities it is trained with."""
        return joined([site.queries for site in self.sites])

    def full(self) -> Batch:
        """The same rows with every modality that the study has."""
        return joined([site.full for site in self.sites])


def joined(batches: Sequence[Batch]) -> Batch:
    """The rows of several batches, one after the other."""
    first = batches[0]

    def together(parts: list[Tensor]) -> Tensor:
        return torch.cat(parts)

    return Batch(
        {m: together([b.inputs[m] for b in batches]) for m in first.inputs},
        {m: together([b.present[m] for b in batches]) for m in first.present},
        together([b.labels for b in batches]),
    )


def read_population(
    config: RunConfig, cache: FeatureCache | None = None, progress: Progress = silent
) -> Population:
    """Read the data of a run's configuration again, with its held-out patients dealt to sites.

    Args:
        config: of the run, with the data root.
        cache: where features of fixed front ends are kept.
        progress: told what is being done.

    Raises:
        DataError, ConfigError, PlanError: as :func:`privfin.federation.prepare.prepare`.
    """
    progress("reading data", 0, 1)
    loaded = load_source(config)
    dataset = loaded.dataset
    train, test = split_data(config, loaded)
    if config.evaluation.choose_round == "validation":
        train, _ = split_validation(train, config.data.validation_fraction, config.training.seed)
    inside = deal(config, dataset, train)
    if config.federation.site:
        outside = deal_by_place(config, dataset, test)
    else:
        outside = deal_like(dataset, inside, test, config.training.seed)
    encoding = Encoding(config, cache)
    sites = []
    for number, (name, held) in enumerate(
        zip(site_names(config), site_modalities(config), strict=True)
    ):
        progress("encoding patients", number, len(inside))
        sides = [
            _side(config, encoding, dataset.of_patients(dealt[name], name), held)
            for dealt in (inside, outside)
        ]
        sites.append(_pool(name, sides))
    progress("encoding patients", len(inside), len(inside))
    return Population(tuple(sites), dataset.label_names, loaded.test_patients is None)


@dataclass(frozen=True)
class _Side:
    """A site's members, or its non-members."""

    dataset: Dataset
    batch: Batch
    copies: int
    queries: Batch
    full: Batch


def _side(config: RunConfig, encoding: Encoding, dealt: Dataset, held: Sequence[str]) -> _Side:
    own = training_records(config, dealt, held)
    copies, rows = augmented(config, own, held)
    trained = encoding.readable(own, rows, copies)
    whole = {record.record_id: record for record in dealt.records}
    asked = [whole[record.record_id] for record in trained.dataset.records]
    full = encoding.strictly(Dataset("queries", dealt.label_names, tuple(asked)))
    queries = (
        trained.batch
        if copies == 1
        else encoding.strictly(trained.dataset)  # attacks see the record, not its copies
    )
    return _Side(trained.dataset, trained.batch, copies, queries, full)


def _pool(name: str, sides: Sequence[_Side]) -> SitePool:
    """Members first, then non-members, each in their own order."""
    groups: list[list[int]] = []
    members: list[bool] = []
    ids: list[str] = []
    sex: list[str] = []
    age: list[float] = []
    offset = 0
    for side, is_member in zip(sides, (True, False), strict=True):
        records = side.dataset.records
        for patient, rows in side.dataset.patients().items():
            groups.append([offset + row for row in rows])
            members.append(is_member)
            ids.append(patient)
            sex.append(records[rows[0]].sex)
            age.append(records[rows[0]].age)
        offset += len(records)
    if not any(members):
        raise PlanError(f"site '{name}' has no training patient to audit")
    return SitePool(
        name,
        joined([side.batch for side in sides]),
        sides[0].copies,
        groups,
        np.array(members),
        joined([side.queries for side in sides]),
        joined([side.full for side in sides]),
        tuple(ids),
        tuple(sex),
        tuple(age),
    )
