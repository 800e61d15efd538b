"""A public copy of what is promised: true, weaker, and without the numbers that give counts away.

The sampling rate is batch size over patients, delta may be a tenth of one over patients, and noise
and epsilon are calculated from both. Every one of them, if exact, gives the exact number of
patients.
"""

from __future__ import annotations

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
from privfin.reporting.coarse import (
    below,
    chance_up,
    digits_up,
    power_of_ten_up,
    with_coarse_decimals,
)
from privfin.reporting.release_facts import Withheld, changed

PROMISE = (
    "epsilon, mu and the trade-off curve are rounded up to two digits and delta up to a power of "
    "ten: the statement stays true and is weaker than the exact one"
)
_MECHANISM = (
    "sampling rates and noise multipliers are left out, and steps are rounded up: with them the "
    "exact number of a site's patients could be calculated"
)
_LEDGER = (
    "names of populations, and times and names of other runs, are left out of the ledger's extract"
)

#: False-positive rates at which curves are shown.
RATES = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, *(round(0.1 * i, 1) for i in range(1, 11)))

_NO_NAME = "withheld"
_THIS, _OTHER = "this run", "another run"


def release_guarantee(block: Guarantee, done: Withheld) -> Guarantee:
    """Limits rounded so that they still hold."""
    after = block.model_copy(
        update={
            "statement": changed(block.statement, with_coarse_decimals),
            "epsilon": changed(block.epsilon, digits_up),
            "delta": changed(block.delta, power_of_ten_up),
            "delta_times_patients": changed(block.delta_times_patients, power_of_ten_up),
            "epsilon_at_every_site": changed(block.epsilon_at_every_site, digits_up),
            "observers": changed(block.observers, lambda rows: tuple(map(_observer, rows))),
            "colluding_sites": changed(
                block.colluding_sites, lambda rows: tuple(map(_colluding, rows))
            ),
            "curve": changed(block.curve, _thinned),
        }
    )
    return done.note(block, after, PROMISE)


def _observer(row: ObserverGuarantee) -> ObserverGuarantee:
    return row.model_copy(
        update={
            "epsilon": digits_up(row.epsilon),
            "delta": power_of_ten_up(row.delta),
            "mu": digits_up(row.mu),
            "mu_excess": digits_up(row.mu_excess),
            "best_accuracy": chance_up(row.best_accuracy),
            "certainty_of_epsilon_alone": chance_up(row.certainty_of_epsilon_alone),
            "trade_off": tuple(map(_point, row.trade_off)),
        }
    )


def _point(point: TradeOff) -> TradeOff:
    return point.model_copy(update={"true_positive_rate": chance_up(point.true_positive_rate)})


def _colluding(row: ColludingSites) -> ColludingSites:
    return row.model_copy(update={"epsilon": digits_up(row.epsilon)})


def _thinned(curve: tuple[TradeOff, ...]) -> tuple[TradeOff, ...]:
    """The curve at fixed rates: at each the bound of the next point, so that it still holds."""
    found = []
    for rate in RATES:
        later = [p.true_positive_rate for p in curve if p.false_positive_rate >= rate]
        bound = chance_up(min(later, default=1.0))
        found.append(TradeOff(false_positive_rate=rate, true_positive_rate=bound))
    return tuple(found) if curve else ()


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
