"""Caps, what events cost under them, and what would still fit.

Every decision is made here: ε is recomputed from all events at the cap's δ by
:func:`privfin.privacy.composition.total_epsilon`, rounded up to whole billionths, and compared with
the cap rounded down to them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from privfin.errors import PlanError, UserInputError
from privfin.privacy.accounting import SMALLEST_DELTA, SubsampledGaussianEvent
from privfin.privacy.composition import (
    EnvelopeEvent,
    Event,
    Spend,
    event_from_dict,
    event_to_dict,
    total_epsilon,
)
from privfin.privacy.skellam import SubsampledSkellamEvent

NOTHING = Spend(((),))
"""What a run costs that never started."""

_UNIT = 10**9
_LARGEST_EPSILON = Decimal(1000)
_SMALLEST_OFFER = 0.05
_LARGEST_SCALE = 1e4


@dataclass(frozen=True)
class Cap:
    """The most that a population's patients may be charged: ε at δ.

    Raises:
        UserInputError: ε outside (0, 1000] or δ outside [1e-12, 0.1].
    """

    epsilon: Decimal
    delta: Decimal

    def __post_init__(self) -> None:
        if not (self.epsilon.is_finite() and 0 < self.epsilon <= _LARGEST_EPSILON):
            raise UserInputError(
                f"a cap on epsilon lies above 0 and is at most {_LARGEST_EPSILON}, "
                f"got {self.epsilon}"
            )
        smallest = Decimal(repr(SMALLEST_DELTA))
        if not (self.delta.is_finite() and smallest <= self.delta <= Decimal("0.1")):
            raise UserInputError(f"a cap on delta lies in [{smallest}, 0.1], got {self.delta}")

    @classmethod
    def read(cls, epsilon: str, delta: str) -> Cap:
        """From decimal numbers as text. UserInputError if they are none, or out of range."""
        try:
            return cls(Decimal(epsilon), Decimal(delta))
        except InvalidOperation:
            raise UserInputError(f"not decimal numbers: '{epsilon}', '{delta}'") from None

    def above(self, other: Cap) -> bool:
        """Whether it allows anything that ``other`` does not."""
        return self.epsilon > other.epsilon or self.delta > other.delta

    def admits(self, epsilon: float, *, tolerance: float = 0.0) -> bool:
        """Whether a total of ``epsilon``, rounded up, is within the cap, rounded down."""
        if not math.isfinite(epsilon):
            return False
        spent = math.ceil(Fraction(epsilon) * _UNIT)
        allowed = math.floor((Fraction(self.epsilon) + Fraction(tolerance)) * _UNIT)
        return spent <= allowed

    def cost(self, spends: Sequence[Spend]) -> float:
        """ε of all ``spends`` together at this cap's δ, the δ rounded down."""
        delta = float(self.delta)
        if Fraction(delta) > Fraction(self.delta):
            delta = max(math.nextafter(delta, 0.0), SMALLEST_DELTA)
        return total_epsilon(spends, delta)

    def left(self, epsilon: float) -> float:
        """What is left of the cap after ``epsilon``, at least 0."""
        return max(0.0, float(self.epsilon) - epsilon)


def spend_to_list(spend: Spend) -> list[list[dict[str, str | int]]]:
    """``spend`` ready for canonical JSON, without floats."""
    return [[event_to_dict(event) for event in events] for events in spend.alternatives]


def spend_from_list(found: object) -> Spend:
    """Read back :func:`spend_to_list`. PlanError if it is none."""
    if not isinstance(found, list) or not all(isinstance(events, list) for events in found):
        raise PlanError("a spend is a list of lists of events")
    return Spend(tuple(tuple(_read_event(e) for e in events) for events in found))


def _read_event(found: Any) -> Event:
    if not isinstance(found, Mapping):
        raise PlanError("an event is an object")
    return event_from_dict(found)


def is_within(part: Spend, whole: Spend) -> bool:
    """Whether ``part`` is some of the steps of ``whole``: the same alternatives, with the same
    kinds of events, and of each kind no more steps, envelopes or slack."""
    if len(part.alternatives) != len(whole.alternatives):
        return False
    pairs = zip(part.alternatives, whole.alternatives, strict=True)
    return all(_events_within(some, every) for some, every in pairs)


def _events_within(some: Sequence[Event], every: Sequence[Event]) -> bool:
    steps, slacks = _count(some)
    allowed, allowed_slacks = _count(every)
    return all(count <= allowed[kind] for kind, count in steps.items()) and all(
        slack <= allowed_slacks[kind] for kind, slack in slacks.items()
    )


def _count(events: Sequence[Event]) -> tuple[Counter[Event], Counter[Event]]:
    """Steps and slack of every kind of event."""
    steps: Counter[Event] = Counter()
    slacks: Counter[Event] = Counter()
    for event in events:
        match event:
            case EnvelopeEvent():
                steps[event] += 1
            case SubsampledSkellamEvent():
                kind = replace(event, steps=0, slack=0.0)
                steps[kind] += event.steps
                # A Counter of exact fractions: sums of floats could round the wrong way.
                slacks[kind] += Fraction(event.slack)  # type: ignore[assignment]
            case SubsampledGaussianEvent():
                steps[replace(event, steps=0)] += event.steps
    return steps, slacks


def fitting_epsilon(cap: Cap, before: Sequence[Spend], wanted: Spend, delta: float) -> float | None:
    """The largest ε that a run like ``wanted`` could have under ``cap`` beside ``before``.

    Noise is scaled up until the run fits, at the same sampling rates and steps. Envelopes are
    scaled down. The answer is the scaled run's own ε at ``delta``, rounded down to 0.01, or None
    if it would be below 0.05.
    """

    def scaled(scale: float) -> Spend:
        return Spend(tuple(tuple(_scaled(e, scale) for e in es) for es in wanted.alternatives))

    def fits(scale: float) -> bool:
        return cap.admits(cap.cost([*before, scaled(scale)]))

    low, high = 1.0, 2.0
    while not fits(high):
        low, high = high, high * 2.0
        if high > _LARGEST_SCALE:
            return None
    # The noise, to a fifth of a percent, on the safe side.
    while high / low > 1.002:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    found = _own_epsilon(scaled(high), delta)
    found = math.floor(found * 100 + 1e-9) / 100 if math.isfinite(found) else 0.0
    return found if found >= _SMALLEST_OFFER else None


def _own_epsilon(spend: Spend, delta: float) -> float:
    """ε of one run by itself; for envelopes alone, what they state."""
    events = [event for events in spend.alternatives for event in events]
    if all(isinstance(event, EnvelopeEvent) for event in events):
        return max(
            math.fsum(e.epsilon for e in es if isinstance(e, EnvelopeEvent))
            for es in spend.alternatives
        )
    return total_epsilon([spend], delta)


def _scaled(event: Event, scale: float) -> Event:
    match event:
        case EnvelopeEvent():
            return replace(event, epsilon=event.epsilon / scale)
        case SubsampledSkellamEvent():
            return replace(event, variance=math.ceil(event.variance * scale**2))
        case SubsampledGaussianEvent():
            return replace(event, noise_multiplier=event.noise_multiplier * scale)
