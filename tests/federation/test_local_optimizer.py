"""FedProx: the gradient of its penalty, from released numbers, after the noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from privfin.config import RunConfig
from privfin.federation.local import stream_source
from privfin.federation.local_optimizer import ProximalSGD, local_optimizer
from privfin.federation.local_training import LocalTrainer
from privfin.federation.plan import make_plan
from privfin.models.segments import flatten, initial_model


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_proximal_term_is_the_gradient_of_its_penalty(momentum: float) -> None:
    """Against autograd on (mu / 2) ||w - w_global||^2, added to the loss."""
    mu, rate, steps = 0.7, 0.1, 5
    torch.manual_seed(0)
    start, target = torch.randn(6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    ours = torch.nn.Parameter(start.clone())
    optimizer = local_optimizer(rate, momentum, mu)([ours])
    reference = torch.nn.Parameter(start.clone())
    plain = torch.optim.SGD([reference], lr=rate, momentum=momentum)
    for _ in range(steps):
        optimizer.zero_grad()
        (ours - target).square().sum().backward()
        optimizer.step()
        plain.zero_grad()
        loss = (reference - target).square().sum()
        (loss + mu / 2 * (reference - start).square().sum()).backward()
        plain.step()
    assert torch.allclose(ours, reference, atol=1e-12)
    assert isinstance(optimizer, ProximalSGD)


def test_the_first_step_of_a_round_is_not_pulled() -> None:
    """It starts at the global model, so a broken anchor (zero, say) would show here."""
    p = torch.nn.Parameter(torch.tensor([3.0]))
    optimizer = ProximalSGD([p], lr=0.5, momentum=0.0, proximal=10.0)
    p.grad = torch.tensor([1.0])
    optimizer.step()
    assert p.item() == 2.5


def change(tiny: Callable[..., RunConfig], prepared: Any, **options: Any) -> np.ndarray:
    """What a site's training changes in a round, with the same noise and patients every time."""
    config = tiny(privacy__reproducible=True, training__rounds=4, **options)
    data = prepared(config)
    plan = make_plan(config, data.declarations)
    name = plan.cohort[-1]
    trainer = LocalTrainer(config, plan.site(name), data.sites[name], stream_source(config, name))
    start = flatten(initial_model(config, len(plan.label_names)))
    return trainer.train(start, 1, plan.site(name).local_steps)


def test_fedprox_keeps_a_site_nearer_to_the_global_model(
    tiny: Callable[..., RunConfig], prepared: Any
) -> None:
    """Noise included: the pull comes after it."""
    far, near = (
        change(tiny, prepared, training__local_steps=20, training__proximal=mu) for mu in (0.0, 0.5)
    )
    assert np.linalg.norm(near) < 0.8 * np.linalg.norm(far)
