"""What a patient has spent over several runs: events, spends, and the ε of all of them together.

:func:`total_epsilon` is the figure that caps are enforced on. It holds also when the settings of a
later run were chosen after the results of an earlier one were seen. Two kinds of figures may then
be added up to a budget as if all settings had been fixed in advance:

* the Rényi divergences of one order (Feldman and Zrnic, "Individual Privacy Accounting via a Rényi
  Filter", arXiv:2008.11193, theorem 3.1; Lécuyer, "Practical Privacy Filters and Odometers with
  Rényi Differential Privacy", arXiv:2103.01379), best for many small runs,
* the ε and the δ of each run by itself (Rogers, Roth, Ullman and Vadhan, "Privacy Odometers and
  Filters: Pay-as-you-Go Composition", arXiv:1605.08294), best for a few large ones.

Taking the best of several such filters afterwards is not covered by those proofs: an analyst could
steer each outcome towards the filter that suits it. So δ is shared among them. Let S be any set of
outcomes, and S_j those of S that end within the budget of filter j and of none before it. Filters
only ever grow, so on S_j the process is the one that filter j alone would have stopped:
P(S_j) <= e^ε Q(S_j) + δ_j, and over all j the δ_j add up to δ.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from privfin.errors import PlanError
from privfin.privacy.accounting import SMALLEST_DELTA, SubsampledGaussianEvent, epsilon
from privfin.privacy.renyi import (
    ORDERS,
    FloatArray,
    curve_epsilon,
    gaussian_curve,
)
from privfin.privacy.skellam import SubsampledSkellamEvent, skellam_curve

#: Rényi orders that share half of δ.
FILTER_ORDERS = (2, 3, 4, 5, 6, 8, 10, 14, 20, 32, 64, 128)
# Beyond this many runs Rényi divergences are the better figure, and cost less time.
_MOST_SUMMED = 8


@dataclass(frozen=True, order=True)
class EnvelopeEvent:
    """A reservation whose mechanism is not known yet: only what it may cost at most.

    Attributes:
        epsilon: ε >= 0, finite.
        delta: 0 <= δ < 1.

    Raises:
        PlanError: when a field is out of range or not a number.
    """

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        for name in ("epsilon", "delta"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise PlanError(f"{name} must be a number, got {value!r}")
            if not (math.isfinite(value) and value >= 0.0):
                raise PlanError(f"{name} of an envelope must be finite and at least 0, got {value}")
            object.__setattr__(self, name, float(value))
        if self.delta >= 1.0:
            raise PlanError(f"delta of an envelope must be below 1, got {self.delta}")


Event = SubsampledGaussianEvent | SubsampledSkellamEvent | EnvelopeEvent

_KINDS: dict[str, type[Event]] = {
    "gaussian": SubsampledGaussianEvent,
    "skellam": SubsampledSkellamEvent,
    "envelope": EnvelopeEvent,
}


def event_to_dict(event: Event) -> dict[str, str | int]:
    """``event`` by name of its fields, ready for JSON and exact.

    Whole numbers stay whole numbers; other numbers become the shortest text that reads back as the
    same number.
    """
    kind = next(name for name, known in _KINDS.items() if type(event) is known)
    found: dict[str, str | int] = {"kind": kind}
    for field in fields(event):
        value = getattr(event, field.name)
        found[field.name] = value if isinstance(value, int) else repr(float(value))
    return found


def event_from_dict(stored: Mapping[str, Any]) -> Event:
    """Read back what :func:`event_to_dict` wrote.

    Raises:
        PlanError: when the kind or a field is missing, unknown, of the wrong type or out of range.
    """
    kind = stored.get("kind")
    known = _KINDS.get(kind) if isinstance(kind, str) else None
    if known is None:
        raise PlanError(f"unknown kind of accounting event {kind!r}; known: {', '.join(_KINDS)}")
    names = {field.name: field.type for field in fields(known)}
    if set(stored) != {"kind", *names}:
        found = ", ".join(sorted(str(name) for name in stored if name != "kind")) or "none"
        raise PlanError(f"a {kind} event has the fields {', '.join(names)}; found {found}")
    values: dict[str, Any] = {}
    for name, kept_as in names.items():
        value = stored[name]
        if kept_as == "float":
            if not isinstance(value, str):
                raise PlanError(f"{name} of a {kind} event must be written as text, got {value!r}")
            try:
                value = float(value)
            except ValueError:
                raise PlanError(f"{name} of a {kind} event is not a number: {value!r}") from None
        values[name] = value
    return known(**values)


@dataclass(frozen=True)
class Spend:
    """What one run costs a patient: one of several lists of events, whichever site holds them.

    Attributes:
        alternatives: the lists of events, one for every kind of patient, at least one; a list may
            be empty.

    Raises:
        PlanError: without an alternative, or when an entry is not an event.
    """

    alternatives: tuple[tuple[Event, ...], ...]

    def __post_init__(self) -> None:
        kept = tuple(tuple(events) for events in self.alternatives)
        if not kept:
            raise PlanError("a spend needs at least one list of events")
        for event in itertools.chain.from_iterable(kept):
            if not isinstance(event, Event):
                raise PlanError(f"a spend is made of accounting events, got {event!r}")
        object.__setattr__(self, "alternatives", kept)


def total_epsilon(spends: Sequence[Spend], delta: float) -> float:
    """The ε that all ``spends`` together cost a patient at most: the figure that caps hold.

    With one spend it is the tightest bound: privacy loss distributions for Gaussian events, Rényi
    divergences as soon as there is a Skellam event, the largest over the alternatives. With several
    it is the least that one of these filters says, each with its share of δ:

    * half of δ: the ε of each spend by itself, added up, with the shares 1/2, 1/6, 1/12, … of that
      half in the order of ``spends``; for at most 8 spends,
    * half of δ in equal shares: Rényi divergences at each of twelve orders, the largest alternative
      of each spend, added up.

    Envelopes add their ε and take their δ off ``delta``; so do Skellam events' slacks.

    Refusing every spend with which the total would exceed a cap keeps all spends within
    (cap, ``delta``), however each was chosen, for every cap at once, also one that is raised later.
    A first spend that is within the cap by itself but by no filter does no harm: no other can then
    follow it.

    Args:
        spends: in the order of their reservation; may be empty.
        delta: 1e-12 <= δ < 1.

    Returns:
        An upper bound on ε; ``math.inf`` when a step had no noise or no δ is left.

    Raises:
        PlanError: when ``delta`` is out of range.
    """
    _check_delta(delta)
    costly = [spend for spend in spends if any(map(_live, spend.alternatives))]
    if len(costly) == 1:
        return max(_list_epsilon(_live(events), delta) for events in costly[0].alternatives)
    return min(_summed(costly, delta / 2.0), _filtered(costly, delta / 2.0))


def events_curve(events: Sequence[Event]) -> FloatArray:
    """Rényi divergence bounds of all ``events`` at :data:`~privfin.privacy.renyi.ORDERS`.

    An (ε, δ)-private step is, outside a probability of δ, a step whose loss is at most ε, so its
    divergence is at most ε at every order: an envelope adds its ε everywhere.
    """
    curve = np.zeros(len(ORDERS))
    for event in events:
        match event:
            case SubsampledGaussianEvent(noise, rate, steps):
                if steps:
                    curve += steps * gaussian_curve(noise, rate)
            case SubsampledSkellamEvent():
                curve += skellam_curve(event)
            case EnvelopeEvent():
                curve += event.epsilon
    return curve


def events_slack(events: Sequence[Event]) -> float:
    """What ``events`` take off δ: the δ of envelopes and the slack of Skellam steps."""
    return math.fsum(
        event.delta if isinstance(event, EnvelopeEvent) else event.slack
        for event in _live(events)
        if not isinstance(event, SubsampledGaussianEvent)
    )


def _summed(spends: Sequence[Spend], delta: float) -> float:
    """The ε of each spend by itself, added up, with its share of δ."""
    if len(spends) > _MOST_SUMMED:
        return math.inf
    # 1/2 + 1/6 + 1/12 + … = 1
    shares = [delta / (number * (number + 1)) for number in range(1, len(spends) + 1)]
    return math.fsum(
        max(_list_epsilon(_live(events), share) for events in spend.alternatives)
        for spend, share in zip(spends, shares, strict=True)
    )


def _filtered(spends: Sequence[Spend], delta: float) -> float:
    """At every order the largest alternative of each spend, summed; and so for what δ loses."""
    curve = np.zeros(len(ORDERS))
    slack = 0.0
    for spend in spends:
        curve += np.max([events_curve(events) for events in spend.alternatives], axis=0)
        slack += max(map(events_slack, spend.alternatives))
    if slack >= delta:
        return math.inf
    return curve_epsilon(curve, (delta - slack) / len(FILTER_ORDERS), FILTER_ORDERS)


def _list_epsilon(events: tuple[Event, ...], delta: float) -> float:
    left = delta - events_slack(events)
    if left <= 0.0:
        return math.inf
    gaussians = [event for event in events if isinstance(event, SubsampledGaussianEvent)]
    if left >= SMALLEST_DELTA and not any(
        isinstance(event, SubsampledSkellamEvent) for event in events
    ):
        envelopes = math.fsum(event.epsilon for event in events if isinstance(event, EnvelopeEvent))
        return epsilon(gaussians, left) + envelopes
    return curve_epsilon(events_curve(events), left)


def _live(events: Sequence[Event]) -> tuple[Event, ...]:
    """The events that cost something."""
    return tuple(
        event
        for event in events
        if (
            event.epsilon > 0.0 or event.delta > 0.0
            if isinstance(event, EnvelopeEvent)
            else event.steps > 0
        )
    )


def _check_delta(delta: float) -> None:
    if isinstance(delta, bool) or not isinstance(delta, int | float):
        raise PlanError(f"delta must be a number, got {delta!r}")
    if not SMALLEST_DELTA <= delta < 1.0:
        raise PlanError(f"delta must lie in [{SMALLEST_DELTA:g}, 1), got {delta:g}")
