"""Several sources as one data set: patients kept apart, labels matched by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from privfin.config.data import PartConfig
from privfin.data.partition import split_patients
from privfin.data.records import Dataset, Record
from privfin.data.sources import LoadedData
from privfin.errors import ConfigError, DataError, nearest


@dataclass(frozen=True)
class MixedPart:
    """A part that has been read. ``rename`` maps its labels to those of the mix."""

    name: str
    loaded: LoadedData
    rename: Mapping[str, str]


def part_labels(
    part: PartConfig, known: Sequence[str] | None, labels: Sequence[str]
) -> tuple[str, ...]:
    """The labels to read of a part: those it lists, else those of ``labels`` that it has.

    ``known`` are all labels of its source, or None where only its data can tell; then nothing
    is returned for a part that lists none, and all it has are to be read.

    Raises:
        ConfigError: a label that no label of the mix stands for, or a part with none at all.
    """
    for own, name in part.rename.items():
        if known is not None and own not in known:
            hint = nearest(own, known)
            raise ConfigError(f"part '{part.name}': {part.source} has no label '{own}'{hint}")
        if name not in labels:
            hint = nearest(name, labels)
            raise ConfigError(f"part '{part.name}': '{name}' is no label of the run{hint}")
    for own in part.labels:
        name = part.rename.get(own, own)
        if name not in labels:
            raise ConfigError(
                f"part '{part.name}': its label '{own}' is none of the run; add it to data.labels "
                f"or rename it, as rename = {{ {own} = '{labels[0]}' }}"
            )
    if part.labels:
        return part.labels
    if part.source == "manifest":
        raise ConfigError(f"part '{part.name}': labels is empty: name the manifest's label columns")
    if known is None:
        return ()
    found = tuple(own for own in known if part.rename.get(own, own) in labels)
    if not found:
        raise ConfigError(
            f"part '{part.name}': {part.source} has none of the run's labels (it has "
            f"{', '.join(known)}); rename one"
        )
    return found


def mix_parts(
    parts: Sequence[MixedPart], labels: Sequence[str], *, test_fraction: float, seed: int
) -> LoadedData:
    """One data set of all ``parts`` with the run's ``labels``; what a part does not know is NaN.

    Records and patients are named "part:identifier", so that equal identifiers of two parts stay
    two patients. A record's origin is the part's name, then its own place: "covid: Rome, Italy".
    Test patients are the official ones of each part; a part without any gets ``test_fraction`` of
    its patients, drawn with the public ``seed``.

    Raises:
        DataError: a part has no label of the run, or two for the same one.
    """
    records: list[Record] = []
    notices: list[str] = []
    test: set[str] = set()
    for part in parts:
        dataset = part.loaded.dataset
        columns = _columns(part, labels)
        notices += [_named(part.name, notice) for notice in dataset.notices]
        if len(columns) < len(labels):
            notices.append(f"{part.name}: {_known(columns, labels)}")
        records += (_renamed(part.name, record, columns, labels) for record in dataset.records)
        test.update(f"{part.name}:{patient}" for patient in _test(part, test_fraction, seed))
    mixed = Dataset("mix", tuple(labels), tuple(records), tuple(notices))
    return LoadedData(mixed, frozenset(test))


def part_of(record: Record) -> str:
    """The name of the part that a record of a mix came from."""
    return record.origin.partition(":")[0]


def _named(part: str, notice: str) -> str:
    # "skipped " in front says that a notice names a row, and must not get into a run's files.
    skipped = notice.removeprefix("skipped ")
    return f"{part}: {notice}" if skipped == notice else f"skipped {part}: {skipped}"


def _known(columns: Mapping[str, int], labels: Sequence[str]) -> str:
    have = [name for name in labels if name in columns]
    lack = [name for name in labels if name not in columns]
    if len(have) <= len(lack):
        return f"only {', '.join(have)} can be known of the {len(labels)} labels"
    return f"{', '.join(lack)} cannot be known, the other {len(have)} labels can"


def _test(part: MixedPart, fraction: float, seed: int) -> Iterable[str]:
    if part.loaded.test_patients is not None:
        return part.loaded.test_patients
    return split_patients(part.loaded.dataset, fraction, seed)[1]


def _columns(part: MixedPart, labels: Sequence[str]) -> dict[str, int]:
    """The part's column of each label of the mix that it has."""
    own_names = part.loaded.dataset.label_names
    unused = [own for own in part.rename if own not in own_names]
    if unused:
        hint = nearest(unused[0], own_names)
        raise DataError(f"part '{part.name}' has no label '{unused[0]}' to rename{hint}")
    columns: dict[str, int] = {}
    for column, own in enumerate(own_names):
        name = part.rename.get(own, own)
        if name in columns:
            other = own_names[columns[name]]
            raise DataError(
                f"part '{part.name}': '{other}' and '{own}' are both the label '{name}'"
            )
        if name in labels:
            columns[name] = column
    if not columns:
        raise DataError(
            f"part '{part.name}' has none of the run's labels (it has {', '.join(own_names)}); "
            "rename one"
        )
    return columns


def _renamed(
    part: str, record: Record, columns: Mapping[str, int], labels: Sequence[str]
) -> Record:
    values: npt.NDArray[np.float32] = np.full(len(labels), np.nan, dtype=np.float32)
    for position, name in enumerate(labels):
        if name in columns:
            values[position] = record.labels[columns[name]]
    return replace(
        record,
        record_id=f"{part}:{record.record_id}",
        patient_id=f"{part}:{record.patient_id}",
        labels=values,
        origin=f"{part}: {record.origin}" if record.origin else part,
    )
