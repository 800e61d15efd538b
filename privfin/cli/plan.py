"""``privfin plan``."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from privfin.config import RunConfig, load_config, parse_override
from privfin.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from privfin.federation.plan import TrainingPlan
    from privfin.federation.planning import Choice

EPILOG = """Examples:

  privfin plan --epsilon 8

  privfin plan --epsilon 3 --patients 1200 --sites 4 --rounds 20

  privfin plan --epsilon 3 --trust shared --collusion 2 --plot plan.png

  privfin plan --epsilon 8 --precision 3x15

Noise-to-signal: length of the noise in one round's step over the longest that
its signal can be, sigma sqrt(d) / (B sqrt(n L)) for d parameters, batch B, n
sites and L local steps; sigma sqrt(d) / B with shared noise.
Exit codes: 0 done, 2 bad input."""


def plan(
    config: Annotated[
        Path | None, typer.Argument(help="Configuration in TOML; the built-in one if left out.")
    ] = None,
    epsilon: Annotated[float | None, typer.Option(help="Privacy budget of the whole run.")] = None,
    delta: Annotated[
        str | None, typer.Option(help="Failure probability, or auto: min(1e-5, 0.1/patients).")
    ] = None,
    patients: Annotated[
        int | None, typer.Option(min=1, help="Training patients of all sites together.")
    ] = None,
    sites: Annotated[int | None, typer.Option(help="Number of sites.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Number of rounds.")] = None,
    local_steps: Annotated[int | None, typer.Option(help="Steps of a round.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Expected patients in a step (of all sites if shared).")
    ] = None,
    trust: Annotated[str | None, typer.Option(help="Who adds the noise: local or shared.")] = None,
    collusion: Annotated[
        int | None, typer.Option(help="With --trust shared: sites that may reveal their share.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Fields x bits in a slot: 2x20; 3x15 for a third fewer bytes; 2x28 for many sites."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any option, as section.key=value.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw noise against epsilon, as .png or .svg.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what privacy would cost, before any data are touched."""
    from privfin.cli.display import plain_console
    from privfin.cli.train import read_delta
    from privfin.federation.plan import make_plan
    from privfin.federation.planning import choices, declarations

    overrides: list[tuple[str, Any]] = [parse_override(text) for text in set_ or []]
    named = {
        "privacy.epsilon": epsilon,
        "privacy.delta": read_delta(delta),
        "federation.sites": sites,
        "training.rounds": rounds,
        "training.local_steps": local_steps,
        "training.batch_size": batch_size,
        "privacy.trust": trust,
        "privacy.collusion": collusion,
        "crypto.layout": precision,
    }
    overrides += [(key, value) for key, value in named.items() if value is not None]
    settings = load_config(config, overrides)
    if not settings.privacy.is_private:
        raise ConfigError("there is nothing to plan with epsilon = inf: give a finite --epsilon")
    if plot is not None:
        from privfin.comparison.drawing import check_plot_path

        check_plot_path(plot)
    console = plain_console(as_json)
    declared = declarations(settings, patients)
    with console.status("finding the noise of other settings"):
        planned = make_plan(settings, declared)
        table = list(choices(settings, declared))
        curves = _curves(settings, declared) if plot is not None else {}
    if plot is not None:
        _draw(curves, plot)
    content = _content(settings, planned, table)
    if as_json:
        typer.echo(json.dumps(content, indent=2))
        return
    _print(console, settings, planned, content, table)
    if plot is not None:
        console.print(f"Plot: {plot}", highlight=False)


def _content(config: RunConfig, plan: TrainingPlan, table: list[Choice]) -> dict[str, Any]:
    from privfin.federation.encryption_statement import encryption_statement
    from privfin.federation.planning import delta_advice, epsilon_at_several_sites, noise_to_signal
    from privfin.files import jsonable

    counts = sorted({1, 2, 3, len(plan.sites)} & set(range(1, len(plan.sites) + 1)))
    shared = plan.shared
    found: dict[str, Any] = jsonable(
        {
            "epsilon": config.privacy.epsilon,
            "trust": config.privacy.trust,
            "sites": [
                {
                    "site": s.name,
                    "patients": s.patients,
                    "epsilon": s.epsilon,
                    "delta": s.delta,
                    "noise_multiplier": s.noise_multiplier,
                    "sampling_rate": s.sampling_rate,
                    "steps": s.steps,
                    "epochs": s.steps * s.sampling_rate,
                }
                for s in plan.sites
            ],
            "shared": None if shared is None else asdict(shared),
            "noise_to_signal": noise_to_signal(config, plan),
            "epsilon_of_a_person_at": {str(n): epsilon_at_several_sites(plan, n) for n in counts},
            "delta": delta_advice(plan),
            "encryption": encryption_statement(config.crypto),
            "exchanges": plan.rounds,
            "bytes_a_site": plan.rounds * (plan.bytes_up + plan.bytes_down),
            "choices": [asdict(choice) for choice in table],
        }
    )
    return found


