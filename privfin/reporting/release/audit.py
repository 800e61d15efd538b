"""A public copy of what attacks found: rates without denominators, curves at fixed rates."""

from __future__ import annotations

import math

from privfin.reporting.blocks_results import (
    AttackResult,
    AttributeResult,
    Audit,
    CanaryTest,
    Interval,
    Inversion,
    TprAtFpr,
)
from privfin.reporting.facts import Extended, Fact
from privfin.reporting.release.coarse import (
    above,
    below,
    coarse_count,
    digits_down,
    digits_nearest,
    digits_up,
    is_hidden,
    nearest,
    places_for,
    size_of,
    with_coarse_decimals,
)
from privfin.reporting.release.facts import Withheld, changed

FEW = "of 1 to 10 patients"
_AUDIT = (
    "rates of attacks are rounded so that one patient moves them by no more than a step, ROC "
    "curves are shown at fixed rates, and numbers of members are rounded"
)
_FEW = "figures of attacks on 1 to 10 patients are left out"

_MOST_PLACES = 2
#: Rates of false alarms at which ROC curves are shown.
_CURVE_RATES = (0.0, 0.01, 0.02, 0.05, *(round(0.1 * i, 1) for i in range(1, 11)))


def release_audit(block: Audit, done: Withheld) -> Audit:
    """What may be shown of an audit."""
    attacks = changed(block.attacks, lambda rows: tuple(map(_attack, rows)))
    is_few = attacks.is_known and any(row.withheld for row in attacks.get())
    guesses = block.attributes.get() if block.attributes.is_known else ()
    if is_few or any(is_hidden(row.patients) for row in guesses):
        done.add(_FEW)
    after = block.model_copy(
        update={
            "attacks": attacks,
            "blind_auc": changed(block.blind_auc, lambda auc: nearest(auc, _MOST_PLACES)),
            # Its note may name few non-members; the row says whether its rate is resolved.
            "best_attack": block.best_attack.model_copy(update={"note": ""})
            if block.best_attack.is_known
            else block.best_attack,
            "largest_ceiling": _ceiling(block.largest_ceiling),
            "canaries": changed(block.canaries, lambda rows: tuple(map(_canary, rows))),
            "attributes": changed(
                block.attributes,
                lambda rows: tuple(_attribute(row) for row in rows if not is_hidden(row.patients)),
            ),
            "inversion": changed(block.inversion, lambda rows: tuple(map(_inversion, rows))),
            "left_out": changed(block.left_out, _lines),
            "contradictions": changed(block.contradictions, _lines),
            "risks": changed(block.risks, _lines),
        }
    )
    return done.note(block, after, _AUDIT)


def _ceiling(fact: Fact[Extended]) -> Fact[Extended]:
    """Rounded up, in the note as well."""
    note = with_coarse_decimals(fact.note)
    return changed(fact, digits_up).model_copy(update={"note": note})


def _lines(lines: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(with_coarse_decimals(line, digits_nearest) for line in lines)


def _attack(row: AttackResult) -> AttackResult:
    """Figures rounded to the coarser of both sides' grids; none of too few patients."""
    counts = {
        "members": coarse_count(row.members),
        "nonmembers": coarse_count(row.nonmembers),
        "claim": digits_up(row.claim),
    }
    if is_hidden(row.members) or is_hidden(row.nonmembers):
        nothing = {
            "auc": Interval(value=None),
            "tpr": (),
            "epsilon_bound": None,
            "epsilon_ceiling": None,
            "curve": (),
            "note": "",
            "withheld": FEW,
        }
        return row.model_copy(update=counts | nothing)
    places = places_for(min(size_of(row.members), size_of(row.nonmembers)))
    figures = {
        "auc": coarse_interval(row.auc, places_for(size_of(row.members) * size_of(row.nonmembers))),
        "tpr": tuple(_rates(one, places) for one in row.tpr),
        "epsilon_bound": _bound(row.epsilon_bound),
        "epsilon_ceiling": _limit(row.epsilon_ceiling),
        "curve": _thinned(row.curve, places),
    }
    return row.model_copy(update=counts | figures)


def _rates(row: TprAtFpr, places: int) -> TprAtFpr:
    return row.model_copy(
        update={"tpr": coarse_interval(row.tpr, places), "fpr": nearest(row.fpr, places)}
    )


def coarse_interval(row: Interval, places: int) -> Interval:
    """The value on a grid, and its limits outwards on the same grid."""
    return Interval(
        value=None if row.value is None else nearest(row.value, places),
        low=None if row.low is None else below(row.low, places),
        high=None if row.high is None else above(row.high, places),
    )


def _bound(value: Extended | None) -> Extended | None:
    """A lower bound, rounded down: what was shown and no more."""
    return value if value is None or math.isinf(value) else below(value, 1)


def _limit(value: Extended | None) -> Extended | None:
    """A ceiling, rounded up."""
    return None if value is None else digits_up(value)


def _thinned(
    curve: tuple[tuple[float, float], ...], places: int
) -> tuple[tuple[float, float], ...]:
    """The ROC as steps, at fixed rates of false alarms."""
    if not curve:
        return ()
    found = []
    for rate in _CURVE_RATES:
        reached = [true for false, true in curve if false <= rate]
        found.append((rate, nearest(max(reached, default=0.0), places)))
    return tuple(found)


def _canary(row: CanaryTest) -> CanaryTest:
    """Canaries are invented, so their number stays; they met the recipe that real patients met."""
    return row.model_copy(
        update={
            "claim": digits_up(row.claim),
            "epsilon_bound": _bound(row.epsilon_bound),
            "epsilon_ceiling": _limit(row.epsilon_ceiling),
            "auc": None if row.auc is None else coarse_interval(row.auc, _MOST_PLACES),
        }
    )


def _attribute(row: AttributeResult) -> AttributeResult:
    places = min(_MOST_PLACES, places_for(size_of(row.patients)))
    return row.model_copy(
        update={
            "patients": coarse_count(row.patients),
            "chance": nearest(row.chance, places),
            "with_model": coarse_interval(row.with_model, places),
            "without_model": coarse_interval(row.without_model, places),
            "difference": coarse_interval(row.difference, places),
        }
    )


def _inversion(row: Inversion) -> Inversion:
    gain = row.difference
    return row.model_copy(
        update={
            "value": digits_nearest(row.value),
            "prior": digits_nearest(row.prior),
            "difference": Interval(
                value=None if gain.value is None else digits_nearest(gain.value),
                low=None if gain.low is None else digits_down(gain.low),
                high=None if gain.high is None else digits_up(gain.high),
            ),
        }
    )
