"""``privfin train``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from privfin.config import RunConfig, load_config, parse_config, parse_override, set_key
from privfin.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from privfin.federation.budget_gate import BudgetGate
    from privfin.federation.plan import TrainingPlan
    from privfin.federation.prepare import PreparedData
    from privfin.federation.training_run import Result
    from privfin.runs import Run

EPILOG = """Examples:

  privfin train --epsilon 8

  privfin train --epsilon 3 --modalities 8:0:2 --out runs/a

  privfin train --epsilon 3 --trust shared --collusion 2

  privfin train configs/covid-cxr.toml --data-root covid-chestxray --no-ledger

  privfin train --dry-run --set training.rounds=50

  privfin train --resume --out runs/a

Exit codes: 0 done, 1 failed, 2 bad input, 3 over the privacy budget or no
ledger, 4 ledger damaged, 5 against the policy, 6 a message was refused, 130
interrupted (continue with --resume)."""


def train(
    config: Annotated[
        Path | None, typer.Argument(help="Configuration in TOML; the built-in one if left out.")
    ] = None,
    epsilon: Annotated[
        float | None, typer.Option(help="Privacy budget of the whole run; inf trains without DP.")
    ] = None,
    delta: Annotated[
        str | None, typer.Option(help="Failure probability, or auto: min(1e-5, 0.1/patients).")
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Number of rounds.")] = None,
    sites: Annotated[int | None, typer.Option(help="Number of sites.")] = None,
    modalities: Annotated[
        str | None,
        typer.Option(
            help="Sites with image only : text only : both, as 4:4:2, "
            "or image=4,text=4,image+text=2."
        ),
    ] = None,
    imputer: Annotated[
        str | None,
        typer.Option(
            help="fin, fin-any, pfin, mlp, linear, prototype, mean, retrieval, zero, zero-fair, "
            "none or late."
        ),
    ] = None,
    aggregation: Annotated[
        str | None, typer.Option(help="How sites are weighted: uniform, size or uncertainty.")
    ] = None,
    trust: Annotated[
        str | None,
        typer.Option(help="Who adds the noise: local (each site all of it) or shared."),
    ] = None,
    collusion: Annotated[
        int | None,
        typer.Option(help="With --trust shared: sites that may reveal their noise share."),
    ] = None,
    encryption: Annotated[str | None, typer.Option(help="bfv (with masks), ckks or none.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Fields x bits in a slot: 2x20; 3x15 for a third fewer bytes; 2x28 for many sites."
        ),
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out images that cannot be decoded.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Run directory to make; runs/NAME-TIME if left out.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any option, as section.key=value.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run at --out.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan without touching data.")
    ] = False,
    no_cache: Annotated[
        bool,
        typer.Option("--no-cache", help="Keep no features on this machine, and use none."),
    ] = False,
    no_ledger: Annotated[
        bool,
        typer.Option("--no-ledger", help="Train although no ledger counts it; the run says so."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the plan or the result as JSON.")
    ] = False,
) -> None:
    """Train a federated model under patient-level differential privacy."""
    overrides: list[tuple[str, Any]] = [parse_override(text) for text in set_ or []]
    named = {
        "privacy.epsilon": epsilon,
        "privacy.delta": read_delta(delta),
        "training.rounds": rounds,
        "federation.sites": sites,
        "federation.modalities": modalities,
        "model.imputer": imputer,
        "training.aggregation": aggregation,
        "privacy.trust": trust,
        "privacy.collusion": collusion,
        "crypto.encryption": encryption,
        "crypto.layout": precision,
        "data.root": data_root,
        "data.skip_bad": True if skip_bad else None,
    }
    overrides += [(key, value) for key, value in named.items() if value is not None]
    if resume:
        if out is None:
            raise ConfigError("--resume needs --out RUN: which run to go on with")
        if dry_run:
            raise ConfigError("--resume and --dry-run do not go together")
        _resume(out, config, overrides, as_json, no_cache, no_ledger)
        return
    settings = load_config(config, overrides)
    if settings.federation.site and sites is not None:
        raise ConfigError(
            "--sites has no effect: the configuration names its sites in [[federation.site]]"
        )
    if dry_run:
        _show_plan(settings, as_json)
        return
    _new_run(settings, out or _default_out(settings), as_json, no_cache, no_ledger)


def read_delta(text: str | None) -> str | float | None:
    """What ``--delta`` says: a number, or ``auto``."""
    if text is None or text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"--delta '{text}' must be a number or auto") from None


def _default_out(config: RunConfig) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{config.data.source}-eps{config.privacy.epsilon:g}-{stamp}"


def _show_plan(config: RunConfig, as_json: bool) -> None:
    from dataclasses import asdict

    from privfin.cli.display import plain_console
    from privfin.cli.summary import print_plan, warn_if_not_private
    from privfin.federation.plan import declared_sites, make_plan
    from privfin.federation.statement import claim
    from privfin.files import jsonable

    plan = make_plan(config, declared_sites(config))
    if as_json:
        content = {"claim": claim(config), **asdict(plan), "parameters": plan.parameters}
        typer.echo(json.dumps(jsonable(content), indent=2))
        return
    console = plain_console(as_json)
    warn_if_not_private(console, config)
    print_plan(console, config, plan)


def _new_run(config: RunConfig, out: Path, as_json: bool, no_cache: bool, no_ledger: bool) -> None:
    from privfin.errors import UserInputError

    if out.exists():
        raise UserInputError(
            f"{out} exists: choose another --out, or continue that run with --resume --out {out}"
        )
    _work(config, out, None, as_json, no_cache, no_ledger)


def _resume(
    out: Path,
    path: Path | None,
    overrides: list[tuple[str, Any]],
    as_json: bool,
    no_cache: bool,
    no_ledger: bool,
) -> None:
    from privfin.federation.public_weights import check_same_weights
    from privfin.runs import check_same_config, load_run

    run = load_run(out)
    config = run.config
    if path is not None or overrides:
        given = load_config(path, overrides) if path else _changed(config, overrides)
        check_same_config(run, given)
        config = given  # the same, but for where data and weights lie
    if run.is_finished:
        raise ConfigError(f"{out} has finished: there is nothing to resume")
    check_same_weights(run, config)
    _work(config, out, run, as_json, no_cache, no_ledger)


def _changed(config: RunConfig, overrides: list[tuple[str, Any]]) -> RunConfig:
    """A run's own configuration with these options on top."""
    content = config.model_dump(mode="json")
    for key, value in overrides:
        set_key(content, key, value)
    return parse_config(content, "the options")


