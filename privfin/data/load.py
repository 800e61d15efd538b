"""From a configuration to records: which reader reads which source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from privfin.config import DataConfig, ModalityConfig, RunConfig
from privfin.config.data import SourceOptions
from privfin.data.chexpert import read_chexpert
from privfin.data.chexpert_labels import CHEXPERT_LABELS
from privfin.data.chexpert_plus import read_chexpert_plus
from privfin.data.covid_cxr import COVID_LABELS, read_covid_cxr
from privfin.data.manifest import ManifestColumns, read_manifest
from privfin.data.masking import DIAGNOSIS_WORDS
from privfin.data.medmnist import medmnist_labels, read_medmnist
from privfin.data.mimic_cxr import read_mimic_cxr
from privfin.data.mix import MixedPart, mix_parts, part_labels
from privfin.data.openi import read_openi
from privfin.data.padchest import read_padchest
from privfin.data.phantom import LABELS as PHANTOM_LABELS
from privfin.data.phantom import generate_phantom
from privfin.data.sources import LoadedData
from privfin.errors import ConfigError, DataError


@dataclass(frozen=True)
class Request:
    """What is to be read of one source. ``labels`` is empty for all that it has by default."""

    options: SourceOptions
    root: Path
    labels: tuple[str, ...]
    image_size: int
    modalities: Mapping[str, ModalityConfig]
    patients: int
    seed: int


def _phantom(r: Request) -> LoadedData:
    return LoadedData(generate_phantom(r.patients, r.image_size, r.seed))


def _covid_cxr(r: Request) -> LoadedData:
    words = r.options.mask_words
    return read_covid_cxr(
        r.root,
        image_size=r.image_size,
        labels=r.labels or ("covid-19",),
        mask=DIAGNOSIS_WORDS if words is None else words,
        tables=_tables(r),
    )


def _tables(r: Request) -> dict[str, tuple[str, ...]]:
    return {m: c.columns for m, c in r.modalities.items() if c.kind == "tabular"}


def _openi(r: Request) -> LoadedData:
    o = r.options
    return read_openi(
        r.root, image_size=r.image_size, labels=r.labels, sections=o.sections, views=o.views
    )


def _mimic_cxr(r: Request) -> LoadedData:
    return read_mimic_cxr(
        r.root,
        image_size=r.image_size,
        labels=r.labels,
        sections=r.options.sections,
        uncertain=r.options.uncertain,
        views=r.options.views,
    )


def _chexpert(r: Request) -> LoadedData:
    o = r.options
    return read_chexpert(
        r.root, image_size=r.image_size, labels=r.labels, uncertain=o.uncertain, views=o.views
    )


def _chexpert_plus(r: Request) -> LoadedData:
    return read_chexpert_plus(
        r.root,
        image_size=r.image_size,
        labels=r.labels,
        sections=r.options.sections,
        uncertain=r.options.uncertain,
        views=r.options.views,
    )


def _padchest(r: Request) -> LoadedData:
    return read_padchest(r.root, image_size=r.image_size, labels=r.labels, views=r.options.views)


def _medmnist(r: Request) -> LoadedData:
    return read_medmnist(r.root, image_size=r.image_size, labels=r.labels)


def _manifest(r: Request) -> LoadedData:
    roles = r.options.manifest
    kinds = {m: c.kind for m, c in r.modalities.items() if c.kind != "tabular"}
    unread = sorted(set(kinds) - set(roles.inputs))
    if unread:
        raise ConfigError(f"data.manifest.inputs names no column for modality '{unread[0]}'")
    columns = ManifestColumns(
        patient=roles.patient,
        record=roles.record,
        inputs={m: roles.inputs[m] for m in kinds},
        kinds=kinds,
        labels=r.labels,
        origin=roles.site,
        split=roles.split,
        tables=_tables(r),
        sex=roles.sex,
        age=roles.age,
    )
    return read_manifest(
        r.root,
        file=roles.file,
        columns=columns,
        image_size=r.image_size,
    )


@dataclass(frozen=True)
class Reader:
    """How a source is read. ``default`` are the labels of a run that names none, and ``labels``
    all that can be asked for; None where only the data can tell. ``has_values`` says whether it has
    the columns of a tabular modality."""

    read: Callable[[Request], LoadedData]
    labels: tuple[str, ...] | None
    default: tuple[str, ...] | None = None
    has_values: bool = False


#: Every source that can be read.
READERS: Mapping[str, Reader] = {
    "phantom": Reader(_phantom, PHANTOM_LABELS, PHANTOM_LABELS),
    "manifest": Reader(_manifest, None, has_values=True),
    "covid-cxr": Reader(_covid_cxr, tuple(COVID_LABELS), ("covid-19",), has_values=True),
    "mimic-cxr": Reader(_mimic_cxr, CHEXPERT_LABELS, CHEXPERT_LABELS),
    "openi": Reader(_openi, CHEXPERT_LABELS, CHEXPERT_LABELS),
    "chexpert": Reader(_chexpert, CHEXPERT_LABELS, CHEXPERT_LABELS),
    "chexpert-plus": Reader(_chexpert_plus, CHEXPERT_LABELS, CHEXPERT_LABELS),
    "padchest": Reader(_padchest, CHEXPERT_LABELS, CHEXPERT_LABELS),
    "medmnist": Reader(_medmnist, None),
}


def label_names(config: RunConfig) -> tuple[str, ...]:
    """The labels of a run: known without reading data, but for medmnist, whose file says.

    Raises:
        ConfigError: a manifest without ``data.labels``, or medmnist without labels and folder.
        DataError: the file of a medmnist set cannot be read.
    """
    data = config.data
    if data.labels:
        return data.labels
    if data.source == "mix":
        return CHEXPERT_LABELS
    default = READERS[data.source].default
    if default is not None:
        return default
    if data.source == "medmnist":
        return medmnist_labels(_root(data))
    raise ConfigError("data.labels is empty: name the label columns of the manifest")


def check_tables(config: RunConfig) -> None:
    """Refuse a tabular modality that no source of the run has values for.

    Raises:
        ConfigError: naming the modality and the sources that would have them.
    """
    tabular = [m for m, c in config.modalities.items() if c.kind == "tabular"]
    data = config.data
    sources: list[str] = [data.source] if data.source != "mix" else [p.source for p in data.part]
    if tabular and not any(READERS[source].has_values for source in sources):
        able = ", ".join(name for name, reader in READERS.items() if reader.has_values)
        raise ConfigError(
            f"{', '.join(sources)} has no table of values for modality '{tabular[0]}': "
            f"remove it, or use {able}"
        )


def load_source(config: RunConfig, *, needs_labels: bool = True) -> LoadedData:
    """Read the records that a run trains on and is tested with.

    Args:
        config: the run's configuration.
        needs_labels: refuse a source without any known label; a public set can do without.

    Raises:
        ConfigError: a data root is needed and missing, or labels that the source cannot have.
        DataError: the data cannot be used; the file, row or patient is named.
    """
    check_tables(config)
    data = config.data
    if data.source == "mix":
        return _load_mix(config)
    if data.source == "phantom" and data.labels:
        raise ConfigError("data.labels cannot be chosen for phantom: it has all 14 labels")
    root = Path() if data.source == "phantom" else _root(data)
    request = Request(
        data,
        root,
        label_names(config),
        data.image_size,
        config.modalities,
        data.patients,
        config.training.seed,
    )
    loaded = read_source(data.source, request)
    return _labelled(data.source, loaded) if needs_labels else loaded


def read_source(source: str, request: Request) -> LoadedData:
    """Read one source, labelled or not, and forget its own split if ``split`` is "random".

    Raises:
        ConfigError, DataError: see :func:`load_source`.
    """
    loaded = READERS[source].read(request)
    return loaded if request.options.split == "official" else replace(loaded, test_patients=None)


def _load_mix(config: RunConfig) -> LoadedData:
    data, labels = config.data, label_names(config)
    only_phantoms = all(part.source == "phantom" for part in data.part)
    root = Path() if only_phantoms else _root(data)
    # What can be refused without data is refused before any is read.
    wanted = [part_labels(part, READERS[part.source].labels, labels) for part in data.part]
    parts = []
    for part, own, seed in zip(data.part, wanted, phantom_seeds(config), strict=True):
        modalities = config.modalities
        if part.source == "manifest":  # a part may hold fewer than the run
            inputs = part.manifest.inputs
            modalities = {m: c for m, c in modalities.items() if c.kind == "tabular" or m in inputs}
        folder = root / part.folder
        request = Request(part, folder, own, data.image_size, modalities, part.patients, seed)
        try:
            loaded = _labelled(part.source, read_source(part.source, request))
        except DataError as error:
            raise DataError(f"part '{part.name}': {error}") from error
        parts.append(MixedPart(part.name, loaded, part.rename))
    return mix_parts(parts, labels, test_fraction=data.test_fraction, seed=config.training.seed)


def phantom_seeds(config: RunConfig) -> tuple[int, ...]:
    """Seeds that a run makes phantoms with, one a part: two parts must not be the same people."""
    return tuple(config.training.seed + i for i in range(max(1, len(config.data.part))))


def _labelled(source: str, loaded: LoadedData) -> LoadedData:
    """Only the records with a known label: nothing can be learned from or measured on others."""
    dataset = loaded.dataset
    known = tuple(r for r in dataset.records if not np.isnan(r.labels).all())
    if not known:
        raise DataError(
            f"no record of {source} has a known label, so nothing can be learned from it; as a "
            "public set for imputer = 'retrieval' it can still serve"
        )
    dropped = len(dataset.records) - len(known)
    if not dropped:
        return loaded
    notice = f"left out {dropped} records without a known label"
    kept = replace(dataset, records=known, notices=(*dataset.notices, notice))
    return replace(loaded, dataset=kept)


def _root(data: DataConfig) -> Path:
    if data.root is None:
        raise ConfigError(f"{data.source} needs a folder: give --data-root DIR")
    return data.root
