"""Many runs from one configuration: every combination of epsilon, imputer and seed.

A sweep is a folder with an ordinary run directory a combination, and ``sweep.json``. It goes on
where it stopped: finished runs are kept, an interrupted one continues from its checkpoint under the
rules of a resumed run, so that no run spends more than its own budget. Runs on the same patients
add up all the same; see :func:`spent_in_sum`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from privfin.config import RunConfig
from privfin.errors import BudgetError, LedgerError, PolicyError, PrivfinError
from privfin.federation.budget_gate import open_gate
from privfin.federation.local import TrainingObserver
from privfin.federation.plan import TrainingPlan
from privfin.federation.prepare import PreparedData, check_declared, data_key, prepare
from privfin.federation.public_weights import check_same_weights
from privfin.federation.statement import claim
from privfin.federation.sweep_plan import FORMAT, Combination, Sweep, check_same_sweep
from privfin.federation.training_run import begin_run, complete_run
from privfin.files import clear_disk_errors, jsonable, write_json
from privfin.models.feature_cache import default_cache
from privfin.runs import Run, check_same_config, load_run, lock_folder, now

#: What became of a combination.
State = Literal["waiting", "finished", "interrupted", "failed"]


@dataclass
class Outcome:
    """How far a sweep came.

    Attributes:
        states: of every combination, by name.
        reasons: the kind of error that a combination failed with, by name.
        was_stopped: whether ``should_stop`` ended it early.
    """

    states: dict[str, State]
    reasons: dict[str, str] = field(default_factory=dict)
    was_stopped: bool = False

    @property
    def failed(self) -> list[str]:
        """Names of the failed combinations."""
        return [name for name, state in self.states.items() if state == "failed"]

    @property
    def finished(self) -> list[str]:
        """Names of the finished combinations."""
        return [name for name, state in self.states.items() if state == "finished"]


class SweepObserver(TrainingObserver, Protocol):
    """Told how a sweep goes, for a display."""

    def sweep_started(self, waiting: int, total: int) -> None:
        """``waiting`` of ``total`` runs are not finished yet."""
        ...

    def run_started(self, one: Combination, plan: TrainingPlan, first: int) -> None:
        """A run starts, or goes on after its round ``first``."""
        ...

    def run_ended(self, one: Combination, state: State, reason: str) -> None:
        """A run ended; ``reason`` says why it failed."""
        ...

    def note(self, text: str) -> None:
        """A line to keep."""
        ...


def present_states(sweep: Sweep, folder: Path) -> dict[str, State]:
    """What became of every combination so far, from the folder alone."""
    states: dict[str, State] = {}
    for one in sweep.combinations():
        path = folder / one.name
        if (path / "model.safetensors").exists():
            states[one.name] = "finished"
        else:
            states[one.name] = "interrupted" if (path / "manifest.json").exists() else "waiting"
    return states


def run_sweep(
    sweep: Sweep,
    folder: Path,
    *,
    observer: SweepObserver,
    should_stop: Callable[[], bool] = lambda: False,
    no_ledger: bool = False,
) -> Outcome:
    """Train what is left of a sweep, one run after the other, each with a reservation of its own.

    A run that fails is reported, and the others go on; one that the budget or the policy refuses
    ends the sweep.

    Raises:
        BudgetError, LedgerError, PolicyError: see :func:`open_gate`.
        ConfigError, UserInputError: see :func:`check_same_sweep`; also when the data of the very
            first run cannot be prepared, before anything is written.
    """
    check_same_sweep(sweep, folder)
    outcome = Outcome(present_states(sweep, folder))
    combinations = sweep.combinations()
    left = [one for one in combinations if outcome.states[one.name] != "finished"]
    observer.sweep_started(len(left), len(combinations))
    source = _DataSource(observer)
    if left and not folder.exists():
        # Whatever is wrong with budget or data shows here.
        with open_gate(sweep.config(left[0]), kind="sweep", no_ledger=no_ledger) as gate:
            gate.reserve()
            source.get(sweep.config(left[0]))
            gate.give_back("only to look at the data")
    with clear_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with lock_folder(folder):
        write_state(sweep, folder, outcome)
        for one in left:
            if should_stop():
                outcome.was_stopped = True
                break
            # Written first: a run that is cut off here must not count as one that never began.
            outcome.states[one.name] = "interrupted"
            write_state(sweep, folder, outcome)
            try:
                state = _run_one(sweep, folder, one, source, observer, should_stop, no_ledger)
            except (BudgetError, LedgerError, PolicyError) as error:
                outcome.states[one.name] = "failed"
                outcome.reasons[one.name] = type(error).__name__
                write_state(sweep, folder, outcome)
                raise
            except Exception as error:
                if os.environ.get("PRIVFIN_DEBUG") == "1":
                    raise
                state = "failed"
                # Only the kind is kept: a message may name a patient's file.
                outcome.reasons[one.name] = kind = type(error).__name__
                known = isinstance(error, PrivfinError)
                observer.run_ended(one, state, str(error) if known else f"internal error ({kind})")
            else:
                observer.run_ended(one, state, "")
            outcome.states[one.name] = state
            write_state(sweep, folder, outcome)
            if state == "interrupted":
                outcome.was_stopped = True
                break
    return outcome


def write_state(
    sweep: Sweep, folder: Path, outcome: Outcome, results: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Write ``sweep.json`` and return what it says."""
    content = {
        "format": FORMAT,
        "written": now(),
        **sweep.to_dict(),
        "runs": [
            {
                "run": one.name,
                "epsilon": one.epsilon,
                "imputer": one.imputer,
                "seed": one.seed,
                "state": outcome.states[one.name],
                "reason": outcome.reasons.get(one.name),
            }
            for one in sweep.combinations()
        ],
        "not_covered": spent_in_sum(sweep, outcome),
        **(results or {}),
    }
    found: dict[str, Any] = jsonable(content)
    write_json(folder / "sweep.json", found)
    return found


