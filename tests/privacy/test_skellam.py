"""The Skellam event's figures against exact divergences and against Gaussian noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import skellam

from privfin.errors import PlanError
from privfin.privacy.accounting import SubsampledGaussianEvent, epsilon, epsilon_rdp
from privfin.privacy.composition import Spend, total_epsilon
from privfin.privacy.renyi import ORDERS, poisson_sampled
from privfin.privacy.skellam import (
    SubsampledSkellamEvent,
    skellam_curve,
    unsampled_curve,
)


def skellam_epsilon(events: list[SubsampledSkellamEvent], delta: float) -> float:
    return total_epsilon([Spend((tuple(events),))], delta)


def exact_divergence(order: int, shift: int, variance: float) -> float:
    """D_order of a Skellam shifted by ``shift`` against one that is not, by summation."""
    reach = int(40 * math.sqrt(variance)) + 10 * order + 2 * shift
    points = np.arange(-reach, reach + 1)
    p = skellam.logpmf(points - shift, variance / 2, variance / 2)
    q = skellam.logpmf(points, variance / 2, variance / 2)
    inside = np.isfinite(p) & np.isfinite(q)
    logs = order * p[inside] - (order - 1) * q[inside]
    return float(np.logaddexp.reduce(logs)) / (order - 1)


@pytest.mark.parametrize("variance", [1.0, 4.0, 25.0, 400.0])
@pytest.mark.parametrize("shift", [1, 2, 5, 10])
def test_the_bound_holds_in_one_dimension_and_is_close(variance: float, shift: int) -> None:
    curve = unsampled_curve(variance, shift**2, shift)
    for order in (2, 3, 5, 8, 16, 32, 64):
        exact = exact_divergence(order, shift, variance)
        assert exact <= curve[order - 2] * (1 + 1e-9)
        if order * shift < variance / 4:
            assert curve[order - 2] <= 1.1 * exact


def test_the_bound_is_that_of_the_theorem() -> None:
    # Worked by hand at order 3: 3·9/20 + min((5·9 + 6·5)/400, 15/20) and, at little noise,
    # 3·9/2 + min((45 + 30)/4, 15/2). Leaving either part of the minimum out changes one of them.
    assert unsampled_curve(10, 9, 5)[1] == pytest.approx(1.35 + 0.1875)
    assert unsampled_curve(1, 9, 5)[1] == pytest.approx(13.5 + 7.5)


def test_the_l1_part_of_the_second_term_counts() -> None:
    with_l1 = skellam_epsilon([SubsampledSkellamEvent(40, 30, 30, 0.2, 300, 0.0)], 1e-5)
    hardly_l1 = skellam_epsilon([SubsampledSkellamEvent(40, 30, 1, 0.2, 300, 0.0)], 1e-5)
    assert with_l1 > 1.002 * hardly_l1


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "delta"),
    [(1.0, 0.032, 620, 1e-5), (2.0, 0.128, 480, 1e-4), (5.0, 1.0, 50, 1e-5), (8.0, 0.2, 300, 1e-5)],
)
def test_fine_integers_cost_what_gaussian_noise_costs(
    noise: float, rate: float, steps: int, delta: float
) -> None:
    gaussian = [SubsampledGaussianEvent(noise, rate, steps)]
    bounds = []
    for scale in (10, 100, 10_000):
        l2_squared = scale**2
        l1 = min(l2_squared, 60 * scale)  # 3600 parameters
        variance = round((noise * scale) ** 2)
        event = SubsampledSkellamEvent(variance, l2_squared, l1, rate, steps, 0.0)
        bounds.append(skellam_epsilon([event], delta))
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[-1] == pytest.approx(epsilon_rdp(gaussian, delta), rel=1e-4)
    assert min(bounds) >= epsilon(gaussian, delta)


BROKEN = {
    "sampling left out of the sum": lambda event: (
        event.steps
        * event.sampling_rate**2
        * unsampled_curve(event.variance, event.l2_squared, event.l1)[np.asarray(ORDERS) - 2]
    ),
    "variance halved in the accountant's favour": lambda event: (
        event.steps
        * poisson_sampled(
            unsampled_curve(2 * event.variance, event.l2_squared, event.l1), event.sampling_rate
        )
    ),
    "steps ignored": lambda event: poisson_sampled(
        unsampled_curve(event.variance, event.l2_squared, event.l1), event.sampling_rate
    ),
}


def exact_sampled(order: int, event: SubsampledSkellamEvent, shift: int) -> float:
    """The exact divergence of one coordinate, over all steps, in the worse direction."""
    reach = int(40 * math.sqrt(event.variance)) + 10 * order
    points = np.arange(-reach, reach + 1)
    half = event.variance / 2
    without, shifted = (skellam.logpmf(points - at, half, half) for at in (0, shift))
    rate = event.sampling_rate
    mixed = np.logaddexp(math.log1p(-rate) + without, math.log(rate) + shifted)
    both = []
    for p, q in ((mixed, without), (without, mixed)):
        both.append(float(np.logaddexp.reduce(order * p - (order - 1) * q)) / (order - 1))
    return event.steps * max(both)


@pytest.mark.parametrize("name", ["right", *BROKEN])
def test_the_curve_holds_exactly_and_broken_ones_do_not(name: str) -> None:
    shift = 4
    event = SubsampledSkellamEvent(16, shift**2, shift, 0.1, 50, 0.0)
    curve = skellam_curve(event) if name == "right" else BROKEN[name](event)
    holds = [
        exact_sampled(order, event, shift) <= curve[ORDERS.index(order)] for order in range(2, 13)
    ]
    assert all(holds) == (name == "right")


def test_slack_goes_off_delta() -> None:
    exact = SubsampledSkellamEvent(10_000, 2_500, 2_500, 0.1, 100, 0.0)
    half = SubsampledSkellamEvent(10_000, 2_500, 2_500, 0.1, 100, 5e-6)
    assert skellam_epsilon([half], 1e-5) == skellam_epsilon([exact], 5e-6)
    assert skellam_epsilon([half, half], 1e-5) == math.inf
    nothing = SubsampledSkellamEvent(10_000, 2_500, 2_500, 0.1, 0, 5e-6)
    assert skellam_epsilon([nothing, nothing], 1e-5) == 0.0


def test_nothing_run_no_noise_and_nothing_to_hide() -> None:
    assert skellam_epsilon([], 1e-5) == 0.0
    assert skellam_epsilon([SubsampledSkellamEvent(0, 1, 1, 0.1, 1, 0.0)], 1e-5) == math.inf
    assert skellam_epsilon([SubsampledSkellamEvent(0, 0, 0, 0.1, 1, 0.0)], 1e-5) == 0.0


@settings(deadline=None, max_examples=25)
@given(
    variance=st.integers(1, 10**9),
    l2_squared=st.integers(1, 10**6),
    rate=st.floats(1e-4, 1.0),
    steps=st.integers(1, 2000),
)
def test_monotone(variance: int, l2_squared: int, rate: float, steps: int) -> None:
    def cost(v: int, s: int, l1: int, q: float, t: int) -> np.ndarray:
        return skellam_curve(SubsampledSkellamEvent(v, s, l1, q, t, 0.0))

    here = cost(variance, l2_squared, l2_squared, rate, steps)
    assert np.isfinite(here).all()
    assert (cost(2 * variance, l2_squared, l2_squared, rate, steps) <= here).all()
    assert (cost(variance, 2 * l2_squared, l2_squared, rate, steps) >= here).all()
    assert (cost(variance, l2_squared, 2 * l2_squared, rate, steps) >= here).all()
    assert (cost(variance, l2_squared, l2_squared, rate, steps + 1) >= here).all()
    assert (cost(variance, l2_squared, l2_squared, rate / 2, steps) <= here * (1 + 1e-9)).all()


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, -1),
        (0, 1.0),
        (0, True),
        (0, 2**53 + 1),
        (1, -1),
        (2, "3"),
        (3, 0.0),
        (3, 1.1),
        (3, math.nan),
        (4, -1),
        (4, 2.0),
        (5, -1e-9),
        (5, 1.0),
        (5, math.nan),
        (5, "0"),
    ],
)
def test_events_refuse_what_is_out_of_range(at: int, value: object) -> None:
    fields: list[object] = [100, 10, 10, 0.1, 10, 0.0]
    SubsampledSkellamEvent(*fields)
    fields[at] = value
    with pytest.raises(PlanError):
        SubsampledSkellamEvent(*fields)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1.0, math.nan])
def test_delta_out_of_range(delta: float) -> None:
    with pytest.raises(PlanError, match="delta"):
        skellam_epsilon([], delta)
