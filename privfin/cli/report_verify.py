"""``privfin report verify``: whether a report, its run and the ledger are as they were sealed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from privfin.errors import SealError

if TYPE_CHECKING:
    from privfin.reporting.sealing.checks import Check

EPILOG = """Examples:

  privfin report verify runs/first/report/report-officer.html

  privfin report verify report-officer.html --run runs/first --public-key 0a1b...

Give any file of the report; its seal, report-officer.seal.json, must lie beside it.
Exit codes: 0 all that could be checked holds, 2 bad input, 4 something does not hold."""

_SHOWN = {True: "holds", False: "FAILS", None: "not checked"}
_STYLE = {True: "", False: "bold red", None: "dim"}


def verify(
    file: Annotated[Path, typer.Argument(help="A file of the report, or its seal.")],
    run: Annotated[Path | None, typer.Option(help="Compare this run directory too.")] = None,
    public_key: Annotated[
        str | None, typer.Option(help="Key that must have signed: 64 hexadecimal digits.")
    ] = None,
    home: Annotated[Path | None, typer.Option(help="Folder of the ledger.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say in one line each what still is as it was sealed, and what is not."""
    from privfin.reporting.sealing.verify import verify_report

    checks = verify_report(file, run=run, public_key=public_key, ledger_home=home)
    failed = [one.subject for one in checks if one.holds is False]
    if as_json:
        content = {"holds": not failed, "checks": [asdict(one) for one in checks]}
        typer.echo(json.dumps(content, indent=2))
    else:
        _draw(checks)
    if failed:
        names = ", ".join(dict.fromkeys(failed))
        raise SealError(f"{len(failed)} of {len(checks)} checks fail: {names}")
    if not as_json:
        unchecked = sum(one.holds is None for one in checks)
        rest = f"; {unchecked} could not be checked" if unchecked else ""
        typer.echo(f"All that could be checked holds: {len(checks) - unchecked} checks{rest}.")


def _draw(checks: Sequence[Check]) -> None:
    from rich.table import Table
    from rich.text import Text

    from privfin.cli.display import plain_console

    table = Table(box=None, pad_edge=False, show_header=False)
    for least in (11, 12):
        table.add_column(min_width=least, overflow="fold")
    table.add_column(overflow="fold")
    for one in checks:
        shown = (_SHOWN[one.holds], one.subject, one.words)
        table.add_row(*(Text(part, style=_STYLE[one.holds]) for part in shown))
    plain_console().print(table)
