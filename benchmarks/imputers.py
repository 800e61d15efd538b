"""FIN against both forms of zero-filling on the phantom, with and without privacy.

    python benchmarks/imputers.py [--seeds 5] [--epsilon inf,8,3] [--processes 2]

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


def result_path(epsilon: str, imputer: str, seed: int, rounds: int) -> Path:
    return STORE / f"eps{epsilon}-{imputer}-seed{seed}-rounds{rounds}.json"


def train_seed(seed: int, epsilons: tuple[str, ...], rounds: int) -> int:
    """All runs of one seed; the data are prepared once because they do not depend on the rest."""
    import tempfile

    import torch

    from privfin.config import load_config
    from privfin.federation.plan import make_plan
    from privfin.federation.prepare import prepare
    from privfin.federation.training_run import complete_run, start_run

    torch.set_num_threads(1)
    data = None
    for epsilon in epsilons:
        for imputer in IMPUTERS:
            path = result_path(epsilon, imputer, seed, rounds)
            if path.exists():
                continue
            config = load_config(
                None,
                [
                    ("training.seed", seed),
                    ("training.rounds", rounds),
                    ("training.physical_batch", PHYSICAL_BATCH),
                    ("privacy.epsilon", float(epsilon)),
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


def table(epsilons: tuple[str, ...], seeds: int, rounds: int) -> str:
    """The results as Markdown."""
    found = {
        (e, i, s): json.loads(result_path(e, i, s, rounds).read_text())
        for e in epsilons
        for i in IMPUTERS
        for s in range(seeds)
    }
    lines = [
        "| epsilon | imputer | " + " | ".join(CELLS) + " |",
        "|---|---|" + "---|" * len(CELLS),
    ]
    for e in epsilons:
        for i in IMPUTERS:
            cells = [_mean_sd([found[e, i, s]["cells"][c] for s in range(seeds)]) for c in CELLS]
            lines.append(f"| {e} | {i} | " + " | ".join(cells) + " |")
    lines += ["", "| epsilon | difference | " + " | ".join(CELLS) + " |"]
    lines.append("|---|---|" + "---|" * len(CELLS))
    for e in epsilons:
        for rival in ("zero", "zero-fair"):
            cells = []
            for c in CELLS:
                gaps = [
                    found[e, "fin", s]["cells"][c] - found[e, rival, s]["cells"][c]
                    for s in range(seeds)
                ]
                cells.append(_mean_sd(gaps, signed=True))
            lines.append(f"| {e} | fin - {rival} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _mean_sd(values: list[float], signed: bool = False) -> str:
    points = [100 * v for v in values]
    sd = statistics.stdev(points) if len(points) > 1 else float("nan")
    return f"{statistics.mean(points):{'+' if signed else ''}.1f} ± {sd:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epsilon", default="inf,8,3")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    epsilons = tuple(options.epsilon.split(","))
    total = options.seeds * len(epsilons) * len(IMPUTERS)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn())
    with (
        Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress,
        ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool,
    ):
        task = progress.add_task("runs", total=total)
        # Epsilon by epsilon, so that the first rows are complete early.
        waiting = [
            pool.submit(train_seed, seed, (e,), options.rounds)
            for e in epsilons
            for seed in range(options.seeds)
        ]
        for future in waiting:
            future.result()
            progress.advance(task, len(IMPUTERS))
    text = table(epsilons, options.seeds, options.rounds)
    note = (
        f"Phantom, default configuration, image:text:both {SPLIT}, {options.rounds} rounds, "
        f"{options.seeds} seeds: macro AUROC in points, mean ± standard deviation over seeds, on "
        "held-out patients. Made by `make bench-imputers` (`benchmarks/imputers.py`).\n"
    )
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    head, marker, tail = _around_results()
    TARGET.write_text(f"{head}{marker[0]}\n\n{note}\n{text}\n\n{marker[1]}{tail}")
    print(text)


def _around_results() -> tuple[str, tuple[str, str], str]:
    """What a person wrote before and after the generated part of the page."""
    markers = ("<!-- results -->", "<!-- /results -->")
    if not TARGET.exists() or markers[0] not in TARGET.read_text():
        return "# FIN against zero-filling\n\n", markers, "\n"
    text = TARGET.read_text()
    return text.split(markers[0])[0], markers, text.split(markers[1])[1]


if __name__ == "__main__":
    main()