def _work(
    config: RunConfig,
    out: Path,
    run: Run | None,
    as_json: bool,
    no_cache: bool,
    no_ledger: bool,
) -> None:
    from privfin.cli.display import plain_console
    from privfin.cli.stopping import StoppedError
    from privfin.cli.summary import warn_if_not_counted, warn_if_not_private
    from privfin.federation.budget_gate import UNCOUNTED, open_gate
    from privfin.federation.plan import check_without_data

    check_without_data(config)
    console = plain_console(as_json)
    warn_if_not_private(console, config)
    run_id = None if run is None else run.run_id
    if run is not None and run.manifest.get("ledger", UNCOUNTED)["status"] == "none":
        no_ledger = True  # it was started so, and its files say it
    with open_gate(config, kind="train", no_ledger=no_ledger, run_id=run_id) as gate:
        warn_if_not_counted(console, gate.block())
        result = _train(console, config, out, run, gate, no_cache)
        lines = gate.summary()
    if result is None:
        raise StoppedError(f"stopped; go on with: privfin train --resume --out {out}")
    _report(console, config, result, lines, as_json)


def _train(
    console: Console,
    config: RunConfig,
    out: Path,
    run: Run | None,
    gate: BudgetGate,
    no_cache: bool,
) -> Result | None:
    """Reserve the budget, read the data and train."""
    import torch

    from privfin.cli.display import TrainingDisplay
    from privfin.cli.stopping import stop_on_interrupt
    from privfin.federation.prepare import prepare
    from privfin.federation.training_run import begin_run, complete_run
    from privfin.models.feature_cache import default_cache

    display = TrainingDisplay(console)

    def read() -> PreparedData:
        cache = None if no_cache else default_cache()
        data = prepare(config, display.stage, cache)
        torch.set_num_threads(1)  # the rows of one step are too few to share between cores
        for notice in data.notices:
            display.note(f"note: {notice}")
        for line in cache.remarks() if cache else ():
            display.note(f"note: {line}")
        return data

    with display:
        run, plan, data = begin_run(gate, config, out, run, read)
        epsilons = _worst_epsilons(config, plan)
        with stop_on_interrupt(display.note) as asked:
            saved = run.last_checkpoint()
            first = saved.round if saved else 0
            if epsilons is not None:
                # Rounds that were started and lost stay spent, so the curve starts that far on.
                lost = max(run.spent_rounds().values(), default=0) - first
                epsilons = epsilons[lost:]
            display.begin_rounds(plan.rounds, len(plan.sites), epsilons, first)
            return complete_run(run, config, data, observer=display, should_stop=asked, gate=gate)


