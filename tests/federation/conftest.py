"""A federation without Flower: real sites and coordinator, with everything between them kept."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from privfin.config import RunConfig
from privfin.crypto.keys import Roster, SiteIdentity
from privfin.crypto.pack import Packing
from privfin.crypto.quantize import Quantizer
from privfin.federation.coordinator import Coordinator, SumPlan
from privfin.federation.global_model import GlobalModel
from privfin.federation.local import stream_source
from privfin.federation.local_training import LocalTrainer
from privfin.federation.messages import RunIdentity, Task
from privfin.federation.plan import TrainingPlan, make_plan
from privfin.federation.prepare import PreparedData
from privfin.federation.round_work import LocalRound
from privfin.federation.site import Site
from privfin.models.segments import Vector, flatten, initial_model


class MemoryJournal:
    """Spending, in memory."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.started: list[tuple[str, int, int]] = []

    def spent_rounds(self, site: str) -> int:
        return self.counts.get(site, 0)

    def start(self, site: str, round_number: int, attempt: int) -> None:
        self.counts[site] = self.spent_rounds(site) + 1
        self.started.append((site, round_number, attempt))


class RandomTrainer:
    """Changes every parameter by a random number, also those that the site must not change."""

    def __init__(self, name: str) -> None:
        self.seed = [*name.encode()]

    def train(self, start: Vector, round_number: int, steps: int) -> Vector:
        rng = np.random.default_rng([*self.seed, round_number])
        return (0.3 * rng.standard_normal(start.size)).astype(np.float32)


class SpyTrainer:
    """Notes what a site really computed, before it is protected."""

    def __init__(self, inner: Any, changes: dict[int, Vector]) -> None:
        self.inner = inner
        self.changes = changes

    def train(self, start: Vector, round_number: int, steps: int) -> Vector:
        change: Vector = self.inner.train(start, round_number, steps)
        self.changes[round_number] = change.copy()
        return change


@dataclass
class Exchange:
    """One task to one site and the reply, as the coordinator saw them."""

    site: str
    task: Task
    reply: bytes


@dataclass
class RecordingTransport:
    """Hands tasks to sites directly and keeps every byte."""

    sites: Mapping[str, Site]
    log: list[Exchange] = field(default_factory=list)
    tamper: Callable[[Exchange], bytes] = lambda exchange: exchange.reply
    on_exchange: Callable[[list[dict[str, Any]]], None] | None = None

    def exchange(self, tasks: Mapping[str, Task]) -> dict[str, bytes]:
        replies = {}
        for name, task in tasks.items():
            one = Exchange(name, task, self.sites[name].handle(task))
            self.log.append(one)
            replies[name] = self.tamper(one)
        if self.on_exchange is not None:
            self.on_exchange(_coordinator_locals())
        return replies

    def everything(self) -> bytes:
        """All bytes that crossed the coordinator, both ways."""
        parts = []
        for one in self.log:
            parts += [*one.task.parts, one.reply]
        return b"".join(parts)


def _coordinator_locals() -> list[dict[str, Any]]:
    """Local variables of every function of the coordinator that is now running."""
    found = []
    frame = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "privfin.federation.coordinator":
            found.append(dict(frame.f_locals))
        frame = frame.f_back  # type: ignore[assignment]
    return found


class Federation:
    """Sites, their coordinator, and notes of what happened at each site."""

    def __init__(self, config: RunConfig, data: PreparedData, *, real_training: bool) -> None:
        self.config = config
        self.plan: TrainingPlan = make_plan(config, data.declarations)
        self.run = RunIdentity("run-1", config.digest())
        self.identities = {name: SiteIdentity.generate(name) for name in self.plan.cohort}
        self.roster = Roster(identity.public() for identity in self.identities.values())
        self.packing = Packing.named(config.crypto.layout)
        self.changes: dict[str, dict[int, Vector]] = {name: {} for name in self.roster}
        self.applied: dict[str, list[Vector]] = {name: [] for name in self.roster}
        self.states: dict[str, GlobalModel] = {}
        self.journal = MemoryJournal()
        self.sites: dict[str, Site] = {}
        first = flatten(initial_model(config, len(self.plan.label_names)))
        start = GlobalModel.start(first, 1, config.training.server)
        for name in self.roster:
            streams = stream_source(config, name)
            inner: Any = RandomTrainer(name)
            if real_training:
                inner = LocalTrainer(config, self.plan.site(name), data.sites[name], streams)
            self.states[name] = start.copy()
            self.sites[name] = Site(
                identity=self.identities[name],
                roster=self.roster,
                run=self.run,
                config=config,
                plan=self.plan,
                state=self.states[name],
                work=LocalRound(
                    config,
                    self.plan,
                    name,
                    SpyTrainer(inner, self.changes[name]),
                    lambda number, source=streams: source("rounding", number),  # type: ignore[misc]
                ),
                journal=self.journal,
                on_applied=lambda state, kept=self.applied[name]: kept.append(state.vector.copy()),
            )
        self.transport = RecordingTransport(self.sites)
        sizes = SumPlan(
            config.crypto.encryption,
            config.crypto.layout,
            self.plan.values,
            self.plan.smallest_cohort,
        )
        self.coordinator = Coordinator(self.run, self.roster, self.transport, sizes)

    @property
    def cohort(self) -> tuple[str, ...]:
        return tuple(self.roster)

    def train(self, rounds: int | None = None) -> Federation:
        """Agree on a key and run all rounds."""
        self.coordinator.agree_on_key()
        self.coordinator.run_rounds(1, rounds or self.plan.rounds, lambda number: 1)
        return self

    def codes(self, site: str, round_number: int) -> npt.NDArray[np.uint64]:
        """The integers that a site sent, computed again from its update (reproducible mode)."""
        assert self.config.privacy.reproducible
        have = self.plan.site(site).modalities
        trained = self.plan.trained_mask(have, self.config.model.imputer)
        update = np.where(trained, self.changes[site][round_number], np.float32(0))
        stream = stream_source(self.config, site)("rounding", round_number)
        crypto = self.config.crypto
        return Quantizer(crypto.update_bound, crypto.value_bits).encode(update, stream)

    def update_of(self, site: str, round_number: int) -> Exchange:
        """The exchange in which a site sent its update."""
        return next(
            one
            for one in self.transport.log
            if (one.site, one.task.kind, one.task.round) == (site, "update", round_number)
        )

    def task(self, kind: Any, round_number: int, *parts: bytes, attempt: int = 1) -> Task:
        """A task to the whole cohort."""
        return Task(kind, round_number, attempt, self.cohort, tuple(parts))

    def agree(self) -> Federation:
        """Agree on a key only."""
        self.coordinator.agree_on_key()
        return self


@pytest.fixture(scope="session")
def federation(
    tiny: Callable[..., RunConfig], prepared: Callable[[RunConfig], PreparedData]
) -> Callable[..., Federation]:
    """Makes a federation: ``federation(real_training=True, crypto__encryption="none")``."""

    def make(*, real_training: bool = False, **options: Any) -> Federation:
        given = {"privacy__reproducible": True, **options}
        config = tiny(**given)
        return Federation(config, prepared(config), real_training=real_training)

    return make
