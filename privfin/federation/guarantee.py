"""What holds for a patient of any site: epsilon, trade-off points and a Gaussian fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from privfin.config import RunConfig
from privfin.errors import PlanError
from privfin.federation.overlap import disjoint_status
from privfin.federation.plan import TrainingPlan
from privfin.privacy.composition import Event, Spend, total_epsilon
from privfin.privacy.profile import privacy_profile
from privfin.privacy.shared_calibration import group_event
from privfin.privacy.tradeoff import (
    NO_PRIVACY,
    REPORTED_RATES,
    PrivacyProfile,
    best_accuracy,
    certainty,
    fit_gaussian,
    gaussian_true_positive_rate,
    true_positive_rate,
)

Alternatives = list[list[Event]]


def population(
    config: RunConfig, plan: TrainingPlan, steps: Mapping[str, int], *, is_private: bool
) -> dict[str, Any]:
    """The headline: what holds for every patient, wherever that patient is.

    Where no person is at two sites (checked or declared) it is the largest epsilon of a site, else
    the composition over all sites. Both are stated, at the largest delta of a site.

    Args:
        config: the run's configuration.
        plan: its plan.
        steps: taken by each site, by name.
        is_private: whether the run is; otherwise epsilon is infinite.
    """
    status = disjoint_status(config)
    delta = max(site.delta for site in plan.sites)
    one = [_epsilon([s.event(steps[s.name])], s.delta) for s in plan.sites] if is_private else []
    at_one = max(one, default=math.inf)
    at_all = _epsilon(_at_every_site(plan, steps), delta) if is_private else math.inf
    is_disjoint = status != "unknown"
    return {
        "epsilon": at_one if is_disjoint else at_all,
        "delta": delta,
        "is": _KIND[plan.shared is not None, is_disjoint],
        "no_person_at_two_sites": status,
        "epsilon_at_one_site": at_one,
        "epsilon_at_every_site": at_all,
    }


_KIND = {
    (False, True): "the largest epsilon of a site",
    (False, False): "the composition over all sites",
    (True, True): "that of the joint steps of all sites",
    (True, False): "that of the joint steps for a patient of every site at once",
}


def _epsilon(events: list[Event], delta: float) -> float:
    return total_epsilon([Spend((tuple(events),))], delta)


def _at_every_site(plan: TrainingPlan, steps: Mapping[str, int]) -> list[Event]:
    """What a person has met who is a patient of every site."""
    if plan.shared is not None:
        joint = plan.shared.event(max(steps.values(), default=0))
        return [group_event(joint, plan.shared.sites)]
    return [site.event(steps[site.name]) for site in plan.sites]


def by_colluding_sites(plan: TrainingPlan, steps: Mapping[str, int]) -> list[dict[str, Any]]:
    """Shared noise: epsilon against every number of sites that tell each other their shares.

    Up to ``privacy.collusion`` of them it is promised. Beyond it is what the shares that are left
    would still give; infinite when none is.
    """
    shared = plan.shared
    if shared is None:
        return []
    taken, rows = max(steps.values(), default=0), []
    for known in range(shared.sites):
        try:
            found = _epsilon([shared.event(taken, known)], shared.delta)
        except PlanError:
            found = math.inf
        rows.append({"sites": known, "epsilon": found, "is_promised": known <= shared.collusion})
    return rows


def alternatives(config: RunConfig, plan: TrainingPlan, steps: Mapping[str, int]) -> Alternatives:
    """The lists of events that a person may have met: one site's, or those of all sites."""
    if disjoint_status(config) == "unknown":
        return [_at_every_site(plan, steps)]
    return [[site.event(steps[site.name])] for site in plan.sites]


def against_an_observer(
    headline: Mapping[str, Any], met: Alternatives, *, is_private: bool
) -> dict[str, Any]:
    """The guarantee against one observer: the pair, trade-off points and a Gaussian fit."""
    profile = privacy_profile(met) if is_private else NO_PRIVACY
    return {
        "epsilon": headline["epsilon"],
        "delta": headline["delta"],
        **_meaning(profile, float(headline["epsilon"])),
    }


def _meaning(profile: PrivacyProfile, at: float) -> dict[str, Any]:
    fit = fit_gaussian(profile)
    return {
        "gdp": {
            "mu": fit.mu,
            "excess": fit.excess,
            "largest_epsilon": fit.largest_epsilon,
            "smallest_delta": fit.smallest_delta,
        },
        "trade_off": [
            {
                "false_positive_rate": rate,
                "true_positive_rate": true_positive_rate(profile, rate),
                "of_the_fit": gaussian_true_positive_rate(fit.mu, rate),
            }
            for rate in REPORTED_RATES
        ],
        "best_accuracy": best_accuracy(profile),
        "certainty_of_epsilon_alone": certainty(at),
    }
