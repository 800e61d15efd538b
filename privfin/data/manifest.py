"""Reads a hospital's own data: one CSV file that lists the records, and images beside it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from privfin.data.images import StoredImage
from privfin.data.records import Dataset, RawInput, Record
from privfin.data.sources import LoadedData
from privfin.data.tables import Row, inside, iterate_table
from privfin.data.values import SEX_VALUES, number, row_values
from privfin.errors import DataError, UserInputError

_LABEL_VALUES = {"": math.nan, "0": 0.0, "0.0": 0.0, "1": 1.0, "1.0": 1.0}


@dataclass(frozen=True)
class ManifestColumns:
    """Which column plays which part.

    ``inputs`` maps a modality's name to its column and ``kinds`` the same name to what the column
    holds: "image" is a path relative to the data folder, "text" is the text itself. A blank cell
    means that the record lacks the modality. ``tables`` maps a tabular modality's name to the
    columns of its values, numbers or blank (and M or F in the column of the sex); a record without
    any of them lacks it. ``labels`` are columns of 0, 1 or blank (unknown). Without ``record``,
    records are numbered within their patient. ``split`` holds "train" or "test", the same for all
    records of a patient. ``sex`` (M, F or blank) and ``age`` (years or blank) are for results by
    group.
    """

    patient: str
    inputs: Mapping[str, str]
    kinds: Mapping[str, Literal["image", "text"]]
    labels: Sequence[str]
    record: str | None = None
    origin: str | None = None
    split: str | None = None
    tables: Mapping[str, Sequence[str]] = field(default_factory=dict)
    sex: str | None = None
    age: str | None = None

    def __post_init__(self) -> None:
        if not self.inputs and not self.tables:
            raise UserInputError("the manifest's columns name no input")
        if not self.labels:
            raise UserInputError("the manifest's columns name no label")
        for name, times in Counter(self.labels).items():
            if times > 1:
                raise UserInputError(f"the manifest's label '{name}' is listed twice")
        for modality in self.inputs:
            if self.kinds.get(modality) not in ("image", "text"):
                raise UserInputError(f"input '{modality}' needs a kind: 'image' or 'text'")

    def names(self) -> list[str]:
        """Every column that must be in the file, each once."""
        roles = (self.record, self.origin, self.split, self.sex, self.age)
        optional = [name for name in roles if name is not None]
        values = [column for columns in self.tables.values() for column in columns]
        return list(
            dict.fromkeys([self.patient, *self.inputs.values(), *values, *self.labels, *optional])
        )


def read_manifest(
    root: Path, *, file: str, columns: ManifestColumns, image_size: int
) -> LoadedData:
    """Read the records listed in ``file`` (relative to the folder ``root``).

    Images stay in their files (:class:`StoredImage`, read as squares of ``image_size``) until they
    are encoded, so one that is missing or broken is found then. Records without any input are left
    out and counted in ``notices``.

    Raises :class:`DataError` for a missing file or column, a label that is not 0, 1 or blank, a
    value that is no number, a blank patient, a repeated record, a path that leaves ``root``, and a
    patient in both splits.
    """
    rows = iterate_table(inside(root, file, "the manifest's file name"), columns.names())
    records: list[Record] = []
    notices: list[str] = []
    splits: dict[str, str] = {}
    used: Counter[str] = Counter()
    seen: dict[str, str] = {}
    empty = 0
    for row in rows:
        patient = row[columns.patient]
        if not patient:
            raise DataError(f"{row.place}: column '{columns.patient}' is blank")
        labels = np.array([_label(row, name) for name in columns.labels], dtype=np.float32)
        if columns.split is not None:
            _note_split(splits, row, columns.split, patient)
        used[patient] += 1
        record_id = f"{patient}-{used[patient]}" if columns.record is None else row[columns.record]
        if not record_id:
            raise DataError(f"{row.place}: column '{columns.record}' is blank")
        if record_id in seen:
            raise DataError(
                f"{row.place}: record '{record_id}' was already in {seen[record_id]}; "
                "record names must differ"
            )
        seen[record_id] = row.place
        inputs = _inputs(root, row, columns, image_size)
        sex, age = _sex(row, columns.sex), _age(row, columns.age)
        if not inputs:
            empty += 1
            continue
        origin = "" if columns.origin is None else row[columns.origin]
        records.append(Record(record_id, patient, inputs, labels, origin, sex, age))
    if empty:
        notices.append(f"left out {empty} records without any input")
    if not records:
        raise DataError(f"{root / file} has no record with a usable input")
    test = None
    if columns.split is not None:
        test = frozenset(patient for patient, split in splits.items() if split == "test")
    dataset = Dataset(Path(file).stem, tuple(columns.labels), tuple(records), tuple(notices))
    return LoadedData(dataset, test)


def _label(row: Row, name: str) -> float:
    value = row[name]
    if value not in _LABEL_VALUES:
        raise DataError(f"{row.place}: column '{name}' is '{value}'; a label is 0, 1 or blank")
    return _LABEL_VALUES[value]


def _note_split(splits: dict[str, str], row: Row, column: str, patient: str) -> None:
    value = row[column]
    if value not in ("train", "test"):
        raise DataError(f"{row.place}: column '{column}' is '{value}'; use 'train' or 'test'")
    if splits.setdefault(patient, value) != value:
        raise DataError(
            f"{row.place}: patient '{patient}' is in both splits; "
            "put all records of a patient into one"
        )


def _inputs(root: Path, row: Row, columns: ManifestColumns, image_size: int) -> dict[str, RawInput]:
    """What a row holds. A path that leaves the folder is refused, whatever is skipped."""
    inputs: dict[str, RawInput] = {}
    for modality, column in columns.inputs.items():
        if not row[column]:
            continue
        if columns.kinds[modality] == "image":
            path = inside(root, row[column], row.place)
            inputs[modality] = StoredImage(path, image_size, row.place)
        else:
            inputs[modality] = row[column]
    for modality, names in columns.tables.items():
        values = row_values(row, names, sex=columns.sex)
        if values is not None:
            inputs[modality] = values
    return inputs


def _sex(row: Row, column: str | None) -> str:
    value = "" if column is None else row[column].upper()
    if value and value not in SEX_VALUES:
        raise DataError(f"{row.place}: column '{column}' is '{value}'; use M, F or blank")
    return value


def _age(row: Row, column: str | None) -> float:
    if column is None:
        return math.nan
    try:
        return number(row[column], column)
    except DataError as error:
        raise DataError(f"{row.place}: {error}") from error
