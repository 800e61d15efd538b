"""How a sweep looks on a terminal, and as plain lines when there is none."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

if TYPE_CHECKING:
    from privfin.federation.plan import TrainingPlan
    from privfin.federation.sweep import State
    from privfin.federation.sweep_plan import Combination


def human_time(seconds: float) -> str:
    """A duration for people: ``40 s``, ``3 min``, ``2 h 05 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


class SweepDisplay:
    """Shows how far a sweep is and how long it will take; implements ``SweepObserver``.

    Time left counts rounds: those done since this process began, and those still to do. A round
    of one combination takes about as long as one of another.

    Args:
        console: where to print.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._terminal = console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=22), console=console
        )
        self._live = Live(self._progress, console=console, transient=True, refresh_per_second=4)
        self._task = self._progress.add_task("sweep", total=1.0)
        self._begun = self._run_begun = time.monotonic()
        self._total = self._number = 0
        self._waiting = 0.0
        self._done = 0.0
        self._of_run = 0.0
        self._at = 0
        self._rounds = 1
        self._current = ""
        self._is_running = False

    def __enter__(self) -> SweepDisplay:
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
        self._show(f"{name} {done}/{total}")
        if not self._terminal and done == 0 and not self._is_running:
            self.note(f"{name} ...")

    def sweep_started(self, waiting: int, total: int) -> None:
        """See ``SweepObserver``."""
        self._total, self._number, self._waiting = total, total - waiting, float(waiting)
        self.note(f"{total} runs, {total - waiting} of them finished before")

    def run_started(self, one: Combination, plan: TrainingPlan, first: int) -> None:
        """See ``SweepObserver``."""
        self._number += 1
        self._is_running = True
        self._rounds, self._of_run, self._at = plan.rounds, 0.0, first
        self._waiting -= first / plan.rounds
        self._run_begun = time.monotonic()
        goes_on = f", goes on after round {first}" if first else ""
        self._current = f"run {self._number}/{self._total}: {one.words}{goes_on}"
        self._show("starting")
        if not self._terminal:
            self.note(self._current)

    def site_started(self, round_number: int, site: str) -> None:
        """See ``TrainingObserver``."""
        self._show(f"round {round_number}/{self._rounds}, {site} is training")

    def round_finished(self, round_number: int, loss: float, up: int, down: int) -> None:
        """See ``TrainingObserver``."""
        # With shared noise a round of the configuration is many exchanges.
        passed = (round_number - self._at) / self._rounds
        self._at = round_number
        self._done += passed
        self._of_run += passed
        shown = "" if math.isnan(loss) else f", held-out loss {loss:.4f}"
        self._show(f"round {round_number}/{self._rounds}{shown}")

    def fine_tuning_started(self, site: str, number: int, sites: int) -> None:
        """See ``TrainingObserver``."""
        self._show(f"fine-tuning {number}/{sites}, {site}")

    def choosing_round(self, number: int, rounds: int) -> None:
        """See ``TrainingObserver``."""
        self._show(f"choosing a round on the validation patients ({number}/{rounds})")

    def run_ended(self, one: Combination, state: State, reason: str) -> None:
        """See ``SweepObserver``."""
        self._is_running = False
        took = human_time(time.monotonic() - self._run_begun)
        if state == "failed":
            # What it had still to do will not be done now.
            self._waiting -= max(0.0, 1.0 - self._of_run)
            self.note(f"FAILED: {one.words}: {' '.join(reason.split())}")
            return
        self.note(f"{state}: {one.words} ({took}{self._left()})")

    def note(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _left(self) -> str:
        if not self._done or self._waiting <= self._done:
            return ""
        each = (time.monotonic() - self._begun) / self._done
        return f"; about {human_time(each * (self._waiting - self._done))} left"

    def _show(self, what: str) -> None:
        if not self._terminal:
            return
        self._progress.update(self._task, completed=self._done, total=max(self._waiting, 1e-9))
        lines = [Text(self._current), Text(what + self._left())]
        self._live.update(Group(self._progress, *lines))
