"""From a configuration to every site's tensors: read, split by patient, deal, encode."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

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
    refuse_shared,
    split_patients,
    split_validation,
)
from privfin.data.records import Dataset
from privfin.data.sources import LoadedData
from privfin.errors import PlanError
from privfin.federation.encoding import Encoded, Encoding, encoder_notices
from privfin.federation.held_out import check_records, held_out_owners
from privfin.federation.local_training import SiteData
from privfin.federation.plan import SiteDeclaration, declared_patients, site_modalities, site_names
from privfin.federation.public_set import load_public, refuse_own_patients
from privfin.models.feature_cache import FeatureCache
from privfin.models.multimodal import Batch
from privfin.privacy.calibration import check_delta, default_delta

#: Called with a stage's name, the steps done and the steps in all.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TestData:
    """Held-out records, of patients that no site trains on.

    ``sites`` names the site that each record belongs to, with ``evaluation.secure`` only.
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
    sites: tuple[str, ...] = ()

    def of_site(self, name: str, held: Sequence[str]) -> TestData:
        """The records of one site, with the modalities that it holds: what it has to measure on.

        Args:
            name: the site.
            held: its modalities.

        Returns:
            Its records, perhaps none, without what serves groups.
        """
        has_input = torch.stack([self.batch.present[m] for m in held]).any(dim=0).tolist()
        own = zip(self.sites, has_input, strict=True)
        rows = [at for at, (site, has) in enumerate(own) if site == name and has]
        return TestData(
            self.batch.rows(torch.tensor(rows, dtype=torch.long)).only(frozenset(held)),
            tuple(self.patient_ids[at] for at in rows),
            fingerprint="",
            is_thinned=self.is_thinned,
        )


@dataclass(frozen=True)
class PreparedData:
    """Every site's training data and the common test data, after the front ends.

    ``public`` holds the public records of ``imputer = "retrieval"``, encoded by front ends, and
    ``validation`` those of the patients that a round is chosen on (``evaluation.choose_round``).
    ``patient_ids`` are those of all patients in the data, trained on or not: for the ledger alone.
    """

    sites: dict[str, SiteData]
    declarations: tuple[SiteDeclaration, ...]
    test: TestData
    notices: tuple[str, ...]
    public: Batch | None = None
    validation: TestData | None = None
    public_fingerprint: str = ""
    patient_ids: tuple[str, ...] = field(default=(), repr=False)


def silent(stage: str, done: int, total: int) -> None:
    """Show nothing."""


