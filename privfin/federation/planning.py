"""What a run would cost, and what other settings would, without any data: ``privfin plan``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from privfin.config import RunConfig, parse_config, set_key
from privfin.data.partition import site_sizes
from privfin.errors import PlanError
from privfin.federation.plan import (
    SiteDeclaration,
    SitePlan,
    TrainingPlan,
    declared_sites,
    make_plan,
    site_modalities,
    site_names,
)
from privfin.privacy.calibration import default_delta
from privfin.privacy.composition import Event, Spend, total_epsilon
from privfin.privacy.shared_calibration import group_event

#: Other settings that the table tries, as multiples of the run's own.
_EPSILONS = (0.25, 0.5, 2.0)
_SIZES = (0.5, 2.0)


@dataclass(frozen=True)
class Choice:
    """One line of the table: other settings, and the noise that they need.

    ``noise_to_signal`` is NaN, and ``problem`` says why, where the settings do not go together.
    """

    what: str
    epsilon: float
    batch_size: int
    rounds: int
    noise_multiplier: float
    noise_to_signal: float
    problem: str = ""


def declarations(config: RunConfig, patients: int | None) -> list[SiteDeclaration]:
    """The sites with ``patients`` training patients in all, dealt evenly; the configuration's own
    declaration if None.

    Raises:
        PlanError: named sites declare their own numbers; or nothing is declared.
    """
    if patients is None:
        return declared_sites(config)
    if config.federation.site:
        raise PlanError(
            "--patients has no effect: the configuration's [[federation.site]] declare their own"
        )
    names = site_names(config)
    if patients < len(names):
        raise PlanError(f"{patients} patients are fewer than the {len(names)} sites")
    sizes = site_sizes(patients, len(names))
    return [
        SiteDeclaration(name, held, size)
        for name, held, size in zip(names, site_modalities(config), sizes, strict=True)
    ]


def noise_to_signal(config: RunConfig, plan: TrainingPlan) -> float:
    """Length of the noise in one round's model step over the longest that its signal can be.

    In a step the noise has the length sigma C sqrt(d), and the sum of B clipped gradients at most
    B C. With full noise at each of n sites the mean over sites has 1/sqrt(n) of it, after L local
    steps 1/sqrt(L). With shared noise a joint step has the noise once. It is a yardstick for
    comparing settings: real gradients do not all point the same way.
    """
    site = max(plan.sites, key=lambda s: s.noise_multiplier)
    batch = config.training.batch_size
    one = site.noise_multiplier * math.sqrt(plan.parameters) / batch
    if plan.shared is not None:
        return one
    return one / math.sqrt(len(plan.sites) * site.local_steps)


def epsilon_at_several_sites(plan: TrainingPlan, count: int) -> float:
    """Epsilon of a person who is a patient of ``count`` sites, of those that cost most."""
    if plan.shared is not None:
        event = group_event(plan.shared.event(plan.shared.steps), count)
        return total_epsilon([Spend(((event,),))], plan.shared.delta)
    worst: list[SitePlan] = sorted(plan.sites, key=lambda s: -s.epsilon)[:count]
    events: tuple[Event, ...] = tuple(site.event(site.steps) for site in worst)
    return total_epsilon([Spend((events,))], max(site.delta for site in worst))


def delta_advice(plan: TrainingPlan) -> list[str]:
    """What to think about the delta of every size of site, a line each."""
    found = []
    sizes = (
        {sum(s.patients for s in plan.sites): plan.sites[0].delta}
        if plan.shared is not None
        else {s.patients: s.delta for s in plan.sites}
    )
    for patients, delta in sorted(sizes.items()):
        line = (
            f"delta {delta:.1e} for {patients} patients: 1/patients is {1 / patients:.1e}, "
            f"auto gives {default_delta(patients):.1e}"
        )
        if delta * patients > 0.1:
            line += "; this is close to 1/patients: with delta = 1/patients one patient in full "
            line += "may be published"
        found.append(line)
    return found


def choices(config: RunConfig, sites: Sequence[SiteDeclaration]) -> Iterator[Choice]:
    """The run's own settings and others around them, one after the other as they are computed."""
    training, epsilon = config.training, config.privacy.epsilon
    yield _choice(config, sites, "as planned", {})
    for factor in _EPSILONS:
        change = {"privacy.epsilon": float(f"{epsilon * factor:.3g}")}
        yield _choice(config, sites, f"epsilon x {factor:g}", change)
    for factor in _SIZES:
        size = max(1, round(training.batch_size * factor))
        yield _choice(config, sites, f"batch x {factor:g}", {"training.batch_size": size})
    for factor in _SIZES:
        rounds = max(1, round(training.rounds * factor))
        yield _choice(config, sites, f"rounds x {factor:g}", {"training.rounds": rounds})


def choice_at(
    config: RunConfig, sites: Sequence[SiteDeclaration], epsilon: float, batch_size: int
) -> Choice:
    """The run with another epsilon and batch size."""
    change = {"privacy.epsilon": epsilon, "training.batch_size": batch_size}
    return _choice(config, sites, f"epsilon {epsilon:g}, batch {batch_size}", change)


def _choice(
    config: RunConfig, sites: Sequence[SiteDeclaration], what: str, changes: dict[str, Any]
) -> Choice:
    content = config.model_dump(mode="json")
    for key, value in changes.items():
        set_key(content, key, value)
    changed = parse_config(content, what)
    training = changed.training
    asked = (what, changed.privacy.epsilon, training.batch_size, training.rounds)
    try:
        plan = make_plan(changed, sites)
    except PlanError as error:
        return Choice(*asked, math.nan, math.nan, str(error))
    sigma = max(site.noise_multiplier for site in plan.sites)
    return Choice(*asked, sigma, noise_to_signal(changed, plan))
