"""Reads CSV tables and the paths in them, with errors that name the row."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TextIO

from privfin.errors import DataError, nearest

#: Longest cell that is accepted, in characters: reports are long, but not this long.
_LONGEST_CELL = 2**20


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table. ``place`` names it in errors; cells are stripped of outer blanks."""

    place: str
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]


def read_table(path: Path, columns: Sequence[str]) -> list[Row]:
    """All rows at once, for small tables: see :func:`iterate_table`."""
    return list(iterate_table(path, columns))


def iterate_table(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Rows, one at a time, of a UTF-8 CSV file with a header and at least these ``columns``.

    Memory does not grow with the number of rows. A name ending in ``.gz`` is decompressed on the
    way, and where ``path`` does not exist but ``path`` + ``.gz`` does, that is read.

    Raises :class:`DataError` if the file is missing, is not UTF-8 or not CSV, lacks a column, has
    no rows, or has a row whose number of cells differs from the header's.
    """
    path = plain_or_gz(path)
    count = 0
    csv.field_size_limit(_LONGEST_CELL)
    try:
        with _open_text(path) as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            _check_header(path, header, columns)
            for cells in reader:
                if not cells:
                    continue
                count += 1
                # Line numbers help in an editor even where a cell spans several lines.
                place = f"{path.name} row {count} (ends on line {reader.line_num})"
                if len(cells) != len(header):
                    raise DataError(
                        f"{place} has {len(cells)} cells where the header has {len(header)}; "
                        "put cells with commas in double quotes"
                    )
                yield Row(place, {n: c.strip() for n, c in zip(header, cells, strict=True)})
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; name the folder that holds {path.name}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text; save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{path} is not a readable CSV file ({error})") from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path} cannot be read ({reason})") from error
    if not count:
        raise DataError(f"{path} has a header but no rows")


def plain_or_gz(path: Path) -> Path:
    """``path``, or ``path`` + ``.gz`` where only that exists: data sets are published both ways."""
    packed = path.with_name(f"{path.name}.gz")
    return packed if packed.exists() and not path.exists() else path


def _open_text(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _check_header(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    if not any(header):
        raise DataError(f"{path} is empty; its first line must name the columns")
    for name in columns:
        if name not in header:
            raise DataError(f"{path} has no column '{name}'{nearest(name, header)}")
        if header.count(name) > 1:
            raise DataError(f"{path} has column '{name}' twice; rename one")


def inside(root: Path, name: str, place: str) -> Path:
    """The file ``name`` below ``root``.

    Raises :class:`DataError`, naming ``place``, for an absolute path or one that leaves ``root``,
    also by way of a symbolic link.
    """
    pure = PurePosixPath(name)
    windows = PureWindowsPath(name)
    if pure.is_absolute() or windows.drive or windows.root:
        raise DataError(f"{place}: '{name}' is an absolute path; give it relative to {root}")
    path = root / name
    if ".." in windows.parts or not path.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{place}: '{name}' leads out of {root}; keep the files inside it")
    return path
