"""Training without privacy: the honest baseline, with the same patients drawn as under DP-SGD."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from privfin.errors import PrivfinError
from privfin.privacy.dpsgd import DpSgd, DpSgdSettings
from privfin.privacy.plain import PlainSgd
from privfin.randomness import RandomStream

ROWS = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
PATIENTS = [[0, 1, 2], [3], [4, 5], [6], [7, 8], [9], [10], [11]]


class Site:
    """A linear model, the records it was asked about, and a trainer."""

    def __init__(self, rate: float = 0.5, learning_rate: float = 0.1, seed: int = 1) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(3, 1)
        self.seen: list[list[int]] = []
        self.trainer = PlainSgd(
            self.model,
            self.losses,
            PATIENTS,
            rate,
            lambda parameters: torch.optim.SGD(parameters, lr=learning_rate),
            sampling=RandomStream.reproducible(seed, "sampling"),
        )

    def losses(self, records: np.ndarray) -> torch.Tensor:
        self.seen.append(records.tolist())
        return (self.model(ROWS[torch.from_numpy(records)]) - 1).square().sum(dim=1)

    def weights(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in self.model.parameters()])


def test_a_step_follows_the_mean_gradient_of_the_patients_drawn():
    site = Site(rate=1.0)
    before = site.weights()
    site.trainer.step()
    (records,) = site.seen
    reference = Site()
    loss = reference.losses(np.array(records)).mean()
    grads = torch.autograd.grad(loss, list(reference.model.parameters()))
    wanted = before - 0.1 * torch.cat([g.flatten() for g in grads])
    assert torch.allclose(site.weights(), wanted, atol=1e-6)


def test_each_patient_gives_at_most_one_record():
    """A patient with many studies weighs no more than one with a single study."""
    owner = {record: i for i, group in enumerate(PATIENTS) for record in group}
    site = Site()
    for _ in range(50):
        site.trainer.step()
    for records in site.seen:
        patients = [owner[r] for r in records]
        assert len(set(patients)) == len(patients)
    assert {r for records in site.seen for r in records} == set(range(12))


def test_the_same_records_are_drawn_as_under_dpsgd():
    """A run with epsilon = inf differs from a private one by clipping and noise alone."""
    plain, private = Site(seed=5), Site(seed=5)
    trainer = DpSgd(
        private.model,
        private.losses,
        PATIENTS,
        DpSgdSettings(1.0, 1.0, 0.5, 4),
        lambda parameters: torch.optim.SGD(parameters, lr=0.0),
        noise=RandomStream.reproducible(1, "noise"),
        sampling=RandomStream.reproducible(5, "sampling"),
    )
    for _ in range(10):
        plain.trainer.step()
        trainer.step()
    trainer.close()
    assert plain.seen
    assert plain.seen == private.seen


def test_an_empty_batch_changes_nothing():
    site = Site(rate=1e-15)
    before = site.weights()
    site.trainer.step()
    assert site.seen == []
    assert torch.equal(site.weights(), before)


def test_frozen_parameters_stay():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    model[0].requires_grad_(False)
    before = model[0].weight.clone(), model[1].weight.clone()
    trainer = PlainSgd(
        model,
        lambda records: model(ROWS[torch.from_numpy(records)]).square().sum(dim=1),
        PATIENTS,
        1.0,
        lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        sampling=RandomStream.reproducible(1),
    )
    trainer.step()
    assert torch.equal(model[0].weight, before[0])
    assert not torch.equal(model[1].weight, before[1])


def test_parameters_that_are_not_finite_are_refused():
    site = Site(rate=1.0, learning_rate=math.inf)
    with pytest.raises(PrivfinError, match="learning_rate_without_privacy") as caught:
        site.trainer.step()
    assert "\n" not in str(caught.value)
