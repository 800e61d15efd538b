"""Where every population stands: what is spent, reserved and left of its cap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from privfin.privacy.composition import Spend, total_epsilon
from privfin.privacy.ledger.spending import Cap
from privfin.privacy.ledger.state import State


@dataclass(frozen=True)
class DatasetStatus:
    """A data set of a population. ``spent`` is ε of the runs that read it, open ones included."""

    name: str
    source: str
    root: str
    runs: int
    spent: float


@dataclass(frozen=True)
class PopulationStatus:
    """A population. ``spent``, ``reserved`` and ``left`` are ε at the cap's δ.

    ``reserved`` is what open reservations add to what is spent. Without a cap the figures are 0.
    """

    name: str
    epsilon: Decimal | None
    delta: Decimal | None
    spent: float
    reserved: float
    left: float
    runs: int
    refusals: int
    raised: int
    datasets: tuple[DatasetStatus, ...]


@dataclass(frozen=True)
class RunSpend:
    """What one run is charged, for a table. ``epsilon`` is of the run by itself at ``delta``."""

    seq: int
    time: str
    run: str
    kind: str
    state: str
    populations: str
    datasets: str
    epsilon: float
    delta: float
    config: str


def run_spends(state: State, times: Mapping[int, str]) -> list[RunSpend]:
    """Every reservation of ``state`` in order; ``times`` are those of the rows."""
    return [
        RunSpend(
            seq=run.seq,
            time=times[run.seq],
            run=run.run_id,
            kind=run.kind,
            state=run.state,
            populations="; ".join(run.populations),
            datasets="; ".join(state.datasets[one].name for one in run.datasets),
            epsilon=total_epsilon([run.charged], run.delta),
            delta=run.delta,
            config=run.config_digest,
        )
        for run in sorted(state.reservations.values(), key=lambda run: run.seq)
    ]


def population_status(
    state: State, name: str, places: Mapping[str, tuple[str, str]]
) -> PopulationStatus:
    """One population of ``state``; ``places`` says where its data sets lie."""
    people = state.populations[name]
    cap = people.cap
    spent = _cost(cap, state.spends(name, open_too=False))
    both = _cost(cap, state.spends(name))
    datasets = []
    for bound in state.datasets.values():
        if bound.population == name:
            readers = [r for r in state.reservations.values() if bound.dataset in r.datasets]
            source, root = places.get(bound.dataset, ("unknown", ""))
            cost = _cost(cap, [r.charged for r in readers])
            datasets.append(DatasetStatus(bound.name, source, root, len(readers), cost))
    return PopulationStatus(
        name=name,
        epsilon=cap.epsilon if cap else None,
        delta=cap.delta if cap else None,
        spent=spent,
        reserved=max(0.0, both - spent),
        left=cap.left(both) if cap else 0.0,
        runs=sum(name in r.populations for r in state.reservations.values()),
        refusals=people.refusals,
        raised=people.raised,
        datasets=tuple(datasets),
    )


def _cost(cap: Cap | None, spends: Sequence[Spend]) -> float:
    return cap.cost(spends) if cap else 0.0
