"""From a privacy target to the scale, the noise and the limits of joint integer steps.

In a joint step every site scales its clipped sum by gamma, rounds it stochastically, cuts it to
±X and adds a Skellam share; the sum over sites is released. docs/explanation/shared-noise.md
derives the bounds used here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from privfin.errors import PlanError
from privfin.privacy.calibration import check_epsilon
from privfin.privacy.skellam import SubsampledSkellamEvent, skellam_epsilon
from privfin.privacy.skellam_sampler import LARGEST_VARIANCE, largest_noise

# The chance, in one step, that rounding moves a patient's change beyond the bound on its norm.
ROUNDING_FAILURE = 1e-20
# Clipping and summing in floating point may exceed the clipping norm by this share of it.
CLIP_MARGIN = 1e-3

# How much more noise rounding may cost (L2 bound over gamma C, minus 1), the least first.
_ROUNDING_COSTS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.25)
_WANTED_HEADROOM = 8.0
_LEAST_HEADROOM = 2.0


@dataclass(frozen=True)
class SharedNoise:
    """The settings of joint steps that meet a privacy target.

    Attributes:
        scale: gamma, integer units per unit of the gradient.
        variance: V, the variance that the honest shares add up to at least.
        largest_value: X, what a coordinate of a site's rounded sum is cut to.
        l2_squared: bound on the squared L2 norm of one patient's change, in integer units.
        l1: bound on its L1 norm.
        clip_norm: C.
        sampling_rate: q.
        honest: the fewest honest shares planned for.
    """

    scale: float
    variance: int
    largest_value: int
    l2_squared: int
    l1: int
    clip_norm: float
    sampling_rate: float
    honest: int

    @property
    def headroom(self) -> float:
        """X / (gamma C): how many clipping norms fit in one coordinate of a site's sum."""
        return self.largest_value / (self.scale * self.clip_norm)

    @property
    def rounding_cost(self) -> float:
        """By which share rounding and the margin on C raise the sensitivity above gamma C."""
        return math.sqrt(self.l2_squared) / (self.scale * self.clip_norm) - 1.0

    @property
    def noise_multiplier(self) -> float:
        """sqrt(V) / (gamma C), the σ that Gaussian noise of the same size would have."""
        return math.sqrt(self.variance) / (self.scale * self.clip_norm)

    def event(self, steps: int) -> SubsampledSkellamEvent:
        """What ``steps`` joint steps cost."""
        return SubsampledSkellamEvent(
            self.variance,
            self.l2_squared,
            self.l1,
            self.sampling_rate,
            steps,
            steps * ROUNDING_FAILURE,
        )

    def share_variance(self, cohort: int, collusion: int) -> int:
        """The variance of each share, so that ``cohort`` - ``collusion`` of them add up to V.

        Raises:
            PlanError: with fewer honest shares than planned for: their noise would not fit.
        """
        honest = cohort - collusion
        if collusion < 0 or honest < self.honest:
            raise PlanError(
                f"{cohort} sites of which {collusion} may collude leave {honest} honest shares of "
                f"noise; the plan needs {self.honest}"
            )
        return -(-self.variance // honest)


def sensitivity(scaled_clip: float, parameters: int) -> tuple[int, int]:
    """Bounds (L2 squared, L1) on the change that one patient makes to a site's rounded sum.

    With probability 1 - 1e-20 over the rounding, and with the margin on the clipping norm.

    Args:
        scaled_clip: gamma C, above 0.
        parameters: d, coordinates of the sum, at least 1.
    """
    size = scaled_clip * (1.0 + CLIP_MARGIN)
    root = math.sqrt(parameters)
    surely = (size + root) ** 2
    spread = math.sqrt(2.0 * math.log(1.0 / ROUNDING_FAILURE)) * (size + root / 2.0)
    # The change is a vector of integers, so its squared norm is a whole number.
    l2_squared = math.floor(min(surely, size**2 + parameters / 4.0 + spread))
    return l2_squared, min(l2_squared, math.isqrt(parameters * l2_squared))


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
    """Scale, noise and limits that keep ``steps`` joint steps within (ε, δ).

    A finer scale makes rounding cheaper but leaves less room for a site's sum, because the noise
    grows with the scale: X = 2^(value_bits-1) - 1 - W, with W the largest magnitude of a share, so
    that a code never overflows. The scale is the finest of a few (rounding cost 0.5 % to 25 %) that
    leaves room for 8 clipping norms in one coordinate, or else for 2.

    Args:
        epsilon: target ε > 0, finite.
        delta: 0 < δ < 1.
        sampling_rate: q, 0 < q <= 1.
        steps: joint steps in the whole run, at least 1.
        clip_norm: C > 0.
        parameters: d >= 1.
        honest: the fewest honest shares planned for, at least 1.
        value_bits: bits of a site's code, 2 to 32.

    Raises:
        PlanError: when a number is out of range or the target cannot be met in ``value_bits``.
    """
    check_epsilon(epsilon)
    if math.isinf(epsilon):
        raise PlanError("shared noise needs a finite epsilon")
    if not (math.isfinite(clip_norm) and clip_norm > 0.0):
        raise PlanError(f"the clipping norm must be finite and above 0, got {clip_norm}")
    if min(parameters, honest, steps) < 1 or not 2 <= value_bits <= 32:
        raise PlanError(
            "shared noise needs at least 1 parameter, 1 honest share, 1 step and 2 to 32 bits"
        )
    top = 2 ** (value_bits - 1) - 1
    found: SharedNoise | None = None
    for cost in _ROUNDING_COSTS:
        scaled = _scaled_clip(cost + CLIP_MARGIN, parameters)
        l2_squared, l1 = sensitivity(scaled, parameters)
        bare = SharedNoise(
            scaled / clip_norm, 0, 0, l2_squared, l1, clip_norm, sampling_rate, honest
        )
        variance = _variance(bare, epsilon, delta, steps)
        if variance is None:
            continue
        share = -(-variance // honest)
        noise = replace(bare, variance=variance, largest_value=top - largest_noise(share))
        if share <= LARGEST_VARIANCE and noise.headroom >= _WANTED_HEADROOM:
            return noise
        if share <= LARGEST_VARIANCE and noise.headroom >= _LEAST_HEADROOM and found is None:
            found = noise
    if found is None:
        raise PlanError(
            f"epsilon {epsilon:g} over {steps} joint steps needs more noise than {value_bits} bits "
            f"hold for {parameters} parameters; use a larger value_bits, fewer trained parameters, "
            "a larger epsilon or more sites"
        )
    return found


def group_event(event: SubsampledSkellamEvent, sites: int) -> SubsampledSkellamEvent:
    """The same steps for a patient who is at ``sites`` sites.

    Every site draws the patient on its own, so at least one does with probability 1 - (1-q)^k, and
    then the sum changes by one of several vectors, none above k times the norm. Rényi divergences
    are jointly convex in the exponent, so the worst of these vectors bounds their mixture.

    Raises:
        PlanError: when ``sites`` is below 1.
    """
    if sites < 1:
        raise PlanError(f"a patient is at 1 site or more, got {sites}")
    if sites == 1:
        return event
    rate = (
        1.0 if event.sampling_rate == 1.0 else -math.expm1(sites * math.log1p(-event.sampling_rate))
    )
    return replace(
        event,
        l2_squared=sites**2 * event.l2_squared,
        l1=sites * event.l1,
        sampling_rate=min(rate, 1.0),
        slack=sites * event.slack,
    )


def _scaled_clip(cost: float, parameters: int) -> float:
    """The gamma C at which the L2 bound is ``1 + cost`` times gamma C."""
    low, high = 1e-3, 1e12
    for _ in range(100):
        middle = math.sqrt(low * high)
        over = math.sqrt(sensitivity(middle, parameters)[0]) > (1.0 + cost) * middle
        low, high = (middle, high) if over else (low, middle)
    return high


def _variance(bare: SharedNoise, epsilon: float, delta: float, steps: int) -> int | None:
    """The smallest variance that meets the target, to 0.05 %; None beyond 2^50."""

    def enough(variance: int) -> bool:
        return skellam_epsilon([replace(bare, variance=variance).event(steps)], delta) <= epsilon

    low, high = 1, 2**50
    if not enough(high):
        return None
    while high - low > 1 and high > low * 1.0005:
        middle = math.isqrt(low * high)
        middle = min(max(middle, low + 1), high - 1)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
