"""Joint steps meet their target, their bounds hold, and broken bounds are told apart."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from privfin.errors import PlanError
from privfin.privacy.composition import Spend, total_epsilon
from privfin.privacy.shared_calibration import (
    SharedNoise,
    calibrate_shared,
    group_event,
    sensitivity,
)
from privfin.privacy.skellam_noise import largest_draw


def plan(epsilon: float = 8.0, rate: float = 0.1, **changes: object) -> SharedNoise:
    settings = {"clip_norm": 0.2, "parameters": 3473, "honest": 9, "value_bits": 16, **changes}
    return calibrate_shared(epsilon, 1e-5, rate, 300, **settings)


@pytest.mark.parametrize("epsilon", [1.0, 3.0, 8.0])
@pytest.mark.parametrize("rate", [0.014, 0.2])
def test_meets_the_target_from_below_and_fits(epsilon: float, rate: float) -> None:
    noise = plan(epsilon, rate)
    found = total_epsilon([Spend(((noise.event(300),),))], 1e-5)
    assert 0.99 * epsilon <= found <= epsilon
    share = noise.share_variance(10, 1)
    assert noise.largest_value + largest_draw(share) <= 2**15 - 1
    assert 9 * share >= noise.variance
    assert noise.value_range >= 2.0
    halved = replace(noise, variance=noise.variance // 2)
    assert total_epsilon([Spend(((halved.event(300),),))], 1e-5) > 1.1 * epsilon
    # Shares computed over all sites instead of the honest ones would not suffice.
    assert 9 * -(-noise.variance // 10) < noise.variance


def test_rounding_ignored_would_understate() -> None:
    noise = plan(8.0, parameters=700_000)
    bare = round((noise.scale * 0.2) ** 2)
    ignored = replace(noise.event(300), l2_squared=bare)
    assert total_epsilon([Spend(((ignored,),))], 1e-5) < total_epsilon(
        [Spend(((noise.event(300),),))], 1e-5
    )


@pytest.mark.parametrize(("size", "parameters"), [(5.0, 100), (50.0, 3473), (0.5, 50)])
def test_the_norms_hold_for_rounded_sums(size: float, parameters: int) -> None:
    generator = np.random.default_rng(1)
    l2_squared, l1 = sensitivity(size, parameters, 1e-12)
    largest, beyond = 0, 0
    for trial in range(400):
        change = generator.normal(size=parameters) * (
            generator.random(parameters) < (1.0, 0.02)[trial % 2]
        )
        change *= size / max(float(np.linalg.norm(change)), 1e-9)
        base, dither = 100 * generator.normal(size=parameters), generator.random(parameters)
        moved = np.floor(base + change + dither) - np.floor(base + dither)
        cut = np.clip(np.floor(base + change + dither), -40, 40) - np.clip(
            np.floor(base + dither), -40, 40
        )
        assert (np.abs(cut) <= np.abs(moved)).all()
        largest = max(largest, int((moved**2).sum()))
        beyond += int((moved**2).sum() > size**2)
        assert np.abs(moved).sum() <= l1
    assert largest <= l2_squared
    # Without the terms for rounding the bound would be broken.
    assert beyond > 100


def test_a_patient_at_several_sites() -> None:
    event = plan().event(300)
    double = group_event(event, 2)
    assert group_event(event, 1) == event
    assert double.l2_squared == 4 * event.l2_squared
    assert double.sampling_rate == pytest.approx(1 - (1 - event.sampling_rate) ** 2)
    assert total_epsilon([Spend(((double,),))], 1e-5) > 2 * 7.9
    with pytest.raises(PlanError):
        group_event(event, 0)


def test_refusals_say_what_to_change() -> None:
    with pytest.raises(PlanError, match="value_bits"):
        plan(1.0, 0.2, parameters=700_000, honest=3)
    with pytest.raises(PlanError, match="no share"):
        plan().share_variance(1, 1)
    for wrong in ({"clip_norm": 0.0}, {"parameters": 0}, {"honest": 0}, {"value_bits": 3}):
        with pytest.raises(PlanError):
            plan(**wrong)
    with pytest.raises(PlanError):
        plan(math.inf)
