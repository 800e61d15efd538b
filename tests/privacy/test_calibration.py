"""The noise multiplier meets its target from below, and bad plans are refused."""

from __future__ import annotations

import math

import pytest

from privfin.errors import PlanError
from privfin.privacy import calibration
from privfin.privacy.accounting import SubsampledGaussianEvent, epsilon
from privfin.privacy.calibration import (
    LARGEST_NOISE,
    SMALLEST_NOISE,
    calibrate_noise,
    check_delta,
    check_epsilon,
    default_delta,
    sampling_rate,
)


def spent(noise: float, rate: float, steps: int, delta: float) -> float:
    return epsilon([SubsampledGaussianEvent(noise, rate, steps)], delta)


def hits_from_below(noise: float, target: float, rate: float, steps: int, delta: float) -> bool:
    """The promise: never above the target and at most 0.02 below it."""
    return 0.0 <= target - spent(noise, rate, steps, delta) <= 0.02


@pytest.mark.parametrize("target", [1.0, 3.0, 8.0])
@pytest.mark.parametrize(("rate", "steps"), [(0.032, 620), (0.15, 280), (0.4, 60), (1.0, 50)])
def test_hits_the_target_from_below(target: float, rate: float, steps: int) -> None:
    noise = calibrate_noise(target, 1e-5, rate, steps)
    assert hits_from_below(noise, target, rate, steps, 1e-5)
    assert float(f"{noise:.5g}") == noise
    # The smallest: a little less noise is too little.
    assert spent(noise * (1 - 2e-4), rate, steps, 1e-5) > target


@pytest.mark.parametrize(
    ("target", "delta", "rate", "steps"),
    [(0.1, 1e-6, 0.05, 200), (0.5, 1e-8, 0.3, 10), (20.0, 1e-5, 0.15, 280), (3.0, 1e-4, 0.1, 1)],
)
def test_hits_unusual_targets(target: float, delta: float, rate: float, steps: int) -> None:
    noise = calibrate_noise(target, delta, rate, steps)
    assert hits_from_below(noise, target, rate, steps, delta)


@pytest.mark.parametrize(("target", "published"), [(1.0, 3.164), (8.0, 0.815)])
def test_near_the_published_multipliers(target: float, published: float) -> None:
    # Published with PRV and a tolerance of 0.01 in ε: at most 2 % more noise than needed.
    noise = calibrate_noise(target, 1e-5, 0.032, 620)
    assert published * 0.98 <= noise <= published * 1.001


def test_the_search_ends_on_a_curve_that_misleads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def cliff(events: list[SubsampledGaussianEvent], delta: float) -> float:
        return 1e-9 if events[0].noise_multiplier >= 7.6543 else 1e9

    monkeypatch.setattr(calibration, "spent_epsilon", cliff)
    assert calibrate_noise.__wrapped__(3.0, 1e-5, 0.15, 280) == 7.6543


def test_a_broken_calibration_is_told_apart() -> None:
    noise = calibrate_noise(3.0, 1e-5, 0.15, 280)
    assert hits_from_below(noise, 3.0, 0.15, 280, 1e-5)
    for broken in (
        noise / 2,
        noise * 0.999,
        noise * 1.02,
        calibrate_noise(3.0, 1e-5, 0.15, 28),
        calibrate_noise(3.0, 1e-4, 0.15, 280),
        calibration._central_limit_guess(3.0, 1e-5, 0.15, 280),
    ):
        assert not hits_from_below(broken, 3.0, 0.15, 280, 1e-5)


def test_a_broken_accountant_moves_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def steps_ignored(events: list[SubsampledGaussianEvent], delta: float) -> float:
        return spent(events[0].noise_multiplier, events[0].sampling_rate, 1, delta)

    def half_the_noise(events: list[SubsampledGaussianEvent], delta: float) -> float:
        event = events[0]
        return spent(event.noise_multiplier * 2, event.sampling_rate, event.steps, delta)

    for broken in (steps_ignored, half_the_noise):
        monkeypatch.setattr(calibration, "spent_epsilon", broken)
        noise = calibrate_noise.__wrapped__(3.0, 1e-5, 0.15, 280)
        assert not hits_from_below(noise, 3.0, 0.15, 280, 1e-5)


