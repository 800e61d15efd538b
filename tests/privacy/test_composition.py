"""Spends of several runs add up, and events survive being stored."""

from __future__ import annotations

import json
import math
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privfin.errors import PlanError
from privfin.privacy import accounting
from privfin.privacy.accounting import SubsampledGaussianEvent
from privfin.privacy.composition import (
    FILTER_ORDERS,
    EnvelopeEvent,
    Event,
    Spend,
    event_from_dict,
    event_to_dict,
    planned_epsilon,
    total_epsilon,
)
from privfin.privacy.renyi import ORDERS
from privfin.privacy.skellam import SubsampledSkellamEvent, skellam_epsilon

GAUSSIAN = SubsampledGaussianEvent(1.2, 0.05, 300)
STRONGER = SubsampledGaussianEvent(2.0, 0.05, 300)
SKELLAM = SubsampledSkellamEvent(1_000_000, 250_000, 50_000, 0.05, 300, 1e-12)

EVENTS = st.one_of(
    st.builds(
        SubsampledGaussianEvent,
        st.floats(0, 1e6),
        st.floats(0, 1, exclude_min=True),
        st.integers(0, 2**40),
    ),
    st.builds(
        SubsampledSkellamEvent,
        st.integers(0, 2**53),
        st.integers(0, 2**40),
        st.integers(0, 2**40),
        st.floats(0, 1, exclude_min=True),
        st.integers(0, 2**40),
        st.floats(0, 1, exclude_max=True),
    ),
    st.builds(EnvelopeEvent, st.floats(0, 1e6), st.floats(0, 1, exclude_max=True)),
)


def one(*events: Event) -> Spend:
    return Spend((events,))


@given(event=EVENTS)
def test_events_survive_being_stored_exactly(event: Event) -> None:
    stored = json.loads(json.dumps(event_to_dict(event)))
    assert event_from_dict(stored) == event
    # No float reaches the JSON, where another reader might round it.
    assert all(isinstance(value, str | int) for value in stored.values())


@pytest.mark.parametrize("event", [GAUSSIAN, SKELLAM, EnvelopeEvent(3.0, 1e-6)])
def test_damaged_events_are_refused(event: Event) -> None:
    stored = event_to_dict(event)
    assert event_from_dict(stored) == event
    for name in [field.name for field in fields(event)]:
        for wrong in (None, [], "much", "nan", -1, "-1", 0.5, True):
            with pytest.raises(PlanError):
                event_from_dict({**stored, name: wrong})
        with pytest.raises(PlanError, match="fields"):
            event_from_dict({key: value for key, value in stored.items() if key != name})
    with pytest.raises(PlanError, match="fields"):
        event_from_dict({**stored, "unit": "patient"})
    for kind in ("laplace", None, 3, [], "Gaussian"):
        with pytest.raises(PlanError, match="kind"):
            event_from_dict({**stored, "kind": kind})


def test_one_spend_costs_its_tightest_figure() -> None:
    assert total_epsilon([one(GAUSSIAN)], 1e-5) == accounting.epsilon([GAUSSIAN], 1e-5)
    assert total_epsilon([one(SKELLAM)], 1e-5) == skellam_epsilon([SKELLAM], 1e-5)
    both = total_epsilon([one(GAUSSIAN, SKELLAM)], 1e-5)
    assert both > total_epsilon([one(GAUSSIAN)], 1e-5) + 0.1
    assert both > total_epsilon([one(SKELLAM)], 1e-5) + 0.1


def test_the_dearest_alternative_counts() -> None:
    spend = Spend(((STRONGER,), (GAUSSIAN,), ()))
    assert total_epsilon([spend], 1e-5) == total_epsilon([one(GAUSSIAN)], 1e-5)
    assert planned_epsilon([spend], 1e-5) == total_epsilon([one(GAUSSIAN)], 1e-5)


def test_nothing_spent() -> None:
    empty = Spend(((),))
    for figure in (total_epsilon, planned_epsilon):
        assert figure([], 1e-5) == 0.0
        assert figure([empty, empty], 1e-5) == 0.0
        # A run that has not started does not change how the others are counted.
        assert figure([empty, one(GAUSSIAN)], 1e-5) == figure([one(GAUSSIAN)], 1e-5)


@pytest.mark.parametrize("second", [GAUSSIAN, STRONGER, SKELLAM])
@pytest.mark.parametrize("cap", [None, 3.0, 12.0])
def test_two_spends_cost_more_than_one_and_less_than_the_sum(
    second: Event, cap: float | None
) -> None:
    spends = [one(GAUSSIAN), one(second)]
    each = [total_epsilon([spend], 5e-6) for spend in spends]
    planned = planned_epsilon(spends, 1e-5)
    total = total_epsilon(spends, 1e-5, cap=cap)
    assert max(total_epsilon([spend], 1e-5) for spend in spends) < planned <= total
    if cap is None:
        assert total < 1.15 * sum(each)
    assert total == total_epsilon(spends[::-1], 1e-5, cap=cap)


