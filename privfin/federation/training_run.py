"""From a configuration to a finished run directory: start, train, measure, write."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from privfin.config import RunConfig
from privfin.errors import ConfigError, PrivfinError
from privfin.evaluation.cells import CellResult
from privfin.evaluation.groups import Groups
from privfin.evaluation.released import released
from privfin.federation.assessment import assess, assess_groups
from privfin.federation.budget_gate import UNCOUNTED, BudgetGate
from privfin.federation.choosing import ChosenRound, choose_round
from privfin.federation.fine_tuning import fine_tune, fine_tuned_results
from privfin.federation.local import Outcome, SilentObserver, TrainingObserver, train_locally
from privfin.federation.metric_results import FederatedMetrics
from privfin.federation.plan import TrainingPlan, make_plan
from privfin.federation.prepare import PreparedData
from privfin.federation.public_weights import encoder_digests
from privfin.federation.secure_metrics import measure_securely
from privfin.federation.statement import claim, privacy_statement
from privfin.files import write_json
from privfin.models.segments import assign, initial_model
from privfin.runs import METRICS_FORMAT, Run, code_revision, create_run, versions


@dataclass(frozen=True)
class Result:
    """A finished run: its results per availability cell and by group, and its privacy statement."""

    run: Run
    plan: TrainingPlan
    cells: dict[str, CellResult]
    privacy: dict[str, Any]
    groups: Groups = field(default_factory=dict)


def fingerprints(data: PreparedData) -> dict[str, str]:
    """SHA-256 of every site's training data, and of the validation and held-out data."""
    found = {name: site.fingerprint for name, site in data.sites.items()}
    if data.validation is not None:
        found["validation patients"] = data.validation.fingerprint
    if data.public_fingerprint:
        found["public set"] = data.public_fingerprint
    return {**found, "held-out": data.test.fingerprint}


def public_notices(notices: Sequence[str]) -> list[str]:
    """What was left out of the data, without the names of files, rows or patients."""
    kept = [text for text in notices if not text.startswith("skipped ")]
    skipped = len(notices) - len(kept)
    if skipped:
        kept.append(f"skipped {skipped} records whose input could not be read")
    return kept


def start_run(
    path: Path,
    config: RunConfig,
    plan: TrainingPlan,
    data: PreparedData,
    gate: BudgetGate | None = None,
) -> Run:
    """Make the run directory with its manifest. Raises UserInputError if it exists.

    Without a ``gate`` the run is marked as one that no ledger counts.
    """
    content = config.model_dump(mode="json")
    # Where patients' and public records lie is nobody else's business. Paths of frozen weights
    # stay, because predict looks for them there.
    content["data"]["root"] = content["model"]["retrieval"]["root"] = None
    manifest = {
        "run_id": secrets.token_hex(16) if gate is None else gate.run_id,
        "claim": claim(config),
        "config": content,
        "config_sha256": config.digest(),
        "label_names": list(plan.label_names),
        "sites": [
            {"site": s.name, "modalities": list(s.modalities), "patients": s.patients}
            for s in plan.sites
        ],
        "ledger": dict(UNCOUNTED) if gate is None else gate.block(),
        "plan": plan_figures(plan),
        "data_sha256": fingerprints(data),
        "weights_sha256": encoder_digests(config),
        "notices": public_notices(data.notices),
        "public_seed": config.training.seed,
        "versions": versions(),
        "code_revision": code_revision(),
    }
    existed = path.exists()
    try:
        run = create_run(path, manifest)
    except PrivfinError:
        if not existed:  # a full disk: leave nothing that looks like a run
            with suppress(OSError):
                path.rmdir()
        raise
    run.record("created")
    return run


def begin_run(
    gate: BudgetGate,
    config: RunConfig,
    path: Path,
    run: Run | None,
    read: Callable[[], PreparedData],
) -> tuple[Run, TrainingPlan, PreparedData]:
    """From an open gate to a run that may train, in the one order that protects patients.

    The whole cost is reserved before ``read`` touches any data, and the exact events are stated
    before the run directory is made.

    Args:
        gate: see :func:`privfin.federation.budget_gate.open_gate`.
        config: the run's configuration.
        path: the directory to make.
        run: one to go on with, None for a new one.
        read: prepares the data.

    Raises:
        BudgetError, LedgerError, PolicyError: the run may not be.
        ConfigError: data or plan are not those that ``run`` was started with.
    """
    if run is None:
        gate.reserve()
    else:
        gate.go_on(run.manifest.get("ledger", UNCOUNTED))
    data = read()
    plan = make_plan(config, data.declarations)
    gate.specify(plan, data.patient_ids)
    if run is None:
        return start_run(path, config, plan, data, gate), plan, data
    check_same_data(run, data)
    check_same_plan(run, plan)
    return run, plan, data


def check_same_data(run: Run, data: PreparedData) -> None:
    """Refuse to resume on other data.

    Raises:
        ConfigError: naming the site whose records differ.
    """
    before, after = run.manifest["data_sha256"], fingerprints(data)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            raise ConfigError(
                f"the records of '{name}' are not those that {run.path} was started with; "
                "resume with the same data, or start a new run"
            )


