"""A ledger as one JSON file that can be verified anywhere, without keys or fingerprints."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from privfin.errors import LedgerError
from privfin.files import write_bytes
from privfin.privacy.ledger.chain import LedgerHead, Row
from privfin.privacy.ledger.places import DATABASE
from privfin.privacy.ledger.status import RunSpend
from privfin.privacy.ledger.store import Store

EXPORT = "privfin-ledger"
_FORMAT = 1


def export_rows(home: Path, head: LedgerHead) -> dict[str, Any]:
    """All rows up to ``head``, ready for JSON."""
    store = Store.open(home / DATABASE)
    try:
        rows = [asdict(row) for row in store.rows() if row.seq <= head.seq]
    finally:
        store.close()
    return {"export": EXPORT, "format": _FORMAT, "head": head.to_dict(), "rows": rows}


def write_spends(path: Path, runs: Iterable[RunSpend]) -> int:
    """Write what runs were charged as CSV, ε rounded up to 4 decimals; returns how many."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    names = [field.name for field in fields(RunSpend)]
    table.writerow(names)
    count = 0
    for run in runs:
        values = {**asdict(run), "epsilon": _four_up(run.epsilon), "delta": repr(run.delta)}
        # A spreadsheet would take a cell that starts like this for a formula.
        table.writerow([f"'{v}" if str(v)[:1] in ("=", "+", "-", "@") else v
                        for v in values.values()])  # fmt: skip
        count += 1
    write_bytes(path, text.getvalue().encode())
    return count


def _four_up(epsilon: float) -> str:
    return f"{math.ceil(epsilon * 10_000) / 10_000:.4f}" if math.isfinite(epsilon) else "inf"


def read_export(path: Path) -> tuple[list[Row], LedgerHead]:
    """The rows and the head of an exported file. LedgerError if it is none."""
    found = read_json(path)
    if found.get("export") != EXPORT or found.get("format") != _FORMAT:
        raise LedgerError(f"{path} is not an export of a ledger in format {_FORMAT}")
    kinds = {field.name: int if field.name == "seq" else str for field in fields(Row)}
    rows = found.get("rows")
    if not isinstance(rows, list) or not all(_is_row(row, kinds) for row in rows):
        raise LedgerError(f"{path} is damaged: it holds something that is not a row")
    return [Row(**row) for row in rows], _head(found)


def read_heads(path: Path) -> list[LedgerHead]:
    """Every ledger head in a JSON file, however deep: a manifest, a report, an export, an anchor.

    A file whose name ends in .jsonl, such as a run's events, holds an object a line.

    Raises:
        LedgerError: the file cannot be read, or holds no head.
    """
    heads: list[LedgerHead] = []

    def walk(value: object) -> None:
        if isinstance(value, Mapping):
            if {"ledger_id", "seq", "hash", "signature", "public_key"} == set(value):
                heads.append(LedgerHead.from_dict(value))
            else:
                for inner in value.values():
                    walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    for found in _read_lines(path) if path.suffix == ".jsonl" else [read_json(path)]:
        walk(found)
    if not heads:
        raise LedgerError(f"{path} holds no ledger head")
    return heads


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. LedgerError if it cannot be read as one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise LedgerError(f"{path} cannot be read as JSON") from error
    if not isinstance(found, dict):
        raise LedgerError(f"{path} is not a JSON object")
    return found


def _read_lines(path: Path) -> list[object]:
    """What the lines of a file hold. A last line that was cut off by a crash is left out."""
    try:
        *lines, last = path.read_text(encoding="utf-8").split("\n")
        found = [json.loads(line) for line in lines]
        if last:
            with suppress(ValueError):
                found.append(json.loads(last))
    except (OSError, ValueError, RecursionError) as error:
        raise LedgerError(f"{path} cannot be read as lines of JSON") from error
    return found


def _head(found: Mapping[str, Any]) -> LedgerHead:
    head = found.get("head")
    return LedgerHead.from_dict(head if isinstance(head, Mapping) else {})


def _is_row(row: object, kinds: Mapping[str, type]) -> bool:
    return (
        isinstance(row, dict)
        and set(row) == set(kinds)
        and all(type(row[name]) is kind for name, kind in kinds.items())
    )
