"""Reads a hospital's own data: one CSV file that lists the records, and images beside it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from privfin.data.images import read_grey_image
from privfin.data.records import Dataset, RawInput, Record
from privfin.data.sources import LoadedData
from privfin.data.tables import Row, inside, read_table
from privfin.errors import DataError, UserInputError

_LABEL_VALUES = {"": math.nan, "0": 0.0, "0.0": 0.0, "1": 1.0, "1.0": 1.0}


@dataclass(frozen=True)
class ManifestColumns:
    """Which column plays which part.

    ``inputs`` maps a modality's name to its column and ``kinds`` the same name to what the column
    holds: "image" is a path relative to the data folder, "text" is the text itself. A blank cell
    means that the record lacks the modality. ``labels`` are columns of 0, 1 or blank (unknown).
    Without ``record``, records are numbered within their patient. ``split`` holds "train" or
    "test", the same for all records of a patient.
    """

    patient: str
    inputs: Mapping[str, str]
    kinds: Mapping[str, Literal["image", "text"]]
    labels: Sequence[str]
    record: str | None = None
    origin: str | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        if not self.inputs:
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
        optional = [name for name in (self.record, self.origin, self.split) if name is not None]
        return list(dict.fromkeys([self.patient, *self.inputs.values(), *self.labels, *optional]))


def read_manifest(
    root: Path, *, file: str, columns: ManifestColumns, image_size: int, skip_bad: bool = False
) -> LoadedData:
    """Read the records listed in ``file`` (relative to the folder ``root``).

    Images become uint8 (``image_size``, ``image_size``). Records without any input are left out
    and counted in ``notices``; with ``skip_bad`` so are records whose image is missing or cannot
    be decoded, each by its row.

    Raises :class:`DataError` for a missing file or column, a label that is not 0, 1 or blank, a
    blank patient, a repeated record, a path that leaves ``root``, an image that cannot be read,
    and a patient in both splits.
    """
    rows = read_table(inside(root, file, "the manifest's file name"), columns.names())
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
        paths = _paths(root, row, columns)
        try:
            inputs = _inputs(paths, row, columns, image_size)
        except DataError as error:
            if not skip_bad:
                raise DataError(f"{row.place}: {error}") from error
            notices.append(f"skipped {row.place}: {error}")
            continue
        if not inputs:
            empty += 1
            continue
        origin = "" if columns.origin is None else row[columns.origin]
        records.append(Record(record_id, patient, inputs, labels, origin))
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


def _paths(root: Path, row: Row, columns: ManifestColumns) -> dict[str, Path]:
    """The image files of a row. A path that leaves the folder is refused even with skip_bad."""
    return {
        modality: inside(root, row[column], row.place)
        for modality, column in columns.inputs.items()
        if columns.kinds[modality] == "image" and row[column]
    }


def _inputs(
    paths: Mapping[str, Path], row: Row, columns: ManifestColumns, image_size: int
) -> dict[str, RawInput]:
    inputs: dict[str, RawInput] = {}
    for modality, column in columns.inputs.items():
        if modality in paths:
            inputs[modality] = read_grey_image(paths[modality], image_size)
        elif row[column]:
            inputs[modality] = row[column]
    return inputs
