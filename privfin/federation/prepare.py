"""From a configuration to every site's tensors: read, split by patient, deal, encode."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from privfin.config import RunConfig
from privfin.data.load import load_source
from privfin.data.partition import (
    partition_by_origin,
    partition_patients,
    refuse_overlap,
    split_patients,
)
from privfin.data.records import Dataset
from privfin.data.sources import LoadedData
from privfin.errors import PlanError
from privfin.federation.local_training import SiteData
from privfin.federation.plan import SiteDeclaration, site_modalities, site_names
from privfin.models.frontends import read_inputs
from privfin.models.multimodal import Batch
from privfin.privacy.calibration import check_delta, default_delta

#: Called with a stage's name, the steps done and the steps in all.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TestData:
    """Held-out records, of patients that no site trains on.

    ``sex`` and ``age`` are those of :class:`~privfin.data.records.Record`, one a record, or empty;
    ``source`` names the part of a mix that a record comes from, and is None without a mix. They
    serve for results by group only.
    """

    __test__ = False  # not a test class, whatever pytest thinks of its name

    batch: Batch
    patient_ids: tuple[str, ...]
    fingerprint: str
    sex: tuple[str, ...] = ()
    age: tuple[float, ...] = ()
    source: tuple[str, ...] | None = None


@dataclass(frozen=True)
class PreparedData:
    """Every site's training data and the common test data, after the front ends."""

    sites: dict[str, SiteData]
    declarations: tuple[SiteDeclaration, ...]
    test: TestData
    notices: tuple[str, ...]


def silent(stage: str, done: int, total: int) -> None:
    """Show nothing."""


def prepare(config: RunConfig, progress: Progress = silent) -> PreparedData:
    """Load, split, deal to sites and encode.

    Raises:
        DataError, ConfigError: see :func:`load_source`.
        PlanError: a site would have fewer patients than a batch.
    """
    progress("reading data", 0, 1)
    loaded = load_source(config)
    dataset = loaded.dataset
    train, test = _split(config, loaded)
    dealt = _deal(config, dataset, train)
    declarations, parts = [], {}
    notices = list(dataset.notices)
    for name, held in zip(site_names(config), site_modalities(config), strict=True):
        own = dataset.of_patients(dealt[name], name).with_modalities(held)
        own = _with_labels(own)
        count = len(own.patients())
        if count < config.training.batch_size:
            raise PlanError(
                f"site '{name}' has {count} patients with usable records, fewer than one batch "
                f"of {config.training.batch_size}: lower training.batch_size or merge sites"
            )
        parts[name] = own
        declared = {s.name: s.patients for s in config.federation.site}.get(name)
        _check_declaration(config, name, declared or count, count)
        if declared not in (None, count):
            notices.append(
                f"site '{name}' does not have exactly the {declared} patients that it declares; "
                "the plan uses the declared number"
            )
        declarations.append(SiteDeclaration(name, held, declared or count))
    held_out = _with_labels(dataset.of_patients(test, "test"))
    if not held_out.records:
        raise PlanError("no held-out patient has a known label, so the model cannot be measured")
    sites = {}
    for index, (name, own) in enumerate(parts.items()):
        progress("encoding", index, len(parts) + 1)
        patients = list(own.patients().values())
        sites[name] = SiteData(encode(own, config), patients, own.fingerprint())
    progress("encoding", len(parts), len(parts) + 1)
    test_data = TestData(
        encode(held_out, config),
        tuple(r.patient_id for r in held_out.records),
        held_out.fingerprint(),
        sex=tuple(r.sex for r in held_out.records),
        age=tuple(r.age for r in held_out.records),
        source=tuple(r.origin for r in held_out.records) if config.data.source == "mix" else None,
    )
    progress("encoding", len(parts) + 1, len(parts) + 1)
    return PreparedData(sites, tuple(declarations), test_data, tuple(notices))


def data_key(config: RunConfig) -> str:
    """Equal keys mean that :func:`prepare` gives equal data.

    It holds every option but the two that a sweep varies and that :func:`prepare` does not read,
    except for what :func:`check_declared` checks again.
    """
    content = config.model_dump(mode="json")
    del content["privacy"]["epsilon"], content["model"]["imputer"]
    return json.dumps(content, sort_keys=True)


def check_declared(config: RunConfig, data: PreparedData) -> None:
    """Refuse prepared data that :func:`prepare` would refuse under this epsilon.

    Raises:
        PlanError: delta is too large for the patients that a site really has.
    """
    for site in data.declarations:
        _check_declaration(config, site.name, site.patients, len(data.sites[site.name].patients))


def encode(dataset: Dataset, config: RunConfig) -> Batch:
    """All records as front-end tensors: computed once, because nothing in a front end learns."""
    inputs, present = {}, {}
    for name, modality in config.modalities.items():
        inputs[name], present[name] = read_inputs(
            dataset.records, name, modality, config.data.image_size
        )
    width = len(dataset.label_names)
    labels = np.array([r.labels for r in dataset.records], dtype=np.float32).reshape(-1, width)
    return Batch(inputs, present, torch.from_numpy(labels))


def _split(config: RunConfig, loaded: LoadedData) -> tuple[list[str], list[str]]:
    patients = list(loaded.dataset.patients())
    if loaded.test_patients is not None:
        test = [p for p in patients if p in loaded.test_patients]
        train = [p for p in patients if p not in loaded.test_patients]
        if not test or not train:
            raise PlanError("the split column must put patients into both 'train' and 'test'")
    else:
        train, test = split_patients(
            loaded.dataset, config.data.test_fraction, config.training.seed
        )
    refuse_overlap(train, test)
    return train, test


def _deal(config: RunConfig, dataset: Dataset, train: Sequence[str]) -> dict[str, list[str]]:
    if config.federation.site:
        rules = [(s.name, s.match) for s in config.federation.site]
        return partition_by_origin(dataset, train, rules)
    groups = partition_patients(
        dataset,
        train,
        config.federation.sites,
        config.federation.alpha,
        config.training.seed,
    )
    return dict(zip(site_names(config), groups, strict=True))


def _check_declaration(config: RunConfig, site: str, declared: int, count: int) -> None:
    """Refuse a delta that the declared number of patients allows and the real one does not."""
    if not config.privacy.is_private:
        return
    given = config.privacy.delta
    delta = default_delta(declared) if given == "auto" else float(given)
    try:
        check_delta(delta, count)
    except PlanError as error:
        raise PlanError(f"site '{site}': {error}") from error


def _with_labels(dataset: Dataset) -> Dataset:
    """Only records with at least one known label: the others teach nothing."""
    known = tuple(r for r in dataset.records if not np.isnan(r.labels).all())
    return Dataset(dataset.name, dataset.label_names, known, dataset.notices)
