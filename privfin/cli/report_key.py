"""``privfin report key``: the key that a person signs reports with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

EPILOG = """Example:

  privfin report key reports.key

Whoever verifies reports needs the public key that is printed, by another way than the reports.
Exit codes: 0 done, 2 the file exists or cannot be written."""


def key(
    file: Annotated[Path, typer.Argument(help="New file for the private key.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a key to sign reports with, and print its public key."""
    from privfin.reporting.sealing.signing import ReportKey

    public = ReportKey.make(file).public
    if as_json:
        typer.echo(json.dumps({"file": str(file), "public_key": public}, indent=2))
        return
    typer.echo(
        f"Made {file}: who has this file can sign as you, so keep it to yourself.\n"
        f"Its public key: {public}"
    )
