"""How training looks on a terminal, and as plain lines when there is none."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


def human_bytes(count: float) -> str:
    """Bytes for people: ``1.2 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def human_epsilon(value: float) -> str:
    """An epsilon rounded up to two decimals, never below the real one."""
    return "inf" if value == float("inf") else f"{-(-value * 100 // 1) / 100:.2f}"


def columns_that_fit(names: Sequence[str], at_once: int) -> list[Sequence[str]]:
    """Names of columns in parts, one table each, so that 80 columns of text are enough."""
    return [names[start : start + at_once] for start in range(0, len(names), at_once)]


def plain_console(stderr: bool = False) -> Console:
    """Where people read: standard output, or standard error beside JSON."""
    console = Console(stderr=stderr)
    # Without a terminal there is no width to fit; a fixed one keeps the tables whole.
    return console if console.is_terminal else Console(stderr=stderr, width=80)


class TrainingDisplay:
    """Shows stages and rounds; implements ``TrainingObserver``.

    Args:
        console: where to print.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._terminal = console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=22),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._live = Live(self._progress, console=console, transient=True, refresh_per_second=4)
        self._task: TaskID | None = None
        self._stage = ""
        self._stage_start = 0.0
        self._rounds = 0
        self._sites = 1
        self._epsilons: Sequence[float] | None = None
        self._current = ""
        self._last = ""
        self._begun = 0.0
        self._first = 0

    def __enter__(self) -> TrainingDisplay:
        if self._terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._terminal:
            self._live.stop()

    def stage(self, name: str, done: int, total: int) -> None:
        """See ``TrainingObserver``."""
        if name != self._stage:
            self._stage, self._stage_start = name, time.monotonic()
            if not self._terminal:
                self._print(f"{name} ...")
            elif self._task is not None:
                self._progress.remove_task(self._task)
                self._task = None
        if not self._terminal:
            return
        self._current = ""
        if self._task is None:
            self._task = self._progress.add_task(name, total=total)
        self._progress.update(self._task, completed=done, total=total)

    def begin_rounds(
        self, rounds: int, sites: int, epsilons: Sequence[float] | None, first: int
    ) -> None:
        """Training starts (or goes on after ``first`` rounds).

        ``epsilons`` holds the worst site's epsilon after each round, or is None without privacy.
        """
        self._rounds, self._sites, self._epsilons = rounds, sites, epsilons
        self._first, self._begun = first, time.monotonic()
        if self._terminal:
            if self._task is not None:
                self._progress.remove_task(self._task)
            total, done = rounds * sites, first * sites
            self._task = self._progress.add_task("training", total=total, completed=done)
            # The counter counts site rounds, which is what time left is measured from.
            self._progress.update(self._task, description="site rounds")

    def site_started(self, round_number: int, site: str) -> None:
        """See ``TrainingObserver``."""
        if not self._terminal:
            return
        self._current = f"round {round_number}/{self._rounds}, {site} is training"
        self._refresh()
        if self._task is not None:
            self._progress.advance(self._task, 1)

    def round_finished(self, round_number: int, loss: float, up: int, down: int) -> None:
        """See ``TrainingObserver``."""
        spent = "NOT PRIVATE"
        if self._epsilons is not None:
            spent = f"epsilon {human_epsilon(self._epsilons[round_number - 1])}"
        shown = "" if math.isnan(loss) else f"held-out loss {loss:.4f}  "
        text = (
            f"round {round_number}/{self._rounds}  {shown}{spent}  "
            f"sent {human_bytes(up)} up, {human_bytes(down)} down"
        )
        if self._terminal:
            self._last = text
            self._refresh()
            return
        per_round = (time.monotonic() - self._begun) / max(1, round_number - self._first)
        left = per_round * (self._rounds - round_number)
        self._print(f"{text}  {left:.0f} s left")

    def fine_tuning_started(self, site: str, number: int, sites: int) -> None:
        """See ``TrainingObserver``."""
        if not self._terminal:
            if number == 1:
                self._begun = time.monotonic()
            passed = time.monotonic() - self._begun
            left = passed / max(1, number - 1) * (sites - number + 1)
            known = f"  {left:.0f} s left" if number > 1 else ""
            self._print(f"fine-tuning {number}/{sites}  {site}{known}")
            return
        if number == 1:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task("fine-tuning", total=sites)
        self._current = f"{site} is fine-tuning its own model"
        if self._task is not None:
            self._progress.update(self._task, completed=number - 1)
        self._refresh()

    def choosing_round(self, number: int, rounds: int) -> None:
        """See ``TrainingObserver``."""
        if not self._terminal:
            if number == 1:
                self._print(f"choosing one of {rounds} rounds on the validation patients ...")
            return
        if number == 1:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task("choosing a round", total=rounds)
            self._current = ""
        if self._task is not None:
            self._progress.update(self._task, completed=number)
        self._refresh()

    def note(self, text: str) -> None:
        """A line that stays."""
        self._print(text)

    def _refresh(self) -> None:
        self._live.update(Group(self._progress, Text(self._current), Text(self._last)))

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
