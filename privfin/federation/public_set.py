"""The public records that ``imputer = "retrieval"`` takes features from."""

from __future__ import annotations

import hashlib

import numpy as np

from privfin.config import DataConfig, RunConfig
from privfin.data.load import load_source, phantom_seeds
from privfin.data.records import Dataset, RawInput, Record, input_content
from privfin.errors import ConfigError, DataError

#: Reports shorter than this (characters) may be the same for several patients.
_STOCK_PHRASES = 200


def load_public(config: RunConfig) -> Dataset | None:
    """The first ``model.retrieval.records`` public records, or None without retrieval.

    They are named in the configuration and read on their own: nothing of a site goes in.

    Raises:
        ConfigError: a folder is needed and missing, or the seed is that of the run's phantom.
        DataError: the records cannot be read, or none has two modalities.
    """
    if config.model.imputer != "retrieval":
        return None
    wanted = config.model.retrieval
    is_phantom = wanted.source == "phantom" and config.data.source in ("phantom", "mix")
    if is_phantom and wanted.seed in phantom_seeds(config):
        raise ConfigError(
            f"model.retrieval.seed is {wanted.seed}, a seed of the run's phantom: the public "
            "patients would be the run's own"
        )
    if wanted.source != "phantom" and wanted.root is None:
        raise ConfigError(
            f"the public set {wanted.source} needs a folder: give model.retrieval.root"
        )
    source = config.data.model_copy(update={"part": ()})
    data = DataConfig.model_validate(
        {
            **source.model_dump(),
            "source": wanted.source,
            "root": wanted.root,
            "labels": (),
            "patients": max(20, wanted.records),
        }
    )
    training = config.training.model_copy(update={"seed": wanted.seed})
    public = config.model_copy(update={"data": data, "training": training})
    dataset = load_source(public, needs_labels=False).dataset
    several = [r for r in dataset.records if len(config.modalities.keys() & r.inputs.keys()) > 1]
    if not several:
        raise DataError(f"the public set {wanted.source} has no record with two modalities")
    return Dataset("public", dataset.label_names, tuple(several[: wanted.records]))


def refuse_own_patients(public: Dataset, own: Dataset) -> None:
    """Refuse a public set that shares an input with the run's own records.

    Identifiers may differ between copies of a data set, so the inputs themselves are compared:
    images one by one, and texts unless they are short, as stock phrases are. Values of tables are
    not compared, because two people may well have the same age and sex.

    Raises:
        DataError: the public set holds a record of the run.
    """
    known = set().union(*(_telling_inputs(record) for record in own.records))
    shared = sum(not known.isdisjoint(_telling_inputs(record)) for record in public.records)
    if shared:
        raise DataError(
            f"{shared} public records share an image or a text with the run's own patients; "
            "a public set must not hold them: choose another model.retrieval source"
        )


def _telling_inputs(record: Record) -> set[bytes]:
    """Digests of the inputs that two different patients would not have in common."""
    contents = [input_content(raw) for raw in record.inputs.values() if not _is_common(raw)]
    return {hashlib.sha256(content).digest() for content in contents}


def _is_common(raw: RawInput) -> bool:
    """Whether two patients may have this very input: a short text, or values of a table."""
    if isinstance(raw, str):
        return len(raw) < _STOCK_PHRASES
    return isinstance(raw, np.ndarray) and raw.ndim == 1
