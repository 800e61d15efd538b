"""Tables for people: the plan before training and the result after it, at most 80 columns wide."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from privfin.cli.display import columns_that_fit, human_bytes, human_epsilon
from privfin.config import RunConfig
from privfin.evaluation.cells import CellResult
from privfin.evaluation.groups import Groups
from privfin.federation.encryption_statement import CKKS_IS_WEAKER
from privfin.federation.plan import SitePlan, TrainingPlan
from privfin.federation.statement import claim, closed_segments, narrow_segments


def warn_if_not_private(console: Console, config: RunConfig) -> None:
    """Say loudly when a run gives no guarantee."""
    text = claim(config)
    if text != "dp":
        console.print(f"!!! {text} !!!", style="bold red", highlight=False)
    if config.crypto.encryption == "none":
        console.print(
            "!!! encryption is off: the coordinator can read every update !!!",
            style="bold red",
            highlight=False,
        )
    if config.crypto.encryption == "ckks":
        console.print(f"Weaker: {CKKS_IS_WEAKER}", style="bold red", highlight=False)


def _groups(plan: TrainingPlan) -> list[list[SitePlan]]:
    """Neighbouring sites with the same figures, to keep the table short."""
    groups: list[list[SitePlan]] = []
    for site in plan.sites:
        if groups and _figures(groups[-1][0]) == _figures(site):
            groups[-1].append(site)
        else:
            groups.append([site])
    return groups


def _figures(site: SitePlan) -> tuple[object, ...]:
    return (
        site.modalities,
        site.patients,
        site.noise_multiplier,
        site.delta,
        site.epsilon,
        site.local_steps,
    )


def _names(group: list[SitePlan]) -> str:
    """``north``; ``site-01..08`` of several, or ``north, south`` if they are not numbered."""
    first, last = group[0].name, group[-1].name
    stem, _, number = last.rpartition("-")
    if len(group) > 1 and number.isdigit() and first.rpartition("-")[0] == stem:
        return f"{first}..{number}"
    return ", ".join(site.name for site in group)


def _holds(modalities: Sequence[str]) -> str:
    """``image+text``; of more modalities with blanks, where a line may break."""
    return ("+" if len(modalities) < 3 else " + ").join(modalities)


def missingness_line(config: RunConfig) -> str | None:
    """What is taken away from records, in one sentence; None if nothing is."""
    missing = config.missingness
    if missing.is_empty:
        return None
    parts = [
        f"{_rates(rates)} of {records} records"
        for rates, records in ((missing.train, "training"), (missing.test, "held-out"))
        if any(rates.values())
    ]
    if parts and missing.label is not None and missing.odds != 1.0:
        parts.append(f"odds of a loss x {missing.odds:g} where '{missing.label}' is 1")
    shares = missing.unlabelled_without
    parts += [
        f"labels of {100 * share:g} % of patients at sites without {modality}"
        for modality, share in shares.items()
        if share
    ]
    inputs = any(rate for rates in (missing.train, missing.test) for rate in rates.values())
    kept = " A record keeps at least one input." if inputs else ""
    return f"Taken away: {'; '.join(parts)}.{kept}"


def _rates(rates: Mapping[str, float]) -> str:
    return ", ".join(f"{name} from {100 * rate:g} %" for name, rate in rates.items() if rate)


def warn_if_not_counted(console: Console, ledger: Mapping[str, Any]) -> None:
    """Say loudly that no ledger counts a run on patients."""
    if ledger["status"] == "none":
        console.print(
            "NOT COUNTED: no ledger records what this run spends of these patients' privacy",
            style="bold red",
            highlight=False,
        )


def print_plan(console: Console, config: RunConfig, plan: TrainingPlan) -> None:
    """The plan: noise, steps and epsilon of each site, and the bytes of a round."""
    table = Table(title="Plan", title_justify="left")
    for name in ("site", "holds"):
        table.add_column(name, overflow="fold")
    for name in ("patients", "q", "sigma", "delta", "epsilon"):
        table.add_column(name, justify="right")
    for group in _groups(plan):
        site = group[0]
        table.add_row(
            _names(group),
            _holds(site.modalities),
            f"{site.patients}",
            f"{site.sampling_rate:.3f}",
            f"{site.noise_multiplier:.3f}",
            f"{site.delta:.1e}",
            human_epsilon(site.epsilon),
        )
    console.print(table)
    up, sites = plan.bytes_up, len(plan.sites)
    console.print(
        f"{plan.parameters} parameters, {plan.rounds} rounds of {_local_steps(plan)}; a "
        f"round sends {human_bytes(up)} up and {human_bytes(plan.bytes_down)} down a site "
        f"({human_bytes((up + plan.bytes_down) * sites)} in all, "
        f"{up / plan.parameters:.1f} bytes a parameter)",
        highlight=False,
    )
    if plan.fine_tune_steps:
        console.print(
            f"Then {plan.fine_tune_steps} steps of fine-tuning at each site, for itself; they are "
            "inside its epsilon",
            highlight=False,
        )
    console.print(_target(config), highlight=False)
    _print_missingness(console, config)
    if any(config.missingness.unlabelled_without.values()) and not config.federation.site:
        console.print(
            "Note: patients left without any use are not counted, so sites that lose labels have "
            "fewer than shown here; training plans with the real numbers",
            highlight=False,
        )
    narrow = narrow_segments(plan)
    if narrow and config.crypto.encryption != "none":
        console.print(
            f"Note: one or two sites train {', '.join(narrow)}, so other sites can read single "
            "(noisy) updates of these parts off the sum; epsilon still holds",
            highlight=False,
        )
    closed = closed_segments(plan)
    if closed:
        console.print(
            f"Note: fewer than {plan.min_owners} sites (crypto.min_owners) train "
            f"{', '.join(closed)}, so these parts are not summed and stay untrained",
            highlight=False,
        )


def _local_steps(plan: TrainingPlan) -> str:
    """Steps of a round: one number, or from the fewest to the most of any site."""
    counts = sorted({site.local_steps for site in plan.sites})
    if len(counts) > 1:
        return f"{counts[0]} to {counts[-1]} steps"
    return f"{counts[0]} step" if counts[0] == 1 else f"{counts[0]} steps"


def _print_missingness(console: Console, config: RunConfig) -> None:
    line = missingness_line(config)
    if line is not None:
        console.print(line, highlight=False, markup=False)


def _target(config: RunConfig) -> str:
    if not config.privacy.is_private:
        return "Target: none (epsilon = inf)"
    delta = config.privacy.delta
    shown = "min(1e-5, 0.1/patients)" if delta == "auto" else f"{delta:g}"
    return (
        f"Target: epsilon {config.privacy.epsilon:g}, delta {shown}, for one patient more or "
        "less at a site"
    )


def print_extras(console: Console, extras: dict[str, Any]) -> None:
    """What only some runs have: a chosen round, secure metrics, and the sites' own models."""
    chosen, tuned = extras.get("chosen_round"), extras.get("fine_tuned")
    if chosen:
        console.print(
            f"Round {chosen['round']} was chosen: the best macro AUROC "
            f"({chosen['macro_auroc_on_validation']:.3f}) on "
            f"{chosen['validation_patients']} validation patients, read without noise",
            highlight=False,
        )
    if extras.get("federated"):
        _print_federated(console, extras["federated"])
    if not tuned:
        return
    table = Table(title="The sites' own, fine-tuned models", title_justify="left")
    table.add_column("available")
    for name in ("mean AUROC", "least", "greatest"):
        table.add_column(name, justify="right")
    for name, found in tuned["cells"].items():
        shown = [_number(found[key]) for key in ("mean", "min", "max")] if found else ["-"] * 3
        table.add_row(name, *shown)
    console.print(table)
    if tuned["without"]:
        console.print(
            f"Without a model of its own, because fine-tuning was interrupted: "
            f"{', '.join(tuned['without'])}",
            highlight=False,
        )


