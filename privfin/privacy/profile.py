"""From what was run to the privacy profile δ(ε): the whole curve that one pair is a point of."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from privfin.privacy.accounting import SubsampledGaussianEvent, delta_curve
from privfin.privacy.composition import Event, Spend, events_curve, events_slack, total_epsilon
from privfin.privacy.renyi import curve_delta
from privfin.privacy.tradeoff import NO_PRIVACY, NOTHING_RELEASED, PrivacyProfile

#: How far down a profile goes: the first of these δ at which ε is at most 500.
SMALLEST_DELTAS = (1e-10, 1e-9, 1e-8, 1e-7, 1e-6)

_POINTS = 500
# e^ε overflows from about 709 on, and a profile that needs such an ε promises nothing anyway.
_LARGEST_EPSILON = 500.0


def privacy_profile(
    alternatives: Sequence[Sequence[Event]],
) -> PrivacyProfile:
    """The profile that holds for a patient who met one of ``alternatives``, whichever it is.

    Args:
        alternatives: lists of events; those of one list are composed, and at every ε the largest
            δ over the lists counts.

    Returns:
        Upper bounds at 500 ε, evenly from 0 to where the largest δ falls to 1e-10. Results are
        remembered. Where no δ of :data:`SMALLEST_DELTAS` has an ε of at most 500, nothing is
        promised: δ is 1.
    """
    return _profile(tuple({tuple(sorted(events, key=repr)): None for events in alternatives}))


@lru_cache(maxsize=256)
def _profile(alternatives: tuple[tuple[Event, ...], ...]) -> PrivacyProfile:
    for smallest in SMALLEST_DELTAS:
        spends = [Spend((events,)) for events in alternatives]
        reach = max((total_epsilon([spend], smallest) for spend in spends), default=0.0)
        if reach <= _LARGEST_EPSILON:
            break
    else:
        return NO_PRIVACY
    if reach == 0.0:
        return NOTHING_RELEASED
    grid = np.linspace(0.0, reach, _POINTS)
    found = np.max([_deltas(events, grid) for events in alternatives], axis=0)
    return PrivacyProfile(grid, found, smallest)


def _deltas(events: Sequence[Event], grid: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """δ at every ε of ``grid``: by loss distributions, or by Rényi divergences with other noise."""
    gaussians = [event for event in events if isinstance(event, SubsampledGaussianEvent)]
    if len(gaussians) == len(events):
        return np.asarray(delta_curve(gaussians, grid))
    curve, slack = events_curve(events), events_slack(events)
    return np.array([min(1.0, curve_delta(curve, float(at)) + slack) for at in grid])
