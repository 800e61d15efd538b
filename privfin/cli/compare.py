"""``privfin compare``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from privfin.comparison.results import Comparison

EPILOG = """Examples:

  privfin compare runs/a runs/b

  privfin compare runs/a runs/b --cell "image only" --metric auprc

  privfin compare runs/fin-* runs/zero-* --html compare.html --plot compare.png

Runs that differ only in training.seed are one setting: mean, standard
deviation, and paired differences from the first setting."""


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run directories of finished runs.")],
    cell: Annotated[
        str | None, typer.Option(help="One availability cell, e.g. 'image only'; all if left out.")
    ] = None,
    metric: Annotated[str, typer.Option(help="auroc, auprc, ece or brier.")] = "auroc",
    html: Annotated[
        Path | None, typer.Option(help="Write the comparison as one HTML file.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a plot: FILE.png or FILE.svg.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Put finished runs side by side: results, what differs, and paired tests over seeds."""
    from privfin.comparison.drawing import check_plot_path
    from privfin.comparison.finished import load_finished
    from privfin.comparison.results import compare_runs
    from privfin.errors import UserInputError
    from privfin.files import jsonable, write_bytes

    if plot is not None:
        check_plot_path(plot)
    if html is not None and not html.parent.is_dir():
        raise UserInputError(f"{html.parent} does not exist: cannot write {html.name} there")
    found = compare_runs(load_finished(runs), metric=metric, cell=cell)
    if html is not None:
        from privfin.comparison.page import comparison_page

        write_bytes(html, comparison_page(found).encode())
    if plot is not None:
        from privfin.comparison.drawing import save_figure
        from privfin.comparison.plots import forest

        save_figure(forest(found), plot)
    if as_json:
        typer.echo(json.dumps(jsonable(found.to_dict()), indent=2))
        return
    from privfin.cli.display import plain_console

    console = plain_console()
    print_comparison(console, found)
    for path in (html, plot):
        if path is not None:
            console.print(f"Wrote {path}", highlight=False, markup=False, soft_wrap=True)


def print_comparison(console: Console, comparison: Comparison) -> None:
    """All tables of a comparison, at most 80 columns wide."""
    from rich.table import Table

    from privfin.cli.display import human_epsilon
    from privfin.comparison.words import summary_words

    level = f"{100 * comparison.confidence:g} %"
    table = Table(title=f"{comparison.metric_name} on held-out patients", title_justify="left")
    table.add_column("available", overflow="fold")
    table.add_column("setting", overflow="fold")
    for name in (comparison.metric_name.split()[1], f"sd or {level} interval", "runs"):
        table.add_column(name, justify="right")
    table.add_column("privacy", overflow="fold")
    for cell in comparison.cells:
        for at, setting in enumerate(comparison.settings):
            spent = max(run.epsilon for run in setting.runs)
            table.add_row(
                cell if at == 0 else "",
                _plain(setting.name),
                *summary_words(comparison.summaries[setting.name][cell]),
                f"eps {human_epsilon(spent)}" if setting.is_private else "NOT PRIVATE",
                end_section=at == len(comparison.settings) - 1,
            )
    console.print(table)
    _print_differences(console, comparison)
    print_pairs(console, comparison)
    for claim in sorted({r.claim for s in comparison.settings for r in s.runs if not r.is_private}):
        console.print(f"!!! {claim} !!!", style="bold red", highlight=False)
    for notice in comparison.notices:
        console.print(f"Note: {notice}", highlight=False, markup=False)
    console.print(
        "Measured on held-out patients without noise: not covered by differential privacy.",
        highlight=False,
    )


def _print_differences(console: Console, comparison: Comparison) -> None:
    from rich.table import Table

    if not comparison.differences:
        console.print("Their configurations differ in the seed at most.", highlight=False)
        return
    table = Table(title="What differs in their configurations", title_justify="left")
    for name in ("option", "value", "settings"):
        table.add_column(name, overflow="fold")
    for key, values in comparison.differences.items():
        for at, (value, names) in enumerate(values.items()):
            table.add_row(
                _plain(key) if at == 0 else "",
                _plain(value),
                _plain("\n".join(names)),
                end_section=at == len(values) - 1,
            )
    console.print(table)


def print_pairs(console: Console, comparison: Comparison) -> None:
    """The paired differences, and whether there are enough seeds to conclude anything."""
    from rich.table import Table

    from privfin.comparison.words import paired_words

    if not comparison.pairs:
        return
    level = f"{100 * comparison.confidence:g} %"
    table = Table(title="Paired differences over shared seeds", title_justify="left")
    table.add_column("available", overflow="fold")
    table.add_column("difference", overflow="fold")
    for name in ("mean", f"{level} t interval", "p", "n"):
        table.add_column(name, justify="right")
    for pair in comparison.pairs:
        table.add_row(
            pair.cell, _plain(f"{pair.second}\n- {pair.first}"), *paired_words(pair.result)
        )
    console.print(table)
    console.print("p: two-sided sign-flip permutation test over seeds", highlight=False)
    for caution in dict.fromkeys(pair.result.caution for pair in comparison.pairs):
        if caution:
            console.print(f"Note: {caution}", highlight=False, markup=False)


def _plain(text: str) -> str:
    """A name that Rich shows as it is."""
    from rich.markup import escape

    return escape(text)
