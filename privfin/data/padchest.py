"""Reads PadChest: 16-bit chest X-rays with Spanish reports from a hospital in Alicante.

Layout and columns as published with Bustos et al., "PadChest: A large chest x-ray image dataset
with multi-label annotated reports" (2020).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from privfin.data.chexpert_labels import choose_labels
from privfin.data.images import ListedImage
from privfin.data.padchest_labels import padchest_labels, parse_terms
from privfin.data.records import RawInput, Record
from privfin.data.sources import LoadedData
from privfin.data.studies import FRONTAL_RANKS, StudyRecords, Views, parse_age, parse_sex
from privfin.data.tables import Row, iterate_table
from privfin.errors import DataError

_TABLES = "PADCHEST_chest_x_ray_images_labels_160K_*.csv"
_COLUMNS = (
    "ImageID",
    "StudyDate_DICOM",
    "PatientID",
    "PatientBirth",
    "PatientSex_DICOM",
    "Projection",
    "Labels",
    "Report",
)
_IMAGE = re.compile(r"[\w-][\w.-]*\.png", re.ASCII)
#: The published archives unpack into folders named 0 to 54.
_FOLDERS = range(55)
_WHOLE_REPORTS = (
    "PadChest publishes reports whole, not in sections, and its labels were read from them: "
    "results with its text measure how well the labelling is learned"
)


def read_padchest(
    root: Path, *, image_size: int, labels: Sequence[str] = (), views: Views = "frontal"
) -> LoadedData:
    """Read the table ``PADCHEST_chest_x_ray_images_labels_160K_*.csv`` (or ``.csv.gz``).

    Records carry ``image``, a 16-bit PNG beside the table or in the folders 0 to 54, read when it
    is asked for, and ``text``, the whole Spanish report where there is one. With ``views``
    "frontal" a record is a study (``StudyID``, or where that column is not there, a patient's
    images of one day): its PA image if it has one, else its AP, else its AP_horizontal, and among
    equals the one listed first; the others are counted in ``notices``. With "all" every image is
    a record. ``labels`` are some of the 14 CheXpert labels (empty: all), by
    :func:`padchest_labels`. Age is that at the study. There is no official split.

    Raises:
        DataError: the table or a column is missing, there are several tables, or a cell is not as
            published.
    """
    names = choose_labels(labels)
    table = _table(root)
    folders = _image_folders(root)
    studies = StudyRecords(views)
    unlabelled = reports = 0
    for row in iterate_table(table, _COLUMNS):
        file = row["ImageID"]
        if not _IMAGE.fullmatch(file):
            raise DataError(f"{row.place}: ImageID '{file}' is not the name of a .png file")
        patient = studies.patient(row["PatientID"], "", row.place)
        rank = FRONTAL_RANKS.get(row["Projection"].upper())
        if not studies.takes(rank):
            continue
        place = row.place
        image = ListedImage(folders.get(file, root), file, image_size, place)
        inputs: dict[str, RawInput] = {"image": image}
        report = row["Report"]
        if report and report.lower() != "nan":
            inputs["text"] = report
            reports += 1
        values = studies.labels(_labels(row, names))
        unlabelled += bool(np.isnan(values).all())
        record = Record(
            record_id=_study(row, patient) if views == "frontal" else file,
            patient_id=patient,
            inputs=inputs,
            labels=values,
            sex=parse_sex(row["PatientSex_DICOM"]),
            age=_age(row["PatientBirth"], row["StudyDate_DICOM"]),
        )
        studies.add(record, rank, place)
    notices = [_WHOLE_REPORTS] if reports else []
    if unlabelled:
        notices.append(f"{unlabelled} images have no usable Labels: unknown, not normal")
    return studies.loaded("padchest", names, tuple(notices))


def _table(root: Path) -> Path:
    found = sorted(root.glob(_TABLES)) or sorted(root.glob(f"{_TABLES}.gz"))
    if not found:
        raise DataError(f"{root} has no table {_TABLES} (or .csv.gz); name the folder that has it")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{root} has several tables ({names}); keep one")
    return found[0]


def _image_folders(root: Path) -> dict[str, Path]:
    """The folder of each image that is not directly in ``root``."""
    found: dict[str, Path] = {}
    for number in _FOLDERS:
        folder = root / str(number)
        if not folder.is_dir():
            continue
        try:
            with os.scandir(folder) as entries:
                found.update((entry.name, folder) for entry in entries)
        except OSError as error:
            raise DataError(f"{folder} cannot be read ({error.strerror})") from error
    return found


def _study(row: Row, patient: str) -> str:
    study = row.cells.get("StudyID", "")
    return study or f"{patient}/{row['StudyDate_DICOM']}"


def _labels(row: Row, names: tuple[str, ...]) -> npt.NDArray[np.float32]:
    try:
        return padchest_labels(parse_terms(row["Labels"]), names)
    except ValueError as error:
        shown = row["Labels"][:60]
        raise DataError(f"{row.place}: column 'Labels' {error}: {shown}") from error


def _age(birth: str, study: str) -> float:
    """Whole years between a birth (a year, or a day) and the day of a study; NaN if unknown."""
    born, day = _date(birth), _date(study)
    if born is None or day is None:
        return math.nan
    years = day[0] - born[0]
    if born[1] and day[1] and day[1] < born[1]:
        years -= 1
    return parse_age(str(years))


def _date(text: str) -> tuple[int, str] | None:
    """Year, and month with day or nothing, of YYYY or YYYYMMDD (perhaps written as 1950.0)."""
    match = re.fullmatch(r"(\d{4})(\d{4})?(?:\.0)?", text, re.ASCII)
    return None if match is None else (int(match[1]), match[2] or "")
