"""How much each site's update counts, and the divisors that belong to it.

``uniform``: every site that trains a segment counts the same. ``size``: by its declared number of
patients, which is public. ``uncertainty`` (Fed-UQ-Avg, arXiv 2604.12970, eq. for W_k): a share
alpha by how sure the site's imputer is, the rest by size.

Where weights are not public they travel under the same encryption as the update: a site
multiplies its change by its weight w_k and appends w_k once for every segment it trains, so that
all sites can divide the sum of w_k times change by the sum of w_k. Sites see that sum for every
segment: where one or two sites train a segment, or two segments' trainers differ by one site, it
shows that site's weight, which its epsilon covers. Fed-UQ-Avg normalises sizes and certainties
apart, which would take two vectors; here the two are added first:

    w_k = (1 - alpha) n_k / max n + alpha exp(-u_k / T),    at least MIN_WEIGHT, at most 1

u_k, the mean variance of what the site imputes, is a parameter that the site trains by DP-SGD
inside the same clipped gradients (``MultimodalModel.uncertainty``). It is as private as the model,
so neither w_k nor their sum costs anything beyond the epsilon already stated.

What a lying site gains: claiming certainty gives it the weight 1 at most, the largest value that a
valid code can hold. Weights that would take the sum below what honest sites can send (a code may be
negative) have no effect: the divisor never falls below MIN_WEIGHT for each site that trains the
segment. Neither keeps a lying site from sending any change within ``crypto.update_bound``,
unscaled, as it could under every other way of averaging. Nobody's epsilon depends on it.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from privfin.config import RunConfig
from privfin.federation.plan import SegmentPlan, TrainingPlan, size_weight
from privfin.models.multimodal import LARGEST_VARIANCE
from privfin.models.segments import Vector, counts

#: The least that a site can count.
MIN_WEIGHT = 0.25


class Aggregation:
    """One site's view: what it sends for its change, and how it divides the sum.

    Args:
        config: the run's configuration.
        plan: its plan.
        site: the site that sends.
    """

    def __init__(self, config: RunConfig, plan: TrainingPlan, site: str) -> None:
        self._plan = plan
        self._site = plan.site(site)
        self._kind = config.model.imputer
        self._mode = config.training.aggregation
        self._uncertainty = config.training.uncertainty
        # A weight of 1 becomes the largest value that the quantiser can encode.
        self._bound = config.crypto.update_bound

    def outgoing(self, start: Vector, change: Vector, cohort: tuple[str, ...]) -> Vector:
        """What the site sends, (plan.values,): its weighted change, and perhaps its weight.

        Args:
            start: the global parameters before the site's steps, (parameters,).
            change: what the steps added, (parameters,); zero where the site trains nothing.
            cohort: the sites that take part.
        """
        if self._mode == "uniform":
            return change
        if self._mode == "size":
            return (change * np.float32(size_weight(self._site, self._plan.sites))).astype(
                np.float32
            )
        weight = self._weight(start + change)
        mine = [
            counts(s.name, self._site.modalities, self._kind) and self._plan.is_open(s, cohort)
            for s in self._plan.segments
        ]
        tail = np.where(mine, weight * self._bound, 0.0)
        return np.concatenate([change * np.float32(weight), tail]).astype(np.float32)

    def divisors(self, tail: npt.NDArray[np.float64], cohort: tuple[str, ...]) -> list[np.float32]:
        """What divides the sum of each segment.

        Args:
            tail: the sums of a cohort's weights, one a segment; (0,) where weights are public.
            cohort: the sites that took part.
        """
        if self._mode != "uncertainty":
            return [np.float32(s.divisor(cohort)) for s in self._plan.segments]
        return [
            np.float32(max(total, MIN_WEIGHT * s.owners(cohort)) or 1.0)
            for s, total in zip(self._plan.segments, tail / self._bound, strict=True)
        ]

    def _weight(self, own: Vector) -> float:
        place = segment(self._plan, "uncertainty")
        learned = float(own[place.start])
        certainty = site_certainty(learned, self._uncertainty.temperature)
        share = self._uncertainty.share
        weight = (1 - share) * size_weight(self._site, self._plan.sites) + share * certainty
        return min(1.0, max(MIN_WEIGHT, weight))


def site_certainty(uncertainty: float, temperature: float) -> float:
    """``exp(-u / T)`` in (0, 1], u clipped to [0, :data:`LARGEST_VARIANCE`]."""
    clipped = min(LARGEST_VARIANCE, max(0.0, uncertainty))
    return math.exp(-clipped / temperature)


def segment(plan: TrainingPlan, name: str) -> SegmentPlan:
    """The plan's segment of this name."""
    return next(s for s in plan.segments if s.name == name)
