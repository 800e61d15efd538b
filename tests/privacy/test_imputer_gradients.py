"""DP-SGD's per-record gradients with every imputer are those of records taken one at a time."""

from __future__ import annotations

import copy
import math
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from privfin.config import ImputerKind, RunConfig
from privfin.models.multimodal import Batch, MultimodalModel
from privfin.models.segments import freeze_untrained, initial_model
from privfin.privacy.dpsgd import DpSgd, DpSgdSettings
from privfin.randomness import RandomStream

KINDS = get_args(ImputerKind)
ROWS, LABELS, PUBLIC = 24, 3, 8
WIDTHS = {"image": 20, "text": 16, "notes": 17}
SITES = {"all": ("image", "text", "notes"), "image only": ("image",), "pair": ("image", "text")}


def make_model(kind: str, holds: tuple[str, ...], aggregation: str = "uniform") -> MultimodalModel:
    config = RunConfig.model_validate(
        {
            "modalities": {
                m: {"encoder": "hashed-ngrams", "kind": "text", "features": w}
                for m, w in WIDTHS.items()
            },
            "model": {
                "width": 8,
                "imputer": kind,
                "hidden": 8,
                "prototypes": 5,
                "modality_dropout": None if kind == "late" else 0.3,
                "fin": {"layers": 1, "heads": 2, "feedforward": 8, "tokens": 2},
                "retrieval": {"source": "phantom", "records": PUBLIC, "neighbours": 3},
            },
            "training": {"aggregation": aggregation},
        }
    )
    model = initial_model(config, LABELS)
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=random) * 0.4)
    if kind == "retrieval":
        model.use_public(make_batch(tuple(WIDTHS), PUBLIC, seed=9))
    freeze_untrained(model, holds, kind)
    return model


def make_batch(holds: tuple[str, ...], rows: int = ROWS, seed: int = 1) -> Batch:
    """Records with every combination of what the site holds, and some unknown labels."""
    random = torch.Generator().manual_seed(seed)
    present = {m: torch.zeros(rows, dtype=torch.bool) for m in WIDTHS}
    for i in range(rows):
        # 1, 2, ..., 2^k - 1: every non-empty combination in turn
        bits = i % (2 ** len(holds) - 1) + 1
        for k, m in enumerate(holds):
            present[m][i] = bool(bits >> k & 1)
    inputs = {m: torch.randn(rows, w, generator=random) for m, w in WIDTHS.items()}
    inputs = {m: x * present[m][:, None] for m, x in inputs.items()}
    labels = torch.randint(0, 2, (rows, LABELS), generator=random).float()
    labels[0, 0] = labels[5] = math.nan
    return Batch(inputs, present, labels)


def single_gradients(model: MultimodalModel, batch: Batch) -> Tensor:
    """(n, parameters): each record alone, by plain autograd."""
    trained = [p for p in model.parameters() if p.requires_grad]
    rows = []
    for i in range(len(batch)):
        loss = model.per_record_loss(batch.rows(torch.tensor([i])), 0.7).sum()
        if not loss.requires_grad:
            rows.append(torch.zeros(sum(p.numel() for p in trained)))
            continue
        found = torch.autograd.grad(loss, trained, allow_unused=True)
        parts = [
            torch.zeros(p.numel()) if g is None else g.reshape(-1)
            for p, g in zip(trained, found, strict=True)
        ]
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def clipped(gradients: Tensor, clip_norm: float) -> Tensor:
    norms = gradients.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return gradients * (clip_norm / norms).clamp(max=1.0)


def dpsgd_sum(
    model: MultimodalModel, batch: Batch, clip_norm: float, rows: list[int], at_once: int = 7
) -> Tensor:
    def loss(records: np.ndarray) -> Tensor:
        return model.per_record_loss(batch.rows(torch.from_numpy(records)), 0.7)

    trainer = DpSgd(
        model,
        loss,
        [[i] for i in range(len(batch))],
        DpSgdSettings(clip_norm, 1.0, 0.5, 4, at_once),
        lambda p: torch.optim.SGD(p, lr=0.0),
        noise=RandomStream.reproducible(1, "noise"),
        sampling=RandomStream.reproducible(1, "sampling"),
    )
    try:
        parts = trainer.clipped_sum(np.array(rows, dtype=np.int64))
        return torch.cat([p.reshape(-1) for p in parts])
    finally:
        trainer.close()


def equals_loop(model: MultimodalModel, batch: Batch, at_once: int = 7) -> bool:
    alone = single_gradients(copy.deepcopy(model), batch)
    clip_norm = float(alone.norm(dim=1).median())
    wanted = clipped(alone, clip_norm).sum(dim=0)
    assert (alone.norm(dim=1) > clip_norm * 1.01).any(), "clipping must be active"
    found = dpsgd_sum(model, batch, clip_norm, list(range(len(batch))), at_once)
    return bool((found - wanted).norm() <= 1e-4 * wanted.norm())


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_clipped_sum_is_a_loop_over_single_records(kind, site):
    """With three modalities, every combination of them present, dropout views and clipping on."""
    assert equals_loop(make_model(kind, SITES[site]), make_batch(SITES[site]))


@pytest.mark.parametrize("at_once", [1, 24])
def test_the_size_of_the_micro_batch_changes_nothing(at_once):
    assert equals_loop(make_model("fin-any", SITES["all"]), make_batch(SITES["all"]), at_once)


def test_the_uncertainty_scalar_is_inside_the_same_clipped_gradient():
    model = make_model("pfin", SITES["all"], "uncertainty")
    batch = make_batch(SITES["all"])
    assert equals_loop(model, batch)
    sizes = [p.numel() for p in model.parameters() if p.requires_grad]
    assert sizes[-1] == 1, "the scalar is the last parameter"
    assert single_gradients(model, batch)[:, -1].abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["retrieval", "prototype", "fin", "mean", "pfin"])
def test_one_patient_moves_the_sum_by_at_most_the_clip_norm(kind):
    model, batch = make_model(kind, SITES["all"]), make_batch(SITES["all"])
    clip_norm = 0.05
    everyone = dpsgd_sum(model, batch, clip_norm, list(range(ROWS)), 64)
    for left_out in range(0, ROWS, 5):
        rest = [i for i in range(ROWS) if i != left_out]
        moved = (everyone - dpsgd_sum(model, batch, clip_norm, rest, 64)).norm()
        assert moved <= clip_norm * (1 + 1e-4)


def test_an_imputer_that_mixes_patients_breaks_the_bound():
    """Retrieval from the batch itself, as if a site's own patients were the public set."""
    model, batch = make_model("retrieval", SITES["all"]), make_batch(SITES["all"])
    honest = model.imputer.forward

    def from_the_batch(features, present):
        if len(present["text"]) > 1:
            first = {m: x[:PUBLIC].detach() for m, x in features.items()}
            model.imputer.fill(first, {m: x[:PUBLIC] for m, x in present.items()})
        return honest(features, present)

    model.imputer.forward = from_the_batch
    assert not equals_loop(model, batch, 64)
