"""Server-side optimisers: the published formulas, and the same bits at every site, always."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from privfin.config import RunConfig, ServerConfig
from privfin.errors import UserInputError
from privfin.federation.global_model import GlobalModel
from privfin.federation.plan import make_plan
from privfin.federation.server_optimizer import ServerOptimizer
from privfin.federation.training_run import complete_run, start_run
from privfin.runs import load_run

KINDS = ("average", "momentum", "adam", "yogi")
ONE = np.ones(1, dtype=np.float32)


def server(kind: str, **options: float) -> ServerConfig:
    return ServerConfig.model_validate({"optimizer": kind, **options})


def after(config: ServerConfig, *averages: float, start: float = 0.0) -> float:
    """One parameter after a round for each of these averages, in float64 apart from the model."""
    optimizer = ServerOptimizer(config, 1)
    vector = np.array([start], dtype=np.float32)
    for value in averages:
        vector = optimizer.apply(vector, np.array([value]), slice(0, 1))
    return float(vector[0])


def test_an_average_is_added_as_it_is() -> None:
    """FedAvg, bit for bit: what every run before there were optimisers did."""
    rng = np.random.default_rng(0)
    vector = rng.standard_normal(500).astype(np.float32)
    summed = 1e3 * rng.standard_normal(500)
    divisors = rng.integers(1, 9, 500).astype(np.float32)
    state = GlobalModel.start(vector, 0)
    average = summed / divisors
    state.apply((at, average[at]) for at in (slice(0, 200), slice(200, 500)))
    wanted = (vector + (summed / divisors).astype(np.float32)).astype(np.float32)
    assert state.vector.tobytes() == wanted.tobytes()
    assert after(server("average", learning_rate=0.5), 2.0, -4.0, start=1.0) == 0.0


def test_momentum_after_two_rounds_has_its_closed_form() -> None:
    config = server("momentum", momentum=0.75, learning_rate=0.5)
    a, b = 0.3, -0.7
    assert after(config, a) == pytest.approx(0.5 * a, rel=1e-6)
    assert after(config, a, b) == pytest.approx(0.5 * a + 0.5 * (0.75 * a + b), rel=1e-6)


@pytest.mark.parametrize("second", [0.7, 0.01])
def test_adam_and_yogi_after_two_rounds_have_their_closed_forms(second: float) -> None:
    """Written out by hand from Reddi et al., Algorithm 2, with v above and below Delta^2."""
    constants = {"momentum": 0.8, "second_moment": 0.9, "floor": 0.05, "learning_rate": 2.0}
    a = 0.3
    v0 = 0.05**2
    m1, m2 = 0.2 * a, 0.8 * 0.2 * a + 0.2 * second
    adam1 = 0.9 * v0 + 0.1 * a**2
    adam2 = 0.9 * adam1 + 0.1 * second**2
    yogi1 = v0 + 0.1 * a**2  # v0 < a^2, so the sign is -1
    below = yogi1 < second**2
    yogi2 = yogi1 + 0.1 * second**2 if below else yogi1 - 0.1 * second**2
    assert below == (second > 0.1)
    for kind, v1, v2 in (("adam", adam1, adam2), ("yogi", yogi1, yogi2)):
        one = 2.0 * m1 / (math.sqrt(v1) + 0.05)
        assert after(server(kind, **constants), a) == pytest.approx(one, rel=1e-6)
        two = one + 2.0 * m2 / (math.sqrt(v2) + 0.05)
        assert after(server(kind, **constants), a, second) == pytest.approx(two, rel=1e-6)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), beta=st.floats(0, 0.99), rounds=st.integers(1, 8))
def test_momentum_is_that_of_torch_on_the_negative_average(
    seed: int, beta: float, rounds: int
) -> None:
    rng = np.random.default_rng(seed)
    start = rng.standard_normal(6).astype(np.float32)
    ours, vector = ServerOptimizer(server("momentum", momentum=beta, learning_rate=0.3), 6), start
    p = torch.nn.Parameter(torch.from_numpy(start.astype(np.float64)))
    theirs = torch.optim.SGD([p], lr=0.3, momentum=beta)
    for _ in range(rounds):
        average = rng.standard_normal(6)
        vector = ours.apply(vector, average, slice(0, 6))
        p.grad = torch.from_numpy(-average)
        theirs.step()
    assert np.allclose(vector, p.detach().numpy(), atol=1e-5)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32),
    beta1=st.floats(0, 0.95),
    beta2=st.floats(0.05, 0.99),
    rounds=st.integers(1, 8),
)
def test_adam_is_that_of_torch_once_its_bias_correction_is_undone(
    seed: int, beta1: float, beta2: float, rounds: int
) -> None:
    """torch divides m by 1 - beta1^t and v by 1 - beta2^t; step size and eps can take that back."""
    rng = np.random.default_rng(seed)
    rate, floor = 0.1, 0.02
    start = rng.standard_normal(6).astype(np.float32)
    config = server("adam", momentum=beta1, second_moment=beta2, floor=floor, learning_rate=rate)
    ours, vector = ServerOptimizer(config, 6), start
    p = torch.nn.Parameter(torch.from_numpy(start.astype(np.float64)))
    theirs = torch.optim.Adam([p], betas=(beta1, beta2))
    theirs.state[p] = {
        "step": torch.zeros(()),
        "exp_avg": torch.zeros(6, dtype=torch.float64),
        "exp_avg_sq": torch.full((6,), floor**2, dtype=torch.float64),
    }
    for t in range(1, rounds + 1):
        average = rng.standard_normal(6)
        vector = ours.apply(vector, average, slice(0, 6))
        root = math.sqrt(1 - beta2**t)
        theirs.param_groups[0].update(lr=rate * (1 - beta1**t) / root, eps=floor / root)
        p.grad = torch.from_numpy(-average)
        theirs.step()
    assert np.allclose(vector, p.detach().numpy(), atol=1e-4)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    averages=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20),
    beta2=st.floats(0, 0.999),
    kind=st.sampled_from(["adam", "yogi"]),
)
def test_the_second_moment_never_goes_below_zero(
    averages: list[float], beta2: float, kind: str
) -> None:
    """A negative one would make its root, and with it every site's model, not a number."""
    optimizer = ServerOptimizer(server(kind, second_moment=beta2), 1)
    vector = np.zeros(1, dtype=np.float32)
    for value in averages:
        vector = optimizer.apply(vector, np.array([value]), slice(0, 1))
        assert optimizer.second_moment[0] >= 0
        assert np.isfinite(vector).all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_nobody_trains_stays_where_it_is(kind: str) -> None:
    """Segments without a trainer get sums of exact zeros."""
    assert after(server(kind), 0.0, 0.0, 0.0, start=0.37) == float(np.float32(0.37))


