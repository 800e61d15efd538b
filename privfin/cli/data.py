"""``privfin data``: which sources there are, and whether a folder holds one of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from privfin.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from privfin.config import RunConfig
    from privfin.data.check import DataCheck, Progress

LIST_EPILOG = """Examples:

  privfin data list

  privfin data list --json"""

CHECK_EPILOG = """Examples:

  privfin data check chexpert --data-root CheXpert-v1.0-small

  privfin data check openi --data-root openi --set data.split=random

  privfin data check mimic-cxr --data-root mimic-cxr-jpg --no-images

  privfin data check configs/covid-cxr.toml --data-root covid --json

Exit codes: 0 usable, 2 not usable, or bad input."""

PRIVATE = "Exact numbers of patients: for this site's own screen, not for publication."
#: Unreadable files shown; the others are counted.
_SHOWN = 20
#: Places shown; the others are counted.
_SHOWN_PLACES = 10
#: Seconds between two lines of progress where there is no terminal.
_EVERY = 5.0

app = typer.Typer(
    help="Say which data sources there are, and check a folder before training.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("list", epilog=LIST_EPILOG)
def list_sources(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Name every source: what it holds, its files, and how to get access."""
    from privfin.data.catalogue import SOURCES

    if as_json:
        typer.echo(json.dumps([asdict(card) for card in SOURCES], indent=2))
        return
    console = _console()
    for card in SOURCES:
        console.print(f"{card.name}: {card.holds}", style="bold", highlight=False, markup=False)
        for file in card.files:
            console.print(f"  files   {file}", highlight=False, markup=False)
        console.print(f"  access  {card.access}", highlight=False, markup=False)
    console.print(
        "\nWhether a folder holds one: privfin data check NAME --data-root DIR\n"
        "Several together: data.source = 'mix' with [[data.part]] in a configuration file.",
        highlight=False,
        markup=False,
    )


