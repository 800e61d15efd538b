"""Reads MIMIC-CXR-JPG 2.0.0 and 2.1.0: chest X-rays, labels and reports of PhysioNet.

Layout and columns as published by Johnson et al., "MIMIC-CXR-JPG, a large publicly available
database of labeled chest radiographs" (2019). Tables are read row by row; images and reports stay
in their files.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from privfin.data.chexpert_labels import UncertainPolicy, choose_labels, row_labels
from privfin.data.images import StoredImage
from privfin.data.records import Dataset, RawInput, Record
from privfin.data.report_files import ReportFiles, StoredReport
from privfin.data.reports import report_text
from privfin.data.sources import LoadedData
from privfin.data.tables import Row, iterate_table, plain_or_gz
from privfin.errors import DataError

#: Release 2.1.0 kept the names of 2.0.0; copies with the later number are read too.
_RELEASES = ("2.0.0", "2.1.0")
REPORTS_ARCHIVE = "mimic-cxr-reports.zip"
_SPLITS = ("train", "validate", "test")
#: Frontal views, the one that is preferred first: hearts look larger on AP images.
_FRONTAL = ("PA", "AP")
_DICOM = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{8}){4}")
_NUMBER = re.compile(r"[0-9]{8}")


@dataclass(slots=True)
class _Study:
    """What the metadata say of a study. ``images`` are (rank of the view, dicom id)."""

    subject: str
    images: list[tuple[int, str]] = field(default_factory=list)

    def folder(self) -> str:
        return f"files/p{self.subject[:2]}/p{self.subject}"


def read_mimic_cxr(
    root: Path,
    *,
    image_size: int,
    labels: Sequence[str] = (),
    sections: Sequence[str] = ("findings",),
    uncertain: UncertainPolicy = "unknown",
    views: Literal["frontal", "all"] = "frontal",
) -> LoadedData:
    """Read MIMIC-CXR-JPG below ``root``.

    Read are ``mimic-cxr-2.0.0-metadata.csv``, ``-chexpert.csv`` (or, where that is not there,
    ``-negbio.csv``) and ``-split.csv``, each plain or ``.gz``; images
    ``files/p10/p<subject>/s<study>/<dicom>.jpg``; and reports from ``mimic-cxr-reports.zip`` if it
    is there, else ``files/p10/p<subject>/s<study>.txt``.

    A record is a study: ``image`` is one frontal image, PA before AP, then the first by dicom id;
    what is left out is counted in ``notices``. With ``views`` "all" every image is a record, with
    its study's labels and text. ``text`` is the report's ``sections``. Studies without a frontal
    image stay as text-only records, and studies without the sections as image-only ones.
    ``labels`` are some of the 14 (empty: all); ``uncertain`` says what -1 becomes.

    The test patients are those of the official split "test". "validate" goes to training:
    privfin chooses nothing on it. Without a split table there are none.

    Raises:
        DataError: a table or column is missing, an identifier or value is not as published, a
            study has two patients, or a patient is in two official splits.
    """
    names = choose_labels(labels)
    splits = _splits(root)
    studies, counts = _studies(root, views)
    values, labeler = _labels(root, names, uncertain, studies)
    notices = [f"labels are those of {labeler}", *_split_notices(splits, studies)]
    unknown = np.full(len(names), np.nan, dtype=np.float32)
    archive = root / REPORTS_ARCHIVE
    files = ReportFiles(root, archive if archive.exists() else None)
    records: list[Record] = []
    for study, found in studies.items():
        record_labels = values.get(study, unknown)
        counts["unlabelled"] += study not in values
        inputs = _report(files, f"{found.folder()}/s{study}.txt", sections, counts)
        place = f"study s{study} of patient p{found.subject}"
        made = list(_records(root, study, found, place, inputs, record_labels, views, image_size))
        counts["empty"] += not made
        records += made
    if not records:
        raise DataError(f"{root} has no study with an image or a report of the kinds asked for")
    notices += [text.format(counts[key]) for key, text in _NOTICES.items() if counts[key]]
    dataset = Dataset("mimic-cxr", names, tuple(records), tuple(notices))
    test = None
    if splits is not None:
        test = frozenset(subject for subject, split in splits.items() if split == "test")
    return LoadedData(dataset, test)


_NOTICES: Mapping[str, str] = {
    "other": "left out {} images that are not frontal",
    "more": "left out {} further frontal images of studies with several",
    "unreported": "{} studies have no report: their records have no text",
    "silent": "{} reports lack the sections asked for: their records have no text",
    "unlabelled": "{} studies are not in the table of labels: their labels are unknown",
    "empty": "left out {} studies without text and without a frontal image",
}


def _table(root: Path, kind: str) -> Path:
    """The table of a kind in whichever release is there; the older name if none is."""
    paths = [root / f"mimic-cxr-{release}-{kind}.csv" for release in _RELEASES]
    return next((path for path in paths if plain_or_gz(path).exists()), paths[0])


def _splits(root: Path) -> dict[str, str] | None:
    """The official split of every patient, or None where its table is not there."""
    table = _table(root, "split")
    if not plain_or_gz(table).exists():
        return None
    splits: dict[str, str] = {}
    for row in iterate_table(table, ("subject_id", "split")):
        subject, split = _number(row, "subject_id"), row["split"]
        if split not in _SPLITS:
            raise DataError(f"{row.place}: column 'split' is '{split}'; use {', '.join(_SPLITS)}")
        if splits.setdefault(subject, split) != split:
            raise DataError(
                f"{row.place}: patient p{subject} is in the official splits '{splits[subject]}' "
                f"and '{split}'; remove one of them from {table.name}"
            )
    return splits


def _split_notices(splits: Mapping[str, str] | None, studies: Mapping[str, _Study]) -> list[str]:
    if splits is None:
        return ["there is no official split (mimic-cxr-2.0.0-split.csv): test patients are drawn"]
    found = Counter(splits.get(s, "none") for s in {study.subject for study in studies.values()})
    texts = {
        "validate": "{} patients of the official split 'validate' are trained on",
        "none": "{} patients are in no official split: they are trained on",
    }
    return [text.format(found[key]) for key, text in texts.items() if found[key]]


def _studies(
    root: Path, views: Literal["frontal", "all"]
) -> tuple[dict[str, _Study], Counter[str]]:
    """Studies with the images that are read of them, in the order of the table."""
    counts: Counter[str] = Counter()
    studies: dict[str, _Study] = {}
    columns = ("dicom_id", "subject_id", "study_id", "ViewPosition")
    for row in iterate_table(_table(root, "metadata"), columns):
        subject, study = _number(row, "subject_id"), _number(row, "study_id")
        if not _DICOM.fullmatch(row["dicom_id"]):
            raise DataError(f"{row.place}: column 'dicom_id' is '{row['dicom_id']}': no dicom id")
        found = studies.setdefault(study, _Study(subject))
        if found.subject != subject:
            raise DataError(
                f"{row.place}: study s{study} belongs to patient p{subject} here and to "
                f"p{found.subject} before"
            )
        view = row["ViewPosition"].upper()
        if views == "all":
            found.images.append((0, row["dicom_id"]))
        elif view in _FRONTAL:
            found.images.append((_FRONTAL.index(view), row["dicom_id"]))
        else:
            counts["other"] += 1
    for found in studies.values():
        found.images.sort()
        if views == "frontal" and len(found.images) > 1:
            counts["more"] += len(found.images) - 1
            del found.images[1:]
    return studies, counts


def _labels(
    root: Path, names: tuple[str, ...], uncertain: UncertainPolicy, studies: Mapping[str, _Study]
) -> tuple[dict[str, npt.NDArray[np.float32]], str]:
    """Labels (L,) by study, and the name of the labeler that found them."""
    labeler = "chexpert"
    if not plain_or_gz(_table(root, labeler)).exists():
        labeler = "negbio" if plain_or_gz(_table(root, "negbio")).exists() else labeler
    values: dict[str, npt.NDArray[np.float32]] = {}
    # Few combinations of labels occur: each is stored once, and cannot be written to.
    stored: dict[bytes, npt.NDArray[np.float32]] = {}
    for row in iterate_table(_table(root, labeler), ("subject_id", "study_id", *names)):
        subject, study = _number(row, "subject_id"), _number(row, "study_id")
        if study in values:
            raise DataError(f"{row.place}: study s{study} is there twice")
        if study in studies and studies[study].subject != subject:
            raise DataError(
                f"{row.place}: study s{study} belongs to patient p{subject} here and to "
                f"p{studies[study].subject} in the metadata"
            )
        found = row_labels(row, names, uncertain)
        found.setflags(write=False)
        values[study] = stored.setdefault(found.tobytes(), found)
    return values, labeler


def _report(
    files: ReportFiles, name: str, sections: Sequence[str], counts: Counter[str]
) -> dict[str, RawInput]:
    """The study's text, if its report has the sections. Its words are not kept in memory."""
    report = files.read(name)
    if report is None:
        counts["unreported"] += 1
        return {}
    if report_text(report, sections) is None:
        counts["silent"] += 1
        return {}
    return {"text": StoredReport(files, name, tuple(sections))}


def _records(
    root: Path,
    study: str,
    found: _Study,
    place: str,
    inputs: Mapping[str, RawInput],
    labels: npt.NDArray[np.float32],
    views: Literal["frontal", "all"],
    image_size: int,
) -> Iterable[Record]:
    if not found.images and inputs:
        yield Record(f"s{study}", found.subject, inputs, labels)
    for _, dicom in found.images:
        path = root / found.folder() / f"s{study}" / f"{dicom}.jpg"
        name = f"s{study}" if views == "frontal" else f"s{study}/{dicom}"
        image = StoredImage(path, image_size, place)
        yield Record(name, found.subject, {"image": image, **inputs}, labels)


def _number(row: Row, column: str) -> str:
    if not _NUMBER.fullmatch(row[column]):
        raise DataError(f"{row.place}: column '{column}' is '{row[column]}': not 8 digits")
    return row[column]