def test_more_privacy_needs_more_noise() -> None:
    here = calibrate_noise(3.0, 1e-5, 0.15, 280)
    assert calibrate_noise(1.0, 1e-5, 0.15, 280) > here
    assert calibrate_noise(8.0, 1e-5, 0.15, 280) < here
    assert calibrate_noise(3.0, 1e-6, 0.15, 280) > here
    assert calibrate_noise(3.0, 1e-5, 0.4, 280) > here
    assert calibrate_noise(3.0, 1e-5, 0.15, 400) > here


def test_limits() -> None:
    assert calibrate_noise(math.inf, 1e-5, 0.1, 100) == 0.0
    assert calibrate_noise(1e7, 1e-5, 1.0, 1) == SMALLEST_NOISE
    with pytest.raises(PlanError, match=f"up to {LARGEST_NOISE:g}.*fewer rounds"):
        calibrate_noise(1e-4, 1e-5, 1.0, 10_000)


@pytest.mark.parametrize(
    "arguments",
    [
        (0.0, 1e-5, 0.1, 10),
        (-1.0, 1e-5, 0.1, 10),
        (math.nan, 1e-5, 0.1, 10),
        (1.0, 0.0, 0.1, 10),
        (1.0, 1.0, 0.1, 10),
        (1.0, 1e-5, 0.1, 0),
        (1.0, 1e-5, 0.0, 10),
        (1.0, 1e-5, 1.5, 10),
    ],
)
def test_out_of_range(arguments: tuple[float, float, float, int]) -> None:
    with pytest.raises(PlanError):
        calibrate_noise(*arguments)


@pytest.mark.parametrize("noise", [0.050001, 0.1, 0.99999, 0.999991, 1.0, 9.99991, 123.456, 9999.9])
def test_rounding_goes_up_and_has_a_next(noise: float) -> None:
    rounded = calibration._round_up(noise)
    assert noise <= rounded <= noise * 1.0001001
    assert calibration._round_up(rounded) == rounded
    above = calibration._next_above(rounded)
    assert rounded < above <= rounded * 1.0001001
    assert calibration._next_below(above) == rounded


def test_default_delta_stays_below_one_patient() -> None:
    assert default_delta(100) == 1e-5
    assert default_delta(10_000) == 1e-5
    assert default_delta(1_000_000) == pytest.approx(1e-7)
    for patients in (1, 7, 5_000, 10**8):
        check_delta(default_delta(patients), patients)
    with pytest.raises(PlanError, match="at least 1 patient"):
        default_delta(0)


@pytest.mark.parametrize(
    ("delta", "patients", "said"),
    [
        (0.001, 1000, "1/1000; use 1e-05 or less"),
        (1e-5, 200_000, "use 5e-07 or less"),
        (0.0, 100, "between 0 and 1"),
        (1.0, 1, "between 0 and 1"),
        (math.nan, 100, "between 0 and 1"),
        (1e-13, 100, "at least 1e-12"),
        (1e-5, 0, "at least 1 patient"),
    ],
)
def test_delta_refused(delta: float, patients: int, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        check_delta(delta, patients)


def test_delta_accepted() -> None:
    check_delta(9.99e-4, 1000)
    check_delta(0.5, 1)


def test_epsilon_checked() -> None:
    for accepted in (1e-6, 8.0, math.inf):
        check_epsilon(accepted)
    for refused in (0.0, -1.0, math.nan, -math.inf):
        with pytest.raises(PlanError, match="epsilon must be above 0"):
            check_epsilon(refused)


def test_sampling_rate() -> None:
    assert sampling_rate(64, 2000, site="north") == 0.032
    assert sampling_rate(64, 64, site="north") == 1.0
    with pytest.raises(PlanError, match="site 'north' has 63 patients"):
        sampling_rate(64, 63, site="north")
    with pytest.raises(PlanError, match="site 'north': the batch size"):
        sampling_rate(0, 63, site="north")
