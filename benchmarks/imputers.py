"""All imputers against each other on the phantom, with and without privacy.

    python benchmarks/imputers.py [--seeds 5] [--processes 2] [--study] [--table-only]

Trains every imputer at image:text:both 4:4:2 and 8:0:2, without privacy and at epsilon 8, and
measures each model on held-out patients with both modalities, with one of them, and with the text
of half of the records missing. Ten sites of about the size that the published partitions have.
``--study`` trains three imputers four times as long instead. Writes ``docs/results/imputers.md``:
macro AUROC in points, mean and standard deviation over seeds, and paired differences with 95 %
t intervals over seeds.

A seed sets patients, split, sites and initial model; noise and sampling are reproducible from it,
so a row can be repeated. Updates go through the same protocol with encryption off: the encrypted
sum is exact (tests/federation), so the numbers are the same. Finished runs are kept in
``runs/bench-imputers`` and not repeated.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn
from scipy import stats

if TYPE_CHECKING:
    from privfin.federation.prepare import PreparedData, TestData

ROOT = Path(__file__).parent.parent
STORE = ROOT / "runs" / "bench-imputers"
TARGET = ROOT / "docs" / "results" / "imputers.md"
SPLITS = ("4:4:2", "8:0:2")
CELLS = ("both", "half the text", "image only", "text only")
BASELINES = ("zero", "zero-fair")
#: What every run has in common; the rest is the default configuration.
COMMON: dict[str, Any] = {
    "data.patients": 18600,
    "modalities.text.features": 128,
    "training.rounds": 30,
    "training.physical_batch": 512,
    "privacy.reproducible": True,
    "crypto.encryption": "none",
    "evaluation.bootstrap": 0,
    "model.retrieval.source": "phantom",
}
#: By epsilon: chosen once for all imputers, from single runs of three of them on seeds 0 and 100.
BY_EPSILON: dict[str, dict[str, Any]] = {
    "inf": {"training.batch_size": 128, "training.learning_rate_without_privacy": 2.5},
    "8": {"training.batch_size": 128, "training.learning_rate": 10.0},
}


@dataclass(frozen=True)
class Setting:
    """What one row group of a table has in common."""

    epsilon: str
    split: str
    steps: int = 5

    def path(self, imputer: str, seed: int) -> Path:
        split = self.split.replace(":", "-")
        return STORE / f"eps{self.epsilon}-{split}-steps{self.steps}-{imputer}-seed{seed}.json"


def imputers() -> tuple[str, ...]:
    """Every imputer there is, the baselines first."""
    from privfin.config import ImputerKind

    rest = [kind for kind in get_args(ImputerKind) if kind not in BASELINES]
    return (*BASELINES, *rest)


TABLE = tuple(Setting(e, s) for e in ("inf", "8") for s in SPLITS)
STUDY = tuple(Setting("inf", s, steps=20) for s in SPLITS)
STUDIED = ("zero", "zero-fair", "fin")


def train_seed(seed: int, settings: tuple[Setting, ...], kinds: tuple[str, ...]) -> int:
    """All runs of one seed. Patients are encoded once: sites differ in what they hold of them."""
    import torch

    from privfin.config import load_config
    from privfin.federation.prepare import prepare

    torch.set_num_threads(1)
    # Cheap settings first: an interrupted benchmark has whole tables as early as can be.
    waiting = [(s, k) for s in settings for k in kinds if not s.path(k, seed).exists()]
    if not waiting:
        return seed
    whole = {**COMMON, "training.seed": seed, "federation.modalities": "0:0:1"}
    data = prepare(load_config(None, list({**whole, **BY_EPSILON["inf"]}.items())))
    public = None
    for setting, kind in waiting:
        options = {
            **COMMON,
            **BY_EPSILON[setting.epsilon],
            "training.seed": seed,
            "training.local_steps": setting.steps,
            "privacy.epsilon": float(setting.epsilon),
            "federation.modalities": setting.split,
            "model.imputer": kind,
        }
        config = load_config(None, list(options.items()))
        if kind == "retrieval" and public is None:
            from privfin.federation.encoding import encode
            from privfin.federation.public_set import load_public

            public = encode(load_public(config), config)
        run_one(setting.path(kind, seed), config, replace(data, public=public))
    return seed


def run_one(path: Path, config: Any, data: PreparedData) -> None:
    """Train, measure and keep one run."""
    from privfin.federation.assessment import assess
    from privfin.federation.plan import make_plan, site_modalities
    from privfin.federation.training_run import complete_run, start_run

    held = dict(zip(data.sites, site_modalities(config), strict=True))
    dealt = replace(
        data,
        sites={
            name: replace(site, batch=site.batch.only(frozenset(held[name])))
            for name, site in data.sites.items()
        },
        declarations=tuple(replace(d, modalities=held[d.name]) for d in data.declarations),
    )
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(config, dealt.declarations)
        run = start_run(Path(folder) / "run", config, plan, dealt)
        result = complete_run(run, config, dealt)
        assert result is not None
        seconds = time.perf_counter() - begun
        model = run.model()
        thinned = half_the_text(data.test, config.training.seed)
        again = assess(model, thinned, plan.label_names, config.evaluation, config.training.seed)
    scores = {name: cell.macro_auroc for name, cell in result.cells.items()}
    scores["half the text"] = again["as is"].macro_auroc
    content = {
        "cells": scores,
        "sigma": plan.sites[0].noise_multiplier,
        "parameters": plan.parameters,
        "seconds": seconds,
        "code_revision": run.manifest["code_revision"],
    }
    STORE.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{seconds:.0f}.tmp")
    temporary.write_text(json.dumps(content))
    temporary.replace(path)


def half_the_text(test: TestData, seed: int) -> TestData:
    """The held-out data as ``missingness.test = { text = 0.5 }`` would leave them."""
    import numpy as np
    import torch

    from privfin.data.missingness import thin
    from privfin.data.records import Dataset, Record

    # The phantom numbers a patient's records from 1, which is what the draws go by.
    seen: Counter[str] = Counter()
    records = []
    for patient in test.patient_ids:
        seen[patient] += 1
        name = f"{patient}-{seen[patient]}"
        records.append(Record(name, patient, {"image": "", "text": ""}, np.zeros(0, np.float32)))
    thinned = thin(Dataset("test", (), tuple(records)), {"text": 0.5}, split="test", seed=seed)
    kept = torch.tensor(["text" in r.inputs for r in thinned.records])
    present = {**test.batch.present, "text": test.batch.present["text"] & kept}
    inputs = {**test.batch.inputs, "text": test.batch.inputs["text"] * kept[:, None]}
    return replace(test, batch=replace(test.batch, inputs=inputs, present=present), is_thinned=True)


def table(settings: tuple[Setting, ...], kinds: tuple[str, ...], seeds: int) -> str:
    """Scores and paired differences as Markdown, one row group a setting.

    A seed counts in a setting once all its imputers have been run.
    """
    head = "| epsilon | sites | steps | seeds | {} | " + " | ".join(CELLS) + " |"
    rule = "|---|---|---|---|---|" + "---|" * len(CELLS)
    scores, gaps = [head.format("imputer"), rule], [head.format("difference"), rule]
    for e in settings:
        whole = [s for s in range(seeds) if all(e.path(i, s).exists() for i in kinds)]
        if not whole:
            continue
        found = {
            (i, s): json.loads(e.path(i, s).read_text())["cells"] for i in kinds for s in whole
        }
        start = f"| {e.epsilon} | {e.split} | {e.steps} | {len(whole)} |"
        for i in kinds:
            row = [_mean_sd([found[i, s][c] for s in whole]) for c in CELLS]
            scores.append(f"{start} {i} | " + " | ".join(row) + " |")
        for i in kinds:
            for rival in BASELINES:
                if i in BASELINES[: BASELINES.index(rival) + 1]:
                    continue
                if i not in STUDIED and rival == "zero":
                    continue
                row = [
                    _interval([found[i, s][c] - found[rival, s][c] for s in whole]) for c in CELLS
                ]
                gaps.append(f"{start} {i} - {rival} | " + " | ".join(row) + " |")
    return "\n".join([*scores, "", *gaps])


def _mean_sd(values: list[float]) -> str:
    points = [100 * v for v in values]
    sd = statistics.stdev(points) if len(points) > 1 else math.nan
    return f"{statistics.mean(points):.1f} ± {sd:.1f}"


def _interval(differences: list[float]) -> str:
    """Mean difference in points with its 95 % t interval over seeds."""
    points = [100 * v for v in differences]
    mean = statistics.mean(points)
    if len(points) < 2:
        return f"{mean:+.1f}"
    half = stats.t.ppf(0.975, len(points) - 1) * statistics.stdev(points) / len(points) ** 0.5
    return f"{mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--study", action="store_true", help="four times as many steps")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--table-only", action="store_true", help="from the runs that are kept")
    options = parser.parse_args()
    settings, kinds = (STUDY, STUDIED) if options.study else (TABLE, imputers())
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn())
    if not options.table_only:
        with (
            Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress,
            ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool,
        ):
            task = progress.add_task("seeds", total=options.seeds)
            waiting = [pool.submit(train_seed, s, settings, kinds) for s in range(options.seeds)]
            for future in waiting:
                future.result()
                progress.advance(task)
    text = table(settings, kinds, options.seeds)
    flag = " --study" if options.study else ""
    note = (
        f"Phantom of {COMMON['data.patients']} patients, 10 sites, {COMMON['training.rounds']} "
        "rounds of `steps` steps: macro AUROC in points, mean ± standard deviation over "
        "seeds, and paired differences with 95 % intervals over seeds. Made by "
        f"`python benchmarks/imputers.py{flag} --seeds {options.seeds}`."
    )
    write_between("study" if options.study else "results", f"{note}\n\n{text}")
    print(text)


def write_between(name: str, content: str) -> None:
    """Replace what stands between a page's markers; everything else was written by a person."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    page = TARGET.read_text() if TARGET.exists() else "# Imputers compared\n"
    if start not in page:
        page += f"\n{start}\n{end}\n"
    before, after = page.split(start)[0], page.split(end)[1]
    TARGET.write_text(f"{before}{start}\n\n{content}\n\n{end}{after}")


if __name__ == "__main__":
    main()
