"""The plan of a run, made before any patient's data is touched.

It fixes each site's noise for all rounds, the segments with their public denominators, and the
bytes of a round, and it refuses what could not be kept: a sum that may overflow, a delta that is
too large, a batch larger than a site.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from privfin.config import ImputerKind, RunConfig
from privfin.crypto import ckks
from privfin.crypto.bfv import ciphertext_bytes
from privfin.crypto.noise_margin import check_noise
from privfin.crypto.pack import Packing, chunks_for
from privfin.data.load import check_tables, label_names
from privfin.data.missingness import check_label
from privfin.data.partition import (
    site_sizes,
    sites_modalities,
    test_size,
    validation_size,
)
from privfin.errors import PlanError
from privfin.federation.shared_plan import (
    SharedPlan,
    noise_multiplier,
    plan_shared,
    smallest_cohort,
)
from privfin.models.segments import counts, initial_model, segments, trains
from privfin.privacy.accounting import SubsampledGaussianEvent, epsilon
from privfin.privacy.calibration import (
    check_delta,
    check_epsilon,
    default_delta,
    sampling_rate,
)
from privfin.privacy.calibration_cache import remembered_noise
from privfin.privacy.composition import Event, Spend


@dataclass(frozen=True)
class SiteDeclaration:
    """What a site says of itself in public: name, modalities, number of training patients."""

    name: str
    modalities: tuple[str, ...]
    patients: int


@dataclass(frozen=True)
class SitePlan:
    """One site's part.

    ``noise_multiplier`` is 0 without DP. ``local_steps`` are those of one round; ``steps`` are all
    that the site will ever take, and ``epsilon`` is for all of them. With ``shared``, these are
    figures of the joint mechanism of all sites, and the noise multiplier is that of the total
    noise.
    """

    name: str
    modalities: tuple[str, ...]
    patients: int
    sampling_rate: float
    noise_multiplier: float
    delta: float
    epsilon: float
    local_steps: int
    steps: int
    shared: SharedPlan | None = None

    def event(self, steps: int) -> Event:
        """The mechanism event of this many steps."""
        if self.shared is not None:
            return self.shared.event(steps)
        return SubsampledGaussianEvent(self.noise_multiplier, self.sampling_rate, steps)


_AT_ONCE = 2**20


@dataclass(frozen=True)
class SegmentPlan:
    """One segment: its place in the vector, who trains it, and what divides its sum.

    ``weights`` holds the public weight of every site that counts: 1, unless
    ``training.aggregation`` is ``size``. Under ``uncertainty`` it is not used. With shared noise it
    is the expected number of patients of every site in a step: a segment that few sites train has
    as much noise as the others, and a smaller divisor would make its steps noisier than those of
    central DP-SGD.
    """

    name: str
    start: int
    stop: int
    trainers: tuple[str, ...]
    weights: tuple[tuple[str, float], ...]

    @property
    def trained_by(self) -> int:
        """How many sites train it."""
        return len(self.trainers)

    def divisor(self, cohort: Collection[str] | None = None) -> float:
        """What divides its sum over a cohort, over all sites if None; never 0."""
        return (
            sum(weight for site, weight in self.weights if cohort is None or site in cohort) or 1.0
        )

    def slices(self) -> Iterator[slice]:
        """Its place in parts of at most 2^20 numbers, so that no step needs much memory."""
        for start in range(self.start, self.stop, _AT_ONCE):
            yield slice(start, min(start + _AT_ONCE, self.stop))

    def owners(self, cohort: Collection[str]) -> int:
        """How many sites of a cohort train it."""
        return sum(site in cohort for site in self.trainers)


@dataclass(frozen=True)
class TrainingPlan:
    """Everything that sites and coordinator need to agree on, all of it public.

    ``rounds`` are exchanges. With shared noise each is one joint step, and ``exchanges_a_round``
    of them are one round of the configuration: as often the model is saved and measured. A round
    goes on with ``smallest_cohort`` sites or more when others drop out, and a segment that fewer
    than ``min_owners`` sites of the cohort train is sent as zeros by all of them.
    """

    sites: tuple[SitePlan, ...]
    segments: tuple[SegmentPlan, ...]
    label_names: tuple[str, ...]
    rounds: int
    fine_tune_steps: int
    bytes_up: int
    bytes_down: int
    smallest_cohort: int
    min_owners: int = 1
    carries_weights: bool = False
    exchanges_a_round: int = 1

    @property
    def shared(self) -> SharedPlan | None:
        """The joint mechanism with ``privacy.trust = "shared"``, else None."""
        return self.sites[0].shared

    def spend(self, rounds: Mapping[str, int] | None = None, fine_tunings: int = 0) -> Spend:
        """What ``rounds`` started exchanges cost a patient, by the site that holds the patient.

        Sites with equal events are one alternative.

        Args:
            rounds: exchanges started, by site; all that are planned if left out.
            fine_tunings: how often sites started to fine-tune, after the last round.
        """
        if self.shared is not None:
            started = self.rounds if rounds is None else max(rounds.values(), default=0)
            return Spend(((self.shared.event(started),),))
        steps = {
            site.name: site.steps
            if rounds is None
            else rounds.get(site.name, 0) * site.local_steps + fine_tunings * self.fine_tune_steps
            for site in self.sites
        }
        events = dict.fromkeys(site.event(steps[site.name]) for site in self.sites)
        return Spend(tuple((event,) for event in events))

    @property
    def parameters(self) -> int:
        """Number of parameters in an update."""
        return self.segments[-1].stop

    @property
    def values(self) -> int:
        """Numbers in a message: the parameters, and a weight a segment where weights are secret."""
        return self.parameters + (len(self.segments) if self.carries_weights else 0)

    @property
    def cohort(self) -> tuple[str, ...]:
        """Names of all sites, in order."""
        return tuple(site.name for site in self.sites)

    def site(self, name: str) -> SitePlan:
        """The plan of one site."""
        return next(site for site in self.sites if site.name == name)

    def is_open(self, segment: SegmentPlan, cohort: Collection[str]) -> bool:
        """Whether a segment has enough owners in a cohort to be summed.

        With shared noise every sum hides in the noise of all sites, whoever trains the segment.
        """
        return self.shared is not None or segment.owners(cohort) >= self.min_owners

    def open_mask(self, cohort: Collection[str]) -> npt.NDArray[np.bool_]:
        """Which parameters are summed in a cohort, (parameters,)."""
        return self.spread([np.bool_(self.is_open(s, cohort)) for s in self.segments])

    def spread(self, values: Sequence[Any]) -> npt.NDArray[Any]:
        """One value a segment as one a parameter, (parameters,)."""
        return np.repeat(np.array(values), [s.stop - s.start for s in self.segments])

    def trained_mask(
        self, modalities: Sequence[str], imputer: ImputerKind
    ) -> npt.NDArray[np.bool_]:
        """Which parameters a site with these modalities trains, (parameters,)."""
        return self.spread([np.bool_(trains(s.name, modalities, imputer)) for s in self.segments])


def declared_sites(config: RunConfig) -> list[SiteDeclaration]:
    """The sites that the configuration alone declares, for a plan without data.

    Raises:
        PlanError: the number of patients a site has is not declared.
    """
    declared = declared_patients(config)
    undeclared = [name for name in site_names(config) if name not in declared]
    if undeclared and config.federation.site:
        raise PlanError(
            f"site '{undeclared[0]}' does not declare its number of patients: add "
            f"'patients = N' to its [[federation.site]] to plan without data"
        )
    if undeclared:
        raise PlanError(
            f"{config.data.source} does not say how many patients there are before it is read: "
            "declare federation.patients = N, the training patients in all, to plan without data"
        )
    held = dict(zip(site_names(config), site_modalities(config), strict=True))
    return [SiteDeclaration(name, held[name], count) for name, count in declared.items()]


def declared_patients(config: RunConfig) -> dict[str, int]:
    """Training patients by site, as far as the configuration alone declares them."""
    if config.federation.site:
        sites = config.federation.site
        return {n: s.patients for s in sites if s.patients is not None for n in s.names}
    total = config.federation.patients
    if config.data.source == "phantom":
        total = config.data.patients - test_size(config.data.patients, config.data.test_fraction)
        if config.evaluation.choose_round == "validation":
            total -= validation_size(total, config.data.validation_fraction)
    if total is None:
        return {}
    sizes = site_sizes(total, config.federation.sites)
    return dict(zip(site_names(config), sizes, strict=True))


def check_without_data(config: RunConfig) -> None:
    """Refuse, before any data is read, what the configuration alone shows to be impossible.

    Raises:
        PlanError: see :func:`make_plan`.
    """
    check_tables(config)
    check_label(config.missingness.label, label_names(config))
    check_cohort(config, len(site_names(config)))
    if len(declared_patients(config)) == len(site_names(config)):
        make_plan(config, declared_sites(config))


def site_names(config: RunConfig) -> list[str]:
    """Names of the sites: their own (each shard's), or ``site-01`` and so on."""
    if config.federation.site:
        return [name for s in config.federation.site for name in s.names]
    return [f"site-{i + 1:02d}" for i in range(config.federation.sites)]


def site_modalities(config: RunConfig) -> list[tuple[str, ...]]:
    """Modalities of every site, in the order of :func:`site_names`."""
    every = tuple(config.modalities)
    if config.federation.site:
        return [s.modalities or every for s in config.federation.site for _ in s.names]
    if len(every) == 1:
        return [every] * config.federation.sites
    return sites_modalities(config.federation.modalities, config.federation.sites, every)


def make_plan(config: RunConfig, declarations: Sequence[SiteDeclaration]) -> TrainingPlan:
    """Calibrate, count and check.

    Raises:
        PlanError: a site is smaller than a batch, delta is not below 1/patients, the budget
            cannot be met, or the sum of all updates may overflow its field or not decrypt.
    """
    check_epsilon(config.privacy.epsilon)
    check_cohort(config, len(declarations))
    check_tables(config)
    names = label_names(config)
    check_label(config.missingness.label, names)
    parts = segments(initial_model(config, len(names)))
    kind = config.model.imputer
    shared = None
    if config.privacy.trust == "shared":
        shared = plan_shared(config, [d.patients for d in declarations], parts[-1].stop)
    plans = tuple(
        SegmentPlan(
            s.name,
            s.start,
            s.stop,
            trainers=tuple(d.name for d in declarations if trains(s.name, d.modalities, kind)),
            weights=_weights(config, s.name, declarations, shared),
        )
        for s in parts
    )
    total = _values(config, parts[-1].stop, len(parts))
    rounds = config.training.rounds if shared is None else shared.steps
    if config.crypto.encryption == "bfv":
        packing = Packing.named(config.crypto.layout)
        each = ciphertext_bytes(total, packing)
        chunks = chunks_for(packing.masked_slots(total))
        check_noise(packing, len(declarations), rounds * chunks)
    elif config.crypto.encryption == "ckks":
        pieces = Packing.named(config.crypto.layout).pieces(total)
        each = sum(ckks.ciphertext_bytes(at.stop - at.start) for at in pieces)
    else:
        each = 4 * total
    return TrainingPlan(
        sites=tuple(
            _site_plan(config, d) if shared is None else _joint_part(config, d, shared)
            for d in declarations
        ),
        segments=plans,
        label_names=names,
        rounds=rounds,
        fine_tune_steps=config.training.fine_tune_steps,
        bytes_up=each,
        bytes_down=each,
        carries_weights=total > parts[-1].stop,
        smallest_cohort=_smallest_cohort(config, len(declarations), shared),
        min_owners=config.crypto.min_owners,
        exchanges_a_round=1 if shared is None else config.training.local_steps,
    )


def size_weight(
    site: SiteDeclaration | SitePlan, sites: Sequence[SiteDeclaration | SitePlan]
) -> float:
    """Declared patients of a site over those of the largest: public, in (0, 1]."""
    return site.patients / max(each.patients for each in sites)


def _weights(
    config: RunConfig,
    segment: str,
    sites: Sequence[SiteDeclaration],
    shared: SharedPlan | None,
) -> tuple[tuple[str, float], ...]:
    if shared is not None:
        return tuple((site.name, shared.sampling_rate * site.patients) for site in sites)
    by_size = config.training.aggregation == "size"
    return tuple(
        (site.name, size_weight(site, sites) if by_size else 1.0)
        for site in sites
        if counts(segment, site.modalities, config.model.imputer)
    )


def _smallest_cohort(config: RunConfig, sites: int, shared: SharedPlan | None) -> int:
    """The fewest sites that a round goes on with; an unencrypted run may have one only."""
    if shared is not None:
        return shared.smallest_cohort
    if sites < 2:
        return sites
    return smallest_cohort(sites, 0, config.federation.smallest_cohort)


def local_steps(config: RunConfig, patients: int) -> int:
    """Steps that a site of this declared size takes in a round.

    With ``local_epochs`` = e it is e / q rounded up, q = batch_size / ``patients``: as many steps
    as draw each patient e times on average. Otherwise it is ``local_steps``, the same everywhere.
    """
    epochs = config.training.local_epochs
    if epochs is None:
        return config.training.local_steps
    return math.ceil(epochs * patients / config.training.batch_size)


def _site_plan(config: RunConfig, site: SiteDeclaration) -> SitePlan:
    rate = sampling_rate(config.training.batch_size, site.patients, site=site.name)
    local = local_steps(config, site.patients)
    steps = config.training.rounds * local + config.training.fine_tune_steps
    given = config.privacy.delta
    delta = default_delta(site.patients) if given == "auto" else float(given)
    check_delta(delta, site.patients)
    sigma, spent = 0.0, math.inf
    if config.privacy.is_private:
        sigma = remembered_noise(config.privacy.epsilon, delta, rate, steps)
        spent = epsilon([SubsampledGaussianEvent(sigma, rate, steps)], delta)
        if spent > config.privacy.epsilon:
            raise PlanError(f"calibration gave epsilon {spent} above {config.privacy.epsilon}")
    return SitePlan(
        name=site.name,
        modalities=site.modalities,
        patients=site.patients,
        sampling_rate=rate,
        noise_multiplier=sigma,
        delta=delta,
        epsilon=spent,
        local_steps=local,
        steps=steps,
    )


def _joint_part(config: RunConfig, site: SiteDeclaration, shared: SharedPlan) -> SitePlan:
    """A site's plan when all sites take each step together."""
    return SitePlan(
        name=site.name,
        modalities=site.modalities,
        patients=site.patients,
        sampling_rate=shared.sampling_rate,
        noise_multiplier=noise_multiplier(shared, config.privacy.clip_norm),
        delta=shared.delta,
        epsilon=shared.epsilon,
        local_steps=1,
        steps=shared.steps,
        shared=shared,
    )


def message_values(config: RunConfig) -> int:
    """Numbers in a site's update: parameters, and a weight a segment where weights are secret."""
    parts = segments(initial_model(config, len(label_names(config))))
    return _values(config, parts[-1].stop, len(parts))


def _values(config: RunConfig, parameters: int, n_segments: int) -> int:
    return parameters + (n_segments if config.training.aggregation == "uncertainty" else 0)


def check_cohort(config: RunConfig, sites: int) -> None:
    """Refuse a cohort that the encryption cannot sum or whose sum hides nothing.

    Raises:
        PlanError: it is.
    """
    if config.crypto.encryption != "none" and sites < 2:
        raise PlanError(
            "a sum over one site hides nothing: use at least 2 sites, or --encryption none"
        )
    if config.crypto.encryption == "ckks":
        ckks.check_range(sites, config.crypto.update_bound)
    else:
        Packing.named(config.crypto.layout).check_headroom(sites, config.crypto.value_bits)
