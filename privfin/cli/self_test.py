"""``privfin audit self-test``: whether the audit itself can be trusted."""

from __future__ import annotations

import json
import time
from types import TracebackType
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from attacks.coverage import Coverage
    from privfin.auditing.self_test import SelfTest

EPILOG = """Examples:

  privfin audit self-test

  privfin audit self-test --seeds 50

  privfin audit self-test --confidence 0.99 --json

It audits mechanisms whose epsilon is known, and DP-SGD steps that were
broken on purpose. No data set is read.
Exit codes: 0 all is as it must be, 2 bad input, 4 a bound is unsound or
something broken went unnoticed."""

#: What a bound above the truth is: a contradiction, as for the audit of a run.
CONTRADICTION = 4


def self_test(
    seeds: Annotated[int, typer.Option(help="Audits of each mechanism, at least 20.")] = 200,
    confidence: Annotated[float, typer.Option(help="Of each bound, 0.5 to 0.999.")] = 0.95,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Audit mechanisms of known epsilon, and DP-SGD broken on purpose."""
    from privfin.auditing.self_test import run_self_test
    from privfin.cli.display import plain_console

    with _Display(plain_console(stderr=True)) as display:
        found = run_self_test(seeds, confidence, display.show)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2))
    else:
        _print(plain_console(), found)
    if found.problems:
        raise typer.Exit(CONTRADICTION)


def _print(console: Console, found: SelfTest) -> None:
    from rich.table import Table

    from privfin.cli.display import human_epsilon

    def say(text: str, style: str = "") -> None:
        console.print(text, style=style, highlight=False, markup=False)

    table = Table(title="Bounds on mechanisms of known epsilon", title_justify="left", box=None,
                  padding=(0, 1, 0, 0))  # fmt: skip
    for name in ("mechanism", "route", "truth", "bound", "ceiling", "below", ""):
        left = name in ("mechanism", "route", "")
        table.add_column(name, justify="left" if left else "right", no_wrap=True)
    for one in (*found.mechanisms, found.uncorrected):
        table.add_row(
            one.mechanism.replace("randomised", "random"),
            one.route, f"{one.truth:.2f}",
            f"{one.median:.2f}", f"{one.ceiling:.1f}",
            f"{1 - one.above / one.audits:.1%}", _verdict(one),
        )  # fmt: skip
    console.print(table)
    least = found.mechanisms[0]
    say(
        f"Medians of {found.seeds} audits at {found.confidence:.1%} confidence. 'below' is the "
        f"share of bounds not above the truth; sound is {1 - least.most_above / least.audits:.1%} "
        f"or more ({least.most_above} above at most), which a sound bound misses less than once "
        "in 10^6 self-tests."
    )
    for one in found.mechanisms:
        if one.reach:
            say(
                f"{one.mechanism}, {one.route}: the median bound is "
                f"{one.median / one.truth:.0%} of the truth ({one.reach:.0%} asked)."
            )
    say("The uncorrected maximum is an auditor's mistake that must come out unsound.\n")
    table = Table(title="The DP-SGD step of this version, and broken ones", title_justify="left",
                  box=None)  # fmt: skip
    for name in ("step", "claim", "bound", "ceiling", "steps", ""):
        table.add_column(name, justify="left" if name in ("step", "") else "right", no_wrap=True)
    for step in found.steps:
        said = "flagged" if step.flagged else "not flagged"
        table.add_row(
            step.variant, human_epsilon(step.claim), f"{step.bound:.2f}", f"{step.ceiling:.1f}",
            str(step.steps), said if step.right else f"{said.upper()}: WRONG",
        )  # fmt: skip
    console.print(table)
    say(
        f"Epsilon of one step with every patient in it, at delta {found.step_delta:g}; a step is "
        "flagged if its bound is above the claim, which a sound one is less than once in 10^6."
    )
    for problem in found.problems:
        say(f"WRONG: {problem}", style="bold red")
    if not found.problems:
        say("All is as it must be.")


def _verdict(one: Coverage) -> str:
    if not one.sound:
        return "unsound"
    return "sound" if one.reached else "too low"


class _Display:
    """A bar with the time left on a terminal, a line every ten seconds elsewhere."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("left"),
            TimeRemainingColumn(), console=console, transient=True,
            disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("")
        self._begun = self._said = time.monotonic()

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show(self, name: str, done: int, total: int) -> None:
        """See ``privfin.auditing.self_test.Progress``."""
        self._bar.update(self._task, description=name, completed=done, total=total)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._said >= 10.0:
            self._said = now
            left = (now - self._begun) / done * (total - done)
            self._console.print(f"{name}  {left:.0f} s left", highlight=False, markup=False)
