"""Open-I in two forms that others publish: two CSV files, and R2Gen's ``annotation.json``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from privfin.data.openi_report import OpeniImage, OpeniReport
from privfin.data.tables import Row, inside, iterate_table, plain_or_gz
from privfin.errors import DataError, nearest

REPORTS = "indiana_reports.csv"
PROJECTIONS = "indiana_projections.csv"
ANNOTATION = "annotation.json"
_IMAGES = Path("images") / "images_normalized"
_SECTIONS = ("indication", "comparison", "findings", "impression")
_R2GEN_SPLITS = ("train", "val", "test")
#: Larger than any copy of the annotation file (about 3 MB), in bytes.
_LARGEST_JSON = 2**27


def read_csv_reports(root: Path) -> list[OpeniReport]:
    """The reports of ``indiana_reports.csv`` with the images of ``indiana_projections.csv``.

    Terms are those of the column ``MeSH``, or where it is not there, the heads in ``Problems``.

    Raises:
        DataError: a file or column is missing, a value is not of the published kind, a report is
            listed twice, or a path leads out of the folder.
    """
    images: dict[str, list[OpeniImage]] = {}
    for row in iterate_table(root / PROJECTIONS, ("uid", "filename", "projection")):
        path = inside(root / _IMAGES, row["filename"], row.place)
        shown = OpeniImage(row["filename"], path, _is_frontal(row))
        images.setdefault(_uid(row), []).append(shown)
    reports: dict[str, OpeniReport] = {}
    for row in iterate_table(root / REPORTS, ("uid", *_SECTIONS)):
        uid = _uid(row)
        if uid in reports:
            raise DataError(f"{row.place}: report '{row['uid']}' is there twice; remove one")
        sections = {name: row[name] for name in _SECTIONS}
        pictures = tuple(images.pop(uid, ()))
        reports[uid] = OpeniReport(uid, row.place, sections, _terms(row), pictures)
    if images:
        raise DataError(
            f"{root / PROJECTIONS} has images of report {next(iter(images))}, which "
            f"{REPORTS} does not list; get both files from the same place"
        )
    return list(reports.values())


def read_projections(root: Path) -> dict[tuple[str, str], bool]:
    """Whether an image is frontal, by report and by the part of its name from "IM-" on.

    The XML form says nothing about it; laid beside it, the CSV form's table does.
    """
    if not plain_or_gz(root / PROJECTIONS).exists():
        return {}
    rows = iterate_table(root / PROJECTIONS, ("uid", "filename", "projection"))
    return {(_uid(row), image_part(row["filename"])): _is_frontal(row) for row in rows}


def image_part(name: str) -> str:
    """ "IM-0001-4001" of "CXR1_1_IM-0001-4001" and of "1_IM-0001-4001.dcm.png"."""
    return name[max(name.find("IM-"), 0) :].split(".")[0]


def read_annotation(root: Path) -> list[OpeniReport]:
    """The reports of R2Gen's ``annotation.json``: text and images, but no labels.

    Its ``report`` holds the findings in the copy that R2Gen published (Chen et al. 2020), so it
    counts as that section.

    Raises:
        DataError: the file is missing, is no such JSON, or a path leads out of ``images``.
    """
    path = root / ANNOTATION
    content = _json(path)
    if not isinstance(content, dict) or set(content) != set(_R2GEN_SPLITS):
        keys = list(content) if isinstance(content, dict) else []
        odd = next((key for key in keys if key not in _R2GEN_SPLITS), None)
        hint = "" if odd is None else f"; rename the key '{odd}'{nearest(odd, _R2GEN_SPLITS)}"
        raise DataError(f"{path} must have the keys 'train', 'val' and 'test' and no others{hint}")
    return [
        _annotated(root / "images", entry, split, f"{path.name}: {split} entry {number}")
        for split in _R2GEN_SPLITS
        for number, entry in enumerate(_list(content[split], path, split), start=1)
    ]


def _annotated(images: Path, entry: Any, split: str, place: str) -> OpeniReport:
    given = entry if isinstance(entry, dict) else {}
    name, report, paths = given.get("id"), given.get("report"), given.get("image_path")
    if not isinstance(name, str) or not isinstance(report, str) or not isinstance(paths, list):
        raise DataError(f"{place} needs a text 'id', a text 'report' and a list 'image_path'")
    match = re.match(r"CXR([0-9]{1,9})(?![0-9])", name)
    if match is None:
        raise DataError(f"{place}: id '{name}' does not begin with CXR and a number")
    shown = []
    for image in paths:
        if not isinstance(image, str):
            raise DataError(f"{place}: an image path is not a text")
        shown.append(OpeniImage(image, inside(images, image, place)))
    sections = {"findings": report}
    return OpeniReport(f"CXR{match[1]}", place, sections, None, tuple(shown), split)


def _json(path: Path) -> Any:
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise DataError(f"{path} is larger than {_LARGEST_JSON} bytes; it is no Open-I file")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({error})") from error


def _list(value: Any, path: Path, split: str) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"{path}: '{split}' must be a list of reports")
    return value


def _uid(row: Row) -> str:
    if not re.fullmatch(r"[0-9]{1,9}", row["uid"]):
        raise DataError(f"{row.place}: column 'uid' is '{row['uid']}'; it must be a number")
    return f"CXR{row['uid']}"


def _is_frontal(row: Row) -> bool:
    value = row["projection"].lower()
    if value not in ("frontal", "lateral"):
        raise DataError(
            f"{row.place}: column 'projection' is '{row['projection']}'; use Frontal or Lateral"
        )
    return value == "frontal"


def _terms(row: Row) -> tuple[str, ...]:
    column = next((name for name in ("MeSH", "Problems") if name in row.cells), None)
    if column is None:
        raise DataError(
            f"{REPORTS} has neither a column 'MeSH' nor 'Problems': its reports have no labels"
        )
    return tuple(term for part in row[column].split(";") if (term := part.strip()))
