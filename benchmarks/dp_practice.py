"""What practices for utility under DP bring: averaging, schedules, copies, server momentum.

PneumoniaMNIST (``../shared/data/pneumoniamnist``), 10 sites of images only with full noise at each,
epsilon 8, a linear head on second-order scattering features. One practice is changed at a time, and
each gets its own best of the step sizes tried. Sites and global model are those of a run, called
directly: updates are added up as they are, without quantising, signing and checkpoints. Runs that
were measured before are read from the cache.

    python benchmarks/dp_practice.py            # measures what is missing, prints, writes the page
    python benchmarks/dp_practice.py --seeds 1  # a first look
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from sklearn.metrics import roc_auc_score

from privfin.config import RunConfig, load_config
from privfin.data.augment import with_copies
from privfin.data.medmnist import read_medmnist
from privfin.data.partition import partition_patients
from privfin.data.records import Dataset
from privfin.federation.assessment import predict_scores
from privfin.federation.global_model import GlobalModel
from privfin.federation.local import stream_source
from privfin.federation.local_training import LocalTrainer, SiteData
from privfin.federation.plan import SiteDeclaration, make_plan
from privfin.federation.prepare import encode
from privfin.models.multimodal import Batch
from privfin.models.segments import assign, flatten, initial_model

HERE = Path(__file__).resolve().parent.parent
DATA = HERE.parent / "shared" / "data" / "pneumoniamnist"
STORE = HERE / "runs" / "bench-dp-practice"
TARGET = HERE / "docs" / "results" / "dp-practice.md"
#: What is read off a run: the last round's model, and the mean of the later half and fifth.
READINGS = ("last", "half", "fifth")
RATES = (1.0, 3.0)
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
    image = {"encoder": "scattering", "kind": "image", "order": 2, "projection": "none"}
    return [
        ("data.source", "medmnist"),
        ("data.root", DATA),
        ("data.image_size", 28),
        ("modalities", {"image": image}),
        ("federation.sites", 10),
        ("training.seed", seed),
        ("training.rounds", 300),
        ("training.local_steps", 1),
        ("training.batch_size", 102),
        ("training.physical_batch", 128),
        ("training.learning_rate", rate),
        ("privacy.epsilon", 8.0),
        ("privacy.delta", 1e-4),
        ("privacy.clip_norm", 0.5),
        ("privacy.reproducible", True),
        ("crypto.encryption", "none"),
        *practice.options,
    ]


@lru_cache(maxsize=2)
def features(copies: int) -> tuple[Dataset, Batch, Batch]:
    """Training records, their rows, and the rows of the published test images: encoded once."""
    config = load_config(None, options(PRACTICES[0], 1.0, 0))
    loaded = read_medmnist(DATA, image_size=config.data.image_size)
    assert loaded.test_patients is not None
    ids = loaded.dataset.patients()
    train = loaded.dataset.of_patients([p for p in ids if p not in loaded.test_patients], "train")
    test = loaded.dataset.of_patients(sorted(loaded.test_patients), "test")
    rows = encode(with_copies(train, ["image"], copies, seed=0), config)
    return train, rows, encode(test, config)


def deal(config: RunConfig) -> dict[str, SiteData]:
    """The training images at each site; a seed deals them anew, by label as by default."""
    copies = config.training.augmentations
    train, rows, _ = features(copies)
    position = {r.patient_id: i for i, r in enumerate(train.records)}
    sites = {}
    groups = partition_patients(
        train,
        list(position),
        config.federation.sites,
        config.federation.alpha,
        config.training.seed,
    )
    for number, group in enumerate(groups, start=1):
        own = np.array([position[p] for p in group])
        index = (own[:, None] * copies + np.arange(copies)).reshape(-1)
        patients = [[i] for i in range(len(own))]
        name = f"site-{number:02d}"
        sites[name] = SiteData(rows.rows(torch.from_numpy(index)), patients, name, copies)
    return sites


def measure(practice: Practice, rate: float, seed: int) -> None:
    """One run, with the AUROC of each of ``READINGS`` on the test images."""
    config = load_config(None, options(practice, rate, seed))
    sites = deal(config)
    plan = make_plan(
        config, [SiteDeclaration(n, ("image",), len(s.patients)) for n, s in sites.items()]
    )
    begun = time.process_time()
    trainers = {
        n: LocalTrainer(config, plan.site(n), s, stream_source(config, n)) for n, s in sites.items()
    }
    model = initial_model(config, len(plan.label_names))
    after = {"half": plan.rounds // 2, "fifth": plan.rounds * 4 // 5}
    state = GlobalModel.start(flatten(model), plan.rounds, config.training.server)
    sums = {name: np.zeros(state.vector.shape) for name in after}
    for number in range(1, plan.rounds + 1):
        summed = np.zeros(state.vector.shape)
        for name, trainer in trainers.items():
            summed += trainer.train(state.vector, number, plan.site(name).local_steps)
        state.apply(summed, plan.divisors())
        for name, first in after.items():
            if number > first:
                sums[name] += state.vector / (plan.rounds - first)
    seconds = time.process_time() - begun
    test = features(config.training.augmentations)[2]
    vectors = {"last": state.vector, **{n: v.astype(np.float32) for n, v in sums.items()}}
    content: dict[str, float] = {"sigma": plan.sites[0].noise_multiplier, "seconds": seconds}
    for name in READINGS:
        assign(model, vectors[name])
        scores = predict_scores(model, test)[:, 0]
        content[name] = float(roc_auc_score(test.labels.numpy()[:, 0], scores))
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
    """Every practice at its best step size by the mean of the last fifth, as Markdown."""
    base_rate = best_rate(PRACTICES[0], "fifth", seeds)
    reference = found(PRACTICES[0], base_rate, "fifth", seeds)
    rows = [
        "| practice | step size | last round | mean of last half | mean of last fifth "
        "| minus base | CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    for practice in PRACTICES:
        rate = best_rate(practice, "fifth", seeds)
        cells = [points(found(practice, rate, key, seeds)) for key in READINGS]
        values = found(practice, rate, "fifth", seeds)
        gap = [a - b for a, b in zip(values, reference, strict=True)]
        shown = "" if practice is PRACTICES[0] else points(gap, signed=True)
        seconds = statistics.median(found(practice, rate, "seconds", seeds))
        row = [practice.name, f"{rate:g}", *cells, shown, f"{seconds:.0f}"]
        rows.append("| " + " | ".join(row) + " |")
    every = ["| practice | step size | last round | mean of last half | mean of last fifth |"]
    every.append("|---|---|---|---|---|")
    for practice in PRACTICES:
        for rate in practice.rates:
            cells = [points(found(practice, rate, key, seeds)) for key in READINGS]
            every.append("| " + " | ".join([practice.name, f"{rate:g}", *cells]) + " |")
    return "\n".join([*rows, "", "All step sizes:", "", *every])


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
    torch.set_num_threads(1)
    for practice, rate, seed in track(wanted, "runs"):
        measure(practice, rate, seed)
    text = table(chosen.seeds)
    page = TARGET.read_text()
    start, end = "<!-- results -->", "<!-- /results -->"
    before, after = page.split(start)[0], page.split(end)[1]
    TARGET.write_text(f"{before}{start}\n\n{text}\n\n{end}{after}")
    print(text)


if __name__ == "__main__":
    main()
