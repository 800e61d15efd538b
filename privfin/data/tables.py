"""Reads CSV tables and the paths in them, with errors that name the row."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO, TextIO

from privfin.errors import DataError, nearest

#: Called with a file's name, the bytes read so far and its size in bytes.
Watcher = Callable[[str, int, int], None]

_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)
#: Rows between two calls of a watcher.
_WATCH_EVERY = 2000
#: Longest cell that is accepted, in characters: reports are long, but not this long.
_LONGEST_CELL = 2**20


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table. ``place`` names it in errors; cells are stripped of outer blanks."""

    place: str
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]


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
        with path.open("rb") as raw, unpacked_text(path, raw) as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            _check_header(path, header, columns)
            for cells in reader:
                if not cells:
                    continue
                count += 1
                if count % _WATCH_EVERY == 0:
                    tell_watcher(path, raw)
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


def unpacked_text(path: Path, raw: BinaryIO) -> TextIO:
    """The text of an open file, unpacked on the way if its name ends in ``.gz``."""
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.GzipFile(fileobj=raw), encoding="utf-8-sig", newline="")
    return io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")


@contextmanager
def watch_tables(watcher: Watcher) -> Iterator[None]:
    """Tell ``watcher`` how far the reading of long tables is, as long as the context lasts."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def tell_watcher(path: Path, raw: BinaryIO) -> None:
    """Pass on how much of an open file was read, if somebody watches."""
    watcher = _watcher.get()
    if watcher is not None:
        watcher(path.name, raw.tell(), path.stat().st_size)


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
