"""Membership attacks on runs that overfit on purpose, at epsilon inf, 8 and 1.

    python benchmarks/membership.py [--data DIR] [--work DIR] [--shadows 64]

Trains one run a data set (the built-in phantom, and PneumoniaMNIST) and epsilon, audits each as
``privfin audit --attacks loss,lira,lira-online,rmia,rmia-online --shadows 64`` does, and writes the
tables and pictures of ``docs/results/membership.md`` and ``membership.json`` beside it. The three
runs of a data set differ in privacy and step size only. Updates are not encrypted: BFV sums are
exact, so that the model would be the same. Runs and audits are kept in ``--work`` and not repeated;
it holds shadow models and has to be deleted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "results" / "membership.md"
WORK = Path("/tmp") / "membership-runs"  # noqa: S108
EPSILONS = (math.inf, 8.0, 1.0)
ATTACKS = ("loss", "lira", "lira-online", "rmia", "rmia-online")
#: Few patients, all of them drawn again and again, and a step size that lets the model learn them.
COMMON: dict[str, Any] = {
    "training.momentum": 0.9,
    # The phantom's settings were chosen with seed 0, so that other patients are members here.
    "training.seed": 1,
    "training.average_from": 0.9,
    "crypto.encryption": "none",
}
SETTINGS: dict[str, dict[str, Any]] = {
    "phantom": {
        "data.patients": 4000,
        "data.test_fraction": 0.9,
        "federation.sites": 4,
        "federation.modalities": "0:0:1",
        "model.imputer": "linear",
        "training.batch_size": 64,
        "training.rounds": 10,
        "training.local_steps": 20,
        "training.learning_rate": 0.5,
        "training.learning_rate_without_privacy": 1.0,
    },
    "pneumoniamnist": {
        "data.split": "random",
        "data.test_fraction": 0.95,
        "federation.sites": 3,
        "federation.patients": None,
        "training.batch_size": 64,
        "training.rounds": 5,
        "training.local_steps": 25,
        "training.learning_rate": 0.3,
        "training.learning_rate_without_privacy": 0.01,
    },
}
TITLES = {"phantom": "Phantom", "pneumoniamnist": "PneumoniaMNIST"}


def configuration(name: str, epsilon: float, data: Path) -> Any:
    """The run of a data set at an epsilon."""
    from privfin.config import load_config

    options = {**COMMON, **SETTINGS[name], "privacy.epsilon": epsilon}
    path = None
    if name != "phantom":
        path = ROOT / "configs" / f"{name}.toml"
        options["data.root"] = data
    return load_config(path, list(options.items()))


def folder_of(work: Path, name: str, epsilon: float) -> Path:
    return work / f"{name}-{epsilon:g}"


def trained(config: Any, folder: Path) -> tuple[Any, Any, Any]:
    """The finished run in ``folder`` with its data and plan; trained if it is not there."""
    from privfin.federation.plan import make_plan
    from privfin.federation.prepare import prepare
    from privfin.federation.training_run import complete_run, start_run
    from privfin.models.feature_cache import default_cache
    from privfin.runs import load_run

    data = prepare(config, cache=default_cache())
    plan = make_plan(config, data.declarations)
    if folder.exists():
        run = load_run(folder)
        run.model()  # refuses a run that was interrupted
    else:
        run = start_run(folder, config, plan, data)
        complete_run(run, config, data)
    return run, data, plan


def audited(name: str, epsilon: float, shadows: int, data: Path, work: Path) -> dict[str, Any]:
    """Figures of one run, from the store if it was done before."""
    from privfin.auditing.audit import AuditOptions, audit_run
    from privfin.models.feature_cache import default_cache

    config = configuration(name, epsilon, data)
    folder = folder_of(work, name, epsilon)
    stored = folder.with_suffix(".json")
    if stored.exists():
        found: dict[str, Any] = json.loads(stored.read_text("utf-8"))
        return found
    start = time.monotonic()
    run, _, plan = trained(config, folder)
    middle = time.monotonic()
    report = audit_run(run, config, AuditOptions("quick", ATTACKS, shadows), cache=default_cache())
    found = {
        "data": name,
        "epsilon": epsilon,
        "auroc": held_out(run.metrics),
        "noise_multiplier": plan.sites[0].noise_multiplier,
        "parameters": plan.parameters,
        "sites": len(plan.sites),
        "patients_by_site": [site.patients for site in plan.sites],
        "steps": config.training.rounds * config.training.local_steps,
        "batch": config.training.batch_size,
        "seconds_training": middle - start,
        "seconds_audit": time.monotonic() - middle,
        "audit": report.to_dict(),
    }
    stored.write_text(json.dumps(found, indent=1), "utf-8")
    return found


def held_out(metrics: dict[str, Any]) -> float:
    """Macro AUROC on held-out patients who have all that they were recorded with."""
    cells = metrics["cells"]
    return float(cells.get("both", cells.get("image only"))["macro_auroc"])


def on_everybody(one: dict[str, Any], observer: str) -> list[dict[str, Any]]:
    """An observer's attacks on all patients."""
    attacks: list[dict[str, Any]] = one["audit"]["attacks"]
    return [a for a in attacks if a["stratum"] == "all" and a["observer"] == observer]


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def rate(point: dict[str, Any]) -> str:
    """A true-positive rate in %, with its limits."""
    mark = "" if point["resolved"] else "*"
    limits = f"{percent(point['tpr_low'])} to {percent(point['tpr_high'])}"
    return f"**{percent(point['tpr'])}** ({limits}){mark}"


