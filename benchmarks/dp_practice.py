"""What practices for utility under DP bring: averaging, schedules, copies, server momentum.

PneumoniaMNIST (``../shared/data/pneumoniamnist``), 10 sites of images only with full noise at each,
epsilon 8, a linear head on fixed scattering features. One practice is changed at a time, and each
gets its own best of the step sizes tried.

With one label and a linear head, a record's gradient is (p - y) times its features, so a site takes
a step in one product of matrices. What is measured follows privfin's rules for dealing, sampling,
copies, clipping, noise, divisor and server optimiser.
Schedules have been measured here and left out of privfin (docs/decisions/009).

    python benchmarks/dp_practice.py  # writes docs/results/dp-practice.md
"""

from __future__ import annotations

import argparse
import math
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from privfin.config import RunConfig, ServerConfig, load_config
from privfin.data.augment import with_copies
from privfin.data.medmnist import read_medmnist
from privfin.data.partition import partition_patients
from privfin.data.records import Dataset
from privfin.federation.encoding import encode
from privfin.federation.server_optimizer import ServerOptimizer
from privfin.privacy.calibration import calibrate_noise, sampling_rate

HERE = Path(__file__).resolve().parent.parent
DATA = HERE.parent / "shared" / "data" / "pneumoniamnist"
STORE = HERE / "runs" / "bench-dp-practice"
TARGET = HERE / "docs" / "results" / "dp-practice.md"
SITES, ROUNDS, BATCH, CLIP, EPSILON, DELTA = 10, 300, 102, 0.5, 8.0, 1e-4
RATES = (3.0, 10.0, 30.0, 100.0)
COPIES = 4
#: What is read off a run: the last round's model, and the mean of the last half and fifth.
READINGS = ("last", "half", "fifth")
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Practice:
    """A change to the base run. ``pace`` divides the step sizes that are tried."""

    name: str
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    server: ServerConfig = field(default_factory=ServerConfig)
    pace: float = 1.0
    copies: int = 1

    @property
    def rates(self) -> list[float]:
        return [rate / self.pace for rate in RATES]


BASE = Practice("base: constant, one copy, no momentum")
PRACTICES = (
    BASE,
    Practice("linear schedule", schedule="linear"),
    Practice("cosine schedule", schedule="cosine"),
    # Momentum 0.9 adds up about ten rounds' updates.
    Practice("server momentum 0.9", server=ServerConfig(optimizer="momentum"), pace=10.0),
    Practice(f"{COPIES} augmented copies", copies=COPIES),
)


@dataclass(frozen=True)
class Features:
    """Training records with ``rows`` (records, copies, width), and the published test images."""

    train: Dataset
    rows: Floats
    labels: Floats
    test: Floats
    test_labels: Floats


def settings() -> RunConfig:
    """The configuration that the features are made by: scattering of first order, 400 numbers."""
    image = {"encoder": "scattering", "kind": "image", "projection": "none"}
    return load_config(
        None,
        [
            ("data.source", "medmnist"),
            ("data.root", DATA),
            ("data.image_size", 28),
            ("modalities", {"image": image}),
        ],
    )


def features() -> Features:
    """Encoded once and kept. As in privfin's head, unit vectors times the root of their width,
    and a 1 for the bias."""
    config = settings()
    loaded = read_medmnist(DATA, image_size=config.data.image_size)
    assert loaded.test_patients is not None
    ids = list(loaded.dataset.patients())
    train = loaded.dataset.of_patients([p for p in ids if p not in loaded.test_patients], "train")
    test = loaded.dataset.of_patients(sorted(loaded.test_patients), "test")

    def rows(name: str, dataset: Dataset) -> Floats:
        path = STORE / f"{name}.npy"
        if not path.exists():
            STORE.mkdir(parents=True, exist_ok=True)
            np.save(path, encode(dataset, config).inputs["image"].numpy())
        unit = np.load(path)
        scaled = unit * np.sqrt(unit.shape[1])
        return np.concatenate([scaled, np.ones((len(unit), 1))], axis=1).astype(np.float32)

    made = rows("train", with_copies(train, ["image"], COPIES, seed=0))
    return Features(
        train,
        made.reshape(len(train.records), COPIES, -1),
        np.array([r.labels[0] for r in train.records], dtype=np.float32),
        rows("test", test),
        np.array([r.labels[0] for r in test.records], dtype=np.float32),
    )


def schedule_factor(kind: str, number: int, rounds: int) -> float:
    """What the step size of a round is multiplied by; never 0 in the last one."""
    passed = (number - 1) / rounds
    if kind == "linear":
        return 1.0 - passed
    return (1.0 + math.cos(math.pi * passed)) / 2.0 if kind == "cosine" else 1.0


