"""Inverts gradients and updates of phantom patients, and writes page and pictures.

    python benchmarks/gradient_inversion.py [--targets 6] [--steps 300]

The patients are the built-in phantom's: they belong to nobody, so their pictures may be shown.
Takes some minutes on one core.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from privfin.auditing.inversion import invert
from privfin.auditing.inversion_attacker import Effort, Targets
from privfin.auditing.inversion_public import Public, grey, phantom_public, standardised
from privfin.auditing.inversion_result import PRIOR, InversionResult
from privfin.comparison.drawing import INK, prepare_matplotlib
from privfin.config import RunConfig, load_config
from privfin.data.phantom import generate_phantom
from privfin.federation.encoding import encode
from privfin.federation.plan import declared_sites, make_plan
from privfin.models.segments import Vector, flatten, initial_model

TARGET = Path(__file__).parent.parent / "docs/results/gradient-inversion.md"
ENCODERS = {
    "cnn": [("modalities.image.encoder", "cnn")],
    "scattering": [("modalities.image.encoder", "scattering")],
}
# Two sites of 450 patients with images and reports: as many a site as the default configuration.
SETTINGS = [("data.patients", 1200), ("federation.sites", 2), ("federation.modalities", "0:0:1")]
COLUMNS = {
    "original": "original",
    "one record": "gradient of\none record",
    "batch": "gradient of\nthe batch",
    "one record, clipped": "one record,\nclipped",
    "one record, round without noise": "one round,\nclipped, no noise",
    "one record, round as sent": "one round,\nclipped and noised",
    PRIOR: "prior only:\npublic mean",
}
SHOWN = 3


def trained(config: RunConfig, public: Public) -> Vector:
    """A global model with a head that is not zero: 60 Adam steps on public phantom patients."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = initial_model(config, public.batch.labels.shape[1])
        adam = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(60):
            rows = torch.randperm(len(public.batch))[:64]
            adam.zero_grad()
            model.per_record_loss(public.batch.rows(rows), 1.0).mean().backward()
            adam.step()
    return flatten(model)


def attacked(encoder: str, targets: int, steps: int) -> tuple[InversionResult, Targets, str]:
    config = load_config(None, [*SETTINGS, *ENCODERS[encoder]])
    plan = make_plan(config, declared_sites(config))
    site = plan.sites[0]
    dataset = generate_phantom(targets, config.data.image_size, config.training.seed)
    records = tuple(r for r in dataset.records if r.record_id.endswith("-1"))
    raw = torch.from_numpy(np.stack([np.asarray(r.inputs["image"]) for r in records]))
    batch = encode(replace(dataset, records=records), config)
    chosen = Targets(site.name, batch, standardised(raw))
    public = phantom_public(config)
    result = invert(
        config, plan, trained(config, public), chosen, public, effort=Effort(steps=steps),
        progress=lambda done, total: print(f"{encoder}: view {done} of {total}", flush=True),
    )  # fmt: skip
    setting = (
        f"epsilon {config.privacy.epsilon:g}, {config.training.rounds} rounds of "
        f"{site.local_steps} steps, expected batch {config.training.batch_size} of "
        f"{site.patients} patients, clip norm {config.privacy.clip_norm:g}, noise multiplier "
        f"{site.noise_multiplier:.2f}"
    )
    return result, chosen, setting


def draw(result: InversionResult, targets: Targets, path: Path) -> None:
    prepare_matplotlib()
    from matplotlib.figure import Figure

    columns = [c for c in COLUMNS if c == "original" or c in result.views]
    rows = min(SHOWN, result.targets)
    figure = Figure(figsize=(1.45 * len(columns), 1.62 * rows + 0.45), layout="constrained")
    axes = figure.subplots(rows, len(columns), squeeze=False)
    assert targets.pictures is not None
    for row in range(rows):
        for at, column in enumerate(columns):
            axis = axes[row, at]
            if column == "original":
                shown, below = grey(targets.pictures[row, 0]).numpy(), "PSNR in dB | SSIM"
            else:
                one = next(p for p in result.pictures if (p.view, p.target) == (column, row))
                shown, below = one.shown, f"{one.psnr:.1f} dB | {one.ssim:.2f}"
            axis.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_xlabel(below, fontsize=9, color=INK)
            axis.set_xticks([])
            axis.set_yticks([])
            if row == 0:
                axis.set_title(COLUMNS[column], fontsize=9.5, color=INK)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def mean(values: list[float], digits: int) -> str:
    return f"{np.mean(values):.{digits}f}" if values else ""


def table(result: InversionResult) -> str:
    has_features = bool(result.values("one record", "feature_cosine"))
    feature = " cosine of feature |" if has_features else ""
    lines = [
        f"| view | PSNR, dB | SSIM |{feature} labels right | against the prior (PSNR) |",
        "|---|---|---|" + "---|" * has_features + "---|---|",
    ]
    verdicts = {g.view: g.verdict for g in result.gains() if g.measure == "psnr"}
    for view in result.views:
        cells = [view, mean(result.values(view, "psnr"), 1), mean(result.values(view, "ssim"), 2)]
        if has_features:
            cells.append(mean(result.values(view, "feature_cosine"), 2))
        right = result.values(view, "labels_right")
        cells += [f"{100 * np.mean(right):.0f} %" if right else "", verdicts.get(view, "")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def words(result: InversionResult) -> str:
    lines = [
        "| view | buckets: precision | recall | phrases: precision | recall |",
        "|---|---|---|---|---|",
    ]
    for view in dict.fromkeys(w.view for w in result.words):
        means = list(result.word_means(view).values())
        shown = ["" if math.isnan(v) else f"{100 * v:.0f} %" for v in means]
        lines.append("| " + " | ".join([view, *shown]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", type=int, default=6)
    parser.add_argument("--steps", type=int, default=300)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    parts = []
    for encoder in ENCODERS:
        result, targets, setting = attacked(encoder, chosen.targets, chosen.steps)
        picture = TARGET.with_name(f"gradient-inversion-{encoder}.png")
        draw(result, targets, picture)
        parts += [
            f"## Image encoder `{encoder}`",
            f"{result.targets} targets; {setting}.",
            f"![Reconstructions through the {encoder} encoder]({picture.name})",
            table(result),
        ]
    parts += ["## Words of the reports", words(result)]
    text = "\n\n".join(parts)
    page = TARGET.read_text("utf-8")
    start, end = "<!-- results -->", "<!-- /results -->"
    before, after = page.split(start)[0], page.split(end)[1]
    TARGET.write_text(f"{before}{start}\n\n{text}\n\n{end}{after}", "utf-8")
    print(text)


if __name__ == "__main__":
    main()