@app.command("check", epilog=CHECK_EPILOG)
def check(
    source: Annotated[
        str, typer.Argument(help="A source of `privfin data list`, or a configuration file.")
    ],
    data_root: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
    images: Annotated[
        bool, typer.Option(help="Open every image and report file, or look at tables only.")
    ] = True,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any option, as section.key=value.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a folder holds and what would stop a run; nothing is changed or sent."""
    from privfin.data.check import check_source

    config = _configuration(source, data_root, set_ or [])
    with _progress() as progress:
        found = check_source(config, files=images, progress=progress)
    if as_json:
        content = {"usable": found.usable, "notice": PRIVATE, **asdict(found)}
        typer.echo(json.dumps(content, indent=2))
    else:
        _print_check(_console(), found)
    if not found.usable:
        count = len(found.problems)
        shown = f"{count} problems" if count > 1 else found.problems[0]
        raise DataError(f"{found.source} is not usable as it is: {_clean(shown)}")


def _configuration(source: str, root: Path | None, given: list[str]) -> RunConfig:
    from privfin.config import load_config, parse_override
    from privfin.data.catalogue import SOURCES

    overrides: list[tuple[str, Any]] = [parse_override(text) for text in given]
    if root is not None:
        overrides.append(("data.root", root))
    if source.endswith(".toml"):
        return load_config(Path(source), overrides)
    names = [card.name for card in SOURCES]
    if source == "mix":
        raise ConfigError(
            "a mix is checked by its configuration file: privfin data check FILE.toml"
        )
    if source not in names:
        raise ConfigError(
            f"'{source}' is not a source{nearest(source, names)} "
            f"(known: {', '.join(names)}, or a file FILE.toml)"
        )
    return load_config(None, [*overrides, ("data.source", source)])


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr)


def _clean(text: str) -> str:
    """Text from files without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


@contextmanager
def _progress() -> Iterator[Progress]:
    """Progress with the time left, on standard error: a bar, or now and then a line."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = _console(stderr=True)
    if not console.is_terminal:
        yield _lines(console)
        return
    share = TextColumn("{task.percentage:.0f} % done,")
    columns = (TextColumn("{task.description}"), BarColumn(22), share, TimeRemainingColumn())
    with Progress(*columns, TextColumn("left"), console=console, transient=True) as bar:
        task = bar.add_task("reading", total=None)
        current = ""

        def show(stage: str, done: int, total: int) -> None:
            nonlocal current, task
            if stage != current:
                bar.remove_task(task)
                current, task = stage, bar.add_task(_clean(stage)[:40], total=total)
            bar.update(task, completed=done)

        yield show


def _lines(console: Console) -> Progress:
    current, started, last = "", 0.0, time.monotonic()

    def show(stage: str, done: int, total: int) -> None:
        nonlocal current, started, last
        now = time.monotonic()
        if stage != current:
            current, started = stage, now
        if now - last < _EVERY or not done:
            return
        last = now
        left = (now - started) / done * (total - done)
        text = f"{_clean(stage)}: {100 * done / max(total, 1):.0f} %, {left:.0f} s left"
        console.print(text, highlight=False, markup=False)

    return show


def _print_check(console: Console, found: DataCheck) -> None:
    console.print(f"{found.source}. {PRIVATE}", highlight=False, markup=False)
    if found.records:
        console.print(_overview(found))
        console.print(_labels(found))
        if found.places:
            console.print(_places(found))
    _bullets(console, "Left out or assumed", found.notes)
    hidden = found.unreadable_files - _SHOWN
    more = [f"and {hidden} more"] if hidden > 0 else []
    title = f"Files that cannot be read: {found.unreadable_files}"
    _bullets(console, title, [*found.unreadable[:_SHOWN], *more])
    _bullets(console, "To think about", found.warnings)
    _bullets(console, "Problems", found.problems)
    console.print(f"Usable: {'yes' if found.usable else 'NO'}", style="bold", highlight=False)


def _bullets(console: Console, title: str, lines: Sequence[str]) -> None:
    from rich.table import Table
    from rich.text import Text

    if not lines:
        return
    console.print(title, style="bold", highlight=False, markup=False)
    grid = Table.grid(padding=(0, 1))
    for line in lines:
        grid.add_row(" -", Text(_clean(line), overflow="fold"))
    console.print(grid)


def _table(title: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    return table


def _add_row(table: Table, *cells: str) -> None:
    """Cells as they are: names from files must not be taken for colours."""
    from rich.text import Text

    table.add_row(*(Text(_clean(cell)) for cell in cells))


def _overview(found: DataCheck) -> Table:
    table = _table("Found", "what", "number")
    test = "drawn by the run" if found.test_patients is None else str(found.test_patients)
    rows = {"patients": str(found.patients), "test patients": test}
    each = "a study each" if found.record_is == "study" else "an image each"
    rows |= {f"records ({each})": str(found.records)}
    rows |= {f"records with {name}": str(count) for name, count in found.modalities.items()}
    rows |= {"records with sex": str(found.sex_known), "records with age": str(found.age_known)}
    rows["files opened"] = "none (--no-images)" if found.files is None else str(found.files)
    rows["files that cannot be read"] = str(found.unreadable_files)
    for name, value in rows.items():
        _add_row(table, name, value)
    return table


def _labels(found: DataCheck) -> Table:
    table = _table("Labels, in records", "label", "known", "positive", "unknown")
    for name, count in found.labels.items():
        unknown = found.records - count.known
        _add_row(table, name, str(count.known), str(count.positive), str(unknown))
    return table


def _places(found: DataCheck) -> Table:
    table = _table("Places", "place", "patients")
    for place, patients in list(found.places.items())[:_SHOWN_PLACES]:
        _add_row(table, place, str(patients))
    rest = list(found.places.values())[_SHOWN_PLACES:]
    if rest:
        _add_row(table, f"{len(rest)} other places", str(sum(rest)))
    return table