@pytest.mark.parametrize("encryption", ["bfv", "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_all_sites_keep_the_same_bits(
    federation: Callable[..., Any], kind: str, encryption: str
) -> None:
    """Nobody sends the model: sites that differ by one bit would drift apart for good."""
    rounds = 4
    made = federation(
        training__rounds=rounds, training__server__optimizer=kind, crypto__encryption=encryption
    ).train()
    names = list(made.cohort)
    for number in range(rounds):
        assert len({made.applied[name][number].tobytes() for name in names}) == 1
    states = [made.states[name] for name in names]
    assert len({s.server.momentum.tobytes() for s in states}) == 1
    assert len({s.server.second_moment.tobytes() for s in states}) == 1
    assert len({s.tobytes() for s in made.applied[names[0]]}) == rounds


def test_the_optimisers_differ(federation: Callable[..., Any]) -> None:
    """The option reaches the sites."""
    last = set()
    for kind in KINDS:
        made = federation(training__rounds=3, training__server__optimizer=kind).train()
        last.add(made.applied[made.cohort[0]][-1].tobytes())
    assert len(last) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_goes_on_with_the_optimisers_state(
    tiny: Callable[..., RunConfig], prepared: Any, tmp_path: Path, kind: str
) -> None:
    config = tiny(
        privacy__reproducible=True,
        training__rounds=4,
        training__server__optimizer=kind,
        training__proximal=0.1,
    )
    data = prepared(config)
    plan = make_plan(config, data.declarations)
    models = []
    for name, answers in (("whole", [False] * 4), ("cut", [False, False, True])):
        asked = iter(answers)
        run = start_run(tmp_path / name, config, plan, data)
        result = complete_run(run, config, data, should_stop=lambda asked=asked: next(asked))
        if result is None:
            assert complete_run(load_run(run.path), config, data) is not None
        models.append((run.path / "model.safetensors").read_bytes())
    assert models[0] == models[1]


@pytest.mark.parametrize("kind", ["momentum", "adam", "yogi"])
def test_a_checkpoint_without_the_optimisers_state_is_refused(kind: str) -> None:
    """Going on with a fresh momentum would be another run under the old one's name."""
    saved = GlobalModel.start(np.zeros(5, dtype=np.float32), 0).checkpoint()
    assert GlobalModel.resume(saved, 0, server("average")).round == 0
    with pytest.raises(UserInputError, match=f"optimizer = '{kind}'"):
        GlobalModel.resume(saved, 0, server(kind))
