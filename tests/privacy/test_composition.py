"""Spends of several runs add up, and events survive being stored."""

from __future__ import annotations

import json
import math
from dataclasses import fields

import pytest
from hypothesis import given, settings
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
    events_curve,
    total_epsilon,
)
from privfin.privacy.renyi import ORDERS, curve_epsilon
from privfin.privacy.skellam import SubsampledSkellamEvent, skellam_curve

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
    by_hand = curve_epsilon(skellam_curve(SKELLAM), 1e-5 - SKELLAM.slack)
    assert total_epsilon([one(SKELLAM)], 1e-5) == by_hand
    both = total_epsilon([one(GAUSSIAN, SKELLAM)], 1e-5)
    assert both > total_epsilon([one(GAUSSIAN)], 1e-5) + 0.1
    assert both > total_epsilon([one(SKELLAM)], 1e-5) + 0.1


def test_the_dearest_alternative_counts() -> None:
    spend = Spend(((STRONGER,), (GAUSSIAN,), ()))
    assert total_epsilon([spend], 1e-5) == total_epsilon([one(GAUSSIAN)], 1e-5)


def test_nothing_spent() -> None:
    empty = Spend(((),))
    assert total_epsilon([], 1e-5) == 0.0
    assert total_epsilon([empty, empty], 1e-5) == 0.0
    # A run that has not started does not change how the others are counted.
    alone = total_epsilon([one(GAUSSIAN)], 1e-5)
    assert total_epsilon([empty, one(GAUSSIAN)], 1e-5) == alone


@pytest.mark.parametrize("second", [GAUSSIAN, STRONGER, SKELLAM])
def test_two_spends_cost_more_than_one_and_hardly_more_than_the_sum(second: Event) -> None:
    spends = [one(GAUSSIAN), one(second)]
    total = total_epsilon(spends, 1e-5)
    assert max(total_epsilon([spend], 1e-5) for spend in spends) < total
    # By themselves at their shares of half of δ, added up.
    shares = (1e-5 / 4, 1e-5 / 12)
    apart = [total_epsilon([s], share) for s, share in zip(spends, shares, strict=True)]
    assert total <= sum(apart)
    assert total < 1.2 * sum(total_epsilon([spend], 1e-5) for spend in spends)


def test_a_small_run_after_a_large_one_is_added_as_it_is() -> None:
    """Rényi divergences alone would let nothing follow a run of few noisy steps."""
    large, small = (SubsampledGaussianEvent(sigma, 0.0556, 20) for sigma in (0.576, 1.0))
    first = total_epsilon([one(large)], 1e-5)
    both = total_epsilon([one(large), one(small)], 1e-5)
    apart = [total_epsilon([one(event)], share) for event, share in ((large, 2.5e-6),
             (small, 1e-5 / 12))]  # fmt: skip
    assert both == pytest.approx(sum(apart))
    curve = events_curve([large]) + events_curve([small])
    share = 1e-5 / 2 / len(FILTER_ORDERS)
    renyi = min(curve_epsilon(curve, share, [order]) for order in FILTER_ORDERS)
    assert first < both < 0.9 * renyi


def test_many_small_runs_cost_far_less_than_their_sum() -> None:
    small = SubsampledGaussianEvent(20.0, 0.05, 300)
    many = total_epsilon([one(small)] * 40, 1e-5)
    assert many < 0.5 * 40 * total_epsilon([one(small)], 1e-5)


def test_spends_chosen_on_the_way_cost_more_than_one_long_run() -> None:
    """What is fixed in advance may be composed tightly, what follows on results may not."""
    long_run = accounting.epsilon([GAUSSIAN, GAUSSIAN], 1e-5)
    assert long_run < total_epsilon([one(GAUSSIAN), one(GAUSSIAN)], 1e-5) < 1.5 * long_run


def test_a_patient_may_change_the_site_between_runs() -> None:
    a, b = (GAUSSIAN,), (STRONGER, STRONGER)
    runs = [Spend((a, b)), Spend((a, b))]
    every = [[*first, *second] for first in (a, b) for second in (a, b)]
    assert total_epsilon(runs, 1e-5) > max(accounting.epsilon(events, 1e-5) for events in every)
    assert total_epsilon(runs, 1e-5) >= total_epsilon([one(*a), one(*b)], 1e-5)


