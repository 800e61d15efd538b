"""``privfin sweep``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from privfin.config import ImputerKind, RunConfig, load_config, parse_override
from privfin.errors import ConfigError, PrivfinError, nearest

if TYPE_CHECKING:
    from rich.console import Console

    from privfin.comparison.results import Comparison
    from privfin.federation.sweep import Outcome
    from privfin.federation.sweep_plan import Sweep

EPILOG = """Examples:

  privfin sweep --epsilon 1,3,8,inf --imputer fin,zero --seeds 5

  privfin sweep configs/covid-cxr.toml --data-root covid-chestxray --epsilon 3,8 --no-ledger

  privfin sweep --epsilon 8,inf --seeds 3 --set training.rounds=10 --dry-run

Run the same command again to go on with a sweep that was stopped: finished
runs are kept. Every run spends its own budget on the same patients.
Exit codes: 0 done, 1 a run failed, 2 bad input, 130 interrupted."""


class SweepFailedError(PrivfinError):
    """Some runs of a sweep failed; the others are done (exit code 1)."""


def sweep(
    config: Annotated[
        Path | None, typer.Argument(help="Configuration in TOML; the built-in one if left out.")
    ] = None,
    epsilon: Annotated[
        str | None, typer.Option(help="Budgets, e.g. 1,3,8,inf; the configuration's if left out.")
    ] = None,
    imputer: Annotated[
        str | None, typer.Option(help="Imputers, e.g. fin,zero; the configuration's if left out.")
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, max=1000, help="Number of seeds, from the configuration's on.")
    ] = 1,
    cell: Annotated[
        str | None,
        typer.Option(help="Availability cell of the plot and the paired tests; 'image only'."),
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the sweep; runs/sweep-CONFIG if left out.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any option, as section.key=value.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the runs without touching data.")
    ] = False,
    no_ledger: Annotated[
        bool,
        typer.Option("--no-ledger", help="Train although no ledger counts it; the runs say so."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train every combination of budget, imputer and seed, and plot what privacy costs."""
    from privfin.cli.display import plain_console
    from privfin.federation.sweep import present_states
    from privfin.federation.sweep_plan import check_same_sweep, check_sweep

    overrides = [parse_override(text) for text in set_ or []]
    if data_root is not None:
        overrides.append(("data.root", data_root))
    asked = _sweep(config, overrides, epsilon, imputer, seeds)
    shown = _cell(asked.base, cell)
    folder = out or Path("runs") / f"sweep-{config.stem if config else 'quick'}"
    check_same_sweep(asked, folder)
    console = plain_console(as_json)
    with console.status("planning the runs"):
        check_sweep(asked)
    if dry_run:
        _show_runs(asked, folder, present_states(asked, folder), as_json)
        return
    outcome = _work(asked, folder, console, no_ledger)
    content = _report(console, asked, folder, outcome, shown)
    if as_json:
        typer.echo(json.dumps(content, indent=2))
    if outcome.failed:
        raise SweepFailedError(
            f"{len(outcome.failed)} of {len(outcome.states)} runs failed: "
            f"{', '.join(outcome.failed)}; run the same command again to try them again"
        )


def _sweep(
    path: Path | None,
    overrides: list[tuple[str, Any]],
    epsilon: str | None,
    imputer: str | None,
    seeds: int,
) -> Sweep:
    from privfin.federation.sweep_plan import Sweep

    epsilons = None if epsilon is None else _epsilons(epsilon)
    imputers = None if imputer is None else _imputers(imputer)
    if epsilons:
        overrides = [*overrides, ("privacy.epsilon", epsilons[0])]
    if imputers:
        overrides = [*overrides, ("model.imputer", imputers[0])]
    base = load_config(path, overrides)
    first = base.training.seed
    return Sweep(
        base,
        tuple(epsilons or [base.privacy.epsilon]),
        tuple(imputers or [base.model.imputer]),
        tuple(range(first, first + seeds)),
    )


def _epsilons(text: str) -> list[float]:
    found: list[float] = []
    for word in _words("--epsilon", text):
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not value > 0:
            raise ConfigError(f"--epsilon '{word}' must be a number above 0, or inf")
        found.append(value)
    return list(dict.fromkeys(found))


def _imputers(text: str) -> list[ImputerKind]:
    known: dict[str, ImputerKind] = {kind: kind for kind in get_args(ImputerKind)}
    found = []
    for word in _words("--imputer", text):
        if word not in known:
            hint = nearest(word, known)
            raise ConfigError(f"--imputer '{word}' is not one of {', '.join(known)}{hint}")
        found.append(known[word])
    return list(dict.fromkeys(found))


