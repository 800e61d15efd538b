"""What a privacy profile δ(ε) means for an attacker: error rates, certainty, and a Gaussian fit.

The attacker sees what was released and tests whether one patient's records were in the training
data. A profile bounds every such test (Wasserman and Zhou 2010; Dong, Roth and Su, "Gaussian
Differential Privacy", arXiv:1905.02383, proposition 6). One pair (ε, δ) says much less than the
curve: see Gomez et al., "(ε, δ) Considered Harmful: Best Practices for Reporting Differential
Privacy Guarantees", arXiv:2503.10945.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr, ndtr, ndtri

FloatArray = npt.NDArray[np.float64]

#: False-positive rates at which trade-offs are reported.
REPORTED_RATES = (0.001, 0.01, 0.1)

# A Gaussian with this μ is told apart from its neighbour without error in double precision.
_LARGEST_MU = 100.0


@dataclass(frozen=True)
class PrivacyProfile:
    """δ(ε) on a grid: an upper bound that holds for a patient added and for one removed.

    Attributes:
        epsilons: (points,) from 0 up, rising; only 0 when nothing better than δ(0) is known.
        deltas: (points,) in [0, 1], never rising.
        smallest_delta: the δ that the grid goes down to.
    """

    epsilons: FloatArray = field(repr=False)
    deltas: FloatArray = field(repr=False)
    smallest_delta: float

    def __post_init__(self) -> None:
        # What is not a number promises nothing; a bound at ε holds at every larger ε too.
        known = np.nan_to_num(self.deltas, nan=1.0)
        falling = np.minimum.accumulate(np.clip(known, 0.0, 1.0))
        object.__setattr__(self, "deltas", falling)

    @property
    def is_trivial(self) -> bool:
        """Whether nothing at all is promised."""
        return bool(self.deltas[-1] >= 1.0)

    @property
    def is_perfect(self) -> bool:
        """Whether nothing was released that depends on a patient."""
        return bool(self.deltas[0] <= 0.0)


#: Nothing is promised, and nothing was released.
NO_PRIVACY = PrivacyProfile(np.zeros(1), np.ones(1), 1.0)
NOTHING_RELEASED = PrivacyProfile(np.zeros(1), np.zeros(1), 0.0)


def true_positive_rate(profile: PrivacyProfile, false_positive_rate: float) -> float:
    """The largest share of members that any test finds at this rate of false alarms.

    For the set R of outcomes on which a test says "member", and neighbours P (without the patient)
    and Q (with): Q(R) <= e^ε P(R) + δ, and for the complement of R, with P and Q exchanged,
    1 - P(R) <= e^ε (1 - Q(R)) + δ. With f = P(R) and every ε on the grid:

        Q(R) <= min over ε of  e^ε f + δ(ε)  and  1 - e^-ε (1 - f - δ(ε))

    Args:
        profile: the mechanism's.
        false_positive_rate: f, in [0, 1].

    Returns:
        An upper bound in [f, 1], whatever the grid; a finer one only tightens it.
    """
    f = false_positive_rate
    if profile.is_trivial:
        return 1.0
    deltas = profile.deltas
    # e^ε beyond e^700 overflows, and such a line says nothing anyway.
    growth = np.exp(np.minimum(profile.epsilons, 700.0))
    few = growth * f + deltas
    many = 1.0 - (1.0 - f - deltas) / growth
    return float(min(1.0, max(f, min(few.min(), many.min()))))


def best_accuracy(profile: PrivacyProfile) -> float:
    """How often the best guess is right when membership is a fair coin: (1 + δ(0)) / 2.

    δ(0) bounds the total variation distance of the two outcomes' distributions, and (1 + TV) / 2 is
    the success of the best test (Neyman and Pearson) at equal odds. It is an average over outcomes:
    single outcomes may be more telling.
    """
    return 0.5 * (1.0 + float(profile.deltas[0]))


def certainty(epsilon: float) -> float:
    """What 50:50 odds can become under an ε that holds with δ = 0: e^ε / (1 + e^ε).

    It bounds the certainty after every single outcome. With δ > 0 there may be outcomes that tell
    more; how likely they are is bounded by the profile, not by this figure.
    """
    return 1.0 / (1.0 + math.exp(-epsilon))


@dataclass(frozen=True)
class GaussianFit:
    """The Gaussian mechanism that stands in for a profile, never more private than it.

    Attributes:
        mu: the smallest μ found for which N(0, 1) against N(μ, 1) has a δ(ε) nowhere below the
            profile's while the profile is at least ``smallest_delta``; rounded up.
        excess: how far the fit overstates at most: at some false-positive rate f + excess the
            mechanism's own bound is within ``excess`` of the fit's bound at f (the Δ of Kaissis et
            al., arXiv:2406.08918). 0 means that the mechanism is that Gaussian.
        largest_epsilon: end of the range of ε.
        smallest_delta: end of the range of δ; below it the fit promises nothing.
    """

    mu: float
    excess: float
    largest_epsilon: float
    smallest_delta: float


def gaussian_profile(mu: float, epsilons: FloatArray) -> FloatArray:
    """δ(ε) of N(0, 1) against N(μ, 1) (arXiv:1905.02383, corollary 1; Balle and Wang 2018).

    Φ(μ/2 - ε/μ) - e^ε Φ(-μ/2 - ε/μ)
    """
    if mu == 0.0:
        return np.zeros_like(epsilons)
    first = log_ndtr(mu / 2 - epsilons / mu)
    second = epsilons + log_ndtr(-mu / 2 - epsilons / mu)
    # exp(first) - exp(second) without the loss of digits far out in the tail
    found: FloatArray = np.exp(first) * -np.expm1(np.minimum(second - first, 0.0))
    return found


def gaussian_true_positive_rate(mu: float, false_positive_rate: float) -> float:
    """The best test's at N(0, 1) against N(μ, 1): Φ(Φ⁻¹(f) + μ) (arXiv:1905.02383, eq. 6)."""
    if math.isinf(mu):
        return 1.0
    return float(ndtr(ndtri(false_positive_rate) + mu))