def train(practice: Practice, data: Features, rate: float, seed: int) -> dict[str, float]:
    """One run: the AUROC of each of ``READINGS`` on the test images."""
    position = {r.patient_id: i for i, r in enumerate(data.train.records)}
    dealt = partition_patients(data.train, list(position), SITES, 1.0, seed)
    members = [np.array([position[p] for p in group]) for group in dealt]
    qs = [sampling_rate(BATCH, len(own), site=f"{n}") for n, own in enumerate(members)]
    sigmas = [calibrate_noise(EPSILON, DELTA, q, ROUNDS) for q in qs]
    rng = np.random.default_rng(seed)
    width = data.rows.shape[2]
    server = ServerOptimizer(practice.server, width)
    vector = np.zeros(width, dtype=np.float32)
    starts = {"half": ROUNDS // 2, "fifth": ROUNDS * 4 // 5}
    sums = {name: np.zeros(width) for name in starts}
    for number in range(1, ROUNDS + 1):
        summed = np.zeros(width)
        step = rate * schedule_factor(practice.schedule, number, ROUNDS)
        for own, q, sigma in zip(members, qs, sigmas, strict=True):
            drawn = own[rng.random(len(own)) < q]
            total = clipped_sum(data, drawn, practice.copies, vector)
            noisy = total + sigma * CLIP * rng.standard_normal(width)
            summed -= step * noisy / BATCH
        vector = server.apply(vector, summed / SITES)
        for name, first in starts.items():
            if number > first:
                sums[name] += vector / (ROUNDS - first)
    vectors = {"last": vector, **sums}
    return {k: float(roc_auc_score(data.test_labels, data.test @ vectors[k])) for k in READINGS}


def clipped_sum(
    data: Features, drawn: npt.NDArray[np.int64], copies: int, vector: Floats
) -> npt.NDArray[np.float64]:
    """The sum of the records' gradients, each the mean over its copies and then clipped."""
    rows = data.rows[drawn, :copies]
    slope = expit(rows @ vector) - data.labels[drawn, None]
    gradients = np.einsum("nk,nkw->nw", slope, rows) / copies
    norms = np.linalg.norm(gradients, axis=1)
    return np.asarray(np.minimum(1.0, CLIP / (norms + 1e-6)) @ gradients, dtype=np.float64)


def points(values: list[float], *, signed: bool = False) -> str:
    scaled = [100 * v for v in values]
    return f"{statistics.mean(scaled):{'+' if signed else ''}.2f} ± {statistics.stdev(scaled):.2f}"


Scores = dict[tuple[str, float], list[dict[str, float]]]


def table(scores: Scores) -> str:
    """Every practice at its best step size by the mean of the last fifth, as Markdown."""

    def read(practice: Practice, rate: float, key: str) -> list[float]:
        return [one[key] for one in scores[practice.name, rate]]

    def best(practice: Practice) -> float:
        return max(practice.rates, key=lambda r: statistics.mean(read(practice, r, "fifth")))

    reference = read(BASE, best(BASE), "fifth")
    rows = [
        "| practice | best step size | last round | mean of last half | mean of last fifth "
        "| minus base | seeds better |",
        "|---|---|---|---|---|---|---|",
    ]
    every = [
        "| practice | step size | last round | mean of last half | mean of last fifth "
        "| minus base at this pace |",
        "|---|---|---|---|---|---|",
    ]
    for practice in PRACTICES:
        rate = best(practice)
        gap = [a - b for a, b in zip(read(practice, rate, "fifth"), reference, strict=True)]
        shown = ["", ""]
        if practice is not BASE:
            shown = [points(gap, signed=True), f"{sum(g > 0 for g in gap)} of {len(gap)}"]
        cells = [points(read(practice, rate, key)) for key in READINGS]
        rows.append("| " + " | ".join([practice.name, f"{rate:g}", *cells, *shown]) + " |")
        for each in practice.rates:
            cells = [points(read(practice, each, key)) for key in READINGS]
            same = read(BASE, each * practice.pace, "fifth")
            gap = [a - b for a, b in zip(read(practice, each, "fifth"), same, strict=True)]
            cells.append("" if practice is BASE else points(gap, signed=True))
            every.append("| " + " | ".join([practice.name, f"{each:g}", *cells]) + " |")
    return "\n".join([*rows, "", "All step sizes:", "", *every])


def measured(seeds: int) -> str:
    """The tables, with a heading."""
    data = features()
    wanted = [(p, rate, seed) for p in PRACTICES for rate in p.rates for seed in range(seeds)]
    scores: Scores = {}
    for practice, rate, seed in track(wanted, "runs"):
        scores.setdefault((practice.name, rate), []).append(train(practice, data, rate, seed))
    parameters = data.rows.shape[2]
    return f"## {parameters} parameters, {seeds} seeds\n\n{table(scores)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    text = measured(chosen.seeds)
    page = TARGET.read_text()
    start, end = "<!-- results -->", "<!-- /results -->"
    before, after = page.split(start)[0], page.split(end)[1]
    TARGET.write_text(f"{before}{start}\n\n{text}\n\n{end}{after}")
    print(text)


if __name__ == "__main__":
    main()
