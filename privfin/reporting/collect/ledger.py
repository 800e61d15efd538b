"""The ledger: what these patients were charged over all runs, and whether that holds together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from privfin.errors import LedgerError, UserInputError
from privfin.federation.budget_gate import UNCOUNTED
from privfin.privacy.composition import Spend, total_epsilon
from privfin.privacy.ledger import LedgerHead
from privfin.privacy.ledger.spending import Cap
from privfin.privacy.ledger.state import Population, State
from privfin.privacy.ledger.status import run_spends
from privfin.reporting.blocks_privacy import Head, LedgerBlock, LedgerEntry, PopulationBudget
from privfin.reporting.collect.local_ledger import (
    LocalLedger,
    problems_with_run,
    read_local_ledger,
)
from privfin.reporting.collect.reading import EVENTS, MANIFEST, PRIVACY
from privfin.reporting.evidence import Evidence
from privfin.reporting.facts import Fact, derived, measured, not_applicable, not_assessed

#: What ``check`` says when nothing is wrong.
NOTHING_FOUND = "nothing found: rows, signatures, caps and the heads that the run's files keep fit"

T = TypeVar("T")

_HERE = "this machine's ledger"
#: Differences of ε below this come from the versions of numerical libraries.
_TOLERANCE = 1e-6


def ledger_block(evidence: Evidence) -> LedgerBlock:
    """What the ledger says of this run's patients, as far as this machine has the ledger.

    A ledger that is damaged or gone is a finding in ``check``; its figures are then left out.

    Raises:
        UserInputError: the run's files say something of a ledger that no run writes.
    """
    source, block = _block(evidence)
    status = block.get("status")
    if status == "counted":
        return _counted(evidence, source, block)
    if status not in ("simulated", "none"):
        raise UserInputError(f"{evidence.run.path / source} has a ledger status '{status}'")
    why = str(block.get("meaning", UNCOUNTED["meaning"]))
    gap = not_applicable if status == "simulated" else not_assessed
    return LedgerBlock(
        status=measured(status, source),
        meaning=measured(why, source),
        budgets=gap(why, source),
        extract=gap(why, source),
        head=not_applicable("no ledger counts this run", source),
        check=not_applicable("no ledger counts this run", source),
        heads_of_sites=not_applicable("no ledger counts this run", source),
    )


def _block(evidence: Evidence) -> tuple[str, Mapping[str, Any]]:
    """What the run's files say of its ledger, the newest first."""
    for source, content in ((PRIVACY, evidence.privacy), (MANIFEST, evidence.manifest)):
        if isinstance(content.get("ledger"), Mapping):
            return source, content["ledger"]
    return MANIFEST, UNCOUNTED


def _counted(evidence: Evidence, source: str, block: Mapping[str, Any]) -> LedgerBlock:
    try:
        heads = _heads(evidence)
        head = LedgerHead.from_dict(block["head"])
        if not all(one.holds() for one in heads):
            raise LedgerError("a ledger head in the run's files is not signed by its own key")
        if len({one.ledger_id for one in heads}) != 1:
            raise LedgerError("the run's files name several ledgers")
    except (LedgerError, KeyError, TypeError, AttributeError) as error:
        raise UserInputError(
            f"{evidence.run.path} does not say which ledger counts it: {error}"
        ) from error
    local = read_local_ledger(head.ledger_id, heads)
    problems = list(local.problems)
    if local.state is not None:
        run = evidence.run
        problems += problems_with_run(
            local.state,
            run.run_id,
            evidence.plan,
            max(run.spent_rounds().values(), default=0),
            max(run.fine_tunings().values(), default=0),
        )
    return LedgerBlock(
        status=measured("counted", source),
        meaning=derived(
            f"a ledger counts this run: the last row that the run's files keep is {head.seq} of "
            f"ledger {head.ledger_id}",
            source,
        ),
        budgets=_if_sound(local, problems, lambda state: _budgets(state, evidence.run.run_id)),
        extract=_if_sound(local, problems, lambda state: _extract(state, local, evidence)),
        head=measured(Head.model_validate(head.to_dict()), source),
        check=_check(local, problems),
        heads_of_sites=measured(
            tuple(dict.fromkeys(str(e["site"]) for e in _head_events(evidence))),
            EVENTS,
            "a row that several sites name is kept once, with the first of them",
        ),
    )


