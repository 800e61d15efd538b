"""Schedules and FedProx: documented formulas, and nothing but released numbers go in."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from privfin.config import RunConfig
from privfin.federation.local import stream_source
from privfin.federation.local_optimizer import ProximalSGD, local_optimizer, schedule_factor
from privfin.federation.local_training import LocalTrainer
from privfin.federation.plan import make_plan
from privfin.models.segments import flatten, initial_model

SCHEDULES = ("constant", "linear", "cosine")


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("constant", [1.0, 1.0, 1.0, 1.0]),
        ("linear", [1.0, 0.75, 0.5, 0.25]),
        ("cosine", [1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]),
    ],
)
def test_a_schedule_follows_its_formula(kind: Any, wanted: list[float]) -> None:
    assert [schedule_factor(kind, r, 4) for r in (1, 2, 3, 4)] == pytest.approx(wanted)


@given(kind=st.sampled_from(SCHEDULES), rounds=st.integers(1, 100_000), data=st.data())
def test_a_schedule_starts_at_one_falls_and_never_ends_at_zero(
    kind: Any, rounds: int, data: st.DataObject
) -> None:
    number = data.draw(st.integers(1, rounds))
    factor = schedule_factor(kind, number, rounds)
    assert 0.0 < factor <= 1.0
    assert schedule_factor(kind, 1, rounds) == 1.0
    if number < rounds:
        assert schedule_factor(kind, number + 1, rounds) <= factor


@pytest.mark.parametrize("number", [0, 5, -1])
def test_a_round_outside_the_plan_has_no_step_size(number: int) -> None:
    with pytest.raises(ValueError, match="not one of 4"):
        schedule_factor("linear", number, 4)


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


def change(
    tiny: Callable[..., RunConfig], prepared: Any, number: int = 1, **options: Any
) -> np.ndarray:
    """What a site's training changes in a round, with the same noise and patients every time."""
    config = tiny(privacy__reproducible=True, training__rounds=4, **options)
    data = prepared(config)
    plan = make_plan(config, data.declarations)
    name = plan.cohort[-1]
    streams = stream_source(config, name)
    trainer = LocalTrainer(
        config, plan.site(name), data.sites[name], lambda purpose, _: streams(purpose, 1)
    )
    start = flatten(initial_model(config, len(plan.label_names)))
    return trainer.train(start, number, plan.site(name).local_steps)


@pytest.mark.parametrize("epsilon", [8.0, math.inf])
def test_the_schedule_scales_a_rounds_steps(
    tiny: Callable[..., RunConfig], prepared: Any, epsilon: float
) -> None:
    options = {"training__local_steps": 1, "privacy__epsilon": epsilon}
    first = change(tiny, prepared, 1, training__schedule="linear", **options)
    third = change(tiny, prepared, 3, training__schedule="linear", **options)
    constant = change(tiny, prepared, 3, **options)
    assert np.allclose(constant, first, atol=1e-7)
    assert np.allclose(third, 0.5 * first, atol=1e-6)
    assert np.abs(first).max() > 1e-3


def test_fedprox_keeps_a_site_nearer_to_the_global_model(
    tiny: Callable[..., RunConfig], prepared: Any
) -> None:
    """Noise included: the pull comes after it."""
    far, near = (
        change(tiny, prepared, training__local_steps=20, training__proximal=mu) for mu in (0.0, 0.5)
    )
    assert np.linalg.norm(near) < 0.8 * np.linalg.norm(far)