def test_planned_spends_are_one_long_run() -> None:
    both = planned_epsilon([one(GAUSSIAN), one(GAUSSIAN)], 1e-5)
    assert both == accounting.epsilon([GAUSSIAN, GAUSSIAN], 1e-5)


def test_a_patient_may_change_the_site_between_runs() -> None:
    a, b = (GAUSSIAN,), (STRONGER, STRONGER)
    runs = [Spend((a, b)), Spend((a, b))]
    assert planned_epsilon(runs, 1e-5) == pytest.approx(
        max(accounting.epsilon([*first, *second], 1e-5) for first in (a, b) for second in (a, b)),
        abs=1e-9,
    )
    assert total_epsilon(runs, 1e-5) >= total_epsilon([one(*a), one(*b)], 1e-5)


def test_many_combinations_fall_back_on_renyi() -> None:
    sites = tuple((SubsampledGaussianEvent(3.0 + site / 10, 0.05, 100),) for site in range(8))
    runs = [Spend(sites)] * 3
    dearest = [Spend((sites[0],))] * 3
    assert planned_epsilon(dearest, 1e-5) <= planned_epsilon(runs, 1e-5)
    assert planned_epsilon(runs, 1e-5) <= total_epsilon(runs, 1e-5)


def test_a_known_cap_gives_the_tighter_figure() -> None:
    spends = [one(GAUSSIAN)] * 3
    general = total_epsilon(spends, 1e-5)
    assert total_epsilon(spends, 1e-5, cap=general) < 0.95 * general
    assert set(FILTER_ORDERS) <= set(ORDERS)


def test_the_filter_does_not_pick_its_order_afterwards() -> None:
    # With the order taken from the cap, spends of another size are not at their best order.
    small = [one(SubsampledGaussianEvent(20.0, 0.05, 300))] * 2
    loose = total_epsilon(small, 1e-5, cap=12.0)
    fitting = total_epsilon(small, 1e-5, cap=0.3)
    assert planned_epsilon(small, 1e-5) < fitting < 0.2 * loose


def test_envelopes_add_epsilon_and_take_delta() -> None:
    envelope = EnvelopeEvent(2.0, 4e-6)
    alone = total_epsilon([one(GAUSSIAN)], 6e-6)
    assert total_epsilon([one(GAUSSIAN, envelope)], 1e-5) == pytest.approx(alone + 2.0)
    assert total_epsilon([one(envelope)], 1e-5) == 2.0
    assert total_epsilon([one(envelope), one(envelope)], 1e-5) > 4.0 - 1e-9
    without = total_epsilon([one(GAUSSIAN), one(SKELLAM)], 6e-6)
    with_one = total_epsilon([one(GAUSSIAN), one(SKELLAM), one(envelope)], 1e-5)
    assert with_one == pytest.approx(without + 2.0)


def test_no_delta_left_is_infinite() -> None:
    envelope = EnvelopeEvent(2.0, 5e-6)
    spends = [one(envelope), one(envelope)]
    for figure in (total_epsilon, planned_epsilon):
        assert figure(spends, 1e-5) == math.inf
        assert figure([one(envelope, GAUSSIAN)], 5e-6) == math.inf
        assert figure([one(EnvelopeEvent(0.0, 1e-5))], 1e-5) == math.inf
        # Less δ left than the grid of losses can hold: the Rényi bound, not a failure.
        close = one(EnvelopeEvent(2.0, 1e-5 - 1e-14), GAUSSIAN)
        assert 2.0 < figure([close], 1e-5) < math.inf


def test_no_noise_is_infinite() -> None:
    silent = SubsampledGaussianEvent(0.0, 0.5, 1)
    for figure in (total_epsilon, planned_epsilon):
        assert figure([one(silent)], 1e-5) == math.inf
        assert figure([one(silent), one(GAUSSIAN)], 1e-5) == math.inf


def test_spends_refuse_what_is_not_an_event() -> None:
    with pytest.raises(PlanError, match="at least one list"):
        Spend(())
    with pytest.raises(PlanError, match="accounting events"):
        Spend((({"kind": "gaussian"},),))  # type: ignore[dict-item]


@pytest.mark.parametrize("delta", [0.0, 1.0, math.nan, 1e-13, "1e-5"])
def test_delta_out_of_range(delta: float) -> None:
    for figure in (total_epsilon, planned_epsilon):
        with pytest.raises(PlanError, match="delta"):
            figure([one(GAUSSIAN)], delta)


@pytest.mark.parametrize("cap", [0.0, -1.0, math.nan, math.inf])
def test_cap_out_of_range(cap: float) -> None:
    with pytest.raises(PlanError, match="cap"):
        total_epsilon([one(GAUSSIAN)], 1e-5, cap=cap)
