"""What practices for utility under DP bring: weight averaging, schedules, copies, server momentum.

PneumoniaMNIST (``../shared/data/pneumoniamnist``), 10 image-only sites, full noise at each,
epsilon 8, a linear head on second-order scattering features. One practice is changed at a time and
each gets its own best of three step sizes. Runs that were measured before are read from the cache.

    python benchmarks/dp_practice.py            # measures what is missing, prints, writes the page
    python benchmarks/dp_practice.py --seeds 1  # a first look
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import track

HERE = Path(__file__).resolve().parent.parent
DATA = HERE.parent / "shared" / "data" / "pneumoniamnist"
STORE = HERE / ".cache" / "dp-practice"
TARGET = HERE / "docs" / "results" / "dp-practice.md"
RATES = (0.01, 0.03, 0.1)
BASE = "constant, one copy, no momentum"


@dataclass(frozen=True)
class Practice:
    """A change to the base run. ``pace`` divides the step sizes that are tried."""

    name: str
    options: tuple[tuple[str, Any], ...] = ()
    pace: float = 1.0

    @property
    def rates(self) -> list[float]:
        return [rate / self.pace for rate in RATES]

    def path(self, rate: float, seed: int) -> Path:
        word = self.name.replace(", ", "-").replace(" ", "_")
        return STORE / f"{word}-rate{rate:g}-seed{seed}.json"


PRACTICES = (
    Practice(BASE),
    Practice("linear schedule", (("training.schedule", "linear"),)),
    Practice("cosine schedule", (("training.schedule", "cosine"),)),
    Practice(
        "server momentum 0.9",
        (("training.server.optimizer", "momentum"), ("training.server.momentum", 0.9)),
        pace=10.0,  # momentum 0.9 adds up about ten rounds' updates
    ),
    Practice("4 augmented copies", (("training.augmentations", 4),)),
)


def options(practice: Practice, rate: float, seed: int) -> list[tuple[str, Any]]:
    """The whole configuration of one run."""
    return [
        ("data.source", "medmnist"),
        ("data.root", DATA),
        ("data.image_size", 28),
        (
            "modalities",
            {"image": {"encoder": "scattering", "kind": "image", "order": 2, "projection": "none"}},
        ),
        ("federation.sites", 10),
        ("training.seed", seed),
        ("training.rounds", 300),
        ("training.local_steps", 1),
        ("training.batch_size", 102),
        ("training.physical_batch", 128),
        ("training.average_from", 0.5),
        ("training.learning_rate", rate),
        ("privacy.epsilon", 8.0),
        ("privacy.delta", 1e-4),
        ("privacy.clip_norm", 0.5),
        ("privacy.reproducible", True),
        ("crypto.encryption", "none"),
        ("evaluation.bootstrap", 0),
        *practice.options,
    ]


def measure(practice: Practice, rate: float, seed: int, prepared: dict[Any, Any]) -> None:
    """One run: AUROC of the mean of the later rounds' models, and of the last round's."""
    import torch
    from sklearn.metrics import roc_auc_score

    from privfin.config import load_config
    from privfin.federation.assessment import predict_scores
    from privfin.federation.plan import make_plan
    from privfin.federation.prepare import prepare
    from privfin.federation.training_run import complete_run, start_run
    from privfin.models.segments import assign, initial_model

    torch.set_num_threads(1)
    config = load_config(None, options(practice, rate, seed))
    key = (seed, config.training.augmentations)
    if key not in prepared:
        prepared.clear()  # one data set at a time: copies take memory
        prepared[key] = prepare(config)
    data = prepared[key]
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(config, data.declarations)
        run = start_run(Path(folder) / "run", config, plan, data)
        result = complete_run(run, config, data)
        last = run.last_checkpoint()
    assert result is not None
    assert last is not None
    seconds = time.perf_counter() - begun
    model = initial_model(config, len(plan.label_names))
    assign(model, last.vector)
    labels = data.test.batch.labels.numpy()[:, 0]
    content = {
        "mean": result.cells["image only"].macro_auroc,
        "last": roc_auc_score(labels, predict_scores(model, data.test.batch)[:, 0]),
        "sigma": plan.sites[0].noise_multiplier,
        "seconds": seconds,
    }
    STORE.mkdir(parents=True, exist_ok=True)
    practice.path(rate, seed).write_text(json.dumps(content))


def found(practice: Practice, rate: float, key: str, seeds: int) -> list[float]:
    """One figure of every seed."""
    paths = [practice.path(rate, seed) for seed in range(seeds)]
    return [float(json.loads(path.read_text())[key]) for path in paths]


def best_rate(practice: Practice, key: str, seeds: int) -> float:
    """The step size with the best mean."""
    return max(practice.rates, key=lambda r: statistics.mean(found(practice, r, key, seeds)))


def points(values: list[float], signed: bool = False) -> str:
    scaled = [100 * v for v in values]
    spread = statistics.stdev(scaled) if len(scaled) > 1 else float("nan")
    return f"{statistics.mean(scaled):{'+' if signed else ''}.2f} ± {spread:.2f}"


def table(seeds: int) -> str:
    """Every practice at its best step size, and the paired difference to the base, as Markdown."""
    reference = found(PRACTICES[0], best_rate(PRACTICES[0], "mean", seeds), "mean", seeds)
    rows = [
        "| practice | step size | averaged | minus base | last round's model | at step size "
        "| averaged minus last | s a run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for practice in PRACTICES:
        rate, other = (best_rate(practice, key, seeds) for key in ("mean", "last"))
        mean, last = found(practice, rate, "mean", seeds), found(practice, other, "last", seeds)
        gap = [a - b for a, b in zip(mean, reference, strict=True)]
        gain = [a - b for a, b in zip(mean, last, strict=True)]
        seconds = statistics.median(found(practice, rate, "seconds", seeds))
        rows.append(
            f"| {practice.name} | {rate:g} | {points(mean)} | "
            f"{'' if practice is PRACTICES[0] else points(gap, signed=True)} | {points(last)} | "
            f"{other:g} | {points(gain, signed=True)} | {seconds:.0f} |"
        )
    every = ["| practice | " + " | ".join(f"{r:g} x" for r in RATES) + " |", "|---|---|---|---|"]
    for practice in PRACTICES:
        cells = [points(found(practice, rate, "mean", seeds)) for rate in practice.rates]
        every.append(f"| {practice.name} | " + " | ".join(cells) + " |")
    return "\n".join([*rows, "", *every])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    wanted = [
        (practice, rate, seed)
        for seed in range(chosen.seeds)
        for practice in PRACTICES
        for rate in practice.rates
        if not practice.path(rate, seed).exists()
    ]
    prepared: dict[Any, Any] = {}
    for practice, rate, seed in track(wanted, "runs"):
        measure(practice, rate, seed, prepared)
    text = table(chosen.seeds)
    page = TARGET.read_text()
    start, end = "<!-- results -->", "<!-- /results -->"
    before, after = page.split(start)[0], page.split(end)[1]
    TARGET.write_text(f"{before}{start}\n\n{text}\n\n{end}{after}")
    print(text)


if __name__ == "__main__":
    main()
