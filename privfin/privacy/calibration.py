"""From a privacy target to a noise multiplier, and the limits on ε, δ and the sampling rate."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

from privfin.errors import PlanError
from privfin.privacy.accounting import SMALLEST_DELTA, SubsampledGaussianEvent
from privfin.privacy.accounting import epsilon as spent_epsilon

SMALLEST_NOISE = 0.05
LARGEST_NOISE = 10_000.0

_LARGEST_DEFAULT_DELTA = 1e-5
_SIGNIFICANT_DIGITS = 5
_MOST_EVALUATIONS = 80
# The search takes 3 to 11 evaluations; from here on it halves the bracket, which always ends.
_HALVING_FROM = 30


def default_delta(patients: int) -> float:
    """δ when the user gives none: the smaller of 1e-5 and a tenth of 1/``patients``.

    Raises:
        PlanError: when ``patients`` is below 1.
    """
    _check_patients(patients)
    return min(_LARGEST_DEFAULT_DELTA, 0.1 / patients)


def check_delta(delta: float, patients: int) -> None:
    """Refuse a δ that would let a plan reveal a whole patient and still be called private.

    With δ = 1/N, publishing one patient chosen at random is (0, δ)-private (Dwork and Roth, "The
    Algorithmic Foundations of Differential Privacy", 2014, section 2.3).

    Args:
        delta: 1e-12 <= δ < 1/``patients``.
        patients: patients in the data set, at least 1.

    Raises:
        PlanError: when ``delta`` or ``patients`` is out of range; the message says what to use.
    """
    _check_patients(patients)
    if not 0.0 < delta < 1.0:
        raise PlanError(
            f"delta must lie between 0 and 1, got {delta:g}; "
            f"use {default_delta(patients):g} or less"
        )
    if delta < SMALLEST_DELTA:
        raise PlanError(f"delta must be at least {SMALLEST_DELTA:g}, got {delta:g}")
    if delta >= 1.0 / patients:
        raise PlanError(
            f"delta {delta:g} is too large for {patients} patients: it must stay below "
            f"1/{patients}; use {default_delta(patients):g} or less"
        )


def check_epsilon(epsilon: float) -> None:
    """Accept ε > 0; ``math.inf`` stands for a run without privacy.

    Raises:
        PlanError: when ``epsilon`` is zero, negative or not a number.
    """
    if math.isnan(epsilon) or epsilon <= 0.0:
        raise PlanError(f"epsilon must be above 0, got {epsilon:g}; common choices are 1, 3 and 8")


def sampling_rate(batch_size: int, patients: int, *, site: str) -> float:
    """The Poisson sampling rate q = B/N.

    Args:
        batch_size: expected patients in a batch, B >= 1.
        patients: patients at the site, N >= 1.
        site: the site's name, for the message.

    Returns:
        q in (0, 1].

    Raises:
        PlanError: when the site has fewer patients than ``batch_size``, or a number is below 1.
    """
    if batch_size < 1:
        raise PlanError(f"site '{site}': the batch size must be at least 1, got {batch_size}")
    if patients < batch_size:
        raise PlanError(
            f"site '{site}' has {patients} patients, fewer than the batch size {batch_size}; "
            "use a smaller batch or leave the site out"
        )
    return batch_size / patients


@lru_cache(maxsize=1024)
def calibrate_noise(epsilon: float, delta: float, sampling_rate: float, steps: int) -> float:
    """The smallest noise multiplier that keeps ``steps`` steps within (ε, δ).

    The answer is rounded up to five significant digits and checked with the very accountant that
    the ledger uses, so its ε never exceeds the target; it stays within 0.02 below it for ε <= 20.
    The search starts from the central-limit estimate (Bu, Dong, Long and Su, "Deep Learning with
    Gaussian Differential Privacy", 2020, section 3.2), which is only a first guess: that estimate
    is not a bound. It takes 0.1 to 5 s on one core for q >= 0.005, and up to a minute for q near
    1e-4 with 100,000 steps, where the grid of losses must be very fine. Results are remembered.

    Args:
        epsilon: target ε > 0; ``math.inf`` gives 0.0.
        delta: 1e-12 <= δ < 1.
        sampling_rate: q, 0 < q <= 1.
        steps: steps in the whole run, over all rounds, >= 1.

    Returns:
        σ in [0.05, 10000], or 0.0 for an infinite target. At 0.05 the ε may lie far below the
        target: less noise than that is never proposed.

    Raises:
        PlanError: when a number is out of range, or when no σ up to 10000 meets the target.
    """
    check_epsilon(epsilon)
    # Checks the rate and the steps before anything is divided by them.
    if SubsampledGaussianEvent(LARGEST_NOISE, sampling_rate, steps).steps < 1:
        raise PlanError(f"steps must be at least 1, got {steps}")
    if math.isinf(epsilon):
        return 0.0

    noise = _round_up(_central_limit_guess(epsilon, delta, sampling_rate, steps))
    low, high = 0.0, math.inf  # not enough noise; enough noise
    above, below = math.nan, math.nan  # ln(ε/target) at these two
    stride = 1.03
    enough: bool | None = None
    for evaluation in range(_MOST_EVALUATIONS):
        event = SubsampledGaussianEvent(noise, sampling_rate, steps)
        value = spent_epsilon([event], delta)
        enough, was_enough = value <= epsilon, enough
        off = math.log(value / epsilon) if 0.0 < value < math.inf else math.nan
        if enough:
            high, below = noise, off
        else:
            low, above = noise, off
        if high <= SMALLEST_NOISE or _next_above(low) >= high:
            return high
        if low >= LARGEST_NOISE:
            break
        if math.isinf(high) or low == 0.0:
            # One side only so far: step out from it, in strides that grow.
            noise = low * stride if math.isinf(high) else high / stride
            noise = min(max(_round_up(noise), SMALLEST_NOISE), LARGEST_NOISE)
            stride **= 2.5
        else:
            noise = _between(low, above, high, below)
            if evaluation >= _HALVING_FROM:
                noise = math.sqrt(low * high)
            elif enough is was_enough:
                # The same end moved twice, so the straight line keeps falling short: go past it.
                noise = _past(noise, high if enough else low)
            noise = min(max(_round_up(noise), _next_above(low)), _next_below(high))
    raise PlanError(
        f"no noise multiplier up to {LARGEST_NOISE:g} keeps {steps} steps at sampling rate "
        f"{sampling_rate:g} within epsilon {epsilon:g} at delta {delta:g}; "
        "use a larger epsilon, fewer rounds or a smaller batch"
    )


def _check_patients(patients: int) -> None:
    if patients < 1:
        raise PlanError(f"a data set needs at least 1 patient, got {patients}")


def _round_up(noise: float) -> float:
    """The next number of five significant digits at or above ``noise``."""
    decimals = _SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(noise))
    scaled = noise * 10.0**decimals
    # A number that already has five digits must stay what it is in spite of binary rounding.
    whole = round(scaled) if abs(scaled - round(scaled)) < 1e-6 else math.ceil(scaled)
    return round(whole * 10.0**-decimals, max(decimals, 0))


def _next_above(noise: float) -> float:
    """The smallest number of five significant digits above ``noise``."""
    return _round_up(noise * (1.0 + 1e-9) + 1e-12) if noise > 0.0 else 0.0


def _next_below(noise: float) -> float:
    """The largest number of five significant digits below ``noise``, itself one of them."""
    step = 10.0 ** (math.floor(math.log10(noise * (1.0 - 1e-9))) - _SIGNIFICANT_DIGITS + 1)
    return _round_up(noise - step)


def _between(low: float, above: float, high: float, below: float) -> float:
    """Where the straight line through both ends, on logarithmic axes, crosses the target."""
    share = above / (above - below) if above > 0.0 > below else 0.5
    return float(low * (high / low) ** share)


def _past(noise: float, end: float) -> float:
    """``noise`` moved on until it is three times as far from ``end``, and two last digits more."""
    further = noise * (noise / end) ** 2
    return further * (1.0 - 2e-4) if noise < end else further * (1.0 + 2e-4)


def _central_limit_guess(epsilon: float, delta: float, rate: float, steps: int) -> float:
    """σ for which a Gaussian of the same size as the run's central limit meets the target."""
    normal = NormalDist()

    def excess(size: float) -> float:
        tail = normal.cdf(-size / 2.0 - epsilon / size)
        second = math.exp(min(epsilon + math.log(tail), 0.0)) if tail > 0.0 else 0.0
        return normal.cdf(size / 2.0 - epsilon / size) - second - delta

    small, large = 1e-8, 1e3
    for _ in range(80):
        middle = math.sqrt(small * large)
        small, large = (small, middle) if excess(middle) > 0.0 else (middle, large)
    if rate == 1.0:
        noise = math.sqrt(steps) / small
    else:
        noise = 1.0 / math.sqrt(math.log1p((small / rate) ** 2 / steps))
    return min(max(noise, SMALLEST_NOISE), LARGEST_NOISE)
