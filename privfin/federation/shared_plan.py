"""The part of a plan that all sites share when they take every step together.

``privacy.trust = "shared"``: one Poisson sampling rate over the patients of all sites, one clip
norm, one scale from gradients to integers, and a variance of noise that the shares of the honest
sites make up. See ``docs/explanation/shared-noise.md``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from privfin.config import RunConfig
from privfin.errors import PlanError
from privfin.privacy.calibration import check_delta, default_delta, sampling_rate
from privfin.privacy.composition import Spend, total_epsilon
from privfin.privacy.shared_calibration import SharedNoise, calibrate_shared
from privfin.privacy.skellam import SubsampledSkellamEvent


@dataclass(frozen=True)
class SharedPlan:
    """The joint mechanism of a run.

    Attributes:
        noise: scale, variance and range, for the fewest honest shares that are planned for.
        sites: how many there are.
        collusion: t, sites that may reveal or leave out their share.
        smallest_cohort: a step goes on with no fewer sites.
        sampling_rate: q, the same at every site.
        delta, epsilon: the guarantee of all ``steps`` against a coalition of ``collusion`` sites.
        steps: joint steps of the whole run, repeated ones included.
    """

    noise: SharedNoise
    sites: int
    collusion: int
    smallest_cohort: int
    sampling_rate: float
    delta: float
    epsilon: float
    steps: int

    def share_variance(self, cohort: int) -> int:
        """Variance of one site's noise when ``cohort`` sites take a step."""
        return self.noise.share_variance(cohort, self.collusion)

    def event(self, steps: int, colluding: int | None = None) -> SubsampledSkellamEvent:
        """What ``steps`` joint steps of all sites cost against ``colluding`` of them.

        With ``collusion`` sites, the default, it is the variance of the plan. With another number
        only the shares of the others count, in the cohort where these have the least noise.

        Raises:
            PlanError: no honest site is left.
        """
        if colluding is None or colluding == self.collusion:
            return self.noise.event(steps)
        if colluding >= self.smallest_cohort:
            raise PlanError(f"{colluding} colluding sites of {self.smallest_cohort} leave no noise")
        cohorts = range(self.smallest_cohort, self.sites + 1)
        least = min((size - colluding) * self.share_variance(size) for size in cohorts)
        return self.noise.event(steps, least)


def smallest_cohort(sites: int, collusion: int, given: int | None) -> int:
    """The fewest sites that a sum may go on with: all but two, unless ``given`` says.

    Raises:
        PlanError: ``sites`` or ``given`` leaves no honest share, or nothing to hide in.
    """
    least = max(2, collusion + 1)
    if sites < least:
        raise PlanError(
            f"shared noise with privacy.collusion = {collusion} needs at least {least} sites, "
            f"there are {sites}: use more sites, less collusion or trust = 'local'"
        )
    if given is None:
        return max(least, sites - 2)
    if not least <= given <= sites:
        raise PlanError(
            f"federation.smallest_cohort = {given} must lie between {least} and the {sites} sites"
        )
    return given


def plan_shared(config: RunConfig, patients: list[int], parameters: int) -> SharedPlan:
    """Calibrate the joint mechanism.

    Args:
        config: the run's configuration, with ``privacy.trust = "shared"`` and a finite epsilon.
        patients: declared patients of every site.
        parameters: numbers in an update.

    Raises:
        PlanError: the sites together have fewer patients than a batch, delta is too large for
            them, there are too few sites, or the noise does not fit ``crypto.value_bits``.
    """
    privacy, sites = config.privacy, len(patients)
    total = sum(patients)
    least = smallest_cohort(sites, privacy.collusion, config.federation.smallest_cohort)
    rate = sampling_rate(config.training.batch_size, total, site="all sites together")
    given = privacy.delta
    delta = default_delta(total) if given == "auto" else float(given)
    check_delta(delta, total)
    steps = joint_steps(config)
    noise = calibrate_shared(
        privacy.epsilon,
        delta,
        rate,
        steps,
        clip_norm=privacy.clip_norm,
        parameters=parameters,
        honest=least - privacy.collusion,
        value_bits=config.crypto.value_bits,
    )
    spent = total_epsilon([Spend(((noise.event(steps),),))], delta)
    if spent > privacy.epsilon:
        raise PlanError(f"calibration gave epsilon {spent} above {privacy.epsilon}")
    return SharedPlan(noise, sites, privacy.collusion, least, rate, delta, spent, steps)


def joint_steps(config: RunConfig) -> int:
    """Joint steps of a run, each an exchange of its own: ``local_steps`` in each round."""
    return config.training.rounds * config.training.local_steps


def epsilons_after(plan: SharedPlan, steps: Sequence[int]) -> list[float]:
    """Epsilon after each of these numbers of joint steps, for showing progress."""
    return [total_epsilon([Spend(((plan.event(n),),))], plan.delta) for n in steps]


def noise_multiplier(plan: SharedPlan, clip_norm: float) -> float:
    """The sigma of the central DP-SGD with as much noise as the plan promises."""
    return math.sqrt(plan.noise.variance) / (plan.noise.scale * clip_norm)
