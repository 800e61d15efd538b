"""What practices for utility under DP bring: averaging, schedules, copies, server momentum.

PneumoniaMNIST (``../shared/data/pneumoniamnist``), 10 sites of images only with full noise at each,
epsilon 8, a linear head on fixed scattering features. One practice is changed at a time, and each
gets its own best of the step sizes tried.

With one label and a linear head, a record's gradient is (p - y) times its features, so a site takes
a step in one product of matrices. What is measured follows privfin's rules for dealing, sampling,
copies, clipping, noise, divisor, schedule and server optimiser; ``--check`` trains privfin itself
beside it.

    python benchmarks/dp_practice.py                      # 401 parameters, with copies
    python benchmarks/dp_practice.py --order 2 --seeds 3  # 3,473 parameters, without
    python benchmarks/dp_practice.py --check              # one run of privfin itself beside it
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from sklearn.metrics import roc_auc_score

from privfin.config import RunConfig, ServerConfig, load_config
from privfin.data.augment import with_copies
from privfin.data.medmnist import read_medmnist
from privfin.data.partition import partition_patients
from privfin.data.records import Dataset
from privfin.federation.local_optimizer import schedule_factor
from privfin.federation.prepare import encode
from privfin.federation.server_optimizer import ServerOptimizer
from privfin.privacy.calibration import calibrate_noise, sampling_rate

HERE = Path(__file__).resolve().parent.parent
DATA = HERE.parent / "shared" / "data" / "pneumoniamnist"
STORE = HERE / "runs" / "bench-dp-practice"
TARGET = HERE / "docs" / "results" / "dp-practice.md"
SITES, ROUNDS, BATCH, CLIP, EPSILON, DELTA = 10, 300, 102, 0.5, 8.0, 1e-4
RATES = (0.3, 1.0, 3.0, 10.0)
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


def settings(order: int) -> RunConfig:
    """The configuration that the features are made by."""
    image = {"encoder": "scattering", "kind": "image", "order": order, "projection": "none"}
    return load_config(
        None,
        [
            ("data.source", "medmnist"),
            ("data.root", DATA),
            ("data.image_size", 28),
            ("modalities", {"image": image}),
        ],
    )


def features(order: int, copies: int) -> Features:
    """Encoded once and kept. As in privfin's head, unit vectors times the root of their width,
    and a 1 for the bias."""
    config = settings(order)
    loaded = read_medmnist(DATA, image_size=config.data.image_size)
    assert loaded.test_patients is not None
    ids = list(loaded.dataset.patients())
    train = loaded.dataset.of_patients([p for p in ids if p not in loaded.test_patients], "train")
    test = loaded.dataset.of_patients(sorted(loaded.test_patients), "test")

    def rows(name: str, dataset: Dataset) -> Floats:
        path = STORE / f"order{order}-{name}.npy"
        if not path.exists():
            STORE.mkdir(parents=True, exist_ok=True)
            np.save(path, encode(dataset, config).inputs["image"].numpy())
        unit = np.load(path)
        scaled = unit * np.sqrt(unit.shape[1])
        return np.concatenate([scaled, np.ones((len(unit), 1))], axis=1).astype(np.float32)

    made = rows(f"train-{copies}", with_copies(train, ["image"], copies, seed=0))
    return Features(
        train,
        made.reshape(len(train.records), copies, -1),
        np.array([r.labels[0] for r in train.records], dtype=np.float32),
        rows("test", test),
        np.array([r.labels[0] for r in test.records], dtype=np.float32),
    )


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
    slope = 1.0 / (1.0 + np.exp(-(rows @ vector))) - data.labels[drawn, None]
    gradients = np.einsum("nk,nkw->nw", slope, rows) / copies
    norms = np.linalg.norm(gradients, axis=1)
    return np.asarray(np.minimum(1.0, CLIP / (norms + 1e-6)) @ gradients, dtype=np.float64)


def points(values: list[float], *, signed: bool = False) -> str:
    scaled = [100 * v for v in values]
    return f"{statistics.mean(scaled):{'+' if signed else ''}.2f} ± {statistics.stdev(scaled):.2f}"


Scores = dict[tuple[str, float], list[dict[str, float]]]


def table(practices: list[Practice], scores: Scores) -> str:
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
        "| practice | step size | last round | mean of last half | mean of last fifth |",
        "|---|---|---|---|---|",
    ]
    for practice in practices:
        rate = best(practice)
        gap = [a - b for a, b in zip(read(practice, rate, "fifth"), reference, strict=True)]
        shown = ["", ""]
        if practice is not BASE:
            shown = [points(gap, signed=True), f"{sum(g > 0 for g in gap)} of {len(gap)}"]
        cells = [points(read(practice, rate, key)) for key in READINGS]
        rows.append("| " + " | ".join([practice.name, f"{rate:g}", *cells, *shown]) + " |")
        for each in practice.rates:
            cells = [points(read(practice, each, key)) for key in READINGS]
            every.append("| " + " | ".join([practice.name, f"{each:g}", *cells]) + " |")
    return "\n".join([*rows, "", "All step sizes:", "", *every])


def measured(order: int, copies: int, seeds: int) -> str:
    """The tables of one order of features, with a heading."""
    data = features(order, copies)
    practices = [p for p in PRACTICES if p.copies <= copies]
    wanted = [(p, rate, seed) for p in practices for rate in p.rates for seed in range(seeds)]
    scores: Scores = {}
    for practice, rate, seed in track(wanted, f"order {order}"):
        scores.setdefault((practice.name, rate), []).append(train(practice, data, rate, seed))
    parameters = data.rows.shape[2]
    heading = f"## Features of order {order}: {parameters} parameters, {seeds} seeds"
    return f"{heading}\n\n{table(practices, scores)}"


def check(rate: float) -> None:
    """One run of privfin itself, and the same run of this script."""
    import tempfile

    from privfin.federation.plan import make_plan
    from privfin.federation.prepare import prepare
    from privfin.federation.training_run import complete_run, start_run

    given: list[tuple[str, Any]] = [
        ("data", settings(1).data.model_dump()),
        ("modalities", {"image": settings(1).modalities["image"].model_dump()}),
        ("federation.sites", SITES),
        ("training.rounds", ROUNDS),
        ("training.local_steps", 1),
        ("training.batch_size", BATCH),
        ("training.physical_batch", 128),
        ("training.learning_rate", rate),
        ("privacy", {"epsilon": EPSILON, "delta": DELTA, "clip_norm": CLIP, "reproducible": True}),
        ("crypto.encryption", "none"),
        ("evaluation.bootstrap", 0),
    ]
    config = load_config(None, given)
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        data = prepare(config)
        run = start_run(Path(folder) / "run", config, make_plan(config, data.declarations), data)
        result = complete_run(run, config, data)
    assert result is not None
    theirs = result.cells["image only"].macro_auroc
    ours = train(BASE, features(1, COPIES), rate, 0)["fifth"]
    print(f"privfin {theirs:.4f} ({time.process_time() - begun:.0f} CPU s), this script {ours:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--order", type=int, choices=(1, 2), default=1)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--check", action="store_true", help="one run of privfin itself")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.check:
        check(1.0)
        return
    # Copies are compared on the smaller features: the larger ones of four copies take too long.
    text = measured(chosen.order, COPIES if chosen.order == 1 else 1, chosen.seeds)
    page = TARGET.read_text()
    start, end = f"<!-- order {chosen.order} -->", f"<!-- /order {chosen.order} -->"
    before, after = page.split(start)[0], page.split(end)[1]
    TARGET.write_text(f"{before}{start}\n\n{text}\n\n{end}{after}")
    print(text)


if __name__ == "__main__":
    main()
