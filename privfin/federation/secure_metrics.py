"""The global model measured by the sites: each counts its own held-out patients, the sum is read.

An exchange of its own after training, with a key and masks of its own. First the sites add up which
of them have patients of a cell and label at all; then they add up their counts, with zeros for what
fewer than three sites have (see :mod:`privfin.federation.metric_plan`). A site answers once, and
only for its whole roster: counts have no noise, so the difference of sums over two cohorts would be
a single site's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

import numpy as np

from privfin.config import RunConfig
from privfin.crypto.envelope import sign_envelope
from privfin.crypto.keys import Roster, SiteIdentity
from privfin.errors import ProtocolError
from privfin.evaluation.histograms import LabelSums, label_sums
from privfin.federation.assessment import cell_rows, predict_scores
from privfin.federation.budget_gate import BudgetGate
from privfin.federation.coordinator import Coordinator, SumPlan
from privfin.federation.flower import run_locally
from privfin.federation.ledger_heads import LedgerHeads
from privfin.federation.messages import RunIdentity, Task, Transport
from privfin.federation.metric_plan import (
    FEWEST_SITES,
    CellSums,
    Codes,
    MetricPlan,
    Opening,
    plan_metrics,
)
from privfin.federation.metric_results import (
    FederatedMetrics,
    federated_metrics,
    too_few_sites,
)
from privfin.federation.plan import TrainingPlan
from privfin.federation.prepare import PreparedData, TestData
from privfin.federation.protection import UpdateProtection
from privfin.models.multimodal import MultimodalModel
from privfin.models.segments import Vector, assign, initial_model
from privfin.privacy.policy import Policy
from privfin.runs import Run

T = TypeVar("T")

_STARTED = "metrics-started"


def site_sums(model: MultimodalModel, held_out: TestData, plan: MetricPlan) -> list[CellSums]:
    """What one site counts on its own held-out records: one entry a cell of ``plan``.

    Args:
        model: the global model.
        held_out: the records of this site, perhaps none.
        plan: the layout.
    """
    edges = plan.edges
    nothing = LabelSums.nothing(edges.size + 1, plan.calibration_bins)
    found = dict.fromkeys(plan.cells, CellSums(0, 0, (nothing,) * len(plan.labels)))
    if not held_out.patient_ids:
        return list(found.values())
    for name, index, rows in cell_rows(held_out):
        scores, labels = predict_scores(model, rows), rows.labels.numpy()
        counted = tuple(
            plan.allowed(label_sums(scores[:, at], labels[:, at], edges, plan.calibration_bins))
            for at in range(len(plan.labels))
        )
        patients = {held_out.patient_ids[row] for row in index.tolist()}
        found[name] = CellSums(len(index), len(patients), counted)
    return list(found.values())


class MetricsSite:
    """One site in the exchange of metrics.

    Args:
        identity: the site's private keys.
        roster: all sites' pinned public keys.
        run: which run this is.
        config: the run's configuration.
        plan: the layout of the metrics.
        round_number: the rounds behind the model that is measured.
        sums: what this site counts, from :func:`site_sums`.
        on_opened: told what was opened, and the sums over all sites.
        policy: this site's own policy; None where the data holder has no home.
        with_ledger: whether a ledger counts the run.
        ledger_head: gives the last row of that ledger, which every message then states.

    Raises:
        PolicyError: the configuration breaks a rule, the metrics that are allowed among them.
        PlanError: the site has more records than can be counted.
        ProtocolError: fewer than three sites.
    """

    def __init__(
        self,
        *,
        identity: SiteIdentity,
        roster: Roster,
        run: RunIdentity,
        config: RunConfig,
        plan: MetricPlan,
        round_number: int,
        sums: Sequence[CellSums],
        on_opened: Callable[[Opening, list[CellSums]], None],
        policy: Policy | None = None,
        with_ledger: bool = False,
        ledger_head: Callable[[], str] = str,
    ) -> None:
        if policy is not None:
            policy.check(config, sites=len(roster), with_ledger=with_ledger)
        if len(roster) < FEWEST_SITES or len(roster) != plan.sites:
            raise ProtocolError(f"metrics are not added up over {len(roster)} sites")
        plan.encode(sums)  # refuses now what could not be sent later
        self.name = identity.name
        self._identity = identity
        self._roster = roster
        self._run = run
        self._plan = plan
        self._round = round_number
        self._sums = list(sums)
        self._on_opened = on_opened
        self._ledger_head = ledger_head
        self._protection = UpdateProtection(config.crypto, identity, roster, run)
        self._next: Literal["metric-owners", "metrics", "metrics-sum", "nothing"] = "metric-owners"
        self._attempt = 0
        self._opening: Opening | None = None

    def handle(self, task: Task) -> bytes:
        """Carry out a task; see :class:`privfin.federation.messages.TaskHandler`.

        Raises:
            ProtocolError: the task is out of order, for another cohort than the roster, or holds a
                sum that is not that of the cohort. After the latter the site answers nothing more.
        """
        if tuple(task.cohort) != tuple(self._roster):
            raise ProtocolError(
                f"site '{self.name}' was asked for metrics of a cohort that is not its roster"
            )
        if task.kind == "make-key":
            return self._sign("key", task, self._protection.make_key(), key_id="")
        if task.kind == "take-key":
            if len(task.parts) != 1:
                raise ProtocolError(f"site '{self.name}' expected one sealed key")
            self._protection.take_key(task.parts[0])
            return self._sign("key-taken", task, [])
        is_same = self._attempt in (0, task.attempt) and task.attempt > 0
        if task.kind != self._next or task.round != self._round or not is_same:
            raise ProtocolError(
                f"site '{self.name}' was asked for '{task.kind}' of round {task.round}, attempt "
                f"{task.attempt}, out of order: it gives metrics once, of round {self._round}"
            )
        self._protection.check_ready()
        # Whatever happens now, this step is not taken again.
        self._attempt, self._next = task.attempt, "nothing"
        if task.kind == "metric-owners":
            parts = self._protect(self._plan.owner_codes(self._sums), task)
            self._next = "metrics"
            return self._sign("metric-owners", task, parts)
        if task.kind == "metrics":
            values = self._plan.owner_values
            self._opening = self._reveal(task, "metric-owners", values, self._plan.opening)
            sent = self._opening.only_opened(self._sums)
            parts = self._protect(self._plan.encode(sent), task)
            self._next = "metrics-sum"
            return self._sign("metrics", task, parts)
        total = self._reveal(task, "metrics", self._plan.values, self._plan.decode)
        if self._opening is not None:
            self._on_opened(self._opening, total)
        return self._sign("metrics-taken", task, [])

    def _protect(self, codes: Codes, task: Task) -> list[bytes]:
        return self._protection.protect(
            codes, task.round, task.attempt, task.cohort, purpose=task.kind
        )

    def _reveal(self, task: Task, purpose: str, values: int, read: Callable[[Codes], T]) -> T:
        try:
            total = self._protection.reveal(
                list(task.parts), values, task.round, task.attempt, task.cohort, purpose=purpose
            )
            return read(total.astype(np.uint64))
        except (ProtocolError, ValueError, RuntimeError) as error:
            # One answer in one wording, as in training: refusals must not tell about the key.
            raise ProtocolError(
                f"site '{self.name}' gives no metrics: a sum that it was given is not that of the "
                "whole cohort (a contribution is missing, doubled or damaged)"
            ) from error

    def _sign(self, kind: str, task: Task, parts: list[bytes], key_id: str | None = None) -> bytes:
        return sign_envelope(
            self._identity,
            self._roster,
            parts,
            kind=kind,
            run_id=self._run.run_id,
            round=task.round,
            attempt=task.attempt,
            key_id=self._protection.key_id if key_id is None else key_id,
            config_hash=self._run.config_digest,
            ledger_head=self._ledger_head(),
        )


def measure_securely(
    config: RunConfig,
    plan: TrainingPlan,
    data: PreparedData,
    run: Run,
    vector: Vector,
    rounds: int,
    gate: BudgetGate | None = None,
) -> FederatedMetrics:
    """Let every site of a run in this process measure the global model, and add up their counts.

    Sites that dropped out of training take no part.

    Args:
        config: the run's configuration, with ``evaluation.secure``.
        plan: the run's plan.
        data: held-out records that know their sites.
        run: where the exchange is written down.
        vector: the global model.
        rounds: the rounds behind it.
        gate: the budget gate, for the policy and the ledger's head.

    Raises:
        PolicyError, PlanError: see :class:`MetricsSite`.
        SiteFailedError, ProtocolError: a site failed or a message was refused.
    """
    left = {one["site"] for one in run.sites_left()}
    there = [site for site in plan.sites if site.name not in left]
    layout = plan_metrics(config, plan.label_names, [site.patients for site in there])
    if layout.sites < FEWEST_SITES:
        return too_few_sites(layout)
    model = initial_model(config, len(plan.label_names))
    model.use_public(data.public)
    assign(model, vector)
    identities = {site.name: SiteIdentity.generate(site.name) for site in there}
    roster = Roster(identity.public() for identity in identities.values())
    identity = RunIdentity(run.run_id, config.digest())
    opened: list[FederatedMetrics] = []

    def head_of_ledger() -> str:
        head = None if gate is None else gate.head()
        return "" if head is None else head.to_text()

    sites = {
        name: MetricsSite(
            identity=identities[name],
            roster=roster,
            run=identity,
            config=config,
            plan=layout,
            round_number=rounds,
            sums=site_sums(model, data.test.of_site(name, plan.site(name).modalities), layout),
            on_opened=lambda opening, sums: opened.append(federated_metrics(layout, opening, sums)),
            policy=None if gate is None else gate.policy,
            with_ledger=gate is not None and gate.counted,
            ledger_head=head_of_ledger,
        )
        for name in roster
    }
    attempt = 1 + sum(event["event"] == _STARTED for event in run.events())
    run.record(_STARTED, round=rounds, attempt=attempt)
    traffic = []

    def coordinate(transport: Transport) -> None:
        sizes = SumPlan(config.crypto.encryption, config.crypto.layout, layout.values, layout.sites)
        coordinator = Coordinator(
            identity, roster, transport, sizes, on_ledger_head=LedgerHeads(run).keep
        )
        coordinator.agree_on_key()
        coordinator.sum_metrics(rounds, attempt, layout.owner_values)
        traffic.append(coordinator.traffic)

    run_locally(sites, coordinate)
    sent = traffic[0]
    run.record("metrics-finished", round=rounds, up=sent.up, down=sent.down)
    return replace(opened[0], bytes_up=sent.up, bytes_down=sent.down)