def _worst_epsilons(config: RunConfig, plan: TrainingPlan) -> list[float] | None:
    """Epsilon after each round, the largest over the sites."""
    from privfin.federation.shared_plan import epsilons_after
    from privfin.federation.statement import claim
    from privfin.privacy.accounting import SubsampledGaussianEvent, epsilon_after

    if claim(config) != "dp":
        return None
    if plan.shared is not None:
        return epsilons_after(plan.shared, range(1, plan.rounds + 1))

    kinds = {(s.noise_multiplier, s.sampling_rate, s.delta, s.local_steps) for s in plan.sites}
    columns = [
        epsilon_after(
            SubsampledGaussianEvent(sigma, rate, 0),
            delta,
            [local_steps * (i + 1) for i in range(plan.rounds)],
        )
        for sigma, rate, delta, local_steps in kinds
    ]
    return [max(values) for values in zip(*columns, strict=True)]


def _traffic(events: list[dict[str, Any]]) -> tuple[int, int]:
    """Bytes up and down over all the processes that worked on a run; each counts from 0."""
    up = down = 0
    last = (0, 0)
    for event in events:
        if event["event"] == "resumed":
            up, down, last = up + last[0], down + last[1], (0, 0)
        elif event["event"] == "round-finished":
            last = (event["up"], event["down"])
    return up + last[0], down + last[1]


#: Results that only some runs have; their keys in metrics.json.
EXTRAS = ("chosen_round", "fine_tuned", "federated")


def _report(
    console: Console, config: RunConfig, result: Result, budget: list[str], as_json: bool
) -> None:
    from privfin.cli.summary import print_extras, print_result
    from privfin.files import jsonable

    traffic = _traffic(result.run.events())
    metrics = result.run.metrics
    extras: dict[str, Any] = {k: v for k, v in metrics.items() if k in EXTRAS}
    if as_json:
        content = {
            "run": str(result.run.path),
            "claim": result.privacy["claim"],
            "cells": result.run.metrics["cells"],
            "groups": result.run.metrics["groups"],
            **extras,
            "privacy": result.privacy,
            "bytes": {"up": traffic[0], "down": traffic[1]},
        }
        typer.echo(json.dumps(jsonable(content), indent=2))
        return
    print_extras(console, extras)
    path = str(result.run.path)
    print_result(
        console, config, result.plan, result.cells, result.privacy, traffic, path, result.groups
    )
    for line in budget:
        console.print(f"Budget: {line}", highlight=False, markup=False)