def spent_in_sum(sweep: Sweep, outcome: Outcome) -> str:
    """What all runs of a sweep spend together, which no run's own statement says.

    By basic composition (Dwork and Roth, "The Algorithmic Foundations of Differential Privacy",
    2014, theorem 3.16), epsilons add up; a run never spends more than its target.
    """
    started = [one for one in sweep.combinations() if outcome.states[one.name] != "waiting"]
    private = [one for one in started if claim(sweep.config(one)) == "dp"]
    words = (
        f"every run spends its own budget on its training patients: {len(private)} private runs "
        f"so far, together epsilon {sum(one.epsilon for one in private):g} at most for a patient "
        "of one site in all of them (deltas add up too); no run's privacy.json counts the others"
    )
    if len(private) < len(started):
        words += f"; {len(started) - len(private)} runs are NOT PRIVATE and bound nothing"
    return words


def _run_one(
    sweep: Sweep,
    folder: Path,
    one: Combination,
    source: _DataSource,
    observer: SweepObserver,
    should_stop: Callable[[], bool],
    no_ledger: bool,
) -> State:
    path = folder / one.name
    config = sweep.config(one)
    run = _existing(path, config)
    run_id = None if run is None else run.run_id
    with open_gate(config, kind="sweep", no_ledger=no_ledger, run_id=run_id) as gate:
        run, plan, data = begin_run(gate, config, path, run, lambda: source.get(config))
        saved = run.last_checkpoint()
        observer.run_started(one, plan, saved.round if saved else 0)
        result = complete_run(
            run, config, data, observer=observer, should_stop=should_stop, gate=gate
        )
    return "interrupted" if result is None else "finished"


def _existing(path: Path, config: RunConfig) -> Run | None:
    """The run that an earlier process began there, if any."""
    if not path.exists():
        return None
    if not any(path.iterdir()):  # stopped between making the folder and writing into it
        path.rmdir()
        return None
    run = load_run(path)
    check_same_config(run, config)
    check_same_weights(run, config)
    return run


class _DataSource:
    """Prepares data once for neighbouring runs that need the same; holds one set at a time."""

    def __init__(self, observer: SweepObserver) -> None:
        self._observer = observer
        self._key = ""
        self._data: PreparedData | None = None
        self._problem: Exception | None = None
        self._told: set[str] = set()

    def get(self, config: RunConfig) -> PreparedData:
        """The data of a run. What could not be prepared once is not tried again."""
        key = data_key(config)
        if key != self._key:
            self._key, self._data, self._problem = key, None, None
            try:
                self._data = prepare(config, self._observer.stage, default_cache())
            except Exception as error:
                self._problem = error
        if self._data is None:
            raise self._problem or AssertionError("prepare gives data or raises")
        for notice in self._data.notices:
            if notice not in self._told:
                self._told.add(notice)
                self._observer.note(f"note: {notice}")
        check_declared(config, self._data)
        return self._data