def fit_gaussian(profile: PrivacyProfile) -> GaussianFit:
    """The smallest μ whose Gaussian profile is nowhere below ``profile`` on its range.

    Between two grid points the check holds as well: in x = e^ε a profile is convex, so it lies
    below its chord, while the Gaussian's lies at most h²/8 times its largest second derivative
    below its own chord. That much is left as a margin at both ends.
    """
    if profile.is_perfect:
        return GaussianFit(0.0, 0.0, 0.0, profile.smallest_delta)
    reach = float(profile.epsilons[-1])
    if profile.is_trivial or not _covers(profile, _LARGEST_MU):
        return GaussianFit(math.inf, 0.0, reach, profile.smallest_delta)
    low, high = 0.0, _LARGEST_MU
    for _ in range(60):
        middle = 0.5 * (low + high)
        if _covers(profile, middle):
            high = middle
        else:
            low = middle
    mu = _rounded_up(high)
    return GaussianFit(mu, _excess(profile, mu), reach, profile.smallest_delta)


def _covers(profile: PrivacyProfile, mu: float) -> bool:
    """Whether the Gaussian is nowhere below ``profile`` on its range."""
    if mu == 0.0:
        return False
    epsilons, deltas = profile.epsilons, profile.deltas
    found = gaussian_profile(mu, epsilons)
    below = np.zeros_like(found)
    if epsilons.size > 1:
        gap = _chord_gap(mu, epsilons[:-1], epsilons[1:])
        below[:-1] = gap
        below[1:] = np.maximum(below[1:], gap)
    return bool(np.all(found - below >= deltas))


def _chord_gap(mu: float, left: FloatArray, right: FloatArray) -> FloatArray:
    """How far a Gaussian's profile is at most below its chord between two ε, in x = e^ε.

    Its second derivative in x is φ(ε/μ + μ/2) / (μ x), largest at the left end.
    """
    width = np.expm1(right - left)  # (x1 - x0) / x0
    log_density = -0.5 * (left / mu + mu / 2) ** 2 - 0.5 * math.log(2 * math.pi)
    return width**2 / 8.0 * np.exp(left + log_density) / mu


def _excess(profile: PrivacyProfile, mu: float) -> float:
    """Largest (δ_μ(ε) - δ(ε)) / (1 + e^ε)."""
    ahead = gaussian_profile(mu, profile.epsilons) - profile.deltas
    return float(np.max(ahead / (1.0 + np.exp(np.minimum(profile.epsilons, 700.0)))))


def _rounded_up(mu: float) -> float:
    """To five significant digits, never down."""
    step = 10.0 ** (math.floor(math.log10(mu)) - 4)
    return float(f"{math.ceil(mu / step) * step:.6g}")
