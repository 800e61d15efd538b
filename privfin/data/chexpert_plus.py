"""Reads CheXpert Plus: the X-rays of CheXpert as PNG, with their reports in sections.

Layout and columns as published with Chambon et al., "CheXpert Plus: Augmenting a Large Chest X-ray
Dataset with Text Radiology Reports, Patient Demographics and Additional Image Formats" (2024).
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from privfin.data.chexpert_labels import UncertainPolicy, choose_labels, label_value
from privfin.data.images import ListedImage
from privfin.data.records import RawInput, Record
from privfin.data.reports import section_text
from privfin.data.sources import LoadedData
from privfin.data.studies import StudyRecords, Views, frontal_rank, parse_age, parse_sex
from privfin.data.tables import (
    Row,
    iterate_table,
    plain_or_gz,
    tell_watcher,
    unpacked_text,
)
from privfin.errors import DataError

TABLE = "df_chexpert_plus_240401.csv"
_COLUMNS = (
    "path_to_image",
    "frontal_lateral",
    "ap_pa",
    "deid_patient_id",
    "age",
    "sex",
    "split",
)
#: Section of the configuration to the columns whose text it takes, in this order.
_SECTION_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "findings": ("section_findings",),
    "impression": ("section_impression",),
    "indication": ("section_clinical_history", "section_history"),
}
#: What the labels were mined from, best first. Many reports have no findings section, and there
#: the labeller says "No Finding" of an empty text.
_LABEL_FILES = ("report_fixed.json", "impression_fixed.json", "findings_fixed.json")
#: The table says .jpg; the published files are .png.
_PATH = re.compile(
    r"(?P<stem>(?:train|valid)/(?P<study>patient\d+/study\d+)/[^/\\]+)\.(?:jpg|png)", re.ASCII
)
#: Longest line of a label file, in characters: a path and 14 numbers.
_LONGEST_LINE = 2**16


def read_chexpert_plus(
    root: Path,
    *,
    image_size: int,
    labels: Sequence[str] = (),
    sections: Sequence[str] = ("findings",),
    uncertain: UncertainPolicy = "unknown",
    views: Views = "frontal",
) -> LoadedData:
    """Read ``df_chexpert_plus_240401.csv``, ``chexbert_labels/`` and the images in ``PNG/``.

    Records carry ``image``, read when it is asked for, and ``text``: the ``sections`` asked for
    ("indication" is the clinical history), each from its own column and without what
    :func:`section_text` takes for another section; a record whose study has none of them has no
    text. Images of a study are chosen as by
    :func:`privfin.data.chexpert.read_chexpert`. Labels come from ``report_fixed.json``, or where
    that is not there, from ``impression_fixed.json`` or ``findings_fixed.json``; ``notices`` says
    which. Images without an entry there have unknown labels. The patients of the split "valid"
    are the test patients.

    Raises:
        DataError: a file or column is missing, a path, split or label is not as published, or a
            patient is in both splits.
    """
    names = choose_labels(labels)
    studies = StudyRecords(views)
    file = _label_file(root)
    known = _read_labels(file, names, uncertain, studies)
    folder = root / "PNG" if (root / "PNG").is_dir() else root
    columns = [name for section in sections for name in _SECTION_COLUMNS[section]]
    silent = unlabelled = 0
    for row in iterate_table(root / TABLE, (*_COLUMNS, *columns)):
        path = _path(row)
        patient = studies.patient(row["deid_patient_id"], _split(row), row.place)
        rank = frontal_rank(row, "frontal_lateral", "ap_pa")
        if not studies.takes(rank):
            continue
        stem = path["stem"]
        image = ListedImage(folder, f"{stem}.png", image_size, row.place)
        inputs: dict[str, RawInput] = {"image": image}
        text = section_text(_sections(row, sections), sections)
        if text is not None:
            inputs["text"] = text
        silent += text is None
        unlabelled += stem not in known
        record = Record(
            record_id=path["study"] if views == "frontal" else stem,
            patient_id=patient,
            inputs=inputs,
            labels=known.get(stem, known[""]),
            sex=parse_sex(row["sex"]),
            age=parse_age(row["age"]),
        )
        studies.add(record, rank, row.place)
    notices = [f"labels are those of {file.name}"]
    if silent:
        notices.append(f"{silent} images have no text in the sections asked for")
    if unlabelled:
        notices.append(f"{unlabelled} images have no entry in {file.name}: labels unknown")
    return studies.loaded("chexpert-plus", names, tuple(notices), test_split="valid")


def _path(row: Row) -> re.Match[str]:
    path = _PATH.fullmatch(row["path_to_image"])
    if path is None:
        raise DataError(
            f"{row.place}: path_to_image '{row['path_to_image']}' is not of the published form "
            "'train/patient00001/study1/view1_frontal.jpg'"
        )
    return path


def _sections(row: Row, sections: Sequence[str]) -> dict[str, str]:
    parts = {section: [row[name] for name in _SECTION_COLUMNS[section]] for section in sections}
    return {section: "\n".join(part for part in texts if part) for section, texts in parts.items()}


def _split(row: Row) -> str:
    if row["split"] not in ("train", "valid"):
        raise DataError(f"{row.place}: column 'split' is '{row['split']}'; use train or valid")
    return row["split"]


def _label_file(root: Path) -> Path:
    folder = root / "chexbert_labels"
    for name in _LABEL_FILES:
        path = plain_or_gz(folder / name)
        if path.exists():
            return path
    raise DataError(f"{folder} has none of {', '.join(_LABEL_FILES)}; unpack chexbert_labels there")


def _read_labels(
    file: Path, names: tuple[str, ...], uncertain: UncertainPolicy, studies: StudyRecords
) -> dict[str, npt.NDArray[np.float32]]:
    """Labels (L,) by path without its ending; "" has the labels of an image that is not listed."""
    known = {"": studies.labels(np.full(len(names), math.nan, dtype=np.float32))}
    for number, entry in _entries(file):
        place = f"{file.name} line {number}"
        path = _PATH.fullmatch(str(entry.get("path_to_image")))
        if path is None:
            raise DataError(f"{place} has no path_to_image of the published form")
        missing = [name for name in names if name not in entry]
        if missing:
            raise DataError(f"{place} has no label '{missing[0]}'")
        values = [label_value(_cell(entry[n]), uncertain, f"{place}: '{n}'") for n in names]
        if path["stem"] in known:
            raise DataError(f"{place}: '{path['stem']}' is listed twice")
        known[path["stem"]] = studies.labels(np.array(values, dtype=np.float32))
    return known


def _cell(value: Any) -> str:
    """A JSON value as a table's cell: null and NaN are blank."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value)


def _entries(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and what is on the lines."""
    try:
        with file.open("rb") as raw, unpacked_text(file, raw) as lines:
            number = 0
            while line := lines.readline(_LONGEST_LINE):
                number += 1
                if number % 1000 == 0:
                    tell_watcher(file, raw)
                if line.strip():
                    yield number, _entry(line, f"{file.name} line {number}")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text; unpack it again") from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{file} cannot be read ({reason}); unpack it again") from error


def _entry(line: str, place: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place} is not JSON; unpack the file again") from error
    if not isinstance(entry, dict):
        raise DataError(f"{place} is not a JSON object; unpack the file again")
    return entry
