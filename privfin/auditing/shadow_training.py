"""Shadow models: many models trained as the run was, each on patients of its own choice.

Every number is made as the run makes it: Poisson sampling, one record of each patient drawn,
clipping, noise from cryptographic streams, local optimiser, quantisation, aggregation, server
optimiser and the mean of the later rounds. Encryption and masks change no number (CKKS changes
them by less than float32's rounding of an update) and are left out. Every site is taken to have
been there in every round.

Shadow models of real patients are trained outside the run's guarantee: a curator who knows which
patients each one saw can tell more from them than the run's epsilon allows. They are the auditor's
private working files and must not leave the machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from attacks.errors import AuditRefusedError
from privfin.auditing.population import BoolArray, SitePool
from privfin.auditing.shadow_site import ShadowSite, Vectors
from privfin.config import RunConfig
from privfin.federation.global_model import GlobalModel
from privfin.federation.joint_training import JointSum
from privfin.federation.local import StreamSource
from privfin.federation.plan import TrainingPlan
from privfin.federation.prepare import Progress, silent
from privfin.federation.round_work import JointRound, LocalRound, RoundWork
from privfin.models.multimodal import Batch
from privfin.models.segments import Vector, flatten, initial_model
from privfin.privacy.joint import JointStepSettings
from privfin.randomness import RandomStream

#: Streams of a shadow model, by its number and the site.
ShadowStreams = Callable[[int, str], StreamSource]


class StoppedError(Exception):
    """Training was asked to stop between two rounds."""


@dataclass(frozen=True)
class Shadows:
    """Trained shadow models.

    Attributes:
        final: (M, P) what each run of training would have released.
        rounds: the rounds of the configuration that were asked for, ascending.
        after: (M, rounds, P) the global model after each of them.
    """

    final: Vectors
    rounds: tuple[int, ...]
    after: Vectors


def shadow_streams(config: RunConfig) -> ShadowStreams:
    """Fresh streams of each model: from the operating system, or keyed by the seed in test mode."""
    if not config.privacy.reproducible:
        return lambda model, site: lambda purpose, number: RandomStream.system()
    seed = config.training.seed
    return lambda model, site: (
        lambda purpose, number: RandomStream.reproducible(
            seed, "shadow", model, site, purpose, number
        )
    )


def recipe(config: RunConfig, plan: TrainingPlan, rounds: int | None = None) -> dict[str, object]:
    """Everything that training depends on but the patients and the randomness.

    For :func:`attacks.guards.check_same_recipe` and the key of the cache.

    Args:
        config: the run's configuration.
        plan: its plan.
        rounds: exchanges that were done; all that are planned if left out.
    """
    content = config.model_dump(mode="json")
    # Federated names only say who is who; evaluation measures and decides nothing here.
    parts: dict[str, object] = {
        name: content[name] for name in ("model", "modalities", "training", "privacy", "crypto")
    }
    sites: dict[str, Any] = asdict(plan)
    for traffic in ("bytes_up", "bytes_down"):
        del sites[traffic]
    return {**parts, "plan": sites, "rounds": plan.rounds if rounds is None else rounds}


def check_trainable(config: RunConfig, plan: TrainingPlan, pools: Sequence[SitePool]) -> None:
    """Refuse what shadow training cannot do as the run did it.

    Raises:
        AuditRefusedError: it is so.
    """
    if config.evaluation.choose_round == "validation":
        raise AuditRefusedError(
            "shadow models cannot be trained as this run was: it chose its round on validation "
            "patients; audit a run with evaluation.choose_round = 'last'"
        )
    names = tuple(pool.name for pool in pools)
    if names != tuple(plan.cohort):
        raise AuditRefusedError(
            "shadow models need one pool of patients for every site of the plan, in its order"
        )


def train_shadows(
    config: RunConfig,
    plan: TrainingPlan,
    pools: Sequence[SitePool],
    coins: BoolArray,
    *,
    public: Batch | None = None,
    numbers: Sequence[int] | None = None,
    keep: Collection[int] = (),
    rounds: int | None = None,
    streams: ShadowStreams | None = None,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
    should_stop: Callable[[], bool] = lambda: False,
) -> Shadows:
    """Train one model for each row of ``coins``.

    Args:
        config: the run's configuration.
        plan: its plan.
        pools: the patients of every site, in the order of the plan.
        coins: (M, patients over all pools in order): which patients a model trains on.
        public: the public records of ``imputer = "retrieval"``.
        numbers: of the models, for their streams in the reproducible mode; 0 to M - 1 if left out.
        keep: rounds of the configuration after which the global model is kept.
        rounds: exchanges the run did; all that are planned if left out.
        streams: for tests; :func:`shadow_streams` if left out.
        device: where gradients are computed.
        progress: told of rounds.
        should_stop: asked between two rounds of the configuration.

    Raises:
        AuditRefusedError: see :func:`check_trainable`.
        PrivfinError: a model diverged.
        StoppedError: ``should_stop`` said so.
        ValueError: coins or rounds do not fit.
    """
    check_trainable(config, plan, pools)
    dealt = _deal(pools, coins)
    own = range(len(coins)) if numbers is None else numbers
    made = streams or shadow_streams(config)
    sites = [
        ShadowSite(
            config,
            plan,
            pool,
            mine,
            [made(number, pool.name) for number in own],
            public=public,
            device=device,
        )
        for pool, mine in zip(pools, dealt, strict=True)
    ]
    work: _Exchange
    if plan.shared is None:
        work = _LocalExchange(config, plan, sites, own, made)
    else:
        work = _JointExchange(config, plan, sites, len(coins))
    after = math.floor(config.training.average_from * plan.rounds)
    first = flatten(initial_model(config, len(plan.label_names)))
    states = [GlobalModel.start(first, after, config.training.server) for _ in own]
    every = plan.exchanges_a_round
    last = plan.rounds if rounds is None else rounds
    if not 0 < last <= plan.rounds:
        raise ValueError(f"rounds must lie in 1..{plan.rounds}, got {last}")
    wanted = tuple(sorted(set(keep)))
    if wanted and not 1 <= wanted[0] <= wanted[-1] <= last // every:
        raise ValueError(f"kept rounds must lie in 1..{last // every}")
    kept = np.empty((len(states), len(wanted), first.size), dtype=np.float32)
    progress("training shadow models", 0, last)
    for number in range(1, last + 1):
        if (number - 1) % every == 0 and should_stop():
            raise StoppedError
        starts = np.stack([state.vector for state in states])
        for state, steps in zip(states, work.run(starts, number), strict=True):
            state.apply(steps)
        if number % every == 0 and number // every in wanted:
            kept[:, wanted.index(number // every)] = [state.vector for state in states]
        progress("training shadow models", number, last)
    return Shadows(np.stack([state.final() for state in states]), wanted, kept)


def _deal(pools: Sequence[SitePool], coins: BoolArray) -> list[BoolArray]:
    """The coins of every site's patients, (M, patients) each."""
    sizes = [len(pool.patients) for pool in pools]
    if coins.ndim != 2 or coins.dtype != np.bool_ or coins.shape[1] != sum(sizes) or not len(coins):
        raise ValueError(f"coins must be (models, {sum(sizes)}) of True and False")
    return np.split(coins, np.cumsum(sizes)[:-1], axis=1)


