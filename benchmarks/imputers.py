"""FIN against both forms of zero-filling on the phantom, with and without privacy.

    python benchmarks/imputers.py [--seeds 5] [--epsilon inf,8,3] [--processes 2] [--study]

Trains every combination with the default configuration (4:4:2, all default options) and writes
``docs/results/imputers.md``: macro AUROC per availability cell, mean and standard deviation over
seeds, and paired differences. A seed sets patients, split, sites and initial model; noise and
sampling are reproducible from it, so a row can be repeated. Updates go through the same protocol
with encryption off: the encrypted sum is exact (tests/federation), so the numbers are the same.
Finished runs are kept in ``runs/bench-imputers`` and not repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

ROOT = Path(__file__).parent.parent
STORE = ROOT / "runs" / "bench-imputers"
TARGET = ROOT / "docs" / "results" / "imputers.md"
IMPUTERS = ("zero", "zero-fair", "fin")
CELLS = ("both", "image only", "text only")
SPLIT = "4:4:2"
#: Rows computed at once change the speed only; larger is faster for a model this small.
PHYSICAL_BATCH = 128


@dataclass(frozen=True)
class Setting:
    """One row group of a table."""

    epsilon: str
    rounds: int = 30
    learning_rate: float = 5.0

    def path(self, imputer: str, seed: int) -> Path:
        name = f"eps{self.epsilon}-rounds{self.rounds}-lr{self.learning_rate:g}"
        return STORE / f"{name}-{imputer}-seed{seed}.json"


def default(epsilon: str) -> Setting:
    """The setting that ``privfin train --epsilon`` uses."""
    from privfin.config import load_config

    training = load_config(None).training
    private = epsilon != "inf"
    rate = training.learning_rate if private else training.learning_rate_without_privacy
    return Setting(epsilon, training.rounds, rate)


#: Without privacy: other step sizes, and three times as many rounds.
STUDY = (
    Setting("inf", learning_rate=2.5),
    Setting("inf", learning_rate=5.0),
    Setting("inf", learning_rate=10.0),
    Setting("inf", rounds=90, learning_rate=5.0),
)


def train_seed(seed: int, settings: tuple[Setting, ...]) -> int:
    """All runs of one seed; the data are prepared once because they do not depend on the rest."""
    import tempfile

    import torch

    from privfin.config import load_config
    from privfin.federation.plan import make_plan
    from privfin.federation.prepare import prepare
    from privfin.federation.training_run import complete_run, start_run

    torch.set_num_threads(1)
    data = None
    for setting in settings:
        for imputer in IMPUTERS:
            path = setting.path(imputer, seed)
            if path.exists():
                continue
            config = load_config(
                None,
                [
                    ("training.seed", seed),
                    ("training.rounds", setting.rounds),
                    ("training.learning_rate", setting.learning_rate),
                    ("training.learning_rate_without_privacy", setting.learning_rate),
                    ("training.physical_batch", PHYSICAL_BATCH),
                    ("privacy.epsilon", float(setting.epsilon)),
                    ("privacy.reproducible", True),
                    ("model.imputer", imputer),
                    ("federation.modalities", SPLIT),
                    ("crypto.encryption", "none"),
                    ("evaluation.bootstrap", 0),
                ],
            )
            data = data or prepare(config)
            begun = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                plan = make_plan(config, data.declarations)
                run = start_run(Path(folder) / "run", config, plan, data)
                result = complete_run(run, config, data)
            assert result is not None
            content = {
                "cells": {name: cell.macro_auroc for name, cell in result.cells.items()},
                "sigma": plan.sites[0].noise_multiplier,
                "seconds": time.perf_counter() - begun,
                "code_revision": run.manifest["code_revision"],
            }
            STORE.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))
    return seed


def table(settings: tuple[Setting, ...], seeds: int) -> str:
    """Scores and paired differences as Markdown, one row group a setting."""
    found = {
        (e, i, s): json.loads(e.path(i, s).read_text())["cells"]
        for e in settings
        for i in IMPUTERS
        for s in range(seeds)
    }
    head = "| epsilon | rounds | step size | {} | " + " | ".join(CELLS) + " |"
    rule = "|---|---|---|---|" + "---|" * len(CELLS)
    scores, gaps = [head.format("imputer"), rule], [head.format("difference"), rule]
    for e in settings:
        start = f"| {e.epsilon} | {e.rounds} | {e.learning_rate:g} |"
        for i in IMPUTERS:
            row = [_mean_sd([found[e, i, s][c] for s in range(seeds)]) for c in CELLS]
            scores.append(f"{start} {i} | " + " | ".join(row) + " |")
        for rival in ("zero", "zero-fair"):
            row = [
                _mean_sd(
                    [found[e, "fin", s][c] - found[e, rival, s][c] for s in range(seeds)],
                    signed=True,
                )
                for c in CELLS
            ]
            gaps.append(f"{start} fin - {rival} | " + " | ".join(row) + " |")
    return "\n".join([*scores, "", *gaps])


def _mean_sd(values: list[float], signed: bool = False) -> str:
    points = [100 * v for v in values]
    sd = statistics.stdev(points) if len(points) > 1 else float("nan")
    return f"{statistics.mean(points):{'+' if signed else ''}.1f} ± {sd:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epsilon", default="inf,8,3")
    parser.add_argument("--study", action="store_true", help="the study of step sizes and rounds")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    settings = STUDY if options.study else tuple(map(default, options.epsilon.split(",")))
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn())
    with (
        Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress,
        ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool,
    ):
        task = progress.add_task("runs", total=options.seeds * len(settings) * len(IMPUTERS))
        # Setting by setting, so that the first rows are complete early.
        waiting = [
            pool.submit(train_seed, seed, (e,)) for e in settings for seed in range(options.seeds)
        ]
        for future in waiting:
            future.result()
            progress.advance(task, len(IMPUTERS))
    text = table(settings, options.seeds)
    note = (
        f"Phantom, default configuration, image:text:both {SPLIT}, {options.seeds} seeds: macro "
        "AUROC in points, mean ± standard deviation over seeds, on held-out patients. Made by "
        f"`python benchmarks/imputers.py{' --study' if options.study else ''} "
        f"--seeds {options.seeds}`."
    )
    write_between("study" if options.study else "results", f"{note}\n\n{text}")
    print(text)


def write_between(name: str, content: str) -> None:
    """Replace what stands between a page's markers; everything else was written by a person."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    page = TARGET.read_text() if TARGET.exists() else "# FIN against zero-filling\n"
    if start not in page:
        page += f"\n{start}\n{end}\n"
    before, after = page.split(start)[0], page.split(end)[1]
    TARGET.write_text(f"{before}{start}\n\n{content}\n\n{end}{after}")


if __name__ == "__main__":
    main()