def plan_figures(plan: TrainingPlan) -> list[dict[str, float | int | str]]:
    """What each site's guarantee rests on: noise, sampling rate, delta and steps."""
    return [
        {
            "site": s.name,
            "noise_multiplier": s.noise_multiplier,
            "sampling_rate": s.sampling_rate,
            "delta": s.delta,
            "steps": s.steps,
        }
        for s in plan.sites
    ]


def check_same_plan(run: Run, plan: TrainingPlan) -> None:
    """Refuse to resume with other noise than the run began with (say, after an upgrade).

    Raises:
        ConfigError: naming the site whose plan differs.
    """
    for before, after in zip(run.manifest["plan"], plan_figures(plan), strict=True):
        if before != after:
            raise ConfigError(
                f"the plan for site '{after['site']}' is not the one that {run.path} was started "
                "with, so its epsilon would be misstated: use the versions in manifest.json, or "
                "start a new run"
            )


def complete_run(
    run: Run,
    config: RunConfig,
    data: PreparedData,
    *,
    observer: TrainingObserver | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    gate: BudgetGate | None = None,
) -> Result | None:
    """Train what is left of a run and write its results.

    With a ``gate`` every round is written into the ledger before it starts, and what was not
    started is given back when the run has finished.

    Returns:
        The result, or None if ``should_stop`` ended training early; the run can be resumed.
    """
    plan = make_plan(config, data.declarations)
    check_same_plan(run, plan)
    with run.lock():
        if run.attempts():
            run.record("resumed")
        outcome = train_locally(
            config, plan, data, run, observer=observer, should_stop=should_stop, gate=gate
        )
        watcher = observer or SilentObserver()
        is_done = outcome.is_complete
        chosen = None
        if is_done and data.validation is not None:
            chosen = choose_round(config, plan, data, data.validation, run, outcome.rounds, watcher)
            outcome = replace(outcome, vector=chosen.vector)
        if is_done and plan.fine_tune_steps:
            if gate is not None:
                most = max(run.spent_rounds().values(), default=0)
                gate.start(plan.spend(dict.fromkeys(plan.cohort, most), fine_tunings=1))
            is_done = fine_tune(
                config, plan, data, run, outcome.vector, observer=watcher, should_stop=should_stop
            )
        result = _finish(run, config, data, plan, outcome, is_done, chosen, watcher, gate)
        if result is not None and gate is not None:
            gate.settle()
        return result


def _finish(
    run: Run,
    config: RunConfig,
    data: PreparedData,
    plan: TrainingPlan,
    outcome: Outcome,
    is_done: bool,
    chosen: ChosenRound | None,
    observer: TrainingObserver,
    gate: BudgetGate | None,
) -> Result | None:
    started, tuned = run.spent_rounds(), run.fine_tunings()
    if config.privacy.reproducible:  # what is repeated releases the same numbers again
        started = dict.fromkeys(plan.cohort, outcome.rounds)
        tuned = dict.fromkeys(tuned, 1)
    statement = privacy_statement(config, plan, started, tuned, run.sites_left())
    statement["ledger"] = dict(UNCOUNTED) if gate is None else gate.block()
    write_json(run.path / "privacy.json", statement)
    if not is_done:
        run.record("interrupted", round=outcome.rounds)
        return None
    model = initial_model(config, len(plan.label_names))
    model.use_public(data.public)
    assign(model, outcome.vector)
    asked = (plan.label_names, config.evaluation, config.training.seed)
    allowed = config.evaluation.metrics
    federated: FederatedMetrics | None = None
    if config.evaluation.secure:
        observer.stage("adding up the sites' metrics", 0, 1)
        federated = measure_securely(config, plan, data, run, outcome.vector, outcome.rounds, gate)
        bins = config.evaluation.calibration_bins
        results = federated.cell_results(config.evaluation.confidence, bins)
    else:
        results = released(assess(model, data.test, *asked, progress=observer.stage), allowed)
    groups: Groups = {}
    if "groups" in allowed and federated is None:
        groups = assess_groups(model, data.test, *asked, progress=observer.stage)
        groups = {
            by: {n: replace(g, cells=released(g.cells, allowed)) for n, g in of_kind.items()}
            for by, of_kind in groups.items()
        }
    metrics = _metrics(config, outcome.rounds, results, groups)
    if federated is not None:
        metrics["federated"] = federated.to_dict()
    if chosen is not None:
        metrics["chosen_by"] = chosen.describe(outcome.rounds)
        metrics["chosen_round"] = chosen.to_dict()
    if plan.fine_tune_steps:
        metrics["fine_tuned"] = fine_tuned_results(config, plan, data, run)
    write_json(run.path / "metrics.json", metrics)
    run.save_model(model)
    run.record("finished", rounds=outcome.rounds)
    return Result(run, plan, results, statement, groups)


def _metrics(
    config: RunConfig, rounds: int, results: dict[str, CellResult], groups: Groups
) -> dict[str, Any]:
    return {
        "format": METRICS_FORMAT,
        "claim": claim(config),
        "rounds": rounds,
        "chosen_by": "nothing: the mean of the last rounds' models is measured once, at the end",
        "noise": "none: computed on held-out patients, not covered by differential privacy",
        "cells": {name: result.to_dict() for name, result in results.items()},
        "groups": {
            by: {name: group.to_dict() for name, group in of_kind.items()}
            for by, of_kind in groups.items()
        },
    }
