"""A whole federation in one process: real sites and coordinator over Flower's apps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from privfin.config import RunConfig
from privfin.crypto.keys import Roster, SiteIdentity
from privfin.errors import BudgetError
from privfin.federation.assessment import held_out_loss
from privfin.federation.budget_gate import BudgetGate
from privfin.federation.coordinator import Coordinator, SumPlan
from privfin.federation.flower import run_locally
from privfin.federation.global_model import GlobalModel
from privfin.federation.joint_training import JointSum, JointTrainer
from privfin.federation.ledger_heads import LedgerHeads
from privfin.federation.local_training import LocalTrainer, SiteData, StepMaker
from privfin.federation.messages import RunIdentity, Transport
from privfin.federation.plan import TrainingPlan
from privfin.federation.prepare import PreparedData
from privfin.federation.round_work import JointRound, LocalRound, RoundWork
from privfin.federation.site import Site
from privfin.models.multimodal import Batch
from privfin.models.segments import assign, flatten, initial_model
from privfin.privacy.dpsgd import DpSgd
from privfin.randomness import RandomStream
from privfin.runs import Run

#: Gives the random stream for a purpose in a round.
StreamSource = Callable[[str, int], RandomStream]
#: Makes a site's work from the run's configuration and plan, the site's name, its data and streams,
#: and the public records; see :func:`site_work`.
SiteWork = Callable[[RunConfig, TrainingPlan, str, SiteData, StreamSource, Batch | None], RoundWork]


class TrainingObserver(Protocol):
    """Told how training goes, for a display. Nothing it is told comes from a single update."""

    def site_started(self, round_number: int, site: str) -> None:
        """A site starts its steps of a round."""
        ...

    def round_finished(self, round_number: int, loss: float, up: int, down: int) -> None:
        """A round's sum was applied; ``loss`` is that of the held-out patients, NaN if it is not
        to be shown."""
        ...

    def fine_tuning_started(self, site: str, number: int, sites: int) -> None:
        """After the last round, the ``number``-th of ``sites`` starts to fine-tune."""
        ...

    def choosing_round(self, number: int, rounds: int) -> None:
        """The ``number``-th of ``rounds`` models is measured on the validation patients."""
        ...

    def stage(self, name: str, done: int, total: int) -> None:
        """Work before or after training: ``done`` of ``total`` steps of it."""
        ...


class SilentObserver:
    """Shows nothing."""

    def site_started(self, round_number: int, site: str) -> None:
        """Do nothing."""

    def round_finished(self, round_number: int, loss: float, up: int, down: int) -> None:
        """Do nothing."""

    def fine_tuning_started(self, site: str, number: int, sites: int) -> None:
        """Do nothing."""

    def choosing_round(self, number: int, rounds: int) -> None:
        """Do nothing."""

    def stage(self, name: str, done: int, total: int) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Outcome:
    """How training ended: the parameters to use, and whether all rounds were done."""

    vector: npt.NDArray[np.float32]
    rounds: int
    is_complete: bool


class _RunJournal:
    """Writes each site's spending into the ledger and the run's event log before it happens."""

    def __init__(
        self, run: Run, observer: TrainingObserver, plan: TrainingPlan, gate: BudgetGate | None
    ) -> None:
        self._run = run
        self._observer = observer
        self._plan = plan
        self._gate = gate
        self._counts = run.spent_rounds()

    def spent_rounds(self, site: str) -> int:
        return self._counts.get(site, 0)

    def most_spent(self) -> int:
        return max(self._counts.values(), default=0)

    def start(self, site: str, round_number: int, attempt: int) -> None:
        started = self.spent_rounds(site) + 1
        if self._gate is not None and started > self.most_spent():
            # One row a round, for all sites of this process: the first of them to start pays it.
            self._gate.start(self._plan.spend(dict.fromkeys(self._plan.cohort, started)))
        self._run.record("site-round-started", site=site, round=round_number, attempt=attempt)
        self._counts[site] = started
        self._observer.site_started(round_number, site)


def stream_source(config: RunConfig, site: str) -> StreamSource:
    """Streams of one site: from the operating system, or keyed by the seed in test mode."""
    if not config.privacy.reproducible:
        return lambda purpose, round_number: RandomStream.system()
    seed = config.training.seed
    return lambda purpose, round_number: RandomStream.reproducible(
        seed, site, purpose, round_number
    )


def site_work(
    config: RunConfig,
    plan: TrainingPlan,
    name: str,
    data: SiteData,
    streams: StreamSource,
    public: Batch | None = None,
    *,
    make_step: StepMaker = DpSgd,
) -> RoundWork:
    """What a site does in a round: steps of its own, or its part of a joint step.

    ``make_step`` builds the private steps of ``privacy.trust = "local"``: an audit watches them.
    """
    own = plan.site(name)
    if plan.shared is None:
        trainer = LocalTrainer(config, own, data, streams, public, make_step=make_step)
        return LocalRound(config, plan, name, trainer, lambda number: streams("rounding", number))
    return JointRound(
        JointTrainer(config, own, plan.shared, data, streams, public),
        JointSum(config, plan.shared, plan.segments),
    )


def start_state(run: Run, config: RunConfig, plan: TrainingPlan) -> GlobalModel:
    """The newest checkpoint of a run, or the initial model from the public seed."""
    after = math.floor(config.training.average_from * plan.rounds)
    labels = len(plan.label_names)
    server = config.training.server
    saved = run.last_checkpoint()
    if saved is None:
        return GlobalModel.start(flatten(initial_model(config, labels)), after, server)
    return GlobalModel.resume(saved, after, server)


def train_locally(
    config: RunConfig,
    plan: TrainingPlan,
    data: PreparedData,
    run: Run,
    *,
    observer: TrainingObserver | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    gate: BudgetGate | None = None,
    work: SiteWork = site_work,
    tap: Callable[[Transport], Transport] | None = None,
) -> Outcome:
    """Run (or go on with) all rounds, saving a checkpoint after each.

    ``work`` makes what each site does in a round; an audit puts its own around :func:`site_work`.

    A round that an earlier process started but did not finish stays counted at the sites that
    started it. With private noise the run then ends that many rounds earlier, so that the
    planned epsilon still holds. ``tap`` may put something between coordinator and sites that
    listens to what passes; an audit does.

    Raises:
        BudgetError: no budget is left for a single further round.
        SiteFailedError, ProtocolError: a site failed or a message was refused.
    """
    watcher = observer or SilentObserver()
    labels = len(plan.label_names)
    state = start_state(run, config, plan)
    journal = _RunJournal(run, watcher, plan, gate)
    last = _last_round(config, plan, state.round, journal.most_spent())
    identities = {name: SiteIdentity.generate(name) for name in plan.cohort}
    roster = Roster(identity.public() for identity in identities.values())
    identity = RunIdentity(run.run_id, config.digest())
    coordinators: list[Coordinator] = []
    shown = initial_model(config, labels)
    shown.use_public(data.public)

    every = plan.exchanges_a_round
    saved = [state.round]
    newest = [state]

    def applied(current: GlobalModel) -> None:
        """Any site's model after a sum: the first to have a new one saves it, as all are equal."""
        newest[0] = current
        if current.round % every == 0:
            save(current)

    def save(current: GlobalModel) -> None:
        if current.round <= saved[0]:
            return
        saved[0] = current.round
        traffic = coordinators[0].traffic
        run.save_checkpoint(current.checkpoint())
        run.record("round-finished", round=current.round, up=traffic.up, down=traffic.down)
        loss = math.nan
        # With secure metrics nothing is measured on pooled patients, not even for the display.
        if "loss" in config.evaluation.metrics and not config.evaluation.secure:
            assign(shown, current.vector)
            loss = held_out_loss(shown, data.test)
        watcher.round_finished(current.round, loss, traffic.up, traffic.down)

    def head_of_ledger() -> str:
        head = None if gate is None else gate.head()
        return "" if head is None else head.to_text()

    sites: dict[str, Site] = {}
    for name in roster:
        streams = stream_source(config, name)
        sites[name] = Site(
            identity=identities[name],
            roster=roster,
            run=identity,
            config=config,
            plan=plan,
            state=state.copy(),
            work=work(config, plan, name, data.sites[name], streams, data.public),
            journal=journal,
            on_applied=applied,
            policy=None if gate is None else gate.policy,
            with_ledger=gate is not None and gate.counted,
            ledger_head=head_of_ledger,
        )

    def start_round(number: int) -> int | None:
        # Only between rounds of the configuration: what is trained beyond a checkpoint is lost.
        if (number - 1) % every == 0 and should_stop():
            stopped.append(number)
            return None
        attempt = run.attempts(number) + 1
        run.record("round-started", round=number, attempt=attempt)
        return attempt

    done = [state.round]
    stopped: list[int] = []

    def coordinate(transport: Transport) -> None:
        sum_plan = SumPlan(
            config.crypto.encryption, config.crypto.layout, plan.values, plan.smallest_cohort
        )
        coordinator = Coordinator(
            identity,
            roster,
            transport if tap is None else tap(transport),
            sum_plan,
            on_ledger_head=LedgerHeads(run).keep,
            on_left=lambda site, number, attempt: run.record(
                "site-left", site=site, round=number, attempt=attempt
            ),
        )
        coordinators.append(coordinator)
        coordinator.agree_on_key()
        done[0] = coordinator.run_rounds(state.round + 1, last, start_round)
        save(newest[0])  # where lost steps ended a run between two rounds of the configuration

    if state.round < last:
        run_locally(sites, coordinate)
        state = start_state(run, config, plan)
    return Outcome(state.final(), done[0], not stopped)


def _last_round(config: RunConfig, plan: TrainingPlan, finished: int, spent: int) -> int:
    """The round to end with, given rounds finished and rounds already paid for."""
    planned = plan.rounds
    if config.privacy.reproducible or not config.privacy.is_private:
        return planned
    last = finished + planned - spent
    if last <= 0:
        raise BudgetError(
            f"all {planned} rounds that the noise was calibrated for were started without one "
            "being finished: start a new run"
        )
    return last