class _Handed:
    """Hands out what was computed for all models at once, as a trainer or contributor of one."""

    def __init__(self) -> None:
        self.change: Vector = np.empty(0, dtype=np.float32)
        self.levels: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def train(self, start: Vector, round_number: int, steps: int) -> Vector:
        """See :class:`privfin.federation.round_work.Trainer`."""
        return self.change

    def contribute(self, start: Vector, number: int, cohort: int) -> npt.NDArray[np.int64]:
        """See :class:`privfin.federation.round_work.Contributor`."""
        return self.levels


class _Exchange(Protocol):
    """One exchange of all models with all sites."""

    def run(self, starts: Vectors, number: int) -> Iterator[Any]:
        """The average updates of each model, in order."""
        ...


class _LocalExchange:
    def __init__(
        self,
        config: RunConfig,
        plan: TrainingPlan,
        sites: Sequence[ShadowSite],
        numbers: Sequence[int],
        streams: ShadowStreams,
    ) -> None:
        self._cohort = plan.cohort
        self._sites = sites
        self._handed = _Handed()
        self._model = 0

        def work(name: str) -> LocalRound:
            return LocalRound(
                config,
                plan,
                name,
                self._handed,
                lambda number: streams(numbers[self._model], name)("rounding", number),
            )

        self._work = [work(name) for name in plan.cohort]

    def run(self, starts: Vectors, number: int) -> Iterator[Any]:
        changes = [site.train(starts, number) for site in self._sites]
        for at in range(len(starts)):
            self._model = at

            def codes(work: RoundWork, change: Vectors, at: int = at) -> npt.NDArray[Any]:
                self._handed.change = change[at]
                return work.codes(starts[at], number, self._cohort)

            total = sum(codes(w, c) for w, c in zip(self._work, changes, strict=True))
            yield self._work[0].incoming(np.asarray(total), self._cohort)


class _JointExchange:
    def __init__(
        self, config: RunConfig, plan: TrainingPlan, sites: Sequence[ShadowSite], models: int
    ) -> None:
        if plan.shared is None:
            raise AssertionError("only shared noise has joint steps")
        self._cohort = plan.cohort
        self._sites = sites
        self._handed = _Handed()
        self._work = JointRound(self._handed, JointSum(config, plan.shared, plan.segments))
        self._variance = plan.shared.share_variance(len(plan.cohort))
        self._settings = JointStepSettings(
            clip_norm=config.privacy.clip_norm,
            sampling_rate=plan.shared.sampling_rate,
            scale=plan.shared.noise.scale,
            largest_value=plan.shared.noise.largest_value,
        )

    def run(self, starts: Vectors, number: int) -> Iterator[Any]:
        given = [
            site.contribute(starts, number, self._settings, self._variance) for site in self._sites
        ]
        for at in range(len(starts)):
            total = np.zeros(starts.shape[1], dtype=np.uint32)
            for levels in given:
                self._handed.levels = levels[at]
                codes = self._work.codes(starts[at], number, self._cohort)
                total += codes.astype(np.uint32, copy=False)
            yield self._work.incoming(total, self._cohort)