def _print_federated(console: Console, federated: dict[str, Any]) -> None:
    """How far the binning may be off, and what too few sites have."""
    if federated["cells"]:
        table = Table(
            title="Measured by the sites, read as an encrypted sum: macro figures with bounds",
            title_justify="left",
        )
        table.add_column("available", overflow="fold")
        names = list(next(iter(federated["cells"].values()))["macro"])
        for name in names:
            table.add_column(name if name in ("loss", "brier") else name.upper(), justify="right")
        for name, cell in federated["cells"].items():
            table.add_row(name, *(_with_bounds(cell["macro"][figure]) for figure in names))
        console.print(table)
    for name, reason in federated["not_opened"].items():
        console.print(f"Not opened: {name} ({reason})", highlight=False, soft_wrap=True)
    for name, cell in federated["cells"].items():
        by_reason: dict[str, list[str]] = {}
        for label, reason in cell["not_opened"].items():
            by_reason.setdefault(reason, []).append(label)
        for reason, labels in by_reason.items():
            console.print(
                f"Not opened: {name}: {', '.join(labels)} ({reason})",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )


def _with_bounds(figure: dict[str, float | None]) -> str:
    """A figure with how far the pooled one may be from it."""
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    if value is None or low is None:
        return "-"
    if high is None:
        return f"at least {low:.3f}"
    return f"{value:.3f} ±{max(high - value, value - low):.3f}"


def _print_cells(console: Console, config: RunConfig, cells: dict[str, CellResult]) -> None:
    """The metrics of every availability cell with their intervals."""
    percent = f"{100 * config.evaluation.confidence:g} %"
    table = Table(
        title="Held-out patients: macro AUROC, AUPRC and calibration error (ECE)",
        title_justify="left",
    )
    table.add_column("available", overflow="fold")
    for name in ("records", "labels", "AUROC", f"{percent} interval", "AUPRC", "ECE"):
        table.add_column(name, justify="right")
    for name, cell in cells.items():
        low, high = cell.macro_auroc_low, cell.macro_auroc_high
        table.add_row(
            name,
            f"{cell.records}",
            f"{len(cell.labels) - len(cell.left_out)}/{len(cell.labels)}",
            _number(cell.macro_auroc),
            f"{_number(low)} to {_number(high)}",
            _number(cell.macro_auprc),
            _number(cell.macro_ece),
        )
    console.print(table)


