"""A public copy of what is promised: true, weaker, and without the numbers that give counts away.

The sampling rate is batch size over patients, delta may be a tenth of one over patients, and noise
and epsilon are calculated from both. Every one of them, if exact, gives the exact number of
patients.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from privfin.privacy.tradeoff import certainty
from privfin.reporting.blocks_privacy import (
    Accounting,
    ColludingSites,
    Guarantee,
    LedgerBlock,
    LedgerEntry,
    Mechanism,
    ObserverGuarantee,
    PopulationBudget,
    SiteMechanism,
    TradeOff,
)
from privfin.reporting.release.coarse import (
    below,
    chance_up,
    digits_up,
    power_of_ten_up,
    with_coarse_decimals,
)
from privfin.reporting.release.facts import Withheld, changed, withheld

PROMISE = (
    "epsilon and mu are rounded up to two digits, points of the trade-off curve to one and delta "
    "to a power of ten, the curve itself is left out, and against every observer stands what holds "
    "against the strongest: the statement stays true and is weaker than the exact one"
)
_MECHANISM = (
    "sampling rates and noise multipliers are left out, and steps are rounded up: with them the "
    "exact number of a site's patients could be calculated"
)
_LEDGER = (
    "names of populations, and times and names of other runs, are left out of the ledger's extract"
)

_NO_NAME = "withheld"
_THIS, _OTHER = "this run", "another run"


def release_guarantee(block: Guarantee, done: Withheld) -> Guarantee:
    """Limits rounded so that they still hold, and few enough of them."""
    after = block.model_copy(
        update={
            "statement": changed(
                block.statement, lambda text: with_coarse_decimals(text, _as_shown(block))
            ),
            "epsilon": changed(block.epsilon, digits_up),
            "delta": changed(block.delta, power_of_ten_up),
            # 0.1 / n times n is 0.1 or a hair above it, depending on n, which must not show.
            "delta_times_patients": changed(
                block.delta_times_patients, lambda value: power_of_ten_up(float(f"{value:.12g}"))
            ),
            "epsilon_at_every_site": changed(
                block.epsilon_at_every_site, lambda epsilon: digits_up(epsilon, 1)
            ),
            "observers": changed(block.observers, _observers),
            "colluding_sites": changed(block.colluding_sites, _colluding),
            "curve": withheld(block.curve, "its points together tell the number of patients"),
        }
    )
    return done.note(block, after, PROMISE)


def _as_shown(block: Guarantee) -> Callable[[float], float]:
    """How the statement's numbers are rounded: the headline as its field is, others to a digit."""
    headline = digits_up(block.epsilon.get()) if block.epsilon.is_known else math.nan

    def rounded(value: float) -> float:
        return headline if digits_up(value) == headline else digits_up(value, 1)

    return rounded


def _observers(rows: tuple[ObserverGuarantee, ...]) -> tuple[ObserverGuarantee, ...]:
    """Every observer's promise made that against the strongest: each row more would tell more."""
    return tuple(
        row.model_copy(
            update={
                "epsilon": digits_up(max(one.epsilon for one in rows)),
                "delta": power_of_ten_up(max(one.delta for one in rows)),
                "mu": digits_up(max(one.mu for one in rows)),
                "mu_excess": power_of_ten_up(max(one.mu_excess for one in rows)),
                "best_accuracy": chance_up(max(one.best_accuracy for one in rows)),
                "certainty_of_epsilon_alone": chance_up(
                    certainty(digits_up(max(one.epsilon for one in rows))), 2
                ),
                "trade_off": tuple(_point(point, rows) for point in row.trade_off),
            }
        )
        for row in rows
    )


def _point(point: TradeOff, rows: tuple[ObserverGuarantee, ...]) -> TradeOff:
    found = max(
        one.true_positive_rate
        for row in rows
        for one in row.trade_off
        if one.false_positive_rate == point.false_positive_rate
    )
    return point.model_copy(update={"true_positive_rate": chance_up(found)})


def _colluding(rows: tuple[ColludingSites, ...]) -> tuple[ColludingSites, ...]:
    """What is promised against as many as it was planned for; no figure for more of them."""
    promised = digits_up(max((row.epsilon for row in rows if row.is_promised), default=math.inf))
    return tuple(
        row.model_copy(update={"epsilon": promised if row.is_promised else math.inf})
        for row in rows
    )


def release_mechanism(block: Mechanism, done: Withheld) -> Mechanism:
    """Without what gives the number of patients."""
    after = block.model_copy(
        update={"sites": changed(block.sites, lambda rows: tuple(map(_site, rows)))}
    )
    return done.note(block, after, _MECHANISM)


def _site(row: SiteMechanism) -> SiteMechanism:
    return row.model_copy(
        update={
            "noise_multiplier": None,
            "sampling_rate": None,
            "steps": int(digits_up(row.steps)),
            "steps_planned": int(digits_up(row.steps_planned)),
            "epsilon": digits_up(row.epsilon),
            "delta": power_of_ten_up(row.delta),
        }
    )


def release_accounting(block: Accounting, done: Withheld) -> Accounting:
    """With rounded values of both accountants."""
    after = block.model_copy(
        update={
            "recomputed_epsilon": changed(block.recomputed_epsilon, digits_up),
            "second_accountant": changed(block.second_accountant, digits_up),
        }
    )
    return done.note(block, after, PROMISE)


def release_ledger(block: LedgerBlock, run_id: str, done: Withheld) -> LedgerBlock:
    """Numbers only: no names of populations, no times and names of other runs.

    Args:
        block: the ledger's block.
        run_id: of the report's run; empty where it is not known.
        done: keeps what was done.
    """
    rows = block.budgets.get() if block.budgets.is_known else ()
    names = {row.population: f"population {i}" for i, row in enumerate(rows, 1)}
    after = block.model_copy(
        update={
            "budgets": changed(
                block.budgets, lambda rows: tuple(_budget(row, names) for row in rows)
            ),
            "extract": changed(
                block.extract, lambda rows: tuple(_entry(row, names, run_id) for row in rows)
            ),
        }
    )
    return done.note(block, after, _LEDGER)


def _budget(row: PopulationBudget, names: dict[str, str]) -> PopulationBudget:
    return row.model_copy(
        update={
            "population": names[row.population],
            "cap_delta": None if row.cap_delta is None else power_of_ten_up(row.cap_delta),
            "before": digits_up(row.before),
            "this_run": digits_up(row.this_run),
            "reserved": digits_up(row.reserved),
            "left": below(row.left, 1),
        }
    )


def _entry(row: LedgerEntry, names: dict[str, str], run_id: str) -> LedgerEntry:
    is_this = row.run == _THIS or (bool(row.run) and run_id.startswith(row.run))
    populations = [names.get(name, _NO_NAME) for name in row.populations.split("; ")]
    return row.model_copy(
        update={
            "time": _NO_NAME,
            "run": _THIS if is_this else _OTHER,
            "populations": "; ".join(populations),
            "epsilon": digits_up(row.epsilon),
            "delta": power_of_ten_up(row.delta),
        }
    )
