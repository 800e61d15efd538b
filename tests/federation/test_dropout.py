"""Sites that drop out: the round is repeated among the rest, and nobody learns anything from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from privfin.crypto.pack import Packing
from privfin.crypto.quantize import Quantizer
from privfin.errors import PrivfinError, ProtocolError
from privfin.federation.coordinator import Coordinator, SumPlan
from privfin.federation.joint_training import JointTrainer
from privfin.federation.local import site_work, stream_source
from privfin.federation.local_training import LocalTrainer
from privfin.federation.messages import SiteFailedError, Task
from privfin.federation.plan import make_plan
from privfin.federation.training_run import complete_run, start_run
from privfin.models.segments import flatten, initial_model, trains
from privfin.privacy.composition import total_epsilon

Makes = Callable[..., Any]
Federations = Callable[..., Any]
TEN = {
    "federation__sites": 10,
    "federation__modalities": "4:4:2",
    "training__rounds": 7,
    "training__batch_size": 10,
    "federation__smallest_cohort": 7,
    "training__local_steps": 1,
}


def divisors(plan: Any, cohort: Any = None) -> npt.NDArray[np.float32]:
    """What divides the sum of every parameter, (parameters,)."""
    found: npt.NDArray[np.float32] = plan.spread(
        [np.float32(segment.divisor(cohort)) for segment in plan.segments]
    )
    return found


class Unreliable:
    """A transport on which sites die for good in the middle of a round."""

    def __init__(self, inner: Any, deaths: Mapping[int, str]) -> None:
        self.inner = inner
        self.deaths = dict(deaths)
        self.dead: set[str] = set()

    def exchange(self, tasks: Mapping[str, Task]) -> dict[str, bytes]:
        ((name, task),) = tasks.items() if len(tasks) == 1 else [("", next(iter(tasks.values())))]
        if task.kind == "update" and self.deaths.get(task.round) == name:
            self.dead.add(name)
        for site in tasks:
            if site in self.dead:
                raise SiteFailedError(f"no answer from site '{site}'", site=site)
        found: dict[str, bytes] = self.inner.exchange(tasks)
        return found


@pytest.mark.parametrize("pieces", ["one piece", "several pieces"])
def test_ten_sites_lose_one_in_each_of_three_rounds(
    federation: Federations, monkeypatch: pytest.MonkeyPatch, pieces: str
) -> None:
    """The last, the first and one in the middle die; every model is the mean over who was left."""
    if pieces == "several pieces":
        monkeypatch.setattr(
            Packing,
            "pieces",
            lambda self, n: [slice(at, min(at + 4000, n)) for at in range(0, n, 4000)],
        )
    one = federation(**TEN)
    deaths = {2: "site-10", 3: "site-01", 4: "site-06"}
    transport = Unreliable(one.transport, deaths)
    left: list[tuple[str, int, int]] = []
    sizes = SumPlan("bfv", one.config.crypto.layout, one.plan.values, one.plan.smallest_cohort)
    coordinator = Coordinator(
        one.run, one.roster, transport, sizes, on_left=lambda *what: left.append(what)
    )
    coordinator.agree_on_key()
    attempts: dict[int, int] = {}

    def start(number: int) -> int:
        attempts[number] = attempts.get(number, 0) + 1
        return attempts[number]

    done = coordinator.run_rounds(1, one.plan.rounds, start)
    # Three attempts were lost, and each is paid for with a round.
    assert done == one.plan.rounds - 3 == 4
    assert left == [("site-10", 2, 1), ("site-01", 3, 1), ("site-06", 4, 1)]
    survivors = [name for name in one.cohort if name not in transport.dead]
    assert len(survivors) == 7
    # Never more than planned; who was not asked yet when another died saved an attempt.
    assert {one.journal.spent_rounds(name) for name in survivors} == {5, 6}
    # The model, from what every site encoded: exact.
    crypto = one.config.crypto
    quantizer = Quantizer(crypto.update_bound, crypto.value_bits)
    vector = flatten(initial_model(one.config, len(one.plan.label_names)))
    for number in range(1, done + 1):
        gone = {name for at, name in deaths.items() if at <= number}
        present = tuple(name for name in one.cohort if name not in gone)
        total = sum(one.codes(name, number).astype(np.int64) for name in present)
        mean = quantizer.decode_sum(total, len(present)) / divisors(one.plan, present)
        vector = (vector + mean.astype(np.float32)).astype(np.float32)
        for name in survivors:
            assert np.array_equal(one.applied[name][number - 1], vector)
    # A divisor for all ten would have made every step too small.
    assert (divisors(one.plan, tuple(survivors)) < divisors(one.plan)).any()


@pytest.mark.parametrize("trust", ["local", "shared"])
def test_the_statement_says_who_left_and_what_it_cost(
    tiny: Makes, prepared: Makes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trust: str
) -> None:
    lost = {2: "site-10", 3: "site-01", 4: "site-06"}
    failed: set[int] = set()
    options = {**TEN, "privacy__trust": trust}
    config = tiny(**(options | ({"training__batch_size": 40} if trust == "shared" else {})))
    data = prepared(config)
    plan = make_plan(config, data.declarations)
    kind, method = (LocalTrainer, "train") if trust == "local" else (JointTrainer, "contribute")
    original = getattr(kind, method)
    asked: dict[int, int] = {}

    def fails(self: Any, start: Any, number: int, third: int) -> Any:
        asked[number] = asked.get(number, 0) + 1
        cohort = [name for name in plan.cohort if lost_before(name, number)]
        dies = number in lost and number not in failed
        if dies and cohort[asked[number] - 1] == lost[number]:
            failed.add(number)
            asked[number] = 0
            raise PrivfinError("the machine is gone")
        return original(self, start, number, third)

    def lost_before(name: str, number: int) -> bool:
        return all(site != name or at >= number for at, site in lost.items())

    monkeypatch.setattr(kind, method, fails)
    run = start_run(tmp_path / "run", config, plan, data)
    assert complete_run(run, config, data) is not None
    assert failed == set(lost)
    assert run.privacy["sites_left"] == [
        {"site": site, "round": at, "attempt": 1} for at, site in lost.items()
    ]
    assert run.metrics["rounds"] == plan.rounds - 3
    # Lost attempts are counted like the others, and all of them are within the target.
    spent = run.spent_rounds()
    assert plan.rounds - 3 < max(spent.values()) <= plan.rounds
    worst = max(s["epsilon"] for s in run.privacy["sites"])
    assert worst <= config.privacy.epsilon
    assert worst == pytest.approx(total_epsilon([plan.spend(spent)], plan.sites[0].delta))


def test_a_site_that_left_is_not_measured_with_the_others(
    tiny: Makes, prepared: Makes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secure metrics are those of the sites that are still there."""
    config = tiny(
        federation__sites=5,
        federation__modalities="0:0:1",
        training__rounds=3,
        training__local_steps=1,
        evaluation__secure=True,
    )
    data = prepared(config)
    plan = make_plan(config, data.declarations)
    original, asked = LocalTrainer.train, [0]

    def fails(self: LocalTrainer, start: Any, number: int, steps: int) -> Any:
        asked[0] += 1
        if asked[0] == 2:
            raise PrivfinError("the machine is gone")
        return original(self, start, number, steps)

    monkeypatch.setattr(LocalTrainer, "train", fails)
    run = start_run(tmp_path / "run", config, plan, data)
    assert complete_run(run, config, data) is not None
    assert [one["site"] for one in run.privacy["sites_left"]] == ["site-02"]
    found = run.metrics["federated"]
    assert found["sites"] == 4
    there = sum(site != "site-02" for site in data.test.sites)
    assert found["cells"]["both"]["records"] == there < len(data.test.sites)