def _heads(evidence: Evidence) -> list[LedgerHead]:
    """Every head in the run's files."""
    blocks = [evidence.manifest.get("ledger", {}), evidence.privacy.get("ledger", {})]
    stated = [block["head"] for block in blocks if block.get("status") == "counted"]
    return [
        LedgerHead.from_dict(one)
        for one in [*stated, *(event["head"] for event in _head_events(evidence))]
    ]


def _head_events(evidence: Evidence) -> list[dict[str, Any]]:
    return [event for event in evidence.events if event["event"] == "ledger-head"]


def _check(local: LocalLedger, problems: Sequence[str]) -> Fact[str]:
    if local.absent:
        return not_assessed(local.absent, _HERE)
    if problems:
        return measured(f"{len(problems)} problems: {'; '.join(problems)}", _HERE)
    return measured(NOTHING_FOUND, _HERE)


def _if_sound(
    local: LocalLedger, problems: Sequence[str], figures: Callable[[State], T]
) -> Fact[T]:
    """Figures of the ledger, or why there are none."""
    if local.absent:
        return not_assessed(local.absent, _HERE)
    if local.state is None or problems:
        return not_assessed("the ledger does not hold together, see its check", _HERE)
    return derived(figures(local.state), _HERE)


def _extract(state: State, local: LocalLedger, evidence: Evidence) -> tuple[LedgerEntry, ...]:
    """Runs that share a population with this one."""
    ours = set(state.reserved(evidence.run.run_id).populations)
    return tuple(
        LedgerEntry(
            seq=one.seq,
            time=one.time,
            run=one.run,
            kind=one.kind,
            state=one.state,
            populations=one.populations,
            epsilon=one.epsilon,
            delta=one.delta,
        )
        for one in run_spends(state, local.times)
        if ours & set(state.reserved(one.run).populations)
    )


def _budgets(state: State, run_id: str) -> tuple[PopulationBudget, ...]:
    own = state.reserved(run_id)
    return tuple(_budget(state, state.populations[name], run_id) for name in own.populations)


def _budget(state: State, people: Population, run_id: str) -> PopulationBudget:
    """Where a population stands, with this run apart from those before it.

    Open runs are held in full, as the ledger holds them; this run counts as charged, not as held.
    """
    own = state.reserved(run_id)
    runs = sorted(
        (r for r in state.reservations.values() if people.name in r.populations),
        key=lambda r: r.seq,
    )
    charged = [r for r in runs if not r.open or r.run_id == run_id]
    before = _cost(people.cap, own.delta, [r.charged for r in charged if r.seq < own.seq])
    with_own = _cost(people.cap, own.delta, [r.charged for r in charged if r.seq <= own.seq])
    spent = _cost(people.cap, own.delta, [r.charged for r in charged])
    total = _cost(people.cap, own.delta, [r.charged for r in runs])
    cap = people.cap
    limit = 0.0 if cap is None else float(cap.epsilon)
    return PopulationBudget(
        population=people.name,
        cap_epsilon=None if cap is None else limit,
        cap_delta=None if cap is None else float(cap.delta),
        before=before,
        this_run=_added(before, with_own),
        reserved=_added(spent, total),
        left=limit - total if cap is not None and math.isfinite(total) else 0.0,
        runs=len(runs),
        refusals=people.refusals,
        raised=people.raised,
        is_over=cap is not None and not cap.admits(total, tolerance=_TOLERANCE),
    )


def _added(before: float, after: float) -> float:
    """What a total grows by; everything, where it was infinite before."""
    return after if math.isinf(before) else max(0.0, after - before)


def _cost(cap: Cap | None, delta: float, spends: Sequence[Spend]) -> float:
    """ε of ``spends`` at the cap's δ; without a cap (withdrawn in a recovery) at the run's own."""
    return total_epsilon(spends, delta) if cap is None else cap.cost(spends)