def prepare(
    config: RunConfig, progress: Progress = silent, cache: FeatureCache | None = None
) -> PreparedData:
    """Load, split, deal to sites and encode.

    Args:
        config: the run's configuration.
        progress: told what is being done.
        cache: where features of fixed front ends are kept; None computes them anew.

    Raises:
        DataError, ConfigError: see :func:`load_source`; an input cannot be read (without
            ``data.skip_bad``); a frozen encoder cannot be loaded.
        PlanError: a site would have fewer patients than a batch.
    """
    frozen = encoder_notices(config)  # refuses weights that do not fit before data is read
    progress("reading data", 0, 1)
    loaded = load_source(config)
    dataset = loaded.dataset
    public = load_public(config)
    if public is not None:
        refuse_own_patients(public, dataset)
    train, test = split_data(config, loaded)
    validation: list[str] = []
    if config.evaluation.choose_round == "validation":
        train, validation = split_validation(
            train, config.data.validation_fraction, config.training.seed
        )
    dealt = deal(config, dataset, train)
    refuse_shared(dealt)
    holdings = dict(zip(site_names(config), site_modalities(config), strict=True))
    parts = {}
    for name, held in holdings.items():
        parts[name] = training_records(config, dataset.of_patients(dealt[name], name), held)
        _declare(config, name, held, parts[name])  # refuses before anything is encoded
    owners = held_out_owners(config, dataset, test)
    held_out = _held_out_records(config, dataset.of_patients(test, "test"))
    if not held_out.records:
        raise PlanError("no held-out patient has a known label, so the model cannot be measured")
    copied = {n: augmented(config, own, holdings[n]) for n, own in parts.items()}
    aside = _held_out_records(config, dataset.of_patients(validation, "validation"))
    if validation:
        _check_choosable(aside)
    sets = [rows for _, rows in copied.values()] + [held_out, aside, *([public] if public else [])]
    total = sum(len(rows.records) for rows in sets) * len(config.modalities)
    encoding = Encoding(config, cache, _Counter(progress, total))
    notices = [*dataset.notices, *frozen]
    sites, declarations = {}, []
    for name, (copies, rows) in copied.items():
        own = encoding.readable(parts[name], rows, copies)
        declaration, remarks = _declare(config, name, holdings[name], own.dataset)
        declarations.append(declaration)
        notices += [*own.notices, *remarks]
        patients = list(own.dataset.patients().values())
        sites[name] = SiteData(own.batch, patients, own.dataset.fingerprint(), copies)
    _check_joint(config, declarations, [len(s.patients) for s in sites.values()])
    tested = encoding.readable(held_out, held_out)
    notices += tested.notices
    chosen_on = None
    if validation:
        watched = encoding.readable(aside, aside)
        notices += watched.notices
        _check_choosable(watched.dataset)  # again: records that cannot be read are left out
        chosen_on = _test_data(config, watched)
    shared = None if public is None else encoding.strictly(public)
    if cache is not None:
        cache.trim()
    test_data = _test_data(config, tested)
    if owners:
        sites_of = tuple(owners[patient] for patient in test_data.patient_ids)
        test_data = replace(test_data, sites=sites_of)
        check_records(sites_of, [site.patients for site in declarations])
    mark = "" if public is None else public.fingerprint()
    return PreparedData(
        sites,
        tuple(declarations),
        test_data,
        tuple(notices),
        shared,
        chosen_on,
        mark,
        tuple(dataset.patients()),
    )


def _check_choosable(validation: Dataset) -> None:
    """Refuse, before a run is trained, validation patients that could not choose a round."""
    labels = [r.labels for r in validation.records]
    if not any({0.0, 1.0} <= set(column) for column in zip(*labels, strict=True)):
        raise PlanError(
            "no label has both positive and negative validation patients: use a larger "
            "data.validation_fraction, or evaluation.choose_round = 'last'"
        )


def data_key(config: RunConfig) -> str:
    """Equal keys mean that :func:`prepare` gives equal data.

    It holds every option but the two that a sweep varies. Of these :func:`prepare` reads only what
    :func:`check_declared` checks again, and whether there is a public set.
    """
    content = config.model_dump(mode="json")
    del content["privacy"]["epsilon"], content["model"]["imputer"]
    content["public"] = config.model.imputer == "retrieval"
    return json.dumps(content, sort_keys=True)


def check_declared(config: RunConfig, data: PreparedData) -> None:
    """Refuse prepared data that :func:`prepare` would refuse under this epsilon.

    Raises:
        PlanError: delta is too large for the patients that a site really has.
    """
    for site in data.declarations:
        _check_declaration(
            config, f"site '{site.name}'", site.patients, len(data.sites[site.name].patients)
        )
    _check_joint(config, data.declarations, [len(s.patients) for s in data.sites.values()])


def _check_joint(
    config: RunConfig, sites: Sequence[SiteDeclaration], counts: Sequence[int]
) -> None:
    """With shared noise delta is for all sites together: refuse one too large for the real sum."""
    if config.privacy.trust == "shared":
        declared = sum(site.patients for site in sites)
        _check_declaration(config, "all sites together", declared, sum(counts))


def _test_data(config: RunConfig, tested: Encoded) -> TestData:
    records = tested.dataset.records
    if not records:
        raise PlanError("no held-out record can be read, so the model cannot be measured")
    return TestData(
        tested.batch,
        tuple(r.patient_id for r in records),
        tested.dataset.fingerprint(),
        is_thinned=any(config.missingness.test.values()),
        sex=tuple(r.sex for r in records),
        age=tuple(r.age for r in records),
        source=tuple(map(part_of, records)) if config.data.source == "mix" else None,
    )


