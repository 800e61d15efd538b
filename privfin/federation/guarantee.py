"""What holds for a patient of any site: epsilon, trade-off points and a Gaussian fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from privfin.config import RunConfig
from privfin.errors import PlanError
from privfin.federation.overlap import disjoint_status
from privfin.federation.plan import SitePlan, TrainingPlan
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


def population(
    config: RunConfig,
    plan: TrainingPlan,
    steps: Mapping[str, int],
    *,
    is_private: bool,
    colluding: int | None = None,
) -> dict[str, Any]:
    """The headline: what holds for every patient, wherever that patient is.

    Where no person is at two sites (checked or declared) it is the largest epsilon of a site, else
    the composition over all sites. Both are stated, at the largest delta of a site.

    Args:
        config: the run's configuration.
        plan: its plan.
        steps: taken by each site, by name.
        is_private: whether the run is; otherwise epsilon is infinite.
        colluding: with shared noise, how many sites' shares the observer knows; as many as were
            planned for if None.
    """
    status = disjoint_status(config)
    delta = max(site.delta for site in plan.sites)
    at_one = at_all = math.inf
    if is_private:
        one = {(event, s.delta) for s in plan.sites
               for event in [_at_one_site(plan, s, steps, colluding)]}  # fmt: skip
        at_one = max(_epsilon([event], its_delta) for event, its_delta in one)
        at_all = _epsilon(_at_every_site(plan, steps, colluding), delta)
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


def _at_one_site(
    plan: TrainingPlan, site: SitePlan, steps: Mapping[str, int], colluding: int | None
) -> Event:
    """What a patient of one site has met."""
    if plan.shared is not None:
        return plan.shared.event(steps[site.name], colluding)
    return site.event(steps[site.name])


def _at_every_site(
    plan: TrainingPlan, steps: Mapping[str, int], colluding: int | None
) -> list[Event]:
    """What a person has met who is a patient of every site."""
    if plan.shared is not None:
        joint = plan.shared.event(max(steps.values(), default=0), colluding)
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


def against_an_observer(
    config: RunConfig,
    plan: TrainingPlan,
    steps: Mapping[str, int],
    *,
    is_private: bool,
    colluding: int | None = None,
) -> dict[str, Any]:
    """The guarantee against one observer: the pair, trade-off points and a Gaussian fit.

    The arguments are those of :func:`population`.
    """
    found = population(config, plan, steps, is_private=is_private, colluding=colluding)
    profile = profile_against(config, plan, steps, is_private=is_private, colluding=colluding)
    return {
        "epsilon": found["epsilon"],
        "delta": found["delta"],
        **_meaning(profile, float(found["epsilon"])),
    }


def profile_against(
    config: RunConfig,
    plan: TrainingPlan,
    steps: Mapping[str, int],
    *,
    is_private: bool,
    colluding: int | None = None,
) -> PrivacyProfile:
    """The whole curve of the guarantee against one observer; the arguments of :func:`population`.

    It is one that promises nothing where the run is not private.
    """
    if not is_private:
        return NO_PRIVACY
    return privacy_profile(_alternatives(config, plan, steps, colluding))


def _alternatives(
    config: RunConfig, plan: TrainingPlan, steps: Mapping[str, int], colluding: int | None
) -> list[list[Event]]:
    """The lists of events that a person may have met: one site's, or those of all sites."""
    if disjoint_status(config) == "unknown":
        return [_at_every_site(plan, steps, colluding)]
    return [[_at_one_site(plan, site, steps, colluding)] for site in plan.sites]


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
