"""Turns the rows of an image table into records: one a study, or one an image.

CheXpert, CheXpert Plus and PadChest list one image a row. Labels and report belong to the study,
and privacy to the patient, so that a study with several images must not count several times.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from privfin.data.records import Dataset, Record
from privfin.data.sources import LoadedData
from privfin.data.tables import Row
from privfin.errors import DataError

#: Which X-rays of a study are read: one frontal image, or every image as a record of its own.
Views = Literal["frontal", "all"]

#: Rank of a frontal image by the words the tables use: a standing patient's PA view comes first.
FRONTAL_RANKS: Mapping[str, int] = {"PA": 0, "AP": 1, "AP_HORIZONTAL": 2}
#: Rank of a frontal image whose direction is not stated.
UNSTATED_RANK = 3
_SEXES = {"m": "M", "male": "M", "f": "F", "female": "F"}
_OLDEST = 120


class StudyRecords:
    """Collects records row by row; what it holds per record is small (see docs/reference/sources).

    Args:
        views: see :data:`Views`.
    """

    def __init__(self, views: Views) -> None:
        self._views = views
        self._records: list[Record] = []
        self._ranks = bytearray()
        self._positions: dict[str, int] = {}
        self._splits: dict[str, tuple[str, str]] = {}
        self._left_out: Counter[str] = Counter()
        self._vectors: dict[bytes, npt.NDArray[np.float32]] = {}

    def takes(self, rank: int | None) -> bool:
        """Whether an image of this rank is of use; None is a view that is not frontal."""
        if self._views == "frontal" and rank is None:
            self._left_out["images that are not frontal"] += 1
            return False
        return True

    def patient(self, name: str, split: str, place: str) -> str:
        """The patient's name, stored once for all of their records.

        Raises:
            DataError: the name is blank, or the patient is already in another split.
        """
        if not name:
            raise DataError(f"{place}: the patient's identifier is blank; every row needs one")
        known, first = self._splits.setdefault(name, (name, split))
        if first != split:
            raise DataError(
                f"{place}: patient '{name}' is in the official splits '{first}' and '{split}'; "
                "put all images of a patient into one"
            )
        return known

    def labels(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The same labels, stored once for all records that have them; they cannot be written."""
        shared = self._vectors.setdefault(values.tobytes(), values)
        shared.setflags(write=False)
        return shared

    def add(self, record: Record, rank: int | None, place: str) -> None:
        """Take a record, or with ``views`` "frontal" the better one of a study's records.

        The lowest ``rank`` is best, and among equals the one that comes first. A record's
        identifier is its study's, or with ``views`` "all" its image's.

        Raises:
            DataError: the record's study belongs to another patient, or its image is listed twice.
        """
        order = UNSTATED_RANK if rank is None else rank
        position = self._positions.setdefault(record.record_id, len(self._records))
        if position == len(self._records):
            self._records.append(record)
            self._ranks.append(order)
            return
        present = self._records[position]
        if present.patient_id != record.patient_id:
            raise DataError(
                f"{place}: study '{record.record_id}' belongs to patient '{record.patient_id}' "
                f"here and to '{present.patient_id}' above"
            )
        if self._views == "all":
            raise DataError(f"{place}: image '{record.record_id}' is listed twice")
        self._left_out["further frontal images of studies that have several"] += 1
        if order < self._ranks[position]:
            self._records[position] = record
            self._ranks[position] = order

    def loaded(
        self,
        name: str,
        label_names: tuple[str, ...],
        notices: tuple[str, ...] = (),
        test_split: str | None = None,
    ) -> LoadedData:
        """Everything taken so far; ``test_split`` names the official split of the test patients.

        Raises:
            DataError: nothing was taken.
        """
        if not self._records:
            raise DataError(f"{name}: no row is an image that can be used")
        self._positions.clear()
        counted = tuple(f"left out {count} {what}" for what, count in self._left_out.items())
        dataset = Dataset(name, label_names, tuple(self._records), (*counted, *notices))
        if test_split is None:
            return LoadedData(dataset)
        used = {record.patient_id for record in self._records}
        test = frozenset(p for p, (_, s) in self._splits.items() if s == test_split and p in used)
        return LoadedData(dataset, test)


def frontal_rank(row: Row, view_column: str, direction_column: str) -> int | None:
    """The rank of an image by CheXpert's two columns; None for a lateral one.

    Raises:
        DataError: the view is neither Frontal nor Lateral.
    """
    view = row[view_column].capitalize()
    if view == "Lateral":
        return None
    if view != "Frontal":
        raise DataError(
            f"{row.place}: column '{view_column}' is '{row[view_column]}'; use Frontal or Lateral"
        )
    return FRONTAL_RANKS.get(row[direction_column].upper(), UNSTATED_RANK)


def parse_sex(text: str) -> str:
    """M or F for M, F, Male and Female in any case, and nothing for what states neither."""
    return _SEXES.get(text.lower(), "")


def parse_age(text: str) -> float:
    """Years from 0 to 120; NaN for anything else, which is not stated."""
    try:
        age = float(text)
    except ValueError:
        return math.nan
    return age if 0 <= age <= _OLDEST else math.nan
