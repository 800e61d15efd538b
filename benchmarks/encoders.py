"""Image encoders compared: trained from scratch, scattering, and a frozen public one.

    python benchmarks/encoders.py [--source phantom|pneumoniamnist] [--epsilon inf,8] [--seeds 3]
        [--timm NAME --weights FILE.safetensors] [--rates 1,2.5,5] [--rounds 30]

Only the options of the image encoder differ between rows. Each row is shown at the step size of
``--rates`` that is best on average for that encoder and budget, which is a little optimistic for
every row alike. Noise and sampling are reproducible from the seed. ``phantom`` has images alone
here, so that nothing but the image encoder is compared; ``pneumoniamnist`` reads
``../shared/data/pneumoniamnist``. The sum is not encrypted: it would be the same. Finished runs
are kept in ``runs/bench-encoders`` and not repeated.
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

ROOT = Path(__file__).resolve().parent.parent
STORE = ROOT / "runs" / "bench-encoders"
DATA = ROOT.parent / "shared" / "data" / "pneumoniamnist"


@dataclass(frozen=True)
class Encoder:
    """One row of the table: a name, and the options that make it."""

    name: str
    options: dict[str, Any]


SHIPPED = (
    Encoder("cnn, trained", {"encoder": "cnn"}),
    Encoder("scattering, order 1", {"encoder": "scattering", "order": 1}),
    Encoder("scattering, order 2", {"encoder": "scattering", "order": 2}),
)


@dataclass(frozen=True)
class Setting:
    """What is common to all rows of a table."""

    source: str
    rounds: int
    patients: int
    image_size: int

    def overrides(
        self, encoder: Encoder, epsilon: str, rate: float, seed: int
    ) -> list[tuple[str, Any]]:
        """The whole configuration of one run."""
        data = {"phantom": [("data.patients", self.patients)]}.get(
            self.source, [("data.source", "medmnist"), ("data.root", DATA)]
        )
        return [
            *data,
            ("data.image_size", self.image_size),
            ("modalities", {"image": {"kind": "image", **encoder.options}}),
            ("federation.sites", 10),
            ("training.seed", seed),
            ("training.rounds", self.rounds),
            ("training.learning_rate", rate),
            ("training.learning_rate_without_privacy", rate),
            ("training.physical_batch", 128),
            ("privacy.epsilon", float(epsilon)),
            ("privacy.reproducible", True),
            ("crypto.encryption", "none"),
            ("evaluation.bootstrap", 0),
        ]

    def path(self, encoder: Encoder, epsilon: str, rate: float, seed: int) -> Path:
        """Where the result of one run is kept; an encoder's name says which weights it has."""
        words = "".join(c if c.isalnum() else "-" for c in encoder.name)
        common = f"{self.source}-{self.patients}-{self.image_size}-{self.rounds}"
        return STORE / f"{common}-{words}-eps{epsilon}-lr{rate:g}-seed{seed}.json"


def frozen(name: str, weights: Path) -> Encoder:
    """A row for a timm encoder; its name holds the start of the weights' digest."""
    from privfin.config import ModalityConfig
    from privfin.models.weights import weights_digest

    options = {"encoder": f"timm:{name}", "weights": str(weights)}
    digest = weights_digest(ModalityConfig(kind="image", encoder=f"timm:{name}", weights=weights))
    return Encoder(f"{name} {digest[:8]}, frozen", options)


def measure(setting: Setting, encoder: Encoder, epsilon: str, rate: float, seed: int) -> None:
    """One run: macro AUROC on the held-out images, parameters, and seconds."""
    import torch

    from privfin.config import load_config
    from privfin.federation.plan import make_plan
    from privfin.federation.prepare import prepare
    from privfin.federation.training_run import complete_run, start_run
    from privfin.models.feature_cache import default_cache

    target = setting.path(encoder, epsilon, rate, seed)
    if target.exists():
        return
    torch.set_num_threads(1)
    config = load_config(None, setting.overrides(encoder, epsilon, rate, seed))
    begun = time.perf_counter()
    data = prepare(config, cache=default_cache())
    encoded = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(config, data.declarations)
        run = start_run(Path(folder) / "run", config, plan, data)
        result = complete_run(run, config, data)
    assert result is not None
    content = {
        "auroc": result.cells["image only"].macro_auroc,
        "parameters": plan.parameters,
        "encoding": encoded - begun,
        "training": time.perf_counter() - encoded,
    }
    STORE.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(content))


def table(
    setting: Setting,
    encoders: list[Encoder],
    epsilons: list[str],
    rates: list[float],
    seeds: int,
) -> str:
    """Mean and standard deviation over seeds as Markdown."""

    def kept(encoder: Encoder, epsilon: str, rate: float) -> list[dict[str, float]]:
        paths = [setting.path(encoder, epsilon, rate, seed) for seed in range(seeds)]
        return [json.loads(path.read_text()) for path in paths]

    lines = [
        "| epsilon | image encoder | parameters | step size | AUROC | encoding, s | training, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for epsilon in epsilons:
        for encoder in encoders:
            rows = {rate: kept(encoder, epsilon, rate) for rate in rates}
            means = {r: statistics.mean(x["auroc"] for x in found) for r, found in rows.items()}
            best = max(rates, key=lambda rate: means[rate])
            scores = [x["auroc"] for x in rows[best]]
            spread = f" ± {statistics.stdev(scores):.3f}" if seeds > 1 else ""
            lines.append(
                f"| {epsilon} | {encoder.name} | {rows[best][0]['parameters']:.0f} | {best:g} "
                f"| {means[best]:.3f}{spread} "
                f"| {statistics.median(x['encoding'] for x in rows[best]):.1f} "
                f"| {statistics.median(x['training'] for x in rows[best]):.1f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", choices=["phantom", "pneumoniamnist"], default="phantom")
    parser.add_argument("--epsilon", default="inf,8")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", default="1,2.5,5")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--patients", type=int, default=6000, help="phantom only")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--timm", help="name of a frozen encoder")
    parser.add_argument("--weights", type=Path, help="its weights, safetensors")
    given = parser.parse_args()
    if (given.timm is None) != (given.weights is None):
        parser.error("--timm and --weights go together")
    encoders = list(SHIPPED)
    if given.timm is not None:
        encoders.append(frozen(given.timm, given.weights))
    setting = Setting(given.source, given.rounds, given.patients, given.image_size)
    epsilons = given.epsilon.split(",")
    rates = [float(rate) for rate in given.rates.split(",")]
    runs = [
        (encoder, epsilon, rate, seed)
        for encoder in encoders
        for epsilon in epsilons
        for rate in rates
        for seed in range(given.seeds)
    ]
    begun = time.perf_counter()
    for done, each in enumerate(runs, start=1):
        measure(setting, *each)
        left = (time.perf_counter() - begun) / done * (len(runs) - done)
        print(f"{done}/{len(runs)} {each[0].name} epsilon {each[1]}, {left:.0f} s left", flush=True)
    print(table(setting, encoders, epsilons, rates, given.seeds))


if __name__ == "__main__":
    main()
