"""From a privacy target to integers and noise shares, for joint steps with shared noise.

A site multiplies its clipped sum by ``scale``, rounds it to integers and adds a share of Skellam
noise. Three things pull at the scale: a finer lattice makes rounding cost less, a coarser one
leaves more room in the ``value_bits`` of a code, and code, rounded sum and noise must fit together
without exception, because cutting off noise would void the guarantee. The derivation of every
bound used here is in docs/explanation/shared-noise.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from privfin.errors import PlanError
from privfin.privacy.calibration import check_epsilon
from privfin.privacy.composition import Spend, total_epsilon
from privfin.privacy.skellam import SubsampledSkellamEvent
from privfin.privacy.skellam_noise import largest_draw

#: Clipping and summing in float32 may move the sum by this much more than the clip norm.
CLIP_TOLERANCE = 1e-3

_WANTED_COST = 0.005
_LARGEST_COST = 0.25
_WANTED_RANGE = 8.0
_SMALLEST_RANGE = 2.0
_SLACK_SHARE = 1e-3
_SMALLEST_RATIO, _LARGEST_RATIO = 0.05, 10_000.0


@dataclass(frozen=True)
class SharedNoise:
    """The integers of a joint step and the noise that their sum must have.

    Attributes:
        scale: gamma, lattice steps per unit of gradient.
        variance: V, of the noise that the honest shares have together at least, on every
            coordinate, in squared lattice steps.
        l2_squared, l1: bounds on what one patient changes in the rounded sum.
        slack: probability, a step, that rounding exceeds these bounds.
        largest_value: X, to which a site cuts each coordinate of its rounded sum before the noise.
        sampling_rate: q.
        rounding_cost: how much rounding adds to the sensitivity, as a share of it.
        value_range: X in clip norms: a coordinate of one site's clipped sum is cut above it.
    """

    scale: float
    variance: int
    l2_squared: int
    l1: int
    slack: float
    largest_value: int
    sampling_rate: float
    rounding_cost: float
    value_range: float

    def event(self, steps: int, variance: int | None = None) -> SubsampledSkellamEvent:
        """What ``steps`` joint steps cost, with this variance of noise or another one."""
        return SubsampledSkellamEvent(
            variance=self.variance if variance is None else variance,
            l2_squared=self.l2_squared,
            l1=self.l1,
            sampling_rate=self.sampling_rate,
            steps=steps,
            slack=steps * self.slack,
        )

    def share_variance(self, cohort: int, collusion: int) -> int:
        """Variance of one site's share, so that all but ``collusion`` shares make up V.

        Raises:
            PlanError: no honest site is left.
        """
        if cohort <= collusion:
            raise PlanError(f"{collusion} colluding sites of {cohort} leave no share of noise")
        return -(-self.variance // (cohort - collusion))


def sensitivity(clip: float, parameters: int, failure: float) -> tuple[int, int]:
    """Bounds on the squared L2 norm and the L1 norm of what one patient changes.

    Given the rounding's own randomness, one patient with gradient g changes the rounded sum by an
    integer vector that is distributed like the stochastic rounding of ``scale * g``.

    Args:
        clip: scale times clip norm, the length of g on the lattice.
        parameters: d.
        failure: beta, the probability that the first bound is exceeded.

    Returns:
        The smaller of the sure bound ``(clip + sqrt d)^2`` and of
        ``clip^2 + d/4 + sqrt(2 ln(1/beta)) (clip + sqrt(d)/2)``, and the L1 bound
        ``min(sqrt(d L2^2), L2^2)`` that it implies for integers.
    """
    sure = (clip + math.sqrt(parameters)) ** 2
    tail = math.sqrt(2.0 * math.log(1.0 / failure)) * (clip + math.sqrt(parameters) / 2.0)
    l2_squared = math.ceil(min(sure, clip**2 + parameters / 4.0 + tail))
    return l2_squared, math.ceil(min(math.sqrt(parameters * l2_squared), l2_squared))


def calibrate_shared(
    epsilon: float,
    delta: float,
    sampling_rate: float,
    steps: int,
    *,
    clip_norm: float,
    parameters: int,
    honest: int,
    value_bits: int,
) -> SharedNoise:
    """The least noise that keeps ``steps`` joint steps within (epsilon, delta), and its lattice.

    The lattice is the coarsest on which rounding adds at most 0.5 % to the sensitivity. Where a
    coordinate would then be cut below 8 clip norms it is made coarser, at most until rounding adds
    25 %.

    Args:
        epsilon: target > 0, finite.
        delta: 1e-12 <= delta < 1.
        sampling_rate: q in (0, 1].
        steps: joint steps of the whole run, >= 1.
        clip_norm: C > 0.
        parameters: d >= 1.
        honest: the fewest shares that make up the noise, >= 1.
        value_bits: bits of a code.

    Raises:
        PlanError: a number is out of range, or the sum and its noise do not fit ``value_bits``.
    """
    check_epsilon(epsilon)
    if not math.isfinite(epsilon):
        raise PlanError("shared noise needs a finite epsilon")
    if not (clip_norm > 0.0 and math.isfinite(clip_norm)):
        raise PlanError(f"the clip norm must be finite and above 0, got {clip_norm}")
    if honest < 1 or parameters < 1 or steps < 1:
        raise PlanError("shared noise needs at least one honest share, one parameter and one step")
    failure = _SLACK_SHARE * delta / steps
    top = 2 ** (value_bits - 1) - 1

    def on_lattice(clip: float) -> SharedNoise:
        l2_squared, l1 = sensitivity(clip * (1.0 + CLIP_TOLERANCE), parameters, failure)
        variance = _variance(epsilon, delta, sampling_rate, steps, l2_squared, l1, failure)
        left = top - largest_draw(-(-variance // honest))
        return SharedNoise(
            scale=clip / clip_norm,
            variance=variance,
            l2_squared=l2_squared,
            l1=l1,
            slack=failure,
            largest_value=left,
            sampling_rate=sampling_rate,
            rounding_cost=math.sqrt(l2_squared) / clip - 1.0,
            value_range=left / clip,
        )

    found = on_lattice(_clip_for_cost(_WANTED_COST, parameters, failure))
    if found.value_range < _WANTED_RANGE:
        coarsest = _clip_for_cost(_LARGEST_COST, parameters, failure)
        finest = found.scale * clip_norm
        found = on_lattice(coarsest)
        while finest / coarsest > 1.01 and found.value_range > _SMALLEST_RANGE:
            # Noise in lattice steps grows with the clip norm there, so the range falls.
            middle = on_lattice(math.sqrt(coarsest * finest))
            if middle.value_range >= _WANTED_RANGE:
                coarsest, found = middle.scale * clip_norm, middle
            else:
                finest = middle.scale * clip_norm
    if found.value_range < _SMALLEST_RANGE:
        raise PlanError(
            f"shared noise for {parameters} parameters does not fit crypto.value_bits = "
            f"{value_bits}: use more bits, more sites, fewer trained parameters or a larger epsilon"
        )
    return found


def group_event(event: SubsampledSkellamEvent, sites: int) -> SubsampledSkellamEvent:
    """What a person costs who is a patient of ``sites`` sites at once.

    Each site draws its patient by itself, so at least one is in a step with probability
    ``1 - (1 - q)^sites``, and then the sum moves by at most ``sites`` times as much. The mixture
    over which of them were drawn is no worse than its worst part (joint quasi-convexity of Renyi
    divergences; van Erven and Harremoes, arXiv:1206.2459, theorem 13).

    Raises:
        PlanError: fewer than one site.
    """
    if sites < 1:
        raise PlanError(f"a patient is at one site at least, got {sites}")
    return replace(
        event,
        l2_squared=sites**2 * event.l2_squared,
        l1=sites * event.l1,
        sampling_rate=-math.expm1(sites * math.log1p(-event.sampling_rate))
        if event.sampling_rate < 1.0
        else 1.0,
        slack=min(sites * event.slack, 1.0 - 2.0**-53),
    )


def _clip_for_cost(cost: float, parameters: int, failure: float) -> float:
    """The coarsest lattice on which rounding adds at most the share ``cost``: its clip norm."""
    low, high = 1.0, 1e9
    while high / low > 1.0 + 1e-6:
        middle = math.sqrt(low * high)
        l2_squared, _ = sensitivity(middle, parameters, failure)
        low, high = (middle, high) if math.sqrt(l2_squared) > (1 + cost) * middle else (low, middle)
    return high


def _variance(
    epsilon: float,
    delta: float,
    rate: float,
    steps: int,
    l2_squared: int,
    l1: int,
    failure: float,
) -> int:
    """The smallest variance that meets the target, to 0.02 % of it."""

    def enough(variance: int) -> bool:
        event = SubsampledSkellamEvent(variance, l2_squared, l1, rate, steps, steps * failure)
        return total_epsilon([Spend(((event,),))], delta) <= epsilon

    low = max(1, math.floor(_SMALLEST_RATIO**2 * l2_squared))
    high = math.ceil(_LARGEST_RATIO**2 * l2_squared)
    if not enough(high):
        raise PlanError(
            f"no shared noise keeps {steps} joint steps at sampling rate {rate:g} within epsilon "
            f"{epsilon:g}; use a larger epsilon, fewer rounds or a smaller batch"
        )
    if enough(low):
        return low
    while high - low > max(1, high // 5000):
        middle = math.isqrt(low * high) if high > 2 * low else (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
