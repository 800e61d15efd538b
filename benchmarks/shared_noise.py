"""Shared noise against full noise at each site and against central DP-SGD on the pooled patients.

    python benchmarks/shared_noise.py phantom|pneumoniamnist [--seeds 5] [--data DIR]

Ten sites, epsilon 8, 3 and 1. All three take the same number of steps at the same sampling rate:

* local: every site adds the full noise to its own step; a round averages one step of each,
* shared: joint steps, whose noise adds up inside the sum (``--trust shared``, collusion 1),
* central: one holder of all patients takes DP-SGD steps (Gaussian noise). No federation could.

For each of them and each epsilon one of several step sizes is chosen by the test AUROC of seed 100,
which is not in the table, so the choice is slightly optimistic for all three alike. Noise and
sampling are reproducible from the seed, and encryption is off: the encrypted sum is exact, as tests
check. Finished runs are kept in ``runs/bench-shared`` and not repeated. Writes
``docs/results/shared-noise.md``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from privfin.config import RunConfig
    from privfin.federation.prepare import PreparedData

ROOT = Path(__file__).resolve().parent.parent
STORE = ROOT / "runs" / "bench-shared"
TARGET = ROOT / "docs" / "results" / "shared-noise.md"
EPSILONS = ("8", "3", "1")
CHOOSING_SEED = 100
SITES = 10
#: What is compared, and the cells of the table.
TASKS: dict[str, dict[str, Any]] = {
    "phantom": {
        "config": None,
        "options": {"training.rounds": 150, "training.average_from": 0.5, "privacy.delta": 1e-5},
        "batch": 320,
        "rates": {"8": (10.0, 30.0, 60.0), "3": (10.0, 30.0, 60.0), "1": (3.0, 10.0, 30.0)},
        "cells": ("both", "image only", "text only"),
        "modes": ("local", "shared", "central"),
    },
    "pneumoniamnist": {
        "config": ROOT / "configs" / "pneumoniamnist.toml",
        "options": {},
        "batch": 1024,
        "rates": {"8": (1.0, 3.0, 10.0), "3": (0.3, 1.0, 3.0), "1": (0.1, 0.3, 1.0)},
        "cells": ("image only",),
        # Full noise at each site is in docs/results/pneumoniamnist.md.
        "modes": ("shared", "central"),
    },
}


def settings(task: str, mode: str, epsilon: str, rate: float, seed: int, data: Path) -> RunConfig:
    """A run of a mode; ``central`` is a federation of one site."""
    from privfin.config import load_config

    about = TASKS[task]
    batch = about["batch"]
    options: dict[str, Any] = {
        **about["options"],
        "privacy.epsilon": float(epsilon),
        "privacy.reproducible": True,
        "crypto.encryption": "none",
        "evaluation.bootstrap": 0,
        "training.seed": seed,
        "training.local_steps": 1,
        "training.batch_size": round(batch / SITES) if mode == "local" else batch,
        "training.physical_batch": 128,
        "training.learning_rate": rate,
        "federation.sites": 1 if mode == "central" else SITES,
        "privacy.trust": "shared" if mode == "shared" else "local",
    }
    if about["config"] is not None:
        options["data.root"] = data
    elif mode == "central":
        options["federation.modalities"] = "0:0:1"
    return load_config(about["config"], list(options.items()))


@lru_cache(maxsize=2)
def dealt(task: str, seed: int, data: Path) -> PreparedData:
    """The ten sites' patients. No option that differs between runs of a seed changes them."""
    from privfin.federation.prepare import prepare
    from privfin.models.feature_cache import default_cache

    config = settings(task, "shared", "8", 1.0, seed, data)
    return prepare(config, cache=default_cache())


def pooled(data: PreparedData, name: str, modalities: tuple[str, ...]) -> PreparedData:
    """The same patients at one site, each with what its own site had of it."""
    import torch

    from privfin.federation.local_training import SiteData
    from privfin.federation.plan import SiteDeclaration
    from privfin.models.multimodal import Batch

    sites = list(data.sites.values())
    first = sites[0].batch

    def joined(parts: list[Any]) -> Any:
        return torch.cat(parts)

    batch = Batch(
        {m: joined([s.batch.inputs[m] for s in sites]) for m in first.inputs},
        {m: joined([s.batch.present[m] for s in sites]) for m in first.present},
        joined([s.batch.labels for s in sites]),
    )
    patients: list[list[int]] = []
    before = 0
    for site in sites:
        patients += [[before + i for i in positions] for positions in site.patients]
        before += len(site.batch)
    total = sum(d.patients for d in data.declarations)
    return replace(
        data,
        sites={name: SiteData(batch, patients, "pooled")},
        declarations=(SiteDeclaration(name, modalities, total),),
    )


