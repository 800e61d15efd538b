"""Reads the COVID-19 image data collection: chest X-rays with clinical notes.

Layout and columns as published by Cohen et al., "COVID-19 Image Data Collection: Prospective
Predictions Are the Future" (2020): ``metadata.csv`` beside a folder ``images``.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from privfin.data.images import StoredImage
from privfin.data.masking import DIAGNOSIS_WORDS, mask_words
from privfin.data.records import Dataset, RawInput, Record
from privfin.data.sources import LoadedData
from privfin.data.tables import Row, inside, iterate_table
from privfin.data.values import SEX_VALUES, number, row_values
from privfin.errors import DataError, nearest

#: Label name to the column that it is read from.
COVID_LABELS: Mapping[str, str] = {
    "covid-19": "finding",
    "pneumonia": "finding",
    "survival": "survival",
    "went_icu": "went_icu",
    "intubated": "intubated",
}
#: Columns that a tabular modality can have. Sex is 1 for M and 0 for F.
COVID_VALUES: tuple[str, ...] = (
    "age",
    "sex",
    "temperature",
    "pO2_saturation",
    "leukocyte_count",
    "neutrophil_count",
    "lymphocyte_count",
)
_COLUMNS = ("patientid", "view", "modality", "location", "filename", "clinical_notes")
#: Findings that say nothing: rows which the collection's authors had yet to label.
_UNDECIDED = ("todo", "unknown")
#: Findings that are pneumonias: the collection files all of these under "Pneumonia" in its later
#: releases, and names only the cause in its first ones. Others ("ARDS", "Tuberculosis") may come
#: with a pneumonia or without.
_PNEUMONIAS = frozenset(
    (
        *("pneumonia", "covid-19", "sars", "mers-cov", "influenza", "h1n1", "varicella", "herpes"),
        *("streptococcus", "klebsiella", "chlamydophila", "legionella", "e.coli", "mycoplasma"),
        *("staphylococcus", "mrsa", "nocardia", "pneumocystis", "aspergillosis", "lipoid"),
        "aspiration",
    )
)
_FRONTAL = ("PA", "AP")


def read_covid_cxr(
    root: Path,
    *,
    image_size: int,
    labels: Sequence[str] = ("covid-19",),
    mask: Sequence[str] = DIAGNOSIS_WORDS,
    tables: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> LoadedData:
    """Read the frontal X-rays below ``root``, with their notes as text.

    Records carry ``image``, which stays in its file until it is encoded as a square of
    ``image_size``, and, where notes exist, ``text`` with the words in ``mask`` hidden; ``origin``
    is the location. ``tables`` maps a tabular modality to some of :data:`COVID_VALUES`; a record
    carries it where one of them is known. ``labels`` is any of :data:`COVID_LABELS`: "covid-19"
    is 1 where the finding names COVID-19; "pneumonia" is 1 where it names a pneumonia or the cause
    of one, 0 where it is "No Finding", and unknown otherwise; the others are Y/N. Blank (and a
    finding "todo" or "unknown") is NaN. Rows of other views or modalities are left out and counted
    in ``notices``.

    Raises :class:`DataError` for a missing file or column, an unknown label or value, and a value
    of a table that is no number.
    """
    if not labels:
        raise DataError(f"no label is asked for; choose from {', '.join(COVID_LABELS)}")
    for name in labels:
        if name not in COVID_LABELS:
            raise DataError(
                f"the COVID-19 collection has no label '{name}'{nearest(name, COVID_LABELS)} "
                f"(known: {', '.join(COVID_LABELS)})"
            )
    repeated = [name for name, count in Counter(labels).items() if count > 1]
    if repeated:
        raise DataError(f"label '{repeated[0]}' is asked for twice")
    columns = [column for names in tables.values() for column in names]
    for column in columns:
        if column not in COVID_VALUES:
            raise DataError(
                f"the COVID-19 collection has no values '{column}'{nearest(column, COVID_VALUES)} "
                f"(known: {', '.join(COVID_VALUES)})"
            )
    needed = [*_COLUMNS, *columns, *(COVID_LABELS[name] for name in labels)]
    rows = iterate_table(root / "metadata.csv", list(dict.fromkeys(needed)))

    records: list[Record] = []
    notices: list[str] = []
    other_modality = other_view = 0
    used: Counter[str] = Counter()
    for row in rows:
        if row["modality"].lower() != "x-ray":
            other_modality += 1
            continue
        if row["view"].upper().split(" ")[0] not in _FRONTAL:
            other_view += 1
            continue
        if not row["patientid"]:
            raise DataError(f"{row.place}: column 'patientid' is blank; every row needs a patient")
        if not row["filename"]:
            raise DataError(f"{row.place}: column 'filename' is blank; every row needs an image")
        path = inside(root / "images", row["filename"], row.place)
        inputs: dict[str, RawInput] = {"image": StoredImage(path, image_size, row.place)}
        if row["clinical_notes"]:
            inputs["text"] = mask_words(row["clinical_notes"], mask)
        for modality, names in tables.items():
            values = row_values(row, names)
            if values is not None:
                inputs[modality] = values
        used[row["patientid"]] += 1
        records.append(
            Record(
                record_id=f"{row['patientid']}-{used[row['patientid']]}",
                patient_id=row["patientid"],
                inputs=inputs,
                labels=np.array([_label(row, name) for name in labels], dtype=np.float32),
                origin=row["location"],
                sex=_sex(row),
                age=_age(row),
            )
        )
    if other_modality:
        notices.append(f"left out {other_modality} rows that are not X-rays")
    if other_view:
        notices.append(f"left out {other_view} rows that are not frontal views")
    if not records:
        raise DataError(f"{root / 'metadata.csv'} has no usable frontal X-ray")
    return LoadedData(Dataset("covid-cxr", tuple(labels), tuple(records), tuple(notices)))


def _sex(row: Row) -> str:
    """M or F; whatever else stands there, or an older file without the column, is unknown."""
    value = row.cells.get("sex", "").upper()
    return value if value in SEX_VALUES else ""


def _age(row: Row) -> float:
    try:
        return number(row.cells.get("age", ""), "age")
    except DataError:
        return math.nan


def _label(row: Row, name: str) -> float:
    value = row[COVID_LABELS[name]]
    if COVID_LABELS[name] == "finding":
        return _found(value.lower(), name)
    if not value:
        return math.nan
    if value not in ("Y", "N"):
        raise DataError(
            f"{row.place}: column '{COVID_LABELS[name]}' is '{value}'; use Y, N or blank"
        )
    return float(value == "Y")


def _found(finding: str, name: str) -> float:
    if not finding or finding in _UNDECIDED:
        return math.nan
    if name == "covid-19":
        return float("covid-19" in finding)
    if finding == "no finding":
        return 0.0
    causes = {part.strip() for part in re.split("[/,]", finding)}
    return 1.0 if causes & _PNEUMONIAS else math.nan
