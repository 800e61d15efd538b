"""The ledger on this machine, read and checked for a report without changing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from privfin.errors import LedgerError
from privfin.federation.plan import TrainingPlan
from privfin.privacy.ledger import Finding, LedgerHead, ledger_home, verify_ledger
from privfin.privacy.ledger.anchors import anchors_of_home
from privfin.privacy.ledger.chain import Row
from privfin.privacy.ledger.places import DATABASE
from privfin.privacy.ledger.spending import is_within
from privfin.privacy.ledger.state import State
from privfin.privacy.ledger.store import Store
from privfin.privacy.ledger.verify import verify_rows


@dataclass(frozen=True)
class LocalLedger:
    """What this machine has of the ledger that counts a run.

    Attributes:
        state: what its rows add up to; None if it cannot be relied on, or is not here.
        times: when each row was written, by number.
        problems: what is wrong, a line each; empty if nothing is.
        absent: why there is nothing to check here; empty if there is.
    """

    state: State | None = field(default=None, repr=False)
    times: Mapping[int, str] = field(default_factory=dict, repr=False)
    problems: tuple[str, ...] = ()
    absent: str = ""


def read_local_ledger(ledger_id: str, heads: Sequence[LedgerHead]) -> LocalLedger:
    """Read and verify the ledger of this machine's home if it is the one that counts the run.

    Nothing is written: neither rows nor anchors.

    Args:
        ledger_id: of the ledger that counts the run.
        heads: what the run's files keep of it, against which it is checked.
    """
    home = ledger_home()
    try:
        was_here = any(a.head.ledger_id == ledger_id for a in anchors_of_home(home))
        if not (home / DATABASE).exists():
            if was_here:
                return LocalLedger(problems=("it is gone from this machine; its anchor is left",))
            return LocalLedger(absent="there is no ledger on this machine")
        rows = _rows(home)
        found_id = str(rows[0].content().get("ledger")) if rows else ""
    except LedgerError as error:
        return LocalLedger(problems=(str(error),))
    if found_id != ledger_id:
        if was_here:
            return LocalLedger(problems=(f"another ledger, {found_id}, lies in its place",))
        return LocalLedger(absent="the ledger on this machine is another one")
    problems = [_line(finding) for finding in verify_ledger(home, heads)]
    if problems:
        return LocalLedger(problems=tuple(problems))
    _, state = verify_rows(rows)
    return LocalLedger(state, {row.seq: row.time for row in rows})


def problems_with_run(
    state: State, run_id: str, plan: TrainingPlan, rounds: int, fine_tunings: int
) -> list[str]:
    """What the ledger says of a run that does not fit what the run's events say.

    Args:
        state: of the ledger.
        run_id: the run.
        plan: its plan.
        rounds: the most that a site started.
        fine_tunings: the most that a site started.
    """
    run = state.reservations.get(run_id)
    if run is None:
        return ["it has no row of this run"]
    spent = plan.spend(dict.fromkeys(plan.cohort, rounds), fine_tunings)
    if not is_within(spent, run.charged):
        return ["it charges this run less than the run's events count"]
    return []


def _rows(home: Path) -> list[Row]:
    store = Store.open(home / DATABASE)
    try:
        return store.rows()
    finally:
        store.close()


def _line(finding: Finding) -> str:
    named = finding.seq is None or f"row {finding.seq}" in finding.problem
    return finding.problem if named else f"row {finding.seq}: {finding.problem}"
