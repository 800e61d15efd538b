"""Joint steps with shared noise, through the real protocol: sums, noise, dropouts, refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from privfin.config import RunConfig
from privfin.errors import ConfigError, PlanError, PrivfinError, ProtocolError
from privfin.federation import joint_training, local
from privfin.federation.joint_training import JointSum, JointTrainer
from privfin.federation.local import train_locally
from privfin.federation.messages import SiteFailedError, Task
from privfin.federation.plan import make_plan
from privfin.federation.training_run import complete_run, start_run
from privfin.models.segments import flatten, initial_model
from privfin.privacy import joint
from privfin.privacy.composition import total_epsilon
from privfin.privacy.joint import JointStep
from privfin.randomness import RandomStream

Makes = Callable[..., Any]
SHARED = {
    "privacy__trust": "shared",
    "federation__sites": 4,
    "federation__modalities": "1:1:2",
    "training__batch_size": 40,
}


def divisors(plan: Any, cohort: Any = None) -> npt.NDArray[np.float32]:
    """What divides the sum of every parameter, (parameters,)."""
    found: npt.NDArray[np.float32] = plan.spread(
        [np.float32(segment.divisor(cohort)) for segment in plan.segments]
    )
    return found


def started(tiny: Makes, prepared: Makes, path: Path, **options: Any) -> tuple[Any, ...]:
    config: RunConfig = tiny(**{**SHARED, **options})
    data = prepared(config)
    plan = make_plan(config, data.declarations)
    return config, plan, data, start_run(path / "run", config, plan, data)


def test_a_joint_step_is_the_step_of_one_holder_of_all_patients(
    tiny: Makes, prepared: Makes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without noise and with every patient: the sum of all sites' clipped gradients, encrypted."""

    class Silent:
        def __init__(self, variance: int) -> None: ...

        def sample(self, stream: RandomStream, count: int) -> npt.NDArray[np.int64]:
            return np.zeros(count, dtype=np.int64)

    monkeypatch.setattr(joint, "SkellamSampler", Silent)
    sums: list[npt.NDArray[np.float64]] = []
    original = JointStep._flat

    def keep(self: JointStep, parts: Any) -> npt.NDArray[np.float64]:
        sums.append(original(self, parts).copy())
        return sums[-1]

    monkeypatch.setattr(JointStep, "_flat", keep)
    config, plan, data, run = started(
        tiny, prepared, tmp_path, training__rounds=1, training__local_steps=1,
        training__server={"optimizer": "average"},
    )  # fmt: skip
    outcome = train_locally(config, plan, data, run)
    before = flatten(initial_model(config, len(plan.label_names)))
    gradient = np.sum(sums, axis=0) / divisors(plan)
    wanted = before - config.training.learning_rate * gradient
    lattice = config.training.learning_rate * 4 / plan.shared.noise.scale / divisors(plan)
    assert len(sums) == 4
    assert (np.abs(outcome.vector - wanted) <= 1.01 * lattice + 1e-6).all()
    assert np.abs(gradient).max() > 100 * (lattice / config.training.learning_rate).max()
    # As in central DP-SGD every segment has the divisor of all patients, also one few sites train.
    for segment in plan.segments:
        assert segment.divisor() == pytest.approx(config.training.batch_size)
    assert len({s.trained_by for s in plan.segments}) > 1


