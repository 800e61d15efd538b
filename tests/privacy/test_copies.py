"""Several copies of a record inside its one clipped gradient: the bound on a patient stays C."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from privfin.config import RunConfig
from privfin.models.multimodal import Batch, MultimodalModel
from privfin.models.segments import initial_model
from privfin.privacy.clipping import PatientClipping
from privfin.privacy.dpsgd import DpSgd, DpSgdSettings
from privfin.privacy.plain import PlainSgd
from privfin.randomness import RandomStream

RECORDS = 9
LABELS = 2
WEIGHT = 0.5
ROUNDING = 1e-4


@dataclass
class Site:
    """The real model with random parameters, and ``copies`` different rows for every record."""

    model: MultimodalModel
    batch: Batch
    copies: int

    def losses(self, records: np.ndarray) -> Tensor:
        rows = (records[:, None] * self.copies + np.arange(self.copies)).reshape(-1)
        return self.model.per_record_loss(self.batch.rows(torch.from_numpy(rows)), WEIGHT)

    def parameters(self) -> list[nn.Parameter]:
        return list(self.model.parameters())


def make_site(copies: int) -> Site:
    config = RunConfig.model_validate(
        {
            "data": {"image_size": 16},
            "modalities": {
                "image": {"encoder": "cnn", "kind": "image"},
                "text": {"encoder": "hashed-ngrams", "kind": "text", "features": 16},
            },
            "model": {
                "width": 8,
                "fin": {"layers": 1, "heads": 2, "feedforward": 8, "tokens": 2},
            },
        }
    )
    model = initial_model(config, LABELS)
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=random) * 0.4)
    rows = RECORDS * copies
    image = torch.randn(rows, 1, 16, 16, generator=random)
    text = torch.randn(RECORDS, 16, generator=random).repeat_interleave(copies, dim=0)
    present = torch.arange(rows) // copies % 4 != 1
    text[~present] = 0.0
    labels = torch.randint(0, 2, (RECORDS, LABELS), generator=random).float()
    labels[0, 0] = math.nan
    batch = Batch(
        {"image": image, "text": text},
        {"image": torch.ones(rows, dtype=torch.bool), "text": present},
        labels.repeat_interleave(copies, dim=0),
    )
    return Site(model, batch, copies)


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.detach().double().flatten() for t in tensors])


def alone(site: Site, record: int) -> Tensor:
    """The gradient of the mean loss over a record's copies, by autograd without any hook."""
    loss = site.losses(np.array([record])).mean()
    return flat(torch.autograd.grad(loss, site.parameters()))


def clipped_sum(
    site: Site, records: Sequence[int], clip_norm: float, physical_batch: int = 7
) -> Tensor:
    trainer = DpSgd(
        site.model,
        site.losses,
        [[i] for i in range(RECORDS)],
        DpSgdSettings(clip_norm, 1.0, 0.5, 4, physical_batch, site.copies),
        lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        noise=RandomStream.reproducible(1, "noise"),
        sampling=RandomStream.reproducible(1, "sampling"),
    )
    try:
        return flat(trainer.clipped_sum(np.array(records, dtype=np.int64)))
    finally:
        trainer.close()


def middle_norm(gradients: Tensor) -> float:
    norms = gradients.norm(dim=1)
    middle = float(norms.median())
    assert (norms > middle * 1.01).sum() >= 3
    assert (norms < middle * 0.99).sum() >= 3
    return middle


def equals_reference(copies: int, physical_batch: int) -> bool:
    """Against a loop over records: mean over copies, then one clip, then the sum."""
    site = make_site(copies)
    gradients = torch.stack([alone(site, i) for i in range(RECORDS)])
    clip_norm = middle_norm(gradients)
    factor = (clip_norm / (gradients.norm(dim=1, keepdim=True) + 1e-6)).clamp(max=1.0)
    wanted = (gradients * factor).sum(dim=0)
    found = clipped_sum(site, range(RECORDS), clip_norm, physical_batch)
    return bool((found - wanted).norm() <= ROUNDING * wanted.norm())


def keeps_the_bound(copies: int) -> bool:
    """Without any one record, the sum of all the others moves by at most C."""
    clip_norm = 0.05
    site = make_site(copies)
    whole = clipped_sum(site, range(RECORDS), clip_norm)
    moved = [
        float((whole - clipped_sum(site, [j for j in range(RECORDS) if j != i], clip_norm)).norm())
        for i in range(RECORDS)
    ]
    assert max(moved) >= 0.99 * clip_norm  # the bound is reached, so this check has teeth
    return max(moved) <= clip_norm * (1 + 10 * ROUNDING)


@pytest.mark.parametrize("copies", [1, 3, 4])
@pytest.mark.parametrize("physical_batch", [1, 7, 64])
def test_the_clipped_sum_is_that_of_mean_gradients_clipped_once(
    copies: int, physical_batch: int
) -> None:
    """Micro-batches that do not divide into records included."""
    assert equals_reference(copies, physical_batch)


@pytest.mark.parametrize("copies", [1, 4])
def test_one_record_moves_the_sum_by_at_most_the_clipping_norm(copies: int) -> None:
    assert keeps_the_bound(copies)


def clip_each_row(self: PatientClipping, records: int) -> None:
    """The mistake: K clipped rows of a record, which add up to K C."""


def sum_of_copies(self: PatientClipping, records: int) -> None:
    """Another one: copies of different records mixed up."""
    copies = self._copies
    for p in self.optimizer.params:
        p.grad_sample = p.grad_sample.view(copies, records, *p.shape).mean(dim=0)


@pytest.mark.parametrize("broken", [clip_each_row, sum_of_copies])
def test_copies_taken_for_records_are_caught(monkeypatch: pytest.MonkeyPatch, broken) -> None:
    monkeypatch.setattr(PatientClipping, "_average_copies", broken)
    assert not equals_reference(4, 64)
    if broken is clip_each_row:
        assert not keeps_the_bound(4)


def test_a_loss_that_has_other_copies_than_stated_is_refused() -> None:
    """Rows taken for records would each be clipped alone."""
    site = make_site(3)
    site.copies = 1
    with pytest.raises(ValueError, match="3 losses each"):
        trainer = DpSgd(
            site.model,
            site.losses,
            [[i] for i in range(RECORDS)],
            DpSgdSettings(1.0, 1.0, 0.5, 4, 16, 3),
            lambda parameters: torch.optim.SGD(parameters, lr=0.1),
            noise=RandomStream.reproducible(1, "noise"),
            sampling=RandomStream.reproducible(1, "sampling"),
        )
        trainer.clipped_sum(np.arange(4))


def test_memory_is_bounded_by_rows_not_records() -> None:
    site = make_site(4)
    asked: list[int] = []
    losses = site.losses
    site.losses = lambda records: asked.append(len(records)) or losses(records)  # type: ignore[method-assign, func-returns-value]
    clipped_sum(site, range(RECORDS), 1.0, physical_batch=8)
    assert asked == [2, 2, 2, 2, 1]


def test_without_privacy_a_step_follows_the_mean_over_all_copies() -> None:
    site = make_site(3)
    before = flat(site.parameters())
    wanted = torch.stack([alone(site, i) for i in range(RECORDS)]).mean(dim=0)
    PlainSgd(
        site.model,
        site.losses,
        [[i] for i in range(RECORDS)],
        1.0,
        lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        sampling=RandomStream.reproducible(1, "sampling"),
    ).step()
    assert torch.allclose(flat(site.parameters()), before - 0.1 * wanted, atol=1e-6)