def test_a_site_that_dies_between_two_pieces_of_a_sum_costs_a_round(
    federation: Federations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Packing,
        "pieces",
        lambda self, n: [slice(at, min(at + 4000, n)) for at in range(0, n, 4000)],
    )
    one = federation(**TEN)

    class Dies(Unreliable):
        def exchange(self, tasks: Mapping[str, Task]) -> dict[str, bytes]:
            task = next(iter(tasks.values()))
            if (task.kind, task.round, task.piece) != ("sum", 2, 1):
                return super().exchange(tasks)
            self.dead.add("site-03")
            # As over a network: the others got the message all the same.
            self.inner.exchange({n: t for n, t in tasks.items() if n != "site-03"})
            raise SiteFailedError("no answer from site 'site-03'", site="site-03")

    transport = Dies(one.transport, {})
    left: list[tuple[str, int, int]] = []
    sizes = SumPlan("bfv", one.config.crypto.layout, one.plan.values, one.plan.smallest_cohort)
    coordinator = Coordinator(
        one.run, one.roster, transport, sizes, on_left=lambda *what: left.append(what)
    )
    coordinator.agree_on_key()
    attempts: dict[int, int] = {}

    def start(number: int) -> int:
        attempts[number] = attempts.get(number, 0) + 1
        return attempts[number]

    assert coordinator.run_rounds(1, one.plan.rounds, start) == one.plan.rounds - 1
    assert left == [("site-03", 3, 1)]
    models = [one.applied[name][-1] for name in one.cohort if name != "site-03"]
    assert all(np.array_equal(models[0], other) for other in models)
    assert len(one.applied["site-01"]) == one.plan.rounds - 1


