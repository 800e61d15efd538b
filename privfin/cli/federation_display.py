"""How a federation's roster looks: as JSON, and drawn on a terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from privfin.crypto.roster_file import SignedRoster


def roster_facts(roster: SignedRoster, site: str) -> dict[str, Any]:
    """What ``--json`` prints of a roster at the site called ``site``."""
    from privfin.crypto.spoken import spoken

    sites = [
        {
            "name": entry.public.name,
            "modalities": list(entry.modalities),
            "fingerprint": spoken(entry.public.fingerprint),
        }
        for entry in roster.sites
    ]
    return {
        "federation": roster.federation,
        "version": roster.version,
        "site": site,
        "keeper": roster.keeper,
        "key_id": roster.key_id,
        "layout": roster.layout,
        "fingerprint": next(one["fingerprint"] for one in sites if one["name"] == site),
        "roster_fingerprint": spoken(roster.digest),
        "sites": sites,
    }


def draw(facts: dict[str, Any]) -> None:
    """Print :func:`roster_facts`, and where messages lie (``outgoing``), within 80 columns."""
    from rich.table import Table
    from rich.text import Text

    from privfin.cli.display import plain_console

    console = plain_console()
    for line in (
        f"Federation {facts['federation']}, version {facts['version']}",
        f"this site: {facts['site']}, keeper: {facts['keeper']}",
        f"federation key: {facts['key_id'][:16]} ({facts['layout']})",
        f"roster: {facts['roster_fingerprint']}",
    ):
        console.print(line, highlight=False, markup=False)
    table = Table(title_justify="left")
    for column in ("site", "modalities", "fingerprint"):
        table.add_column(column, overflow="fold")
    for site in facts["sites"]:
        groups = site["fingerprint"].split()
        halves = f"{' '.join(groups[:4])}\n{' '.join(groups[4:])}"
        table.add_row(Text(site["name"]), Text(", ".join(site["modalities"])), Text(halves))
    console.print(table)
    if facts["outgoing"]:
        console.print(f"to hand out: {facts['outgoing']}", highlight=False, markup=False)


def say(content: dict[str, Any], text: str, as_json: bool) -> None:
    """Print ``content`` as JSON, or ``text``."""
    typer.echo(json.dumps(content, indent=2) if as_json else text)