def cells_of(attack: dict[str, Any]) -> list[str]:
    """AUC, both rates, bound and ceiling of an attack, for a table."""
    area = attack["auc"]
    bound = [attack["epsilon_bound"], attack["epsilon_ceiling"]]
    return [
        f"{area['value']:.2f} ({area['low']:.2f} to {area['high']:.2f})",
        rate(attack["tpr"][0]),
        rate(attack["tpr"][1]),
        *("none" if value is None else f"{value:.2f}" for value in bound),
    ]


HEADS = ("AUC", "TPR at 1 % FPR, %", "TPR at 0.1 % FPR, %", "ε at least", "ceiling")


def table(first: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown of rows that end in :func:`cells_of`."""
    heads = [*first, *HEADS]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def shown(epsilon: float) -> str:
    return "∞" if math.isinf(epsilon) else f"{epsilon:g}"


def section(results: Sequence[dict[str, Any]]) -> str:
    """What is said of one data set."""
    first = results[0]
    attacks = on_everybody(first, "outsider")
    sizes = first["patients_by_site"]
    rows = [
        [shown(one["epsilon"]), attack["attack"], *cells_of(attack)]
        for one in results
        for attack in on_everybody(one, "outsider")
    ]
    utility = "; ".join(
        f"ε {shown(one['epsilon'])}: AUROC {one['auroc']:.3f}, noise multiplier "
        f"{one['noise_multiplier']:.2f}"
        for one in results
    )
    seconds = "; ".join(
        f"{one['seconds_training']:.0f} s and {one['seconds_audit']:.0f} s" for one in results
    )
    each = " to ".join(map(str, sorted({min(sizes), max(sizes)})))
    return "\n\n".join(
        [
            f"## {TITLES[first['data']]}",
            f"{attacks[0]['members']} members, {attacks[0]['nonmembers']} non-members; "
            f"{first['sites']} sites of {each} training patients, "
            f"{first['steps']} steps at each, expected batch {first['batch']}, "
            f"{first['parameters']} parameters. {first['audit']['shadows']} shadow models for each "
            f"ε. On held-out patients, {utility}. Training and audit took {seconds}.",
            f"![ROC curves at three ε](membership-{first['data']}.png)",
            table(("ε", "attack"), rows),
        ]
    )


def draw(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Log-log ROC curves: a panel an epsilon, a line an attack."""
    from privfin.comparison.drawing import DASHES, INK, PALETTE, prepare_matplotlib, save_figure
    from privfin.comparison.drawing import style as drawing_style

    prepare_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    with matplotlib.rc_context(drawing_style()):
        figure = Figure(figsize=(4.0 * len(results), 4.4), layout="constrained")
        panels = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
        for axes, one in zip(panels, results, strict=True):
            attacks = on_everybody(one, "outsider")
            smallest = 1.0 / attacks[0]["nonmembers"]
            axes.plot([smallest, 1], [smallest, 1], color=INK, linewidth=1, linestyle=":",
                      label="guessing")  # fmt: skip
            for number, attack in enumerate(attacks):
                points = [p for p in attack["curve"] if p[0] >= smallest]
                axes.step(
                    [p[0] for p in points],
                    [max(p[1], smallest / 10) for p in points],
                    where="post",
                    color=PALETTE[number % len(PALETTE)],
                    linestyle=DASHES[number % len(DASHES)],
                    linewidth=1.6,
                    label=attack["attack"],
                )
            axes.set(
                xscale="log", yscale="log", xlim=(smallest, 1), ylim=(smallest, 1.05),
                xlabel="false-positive rate", title=f"ε = {shown(one['epsilon'])}",
            )  # fmt: skip
            axes.xaxis.set_major_formatter(FuncFormatter(lambda v, at: f"{100 * v:g} %"))
        panels[0].set_ylabel("true-positive rate")
        panels[0].yaxis.set_major_formatter(FuncFormatter(lambda v, at: f"{100 * v:g} %"))
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        save_figure(figure, path)


def without_curves(one: dict[str, Any]) -> dict[str, Any]:
    """What is kept beside the page: everything but the points of the curves."""
    audit = one["audit"]
    attacks = [{k: v for k, v in a.items() if k != "curve"} for a in audit["attacks"]]
    return {**one, "audit": {**audit, "attacks": attacks}}


def write_between(path: Path, content: str, name: str) -> None:
    """Replace what stands between a page's markers; everything else was written by a person."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    page = path.read_text("utf-8")
    before, after = page.split(start)[0], page.split(end)[1]
    path.write_text(f"{before}{start}\n\n{content}\n\n{end}{after}", "utf-8")


def arguments(description: str) -> argparse.ArgumentParser:
    """Options that this script and ``federated_views.py`` share."""
    parser = argparse.ArgumentParser(description=description)
    default = ROOT.parent / "shared" / "data" / "pneumoniamnist"
    parser.add_argument("--data", type=Path, default=default, help="folder of PneumoniaMNIST")
    parser.add_argument("--work", type=Path, default=WORK, help="where runs are kept")
    parser.add_argument("--shadows", type=int, default=64)
    return parser


def main() -> None:
    given = arguments(__doc__.splitlines()[0]).parse_args()
    given.work.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ["PRIVFIN_CACHE"] = str(given.work / "cache")
    import torch

    from privfin.files import jsonable, write_json

    torch.set_num_threads(1)
    sections, kept = [], []
    for name in SETTINGS:
        results = []
        for epsilon in EPSILONS:
            one = audited(name, epsilon, given.shadows, given.data, given.work)
            print(name, epsilon, f"{one['seconds_audit']:.0f} s", flush=True)
            results.append(one)
        draw(results, TARGET.with_name(f"membership-{name}.png"))
        sections.append(section(results))
        kept += [without_curves(one) for one in results]
    write_json(TARGET.with_suffix(".json"), jsonable(kept))
    write_between(TARGET, "\n\n".join(sections), "results")
    print("\n\n".join(sections))


if __name__ == "__main__":
    main()
