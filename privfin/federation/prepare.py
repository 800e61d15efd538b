"""From a configuration to every site's tensors: read, split by patient, deal, encode."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from privfin.config import RunConfig
from privfin.data.augment import with_copies
from privfin.data.load import load_source
from privfin.data.missingness import thin, unlabel
from privfin.data.mix import part_of
from privfin.data.partition import (
    deal_shards,
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
from privfin.federation.public_set import load_public, refuse_own_patients
from privfin.models.frontends import read_inputs
from privfin.models.multimodal import Batch
from privfin.privacy.calibration import check_delta, default_delta

#: Called with a stage's name, the steps done and the steps in all.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TestData:
    """Held-out records, of patients that no site trains on.

    ``is_thinned`` says whether inputs were taken away from them (``missingness.test``).
    ``sex`` and ``age`` are those of :class:`~privfin.data.records.Record`, one a record, or empty;
    ``source`` names the part of a mix that a record comes from, and is None without a mix. They
    serve for results by group only.
    """

    __test__ = False  # not a test class, whatever pytest thinks of its name

    batch: Batch
    patient_ids: tuple[str, ...]
    fingerprint: str
    is_thinned: bool = False
    sex: tuple[str, ...] = ()
    age: tuple[float, ...] = ()
    source: tuple[str, ...] | None = None


@dataclass(frozen=True)
class PreparedData:
    """Every site's training data and the common test data, after the front ends.

    ``public`` holds the public records of ``imputer = "retrieval"``, encoded by front ends.
    """

    sites: dict[str, SiteData]
    declarations: tuple[SiteDeclaration, ...]
    test: TestData
    notices: tuple[str, ...]
    public: Batch | None = None


def _silent(stage: str, done: int, total: int) -> None:
    pass


def prepare(config: RunConfig, progress: Progress = _silent) -> PreparedData:
    """Load, split, deal to sites and encode.

    Raises:
        DataError, ConfigError: see :func:`load_source`.
        PlanError: a site would have fewer patients than a batch.
    """
    progress("reading data", 0, 1)
    loaded = load_source(config)
    dataset = loaded.dataset
    public = load_public(config)
    if public is not None:
        refuse_own_patients(public, dataset)
    train, test = _split(config, loaded)
    dealt = _deal(config, dataset, train)
    declarations, parts = [], {}
    notices = list(dataset.notices)
    declarations_by_name = {n: s.patients for s in config.federation.site for n in s.names}
    for name, held in zip(site_names(config), site_modalities(config), strict=True):
        own = _training_records(config, dataset.of_patients(dealt[name], name), held)
        count = len(own.patients())
        if count < config.training.batch_size:
            raise PlanError(
                f"site '{name}' has {count} patients with usable records, fewer than one batch "
                f"of {config.training.batch_size}: lower training.batch_size or merge sites"
            )
        parts[name] = own
        declared = declarations_by_name.get(name)
        _check_declaration(config, name, declared or count, count)
        if declared not in (None, count):
            notices.append(
                f"site '{name}' does not have exactly the {declared} patients that it declares; "
                "the plan uses the declared number"
            )
        declarations.append(SiteDeclaration(name, held, declared or count))
    held_out = _held_out_records(config, dataset.of_patients(test, "test"))
    if not held_out.records:
        raise PlanError("no held-out patient has a known label, so the model cannot be measured")
    held_modalities = {d.name: d.modalities for d in declarations}
    sites = {}
    for index, (name, own) in enumerate(parts.items()):
        progress("encoding", index, len(parts) + 1)
        patients = list(own.patients().values())
        copies, rows = _with_copies(config, own, held_modalities[name])
        sites[name] = SiteData(encode(rows, config), patients, own.fingerprint(), copies)
    progress("encoding", len(parts), len(parts) + 1)
    test_data = TestData(
        encode(held_out, config),
        tuple(r.patient_id for r in held_out.records),
        held_out.fingerprint(),
        is_thinned=any(config.missingness.test.values()),
        sex=tuple(r.sex for r in held_out.records),
        age=tuple(r.age for r in held_out.records),
        source=tuple(map(part_of, held_out.records)) if config.data.source == "mix" else None,
    )
    progress("encoding", len(parts) + 1, len(parts) + 1)
    shared = None if public is None else encode(public, config)
    return PreparedData(sites, tuple(declarations), test_data, tuple(notices), shared)


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


def _with_copies(config: RunConfig, dataset: Dataset, held: Sequence[str]) -> tuple[int, Dataset]:
    """How many rows a record of a site gets, and the records so often: once without images."""
    images = [m for m in held if config.modalities[m].kind == "image"]
    copies = config.training.augmentations if images else 1
    return copies, with_copies(dataset, images, copies, config.training.seed)


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
        places = partition_by_origin(dataset, train, rules)
        seed = config.training.seed
        shards = [deal_shards(places[s.name], s.names, seed) for s in config.federation.site]
        return {name: patients for dealt in shards for name, patients in dealt.items()}
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


def _training_records(config: RunConfig, dealt: Dataset, held: Sequence[str]) -> Dataset:
    """What a site trains on: inputs that it holds, less what the configuration takes away."""
    missing = config.missingness
    seed = config.training.seed
    own = thin(
        dealt.with_modalities(held),
        missing.train,
        split="train",
        seed=seed,
        label=missing.label,
        odds=missing.odds,
    )
    shares = missing.unlabelled_without
    if not any(share for m, share in shares.items() if m not in held):
        return _with_labels(own)
    return _with_labels(unlabel(own, shares, held, seed=seed), or_pairs=True)


def _held_out_records(config: RunConfig, test: Dataset) -> Dataset:
    missing = config.missingness
    thinned = thin(
        test,
        missing.test,
        split="test",
        seed=config.training.seed,
        label=missing.label,
        odds=missing.odds,
    )
    return _with_labels(thinned)


def _with_labels(dataset: Dataset, *, or_pairs: bool = False) -> Dataset:
    """Only records with at least one known label: the others teach nothing.

    With ``or_pairs``, records of two or more modalities stay too: they teach the imputers.
    """
    known = tuple(
        r
        for r in dataset.records
        if not np.isnan(r.labels).all() or (or_pairs and len(r.inputs) > 1)
    )
    return Dataset(dataset.name, dataset.label_names, known, dataset.notices)
