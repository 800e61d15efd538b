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

Alternatives = tuple[tuple[Event, ...], ...]


def population(
    config: RunConfig, plan: TrainingPlan, steps: Mapping[str, int], *, is_private: bool
) -> dict[str, Any]:
    """The headline: what holds for every patient, wherever that patient is.

    Where no person is at two sites (checked or declared) it is the largest epsilon of a site, else
    the composition over all sites. Both are stated, at the largest delta of a site. With shared
    noise all sites are in one sum, which a person at several sites moves by more than the clipping
    norm: then nothing is promised to a person at two.

    Args:
        config: the run's configuration.
        plan: its plan.
        steps: taken by each site, by name.
        is_private: whether the run is; otherwise epsilon is infinite.
    """
    status = disjoint_status(config)
    delta = max(site.delta for site in plan.sites)
    at_one = at_all = math.inf
    if is_private:
        at_one = max(
            total_epsilon([Spend((events,))], site.delta)
            for site, events in zip(plan.sites, _each(plan, steps), strict=True)
        )
        if plan.shared is None:
            at_all = total_epsilon([Spend((_all_sites(plan, steps),))], delta)
    is_disjoint = status != "unknown"
    words = ("the largest epsilon of a site", "the composition over all sites")
    if plan.shared is not None:
        words = ("all sites' joint steps", "without a bound: a person may be in a joint step twice")
    return {
        "epsilon": at_one if is_disjoint else at_all,
        "delta": delta,
        "is": words[0] if is_disjoint else words[1],
        "no_person_at_two_sites": status,
        "epsilon_at_one_site": at_one,
        "epsilon_at_every_site": at_all,
    }


def alternatives(config: RunConfig, plan: TrainingPlan, steps: Mapping[str, int]) -> Alternatives:
    """The lists of events that a person may have met: one site's, or those of all sites."""
    if disjoint_status(config) == "unknown":
        return (_all_sites(plan, steps),)
    return _each(plan, steps)


def colluding_sites(plan: TrainingPlan, steps: Mapping[str, int]) -> list[dict[str, Any]]:
    """With shared noise, epsilon against a coalition of k sites, for every k there could be.

    Only up to ``privacy.collusion`` sites is it promised: beyond, it is what the shares that are
    left give, and infinite when none is.

    Raises:
        ValueError: the plan has no shared noise.
    """
    shared = plan.shared
    if shared is None:
        raise ValueError("no shared noise")
    return [
        {
            "sites": k,
            "epsilon": _against(plan, steps, k),
            "promised": k <= shared.collusion,
        }
        for k in range(shared.sites)
    ]


def against_colluding(
    headline: Mapping[str, Any], plan: TrainingPlan, steps: Mapping[str, int], k: int
) -> dict[str, Any]:
    """The guarantee of a private run's shared noise against ``k`` sites that tell their shares."""
    events = _joint(plan, steps, k)
    if events is None or math.isinf(float(headline["epsilon"])):
        return {"epsilon": math.inf, "delta": headline["delta"], **_meaning(NO_PRIVACY, math.inf)}
    against = {"epsilon": _against(plan, steps, k), "delta": headline["delta"]}
    return {**against, **_meaning(privacy_profile([events]), float(against["epsilon"]))}


def _each(plan: TrainingPlan, steps: Mapping[str, int]) -> Alternatives:
    if plan.shared is not None:  # a joint step counts for the patients of every site
        most = max(steps.values())
        return tuple((plan.shared.event(most),) for _ in plan.sites)
    return tuple((site.event(steps[site.name]),) for site in plan.sites)


def _all_sites(plan: TrainingPlan, steps: Mapping[str, int]) -> tuple[Event, ...]:
    return tuple(site.event(steps[site.name]) for site in plan.sites)


def _joint(plan: TrainingPlan, steps: Mapping[str, int], k: int) -> tuple[Event, ...] | None:
    """The joint steps as ``k`` sites see them, or None if they know all noise there is."""
    if plan.shared is None:
        raise ValueError("no shared noise")
    try:
        return (plan.shared.event(max(steps.values()), colluding=k),)
    except PlanError:
        return None


def _against(plan: TrainingPlan, steps: Mapping[str, int], k: int) -> float:
    events = _joint(plan, steps, k)
    delta = max(site.delta for site in plan.sites)
    return math.inf if events is None else total_epsilon([Spend((events,))], delta)


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