class _Counter:
    """Adds up what is encoded, for a progress bar."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._done, self._total = progress, 0, total

    def __call__(self, inputs: int) -> None:
        self._done += inputs
        self._progress("encoding", self._done, self._total)


def _declare(
    config: RunConfig, name: str, held: tuple[str, ...], own: Dataset
) -> tuple[SiteDeclaration, list[str]]:
    """What a site says of itself, with a notice if its number of patients is another one.

    Raises:
        PlanError: it has fewer patients than a batch, or delta does not suit their number.
    """
    count = len(own.patients())
    # With shared noise a batch is drawn from all sites together.
    if count < (config.training.batch_size if config.privacy.trust == "local" else 1):
        raise PlanError(
            f"site '{name}' has {count} patients with usable records, fewer than one batch "
            f"of {config.training.batch_size}: lower training.batch_size or merge sites"
        )
    # The phantom's own number of patients is no declaration: unlabelled patients may be left out.
    made = config.data.source == "phantom" and not config.federation.site
    declared = None if made else declared_patients(config).get(name)
    _check_declaration(config, f"site '{name}'", declared or count, count)
    notices = []
    if declared not in (None, count):
        notices.append(
            f"site '{name}' does not have exactly the {declared} patients that it declares; "
            "the plan uses the declared number"
        )
    return SiteDeclaration(name, held, declared or count), notices


def augmented(config: RunConfig, dataset: Dataset, held: Sequence[str]) -> tuple[int, Dataset]:
    """How many rows a record of a site gets, and the records so often: once without images."""
    images = [m for m in held if config.modalities[m].kind == "image"]
    copies = config.training.augmentations if images else 1
    return copies, with_copies(dataset, images, copies, config.training.seed)


def split_data(config: RunConfig, loaded: LoadedData) -> tuple[list[str], list[str]]:
    """Training and held-out patients. Raises PlanError if one side has none."""
    patients = list(loaded.dataset.patients())
    if loaded.test_patients is not None:
        test = [p for p in patients if p in loaded.test_patients]
        train = [p for p in patients if p not in loaded.test_patients]
        if not test or not train:
            side = "training" if test else "held-out"
            raise PlanError(
                f"no {side} patient has a usable record with a known label: the split must put "
                "such patients into both 'train' and 'test'"
            )
    else:
        train, test = split_patients(
            loaded.dataset, config.data.test_fraction, config.training.seed
        )
    refuse_overlap(train, test)
    return train, test


def deal(config: RunConfig, dataset: Dataset, train: Sequence[str]) -> dict[str, list[str]]:
    """The training patients of every site."""
    if config.federation.site:
        return deal_by_place(config, dataset, train)
    groups = partition_patients(
        dataset,
        train,
        config.federation.sites,
        config.federation.alpha,
        config.training.seed,
    )
    return dict(zip(site_names(config), groups, strict=True))


def deal_by_place(
    config: RunConfig, dataset: Dataset, patients: Sequence[str]
) -> dict[str, list[str]]:
    """Patients of the sites that the configuration names, by the origin of their records."""
    rules = [(s.name, s.match) for s in config.federation.site]
    places = partition_by_origin(dataset, patients, rules)
    seed = config.training.seed
    shards = [deal_shards(places[s.name], s.names, seed) for s in config.federation.site]
    return {name: own for dealt in shards for name, own in dealt.items()}


def _check_declaration(config: RunConfig, where: str, declared: int, count: int) -> None:
    """Refuse a delta that the declared number of patients allows and the real one does not."""
    if not config.privacy.is_private:
        return
    given = config.privacy.delta
    delta = default_delta(declared) if given == "auto" else float(given)
    try:
        check_delta(delta, count)
    except PlanError as error:
        raise PlanError(f"{where}: {error}") from error


def training_records(config: RunConfig, dealt: Dataset, held: Sequence[str]) -> Dataset:
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