def run(
    task: str, mode: str, epsilon: str, rate: float, seed: int, folder: Path
) -> dict[str, float]:
    """Test AUROC by cell of one run, from the store if it was done before."""
    from privfin.federation.plan import make_plan
    from privfin.federation.training_run import complete_run, start_run

    path = STORE / task / f"{mode}-eps{epsilon}-rate{rate:g}-seed{seed}.json"
    if path.exists():
        return dict(json.loads(path.read_text())["auroc"])
    config = settings(task, mode, epsilon, rate, seed, folder)
    data = dealt(task, seed, folder)
    if mode == "central":
        data = pooled(data, "site-01", tuple(config.modalities))
    plan = make_plan(config, data.declarations)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as temporary:
        started = start_run(Path(temporary) / "run", config, plan, data)
        result = complete_run(started, config, data)
    assert result is not None
    content = {
        "auroc": {name: cell.macro_auroc for name, cell in result.cells.items()},
        "sigma": plan.sites[0].noise_multiplier,
        "sampling_rate": plan.sites[0].sampling_rate,
        "cpu_seconds": time.process_time() - began,
        "code_revision": started.manifest["code_revision"],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return dict(content["auroc"])


def rates_of(task: str, epsilon: str) -> tuple[float, ...]:
    given: tuple[float, ...] = TASKS[task]["rates"][epsilon]
    return given


def main() -> None:
    import torch

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("--seeds", type=int, default=5)
    default = ROOT.parent / "shared" / "data" / "pneumoniamnist"
    parser.add_argument("--data", type=Path, default=default)
    options = parser.parse_args()
    task, cells, modes = options.task, TASKS[options.task]["cells"], TASKS[options.task]["modes"]
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn())
    rows = []
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress:
        total = sum(len(rates_of(task, e)) + options.seeds for e in EPSILONS) * len(modes)
        bar = progress.add_task("runs", total=total)

        def once(mode: str, epsilon: str, rate: float, seed: int) -> dict[str, float]:
            found = run(task, mode, epsilon, rate, seed, options.data)
            progress.advance(bar)
            return found

        best = {}
        for epsilon in EPSILONS:
            for mode in modes:
                tried = {
                    rate: once(mode, epsilon, rate, CHOOSING_SEED)[cells[0]]
                    for rate in rates_of(task, epsilon)
                }
                best[epsilon, mode] = max(tried, key=lambda r: tried[r])
        found: dict[tuple[str, str], list[dict[str, float]]] = {}
        for seed in range(options.seeds):
            for epsilon in EPSILONS:
                for mode in modes:
                    one = once(mode, epsilon, best[epsilon, mode], seed)
                    found.setdefault((epsilon, mode), []).append(one)
        for epsilon in EPSILONS:
            for mode in modes:
                shown = [spread([one[cell] for one in found[epsilon, mode]]) for cell in cells]
                gap = [
                    one[cells[0]] - other[cells[0]]
                    for one, other in zip(
                        found[epsilon, mode], found[epsilon, "central"], strict=True
                    )
                ]
                rows.append(
                    f"| {epsilon} | {mode} | {best[epsilon, mode]:g} | {' | '.join(shown)} | "
                    f"{100 * statistics.mean(gap):+.1f} |"
                )
    head = f"| epsilon | noise | step size | {' | '.join(cells)} | {cells[0]}: points to central |"
    table = "\n".join(
        [
            f"10 sites, {options.seeds} seeds: test AUROC, mean ± standard deviation over seeds. "
            f"Made by `python benchmarks/shared_noise.py {task} --seeds {options.seeds}`.",
            "",
            head,
            "|---" * (4 + len(cells)) + "|",
            *rows,
        ]
    )
    write_between(task, table)
    print(table)


def spread(values: list[float]) -> str:
    sd = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.3f} ± {sd:.3f}"


def write_between(task: str, content: str) -> None:
    """Replace what stands between the page's markers; everything else was written by a person."""
    start, end = f"<!-- {task} -->", f"<!-- /{task} -->"
    page = TARGET.read_text() if TARGET.exists() else "# Shared noise\n"
    if start not in page:
        page += f"\n## {task}\n\n{start}\n{end}\n"
    before, rest = page.split(start)[0], page.split(start)[1].split(end)[1]
    TARGET.write_text(f"{before}{start}\n\n{content}\n\n{end}{rest}")


if __name__ == "__main__":
    main()