def print_result(
    console: Console,
    config: RunConfig,
    plan: TrainingPlan,
    cells: dict[str, CellResult],
    privacy: dict[str, Any],
    traffic: tuple[int, int],
    path: str,
    groups: Groups | None = None,
) -> None:
    """The result: metrics per cell, what was spent, what was sent, where it is, what comes next."""
    if not config.evaluation.secure:  # what the sites measured together was printed with bounds
        _print_cells(console, config, cells)
    _print_missingness(console, config)
    if groups:
        print_groups(console, tuple(cells), groups)
    by_name = {entry["site"]: entry for entry in privacy["sites"]}
    budget = Table(title="Privacy of a patient, by site", title_justify="left")
    for name in ("site", "holds"):
        budget.add_column(name, overflow="fold")
    for name in ("epsilon", "target", "delta", "sigma", "steps"):
        budget.add_column(name, justify="right")
    for group in _groups(plan):
        entry = by_name[group[0].name]
        budget.add_row(
            _names(group),
            _holds(group[0].modalities),
            human_epsilon(float(entry["epsilon"])),
            f"{config.privacy.epsilon:g}",
            f"{entry['delta']:.1e}",
            f"{entry['noise_multiplier']:.3f}",
            f"{entry['steps']}",
        )
    console.print(budget)
    console.print(_headline(privacy), highlight=False)
    warn_if_not_private(console, config)
    up, down = traffic
    console.print(
        f"Sent: {human_bytes(up)} up, {human_bytes(down)} down over all sites.\n"
        f"Files: {path}/ (model.safetensors, metrics.json, privacy.json, manifest.json)\n"
        f"Next: privfin predict {path} {_example_inputs(config)}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _headline(privacy: dict[str, Any]) -> str:
    """What holds for every patient, on what assumption, and what it means for an attacker."""
    whole = privacy["population"]
    status = f"no person at two sites: {whole['no_person_at_two_sites']}"
    if privacy["claim"] != "dp":
        return "Any patient: nothing is promised"
    if math.isinf(float(whole["epsilon"])):
        return f"Any patient: nothing is promised,\n{whole['is']}\n({status})"
    guarantee = privacy["observers"]["outsider"]
    at = next(p for p in guarantee["trade_off"] if p["false_positive_rate"] == 0.01)
    other = human_epsilon(float(whole["epsilon_at_every_site"]))
    return (
        f"Any patient: epsilon {human_epsilon(float(whole['epsilon']))}, {whole['is']}\n"
        f"({status}; for one at every site: {other}).\n"
        f"At 1 % false alarms an attacker finds at most "
        f"{100 * at['true_positive_rate']:.1f} % of members (mu {guarantee['gdp']['mu']:.3g})."
    )


def _example_inputs(config: RunConfig) -> str:
    """Options of ``privfin predict`` for the kinds of inputs that a run has."""
    kinds = {modality.kind for modality in config.modalities.values()}
    columns = [column for modality in config.modalities.values() for column in modality.columns]
    words = ["--image X.png"] if "image" in kinds else []
    words += ['--text "..."'] if "text" in kinds else []
    return " ".join([*words, *(f"--value {column}=..." for column in columns[:1])])


def print_groups(console: Console, cells: Sequence[str], groups: Groups) -> None:
    """Macro AUROC of each group per cell; groups that are too small are named below the table."""
    shown = {
        by: {name: group for name, group in of_kind.items() if group.cells}
        for by, of_kind in groups.items()
    }
    for part in columns_that_fit(cells, 4) if any(shown.values()) else ():
        table = Table(title="Macro AUROC by group of held-out patients", title_justify="left")
        table.add_column("by")
        table.add_column("group", overflow="fold")
        for name in part:
            table.add_column(name, justify="right")
        for by, of_kind in shown.items():
            for at, (name, group) in enumerate(of_kind.items()):
                figures = [
                    _number(group.cells[cell].macro_auroc) if cell in group.cells else "-"
                    for cell in part
                ]
                last = at == len(of_kind) - 1
                table.add_row("" if at else by, name, *figures, end_section=last)
        console.print(table)
    hidden: dict[str, list[str]] = {}
    for by, of_kind in groups.items():
        for name, group in of_kind.items():
            if not group.cells:
                reason = next(iter(group.left_out.values()), "no record in any cell")
                hidden.setdefault(reason, []).append(f"{by} {name}")
    for reason, names in hidden.items():
        console.print(
            f"Groups not shown ({reason}): {', '.join(names)}", highlight=False, markup=False
        )


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"