def test_delta_is_shared_among_all_filters() -> None:
    """A filter picked afterwards, as if only it had been used, would not cover a chosen spend."""
    spends = [one(GAUSSIAN)] * 9  # too many for the sum of their own epsilons
    curve = 9 * events_curve([GAUSSIAN])
    picked = min(curve_epsilon(curve, 1e-5, [order]) for order in FILTER_ORDERS)
    assert picked < total_epsilon(spends, 1e-5)
    share = 1e-5 / 2 / len(FILTER_ORDERS)
    assert total_epsilon(spends, 1e-5) == pytest.approx(
        min(curve_epsilon(curve, share, [order]) for order in FILTER_ORDERS)
    )
    assert set(FILTER_ORDERS) <= set(ORDERS)


@given(sigmas=st.lists(st.floats(0.6, 20.0), min_size=1, max_size=12), more=st.floats(0.6, 20.0))
@settings(max_examples=25, deadline=None)
def test_another_spend_never_lowers_the_total(sigmas: list[float], more: float) -> None:
    """Filters only grow: what was refused stays refused until something is given back."""
    spends = [one(SubsampledGaussianEvent(sigma, 0.05, 100)) for sigma in sigmas]
    longer = [*spends, one(SubsampledGaussianEvent(more, 0.05, 100))]
    before = total_epsilon(spends, 1e-5)
    # One spend is stated at its tightest, so it is the only one that may cost less than a filter.
    assert total_epsilon(longer, 1e-5) > before


def test_envelopes_add_epsilon_and_take_delta() -> None:
    envelope = EnvelopeEvent(2.0, 4e-6)
    alone = total_epsilon([one(GAUSSIAN)], 6e-6)
    assert total_epsilon([one(GAUSSIAN, envelope)], 1e-5) == pytest.approx(alone + 2.0)
    assert total_epsilon([one(envelope)], 1e-5) == 2.0
    pure = EnvelopeEvent(2.0, 0.0)
    assert total_epsilon([one(pure)] * 4, 1e-5) == 8.0
    # Many: each adds its epsilon to every Rényi divergence and its delta to what is lost of δ.
    many, small = [one(GAUSSIAN)] * 9, EnvelopeEvent(2.0, 1e-6)
    curve = 9 * events_curve([GAUSSIAN]) + 2.0
    share = (5e-6 - 1e-6) / len(FILTER_ORDERS)
    assert total_epsilon([*many, one(small)], 1e-5) == pytest.approx(
        min(curve_epsilon(curve, share, [order]) for order in FILTER_ORDERS)
    )


def test_no_delta_left_is_infinite() -> None:
    envelope = EnvelopeEvent(2.0, 5e-6)
    assert total_epsilon([one(envelope), one(envelope)], 1e-5) == math.inf
    assert total_epsilon([one(envelope, GAUSSIAN)], 5e-6) == math.inf
    assert total_epsilon([one(EnvelopeEvent(0.0, 1e-5))], 1e-5) == math.inf
    # Less δ left than the grid of losses can hold: the Rényi bound, not a failure.
    close = one(EnvelopeEvent(2.0, 1e-5 - 1e-14), GAUSSIAN)
    assert 2.0 < total_epsilon([close], 1e-5) < math.inf


def test_no_noise_is_infinite() -> None:
    silent = SubsampledGaussianEvent(0.0, 0.5, 1)
    assert total_epsilon([one(silent)], 1e-5) == math.inf
    assert total_epsilon([one(silent), one(GAUSSIAN)], 1e-5) == math.inf


def test_spends_refuse_what_is_not_an_event() -> None:
    with pytest.raises(PlanError, match="at least one list"):
        Spend(())
    with pytest.raises(PlanError, match="accounting events"):
        Spend((({"kind": "gaussian"},),))  # type: ignore[dict-item]


@pytest.mark.parametrize("delta", [0.0, 1.0, math.nan, 1e-13, "1e-5"])
def test_delta_out_of_range(delta: float) -> None:
    with pytest.raises(PlanError, match="delta"):
        total_epsilon([one(GAUSSIAN)], delta)