def test_the_sum_of_a_known_canary_has_the_noise_that_is_promised(
    tiny: Makes, prepared: Makes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through encryption and masks: what is left of the sums when the canary is taken away, and
    when colluding sites take away their own contributions too."""
    canary = np.zeros(0)
    contributions: dict[int, list[npt.NDArray[np.int64]]] = {}
    order: list[int] = []
    totals: list[npt.NDArray[np.float64]] = []

    def canary_of(self: JointStep, sampling: Any, rounding: Any) -> npt.NDArray[np.int64]:
        nonlocal canary
        if id(self) not in order:
            order.append(id(self))
        size = sum(p.numel() for p in self._parameters)
        canary = np.where(np.arange(size) % 7 == 0, 11, 0).astype(np.int64)
        return canary if order.index(id(self)) == 0 else 0 * canary

    made, decode = JointStep.contribution, JointSum.decode

    def contribution(self: JointStep, variance: int, **streams: Any) -> npt.NDArray[np.int64]:
        found = made(self, variance, **streams)
        contributions.setdefault(id(self), []).append(found)
        return found

    def decoded(self: JointSum, total: Any, cohort: tuple[str, ...]) -> Any:
        found = self._codes.decode_sum(total, len(cohort))
        if not totals or not np.array_equal(totals[-1], found):
            totals.append(found)
        return decode(self, total, cohort)

    monkeypatch.setattr(JointStep, "rounded_sum", canary_of)
    monkeypatch.setattr(JointStep, "contribution", contribution)
    monkeypatch.setattr(JointSum, "decode", decoded)
    config, plan, data, run = started(
        tiny, prepared, tmp_path, training__rounds=4, training__local_steps=1
    )
    train_locally(config, plan, data, run)
    shared, steps = plan.shared, 4
    assert len(totals) == steps
    assert [len(kept) for kept in contributions.values()] == [steps] * 4
    promised = shared.noise.variance
    share = shared.share_variance(4)
    everything = np.array(totals) - canary
    colluder = np.array(contributions[order[-1]])
    for left, shares in ((everything, 4), (everything - colluder, 3)):
        low, high = stats.chi2.ppf([1e-8, 1 - 1e-8], left.size) / left.size
        found = float((left**2).mean())
        assert low * shares * share <= found <= high * shares * share
        assert found >= low * promised
        # Along the canary itself, over all steps: what an observer of the final model looks at.
        along = float(left.sum(axis=0) @ canary) / np.linalg.norm(canary)
        assert abs(along) < 6 * np.sqrt(steps * shares * share)
    assert 3 * share >= promised
    # One honest share missing besides would not do.
    short = everything - colluder - np.array(contributions[order[-2]])
    assert float((short**2).mean()) < 0.9 * promised


def test_a_step_that_loses_a_site_is_repeated_among_the_others(
    tiny: Makes, prepared: Makes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    original = JointTrainer.contribute

    def fails_once(self: JointTrainer, start: Any, number: int, cohort: int) -> Any:
        asked.append((number, cohort))
        if number == 2 and cohort == 4 and len([a for a in asked if a == (2, 4)]) == 3:
            raise PrivfinError("the machine is gone")
        return original(self, start, number, cohort)

    monkeypatch.setattr(JointTrainer, "contribute", fails_once)
    config, plan, data, run = started(
        tiny, prepared, tmp_path, training__rounds=4, training__local_steps=1
    )
    result = complete_run(run, config, data)
    assert result is not None
    # Three sites took the second step again, with larger shares; the third gave up one step.
    assert asked == [(1, 4)] * 4 + [(2, 4)] * 3 + [(2, 3)] * 3 + [(3, 3)] * 3
    assert plan.shared.share_variance(3) > plan.shared.share_variance(4)
    assert max(run.spent_rounds().values()) == 4
    assert run.metrics["rounds"] == 3
    # Both attempts count, and the whole is still within the target.
    assert run.privacy["population"]["epsilon"] <= 8.0
    spent = total_epsilon([plan.spend(dict.fromkeys(plan.cohort, 4))], plan.shared.delta)
    assert run.privacy["population"]["epsilon"] == pytest.approx(spent)


def test_too_few_sites_end_the_run(
    tiny: Makes, prepared: Makes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(self: JointTrainer, start: Any, number: int, cohort: int) -> Any:
        raise PrivfinError("the machine is gone")

    config, plan, data, run = started(tiny, prepared, tmp_path, federation__smallest_cohort=3)
    monkeypatch.setattr(JointTrainer, "contribute", gone)
    with pytest.raises(SiteFailedError, match="gone"):
        train_locally(config, plan, data, run)


def test_an_interrupted_joint_run_goes_on_with_what_it_has_left(
    tiny: Makes, prepared: Makes, tmp_path: Path
) -> None:
    config, plan, data, run = started(tiny, prepared, tmp_path, training__rounds=3)
    assert plan.rounds == 6
    assert plan.exchanges_a_round == 2
    stops = iter([False, True])
    assert complete_run(run, config, data, should_stop=lambda: next(stops)) is None
    assert run.last_checkpoint().round == 2
    result = complete_run(run, config, data)
    assert result is not None
    assert [c.round for c in run.checkpoints()] == [2, 4, 6]
    assert max(run.spent_rounds().values()) == 6
    joint_row = run.privacy["colluding_sites"]
    assert [row["is_promised"] for row in joint_row] == [True, True, False, False]
    epsilons = [float(row["epsilon"]) for row in joint_row]
    assert epsilons[0] < epsilons[1] <= 8.0 < epsilons[2]


@pytest.fixture
def site(tiny: Makes, prepared: Makes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """One site of a federation of four, before the first step, with unencrypted contributions."""
    made: list[Any] = []
    original = local.run_locally
    monkeypatch.setattr(local, "run_locally", lambda sites, run: made.append(sites))
    config, plan, data, run = started(
        tiny, prepared, tmp_path, privacy__reproducible=True, crypto__encryption="none"
    )
    train_locally(config, plan, data, run)
    assert original is not local.run_locally
    return made[0]["site-02"]


def cohort(*numbers: int) -> tuple[str, ...]:
    return tuple(f"site-{n:02d}" for n in numbers)


@pytest.mark.parametrize(
    "names",
    [cohort(2), cohort(1, 3, 4), cohort(2, 1), cohort(1, 2, 2), (*cohort(1, 2), "site-99"), ()],
    ids=["alone", "without it", "order", "twice", "a stranger", "nobody"],
)
def test_a_site_joins_no_other_cohort(site: Any, names: tuple[str, ...]) -> None:
    with pytest.raises(ProtocolError, match="cohort"):
        site.handle(Task("update", 1, 1, names))


def test_a_site_answers_an_attempt_once(site: Any) -> None:
    everyone = cohort(1, 2, 3, 4)
    site.handle(Task("update", 1, 1, everyone))
    for attempt in (1, 0):
        with pytest.raises(ProtocolError):
            site.handle(Task("update", 1, attempt, everyone))
    site.handle(Task("update", 1, 2, cohort(1, 2, 4)))
    with pytest.raises(ProtocolError):
        site.handle(Task("update", 1, 1, everyone))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("privacy__epsilon", "inf"),
        ("training__momentum", 0.9),
        ("training__proximal", 0.1),
        ("training__local_epochs", 1.0),
        ("training__fine_tune_steps", 3),
        ("crypto__encryption", "none"),
    ],
)
def test_what_joint_steps_do_not_do_is_refused(tiny: Makes, option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match="trust = 'shared' does not go with"):
        tiny(**{**SHARED, option: value})


def test_plans_that_cannot_hold_are_refused(tiny: Makes, prepared: Makes) -> None:
    data = prepared(tiny(**SHARED))
    for wrong, words in (
        ({"privacy__collusion": 4}, "at least 5 sites"),
        ({"federation__smallest_cohort": 5}, "must lie between 2 and the 4 sites"),
        ({"training__batch_size": 100_000}, "fewer than the batch size"),
        ({"crypto__value_bits": 6}, "value_bits"),
        ({"privacy__delta": 0.3}, "delta"),
    ):
        with pytest.raises(PlanError, match=words):
            make_plan(tiny(**{**SHARED, **wrong}), data.declarations)


def test_a_value_that_does_not_fit_is_never_cut(tiny: Makes, prepared: Makes) -> None:
    config = tiny(**SHARED)
    plan = make_plan(config, prepared(config).declarations)
    total = joint_training.JointSum(config, plan.shared, plan.segments)
    top = 2**15 - 1
    worst = (
        plan.shared.noise.largest_value
        + joint.SkellamSampler(plan.shared.share_variance(plan.shared.smallest_cohort)).largest
    )
    assert worst <= top  # by the plan, for every cohort
    total.encode(np.array([top, -top]))
    with pytest.raises(PrivfinError, match="does not fit"):
        total.encode(np.array([top + 1]))