def test_below_the_smallest_cohort_a_run_stops_and_can_go_on(
    tiny: Makes, prepared: Makes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(training__rounds=4, federation__sites=3, federation__smallest_cohort=3)
    data = prepared(config)
    plan = make_plan(config, data.declarations)
    run = start_run(tmp_path / "run", config, plan, data)
    original = LocalTrainer.train

    def fails(self: LocalTrainer, start: Any, number: int, steps: int) -> Any:
        if number == 3:
            raise PrivfinError("the machine is gone")
        return original(self, start, number, steps)

    monkeypatch.setattr(LocalTrainer, "train", fails)
    with pytest.raises(SiteFailedError, match="the machine is gone"):
        complete_run(run, config, data)
    # The sum of round 2 was on its way to the sites with round 3: one site had applied it.
    saved = run.last_checkpoint()
    assert saved is not None
    assert saved.round == 2
    monkeypatch.undo()
    assert complete_run(run, config, data) is not None
    assert run.privacy["sites_left"] == []
    assert max(s["epsilon"] for s in run.privacy["sites"]) <= config.privacy.epsilon


@pytest.mark.parametrize("is_private", [True, False], ids=["private", "broken: noise of a seed"])
def test_the_difference_of_two_attempts_hides_who_left(
    tiny: Makes, prepared: Makes, is_private: bool
) -> None:
    """A coordinator with a colluding site says that site-04 left, and opens both attempts."""
    config = tiny(
        federation__sites=4,
        federation__modalities="0:0:1",
        privacy__reproducible=not is_private,
        training__local_steps=1,
    )
    data = prepared(config)
    plan = make_plan(config, data.declarations)
    start = flatten(initial_model(config, len(plan.label_names)))
    work = {
        name: site_work(config, plan, name, data.sites[name], stream_source(config, name))
        for name in plan.cohort
    }

    def attempt(cohort: tuple[str, ...]) -> dict[str, npt.NDArray[np.int64]]:
        return {name: work[name].codes(start, 1, cohort).astype(np.int64) for name in cohort}

    everybody = attempt(plan.cohort)
    rest = attempt(plan.cohort[:3])
    wanted = everybody["site-04"]
    difference = np.sum(list(everybody.values()), axis=0) - np.sum(list(rest.values()), axis=0)
    if not is_private:
        assert np.array_equal(difference, wanted)  # why attempts must not repeat their noise
        return
    quantizer = Quantizer(config.crypto.update_bound, config.crypto.value_bits)
    hidden_by = (difference - wanted) * quantizer.step
    # What hides it: the noise of three sites, twice, on top of site-04's own.
    site = plan.sites[0]
    noise = (
        site.noise_multiplier * config.privacy.clip_norm / config.training.batch_size
        * config.training.learning_rate
    )  # fmt: skip
    assert hidden_by.std() > 0.9 * np.sqrt(6) * noise


@pytest.mark.parametrize("aggregation", ["uniform", "size", "uncertainty"])
def test_parts_with_too_few_owners_are_not_summed(
    tiny: Makes, prepared: Makes, aggregation: str
) -> None:
    """Two of five sites train the imputers: with min_owners = 3 nobody sends anything of them."""
    options = {
        "federation__sites": 5,
        "federation__modalities": "2:1:2",
        "crypto__min_owners": 3,
        "training__aggregation": aggregation,
        "training__local_steps": 1,
        **({"model__imputer": "pfin"} if aggregation == "uncertainty" else {}),
    }
    config = tiny(**options)
    data = prepared(config)
    plan = make_plan(config, data.declarations)
    start = flatten(initial_model(config, len(plan.label_names)))
    zero = Quantizer(config.crypto.update_bound, config.crypto.value_bits).offset
    closed = [s for s in plan.segments if s.owners(plan.cohort) < 3]
    assert {s.name for s in closed} >= {"imputer.image_to_text", "imputer.text_to_image"}
    for cohort in (plan.cohort, plan.cohort[:4]):
        for name in cohort:
            work = site_work(config, plan, name, data.sites[name], stream_source(config, name))
            codes = work.codes(start, 1, cohort)
            tail = codes[plan.parameters :]
            for at, segment in enumerate(plan.segments):
                sent = codes[segment.start : segment.stop]
                if segment.owners(cohort) < 3:
                    assert (sent == zero).all(), segment.name
                    assert not tail.size or tail[at] == zero
                elif name in segment.trainers:
                    assert (sent != zero).any(), segment.name
    # One that leaves closes what it was the third to train.
    image = next(s for s in plan.segments if s.name == "encoder.image")
    assert image.owners(plan.cohort) == 4
    assert plan.is_open(image, plan.cohort[1:])
    assert not plan.is_open(image, plan.cohort[2:])
    assert trains("encoder.image", plan.sites[0].modalities, config.model.imputer)


def test_a_cohort_that_is_too_small_or_strange_is_refused(federation: Federations) -> None:
    one = federation(federation__sites=4, federation__modalities="1:1:2").agree()
    assert one.plan.smallest_cohort == 2
    names = one.cohort
    for cohort in ((names[0],), names[1:], (names[1], names[0]), (*names[:2], "x"), ()):
        with pytest.raises(ProtocolError, match="cohort"):
            one.sites[names[0]].handle(Task("update", 1, 1, cohort))
    assert one.journal.started == []
    one.sites[names[0]].handle(Task("update", 1, 1, names[:2]))


def test_an_attempt_is_answered_once(federation: Federations) -> None:
    one = federation(federation__sites=4, federation__modalities="1:1:2").agree()
    site = one.sites["site-01"]
    site.handle(one.task("update", 1))
    for cohort in (one.cohort, one.cohort[:3]):
        with pytest.raises(ProtocolError):
            site.handle(Task("update", 1, 1, cohort))
    site.handle(Task("update", 1, 2, one.cohort[:3]))
    with pytest.raises(ProtocolError):
        site.handle(one.task("update", 1))
    assert [attempt for _, _, attempt in one.journal.started] == [1, 2]
