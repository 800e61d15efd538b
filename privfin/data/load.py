"""From a configuration to records: which reader reads which source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from privfin.config import RunConfig
from privfin.config.data import Source, SourceOptions
from privfin.data.chexpert import read_chexpert
from privfin.data.chexpert_labels import CHEXPERT_LABELS
from privfin.data.chexpert_plus import read_chexpert_plus
from privfin.data.covid_cxr import read_covid_cxr
from privfin.data.manifest import ManifestColumns, read_manifest
from privfin.data.masking import DIAGNOSIS_WORDS
from privfin.data.medmnist import medmnist_labels, read_medmnist
from privfin.data.padchest import read_padchest
from privfin.data.phantom import LABELS as PHANTOM_LABELS
from privfin.data.phantom import generate_phantom
from privfin.data.sources import LoadedData
from privfin.errors import ConfigError


def label_names(config: RunConfig) -> tuple[str, ...]:
    """The labels of a run, known without reading data.

    Raises:
        ConfigError: a manifest without ``data.labels``.
    """
    if config.data.labels:
        return config.data.labels
    if config.data.source == "phantom":
        return PHANTOM_LABELS
    if config.data.source == "covid-cxr":
        return ("covid-19",)
    if config.data.source in ("chexpert", "chexpert-plus", "padchest"):
        return CHEXPERT_LABELS
    if config.data.source == "medmnist" and config.data.root is not None:
        return medmnist_labels(config.data.root)
    raise ConfigError("data.labels is empty: name the label columns of the manifest")


def load_source(config: RunConfig) -> LoadedData:
    """Read the records that a configuration names.

    Raises:
        ConfigError: a data root is needed and missing.
        DataError: the data cannot be used; the file, row or patient is named.
    """
    data = config.data
    if data.source == "phantom":
        if data.labels:
            raise ConfigError("data.labels cannot be chosen for phantom: it has all 14 labels")
        made = generate_phantom(data.patients, data.image_size, config.training.seed)
        return LoadedData(made, None)
    if data.root is None:
        raise ConfigError(f"{data.source} needs a folder: give --data-root DIR")
    if data.source == "covid-cxr":
        words = DIAGNOSIS_WORDS if data.mask_words is None else data.mask_words
        return read_covid_cxr(
            data.root,
            image_size=data.image_size,
            labels=label_names(config),
            mask=words,
            skip_bad=data.skip_bad,
        )
    published = read_published(data.source, data, data.root, data.image_size, data.labels)
    if published is not None:
        return replace(published, test_patients=None) if data.split == "random" else published
    return _load_manifest(config, data.root)


def read_published(
    source: Source | Literal["mix"],
    options: SourceOptions,
    root: Path,
    image_size: int,
    labels: Sequence[str],
) -> LoadedData | None:
    """Read a source that has one published layout, or None for any other source."""
    if source == "medmnist":
        return read_medmnist(root, image_size=image_size, labels=labels)
    if source == "chexpert":
        return read_chexpert(
            root,
            image_size=image_size,
            labels=labels,
            uncertain=options.uncertain,
            views=options.views,
        )
    if source == "chexpert-plus":
        return read_chexpert_plus(
            root,
            image_size=image_size,
            labels=labels,
            sections=options.sections,
            uncertain=options.uncertain,
            views=options.views,
        )
    if source == "padchest":
        return read_padchest(root, image_size=image_size, labels=labels, views=options.views)
    return None


def _load_manifest(config: RunConfig, root: Path) -> LoadedData:
    roles = config.data.manifest
    unread = sorted(set(config.modalities) - set(roles.inputs))
    if unread:
        raise ConfigError(f"data.manifest.inputs names no column for modality '{unread[0]}'")
    columns = ManifestColumns(
        patient=roles.patient,
        record=roles.record,
        inputs={m: roles.inputs[m] for m in config.modalities},
        kinds={m: c.kind for m, c in config.modalities.items() if c.kind != "tabular"},
        labels=label_names(config),
        origin=roles.site,
        split=roles.split,
    )
    return read_manifest(
        root,
        file=roles.file,
        columns=columns,
        image_size=config.data.image_size,
        skip_bad=config.data.skip_bad,
    )
