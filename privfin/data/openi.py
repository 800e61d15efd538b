"""Reads NIH Open-I (Indiana University chest X-rays): reports with MeSH codes, and images.

Described by Demner-Fushman et al., "Preparing a collection of radiology examinations for
distribution and retrieval" (2016). Three forms are in use; which one it is shows in the folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from privfin.data.chexpert_labels import choose_labels
from privfin.data.images import StoredImage
from privfin.data.mesh import mesh_labels
from privfin.data.openi_report import OpeniImage, OpeniReport
from privfin.data.openi_tables import (
    ANNOTATION,
    REPORTS,
    image_part,
    read_annotation,
    read_csv_reports,
    read_projections,
)
from privfin.data.openi_xml import ARCHIVE, FOLDER, read_xml_reports
from privfin.data.records import Dataset, RawInput, Record
from privfin.data.reports import section_text
from privfin.data.sources import LoadedData
from privfin.data.tables import plain_or_gz
from privfin.errors import DataError

_NO_PATIENTS = (
    "Open-I does not say which reports belong to one person: every report counts as a patient of "
    "its own, so that privacy is a report's, and one person may be in training and test data"
)
_Reader = Callable[[Path], list[OpeniReport]]


def read_openi(
    root: Path,
    *,
    image_size: int,
    labels: Sequence[str] = (),
    sections: Sequence[str] = ("findings",),
    views: Literal["frontal", "all"] = "frontal",
) -> LoadedData:
    """Read Open-I in the form that ``root`` holds.

    - XML: ``ecgen-radiology/<n>.xml`` or ``NLMCXR_reports.tgz``, images, if any, in
      ``NLMCXR_png``. Laid beside it, ``indiana_projections.csv`` says which images are frontal.
    - CSV: ``indiana_reports.csv``, ``indiana_projections.csv``, ``images/images_normalized``.
    - R2Gen: ``annotation.json`` and ``images``. It has no labels (all NaN), but a test split.

    A record is a report: ``text`` is its ``sections`` (never its codes or captions), ``image``
    its first frontal image, read when it is asked for. Where nothing says which images are
    frontal, the first one is taken and a notice says so. With ``views`` "all" every image is a
    record of its own. Reports without image are text-only records and reports without the
    sections image-only ones. ``labels`` are some of the 14 CheXpert labels (empty: all), from the
    MeSH terms by :func:`mesh_labels`. The patient is the report: Open-I does not say which
    reports belong to one person, and a notice says so.

    Raises:
        DataError: none or several of the forms are there, a file is not as published, or a
            report is in two splits or listed twice.
    """
    names = choose_labels(labels)
    reader = _form(root)
    reports = reader(root)
    if reader is read_xml_reports:
        reports = _with_projections(reports, read_projections(root))
    test = _test_patients(reports)
    counts: Counter[str] = Counter()
    records = [
        record
        for report in reports
        for record in _records(report, names, sections, views, image_size, counts)
    ]
    if not records:
        raise DataError(f"{root} has no report with {' or '.join(sections)} or an image")
    left = [text.format(counts[key]) for key, text in _NOTICES.items() if counts[key]]
    notices = (*left, _NO_PATIENTS)
    return LoadedData(Dataset("openi", names, tuple(records), notices), test)


_NOTICES: Mapping[str, str] = {
    "silent": "{} reports lack the sections asked for: their records have no text",
    "empty": "left out {} reports without the sections asked for and without an image",
    "unseen": "{} reports have no image: their records have text only",
    "unsure": "{} reports do not say which image is frontal: the first one is used",
    "lateral": "left out {} images that are not frontal",
    "more": "left out {} further images of reports with several",
    "uncoded": "{} reports are not coded: their labels are unknown",
}


def _form(root: Path) -> _Reader:
    forms: dict[str, _Reader] = {}
    for name in (FOLDER, ARCHIVE):
        if (root / name).exists():
            forms["XML"] = read_xml_reports
    if plain_or_gz(root / REPORTS).exists():
        forms[REPORTS] = read_csv_reports
    if (root / ANNOTATION).exists():
        forms[ANNOTATION] = read_annotation
    if not forms:
        raise DataError(
            f"{root} holds no Open-I: it needs {FOLDER}/ or {ARCHIVE}, {REPORTS}, or {ANNOTATION}"
        )
    if len(forms) > 1:
        raise DataError(
            f"{root} holds Open-I in several forms ({', '.join(forms)}): keep one, because the "
            "same reports would count as different patients"
        )
    return next(iter(forms.values()))


def _with_projections(
    reports: Sequence[OpeniReport], frontal: Mapping[tuple[str, str], bool]
) -> list[OpeniReport]:
    return [
        replace(
            report,
            images=tuple(
                replace(image, frontal=frontal.get((report.uid, image_part(image.name))))
                for image in report.images
            ),
        )
        for report in reports
    ]


def _records(
    report: OpeniReport,
    names: tuple[str, ...],
    sections: Sequence[str],
    views: Literal["frontal", "all"],
    image_size: int,
    counts: Counter[str],
) -> list[Record]:
    if report.terms is None:
        labels = np.full(len(names), np.nan, dtype=np.float32)
    else:
        labels = mesh_labels(report.terms, names)
    text = section_text(report.sections, sections)
    images = report.images if views == "all" else _frontal(report.images, counts)
    if text is None and not images:
        counts["empty"] += 1
        return []
    counts["silent"] += text is None
    counts["unseen"] += not images
    counts["uncoded"] += bool(np.isnan(labels).all())
    spoken: dict[str, RawInput] = {} if text is None else {"text": text}
    if not images:
        return [Record(report.uid, report.uid, spoken, labels)]
    return [
        Record(
            report.uid if views == "frontal" else f"{report.uid}/{image.name}",
            report.uid,
            {"image": StoredImage(image.path, image_size, report.place), **spoken},
            labels,
        )
        for image in images
    ]


def _frontal(images: Sequence[OpeniImage], counts: Counter[str]) -> tuple[OpeniImage, ...]:
    """The one image that stands for a report, if there is one."""
    usable = [image for image in images if image.frontal]
    if not usable:
        usable = [image for image in images if image.frontal is None]
        counts["unsure"] += bool(usable)
    lateral = sum(image.frontal is False for image in images)
    counts["lateral"] += lateral
    counts["more"] += len(images) - lateral - len(usable[:1])
    return tuple(usable[:1])


def _test_patients(reports: Sequence[OpeniReport]) -> frozenset[str] | None:
    splits: dict[str, str] = {}
    for report in reports:
        if splits.setdefault(report.uid, report.split) != report.split:
            raise DataError(
                f"{report.place}: report {report.uid} is in the splits "
                f"'{splits[report.uid]}' and '{report.split}'; keep it in one"
            )
    if not any(splits.values()):
        return None
    return frozenset(uid for uid, split in splits.items() if split == "test")