def _words(option: str, text: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise ConfigError(f"{option} '{text}' must be values with commas between them")
    return words


def _cell(config: RunConfig, asked: str | None) -> str:
    """The cell to plot: the one asked for, else 'image only', else the first."""
    from privfin.federation.assessment import cells

    known = list(cells(tuple(config.modalities)))
    if asked is not None and asked not in known:
        listed = ", ".join(f"'{name}'" for name in known)
        raise ConfigError(f"--cell '{asked}' is not one of {listed}{nearest(asked, known)}")
    return asked or ("image only" if "image only" in known else known[0])


def _show_runs(asked: Sweep, folder: Path, states: dict[str, Any], as_json: bool) -> None:
    from rich.table import Table

    from privfin.cli.display import plain_console
    from privfin.files import jsonable

    if as_json:
        content = {"out": folder, **asked.to_dict(), "runs": states}
        typer.echo(json.dumps(jsonable(content), indent=2))
        return
    console = plain_console()
    table = Table(
        title="1 run" if len(states) == 1 else f"{len(states)} runs", title_justify="left"
    )
    for name in ("run", "imputer"):
        table.add_column(name, overflow="fold")
    for name in ("epsilon", "seed"):
        table.add_column(name, justify="right")
    table.add_column("state")
    for one in asked.combinations():
        state = states[one.name]
        table.add_row(one.name, one.imputer, f"{one.epsilon:g}", f"{one.seed}", state)
    console.print(table)
    console.print(
        "Every run spends its own budget on the same patients; budgets add up.", highlight=False
    )


def _work(asked: Sweep, folder: Path, console: Console, no_ledger: bool) -> Outcome:
    import torch

    from privfin.cli.stopping import StoppedError, stop_on_interrupt
    from privfin.cli.sweep_display import SweepDisplay
    from privfin.federation.sweep import run_sweep

    torch.set_num_threads(1)  # the rows of one step are too few to share between cores
    display = SweepDisplay(console)
    again = "stopped; run the same command again to go on"
    try:
        with display, stop_on_interrupt(display.note) as should_stop:
            outcome = run_sweep(
                asked, folder, observer=display, should_stop=should_stop, no_ledger=no_ledger
            )
    except KeyboardInterrupt:
        raise StoppedError(again) from None
    if outcome.was_stopped:
        raise StoppedError(again)
    return outcome


def _report(
    console: Console, asked: Sweep, folder: Path, outcome: Outcome, cell: str
) -> dict[str, Any]:
    """Tables, plots and ``sweep.json`` of what is finished."""
    from privfin.comparison.drawing import save_figure
    from privfin.comparison.finished import load_finished
    from privfin.comparison.frontiers import frontier_lines, same_epsilon_pairs
    from privfin.comparison.plots import frontier
    from privfin.comparison.results import compare_runs
    from privfin.federation.statement import NOT_PRIVATE
    from privfin.federation.sweep import spent_in_sum, write_state

    results: dict[str, Any] = {}
    if outcome.finished:
        runs = load_finished([folder / name for name in outcome.finished], at_least=1)
        every = compare_runs(runs, pairs=same_epsilon_pairs(runs))
        cell = cell if cell in every.cells else every.cells[0]
        shown = compare_runs(runs, cell=cell, pairs=same_epsilon_pairs(runs))
        warning = NOT_PRIVATE + ": test mode" if asked.base.privacy.reproducible else ""
        figure = frontier(frontier_lines(shown, cell), cell, shown.metric_name, warning)
        for ending in ("png", "svg"):
            save_figure(figure, folder / f"frontier.{ending}")
        results = {"frontier_cell": cell, "comparison": every.to_dict(folder)}
        _print_results(console, every, shown)
    content = write_state(asked, folder, outcome, results)
    spent = spent_in_sum(asked, outcome)
    console.print(f"Note: {spent}", highlight=False, markup=False)
    if len(outcome.finished) > 1:
        console.print(
            f"Files: {folder}/ (frontier.png, frontier.svg, sweep.json, a folder a run)\n"
            f'Next: privfin compare {folder}/*-seed* --cell "{cell}" --html compare.html',
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    return content


def _print_results(console: Console, every: Comparison, shown: Comparison) -> None:
    from rich.table import Table

    from privfin.cli.compare import print_pairs
    from privfin.cli.display import columns_that_fit
    from privfin.comparison.words import number

    for part in columns_that_fit(every.cells, 3):
        table = Table(title="Macro AUROC on held-out patients, mean ± sd", title_justify="left")
        table.add_column("imputer", overflow="fold")
        table.add_column("epsilon", justify="right")
        for name in part:
            table.add_column(name, justify="right")
        table.add_column("runs", justify="right")
        for setting in every.settings:
            options = setting.runs[0].options
            figures = []
            for name in part:
                summary = every.summaries[setting.name][name]
                sd = "" if math.isnan(summary.sd) else f" ± {summary.sd:.3f}"
                figures.append(number(summary.mean) + sd)
            table.add_row(
                str(options["model.imputer"]),
                f"{float(options['privacy.epsilon']):g}",
                *figures,
                f"{len(setting.runs)}",
            )
        console.print(table)
    print_pairs(console, shown)
    for claim in _claims(every):
        console.print(f"!!! {claim} !!!", style="bold red", highlight=False)
    for notice in shown.notices:
        console.print(f"Note: {notice}", highlight=False, markup=False)


def _claims(comparison: Comparison) -> Sequence[str]:
    return sorted({run.claim for s in comparison.settings for run in s.runs if not run.is_private})