def _print(
    console: Console,
    config: RunConfig,
    plan: TrainingPlan,
    content: dict[str, Any],
    choices: list[Choice],
) -> None:
    from rich.table import Table

    from privfin.cli.display import human_bytes, human_epsilon
    from privfin.cli.summary import print_plan, warn_if_not_private

    warn_if_not_private(console, config)
    print_plan(console, config, plan)
    site = max(plan.sites, key=lambda s: s.noise_multiplier)
    lines = [
        f"Noise-to-signal of a round's step: {content['noise_to_signal']:.2f} "
        f"(sigma {site.noise_multiplier:.3f}, {plan.parameters} parameters); "
        f"a patient is drawn {site.steps * site.sampling_rate:.1f} times on average",
        f"{plan.rounds} exchanges, {human_bytes(content['bytes_a_site'])} a site in all",
    ]
    if plan.shared is not None:
        noise = plan.shared.noise
        lines.append(
            f"Shared noise: suffices while at most {plan.shared.collusion} of "
            f"{plan.shared.sites} sites reveal their share, in cohorts of "
            f"{plan.shared.smallest_cohort} or more; rounding adds {100 * noise.rounding_cost:.1f} "
            f"% of noise; a coordinate is cut at {noise.value_range:.0f} clip norms"
        )
    for count, value in content["epsilon_of_a_person_at"].items():
        if count != "1":
            lines.append(f"A person who is a patient of {count} sites: epsilon {_epsilon(value)}")
    lines += [line[0].upper() + line[1:] for line in content["delta"]]
    for line in lines:
        console.print(line, highlight=False)
    table = Table(title="Other settings", title_justify="left")
    for name in ("change", "epsilon", "batch", "rounds", "sigma", "noise-to-signal"):
        table.add_column(name, justify="left" if name == "change" else "right")
    for one in choices:
        known = not math.isnan(one.noise_multiplier)
        table.add_row(
            one.what,
            human_epsilon(one.epsilon),
            str(one.batch_size),
            str(one.rounds),
            f"{one.noise_multiplier:.3f}" if known else "-",
            f"{one.noise_to_signal:.2f}" if known else "not possible",
        )
    console.print(table)
    for one in choices:
        if one.problem:
            console.print(f"{one.what}: {one.problem}", highlight=False, markup=False)


def _epsilon(value: float | str) -> str:
    from privfin.cli.display import human_epsilon

    return human_epsilon(float(value))


def _curves(config: RunConfig, declared: list[Any]) -> dict[int, list[tuple[float, float]]]:
    """Noise-to-signal over epsilon, for the run's batch size, half and twice of it."""
    from privfin.federation.planning import choice_at

    found: dict[int, list[tuple[float, float]]] = {}
    for factor in (0.5, 1.0, 2.0):
        batch = max(1, round(config.training.batch_size * factor))
        points = []
        for epsilon in (1.0, 2.0, 4.0, 8.0, 16.0):
            one = choice_at(config, declared, epsilon, batch)
            if not math.isnan(one.noise_to_signal):
                points.append((epsilon, one.noise_to_signal))
        if points:
            found[batch] = points
    return found


def _draw(curves: dict[int, list[tuple[float, float]]], path: Path) -> None:
    from privfin.comparison.drawing import (
        DASHES,
        MARKERS,
        PALETTE,
        prepare_matplotlib,
        save_figure,
        style,
    )

    prepare_matplotlib()
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    with mpl.rc_context(style()):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.subplots()
        for at, (batch, points) in enumerate(curves.items()):
            axes.plot(
                [p[0] for p in points],
                [p[1] for p in points],
                color=PALETTE[at],
                marker=MARKERS[at],
                linestyle=DASHES[at],
                label=f"batch {batch}",
            )
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        ticks = sorted({p[0] for points in curves.values() for p in points})
        axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("epsilon of the whole run")
        axes.set_ylabel("noise-to-signal of a round's step")
        axes.legend(frameon=False)
        save_figure(figure, path)
