"""Reads CheXpert v1.0 and v1.0-small: chest X-rays with 14 labels, without reports.

Layout and columns as published with Irvin et al., "CheXpert: A Large Chest Radiograph Dataset
with Uncertainty Labels and Expert Comparison" (2019): ``train.csv`` and ``valid.csv`` beside the
folders ``train`` and ``valid``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from privfin.data.chexpert_labels import UncertainPolicy, choose_labels, row_labels
from privfin.data.images import ListedImage
from privfin.data.records import Record
from privfin.data.sources import LoadedData
from privfin.data.studies import StudyRecords, Views, frontal_rank, parse_age, parse_sex
from privfin.data.tables import Row, iterate_table, plain_or_gz
from privfin.errors import DataError

_FOLDERS = ("CheXpert-v1.0-small", "CheXpert-v1.0")
_COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA")
#: ``Path`` begins with the name of the folder that holds the tables, which users rename.
_PATH = re.compile(
    r"(?:[^/\\]+/)?(?P<file>(?:train|valid|test)/(?P<patient>patient\d+)/(?P<study>study\d+)/"
    r"[^/\\]+\.(?:jpg|png))",
    re.ASCII,
)


def read_chexpert(
    root: Path,
    *,
    image_size: int,
    labels: Sequence[str] = (),
    uncertain: UncertainPolicy = "unknown",
    views: Views = "frontal",
) -> LoadedData:
    """Read ``train.csv`` and ``valid.csv`` in ``root``, or in CheXpert's own folder inside it.

    Records carry ``image`` only, read when it is asked for. With ``views`` "frontal" a record is
    a study: its PA image if it has one, else its AP, else any frontal one, and among equals the
    one listed first; the others are counted in ``notices``. With "all" every image, lateral ones
    too, is a record. ``labels`` are some of the 14 (empty: all), ``uncertain`` says what -1
    becomes. The patients of ``valid.csv`` (read by three radiologists) are the test patients;
    without that file there is no official split, and a notice says so.

    Raises:
        DataError: a table or column is missing, a path or a label is not as published, or a
            patient is in both tables.
    """
    names = choose_labels(labels)
    folder = _folder(root)
    studies = StudyRecords(views)
    tables = {split: folder / f"{split}.csv" for split in ("train", "valid")}
    notices: tuple[str, ...] = ()
    if not plain_or_gz(tables["valid"]).exists():
        del tables["valid"]
        notices = ("valid.csv is not there, so that there is no official split",)
    for split, table in tables.items():
        for row in iterate_table(table, (*_COLUMNS, *names)):
            path = _path(row)
            patient = studies.patient(path["patient"], split, row.place)
            rank = frontal_rank(row, "Frontal/Lateral", "AP/PA")
            if not studies.takes(rank):
                continue
            file = path["file"]
            record = Record(
                record_id=f"{patient}/{path['study']}" if views == "frontal" else file,
                patient_id=patient,
                inputs={"image": ListedImage(folder, file, image_size, row.place)},
                labels=studies.labels(row_labels(row, names, uncertain)),
                sex=parse_sex(row["Sex"]),
                age=parse_age(row["Age"]),
            )
            studies.add(record, rank, row.place)
    return studies.loaded(
        "chexpert", names, notices, test_split="valid" if "valid" in tables else None
    )


def _folder(root: Path) -> Path:
    """The folder that holds the tables."""
    candidates = (root, *(root / name for name in _FOLDERS))
    found = [folder for folder in candidates if plain_or_gz(folder / "train.csv").exists()]
    if not found:
        raise DataError(f"{root} has no train.csv; name the folder that holds CheXpert's tables")
    if len(found) > 1:
        raise DataError(
            f"{root} has several train.csv ({', '.join(str(folder) for folder in found)}); "
            "name one of these folders"
        )
    return found[0]


def _path(row: Row) -> re.Match[str]:
    path = _PATH.fullmatch(row["Path"])
    if path is None:
        raise DataError(
            f"{row.place}: Path '{row['Path']}' is not of the published form "
            "'CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg'"
        )
    return path
