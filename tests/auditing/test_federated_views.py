"""What a site and the coordinator can say of patients, on real rounds of small runs."""

from __future__ import annotations

import math
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from attacks.attempt import Attempt
from attacks.auc import auc
from attacks.gradients import record_gradients
from privfin.auditing import wire
from privfin.auditing.population import Population, SitePool
from privfin.auditing.views import coordinator_view, loss_of_one, record_tensors, site_view
from privfin.auditing.wire import WireTap, numbers_of, tap_rounds
from privfin.config import RunConfig
from privfin.errors import UserInputError
from privfin.federation import local
from privfin.federation.local import SilentObserver, train_locally
from privfin.federation.messages import Transport
from privfin.federation.plan import TrainingPlan, make_plan
from privfin.federation.prepare import PreparedData
from privfin.federation.training_run import start_run
from privfin.models.multimodal import Batch
from privfin.models.segments import flatten, initial_model

#: Enough local steps to learn by heart; sites without skew, so that held-out patients are alike.
LEAKY = {
    "privacy__epsilon": math.inf,
    "privacy__reproducible": True,
    "federation__modalities": "3:0:0",
    "federation__alpha": math.inf,
    "data__patients": 300,
    "data__test_fraction": 0.5,
    "training__rounds": 3,
    "training__local_steps": 30,
}

Make = Callable[..., tuple[RunConfig, TrainingPlan, PreparedData]]


@pytest.fixture
def recipe(tiny: Callable[..., RunConfig], prepared: Callable[[RunConfig], PreparedData]) -> Make:
    def make(**options: Any) -> tuple[RunConfig, TrainingPlan, PreparedData]:
        config = tiny(**options)
        data = prepared(config)
        return config, make_plan(config, data.declarations), data

    return make


def population_of(plan: TrainingPlan, data: PreparedData) -> Population:
    """Every site's patients, and held-out ones dealt to it in turn, with what the site holds."""
    of_patient: dict[str, list[int]] = {}
    for row, patient in enumerate(data.test.patient_ids):
        of_patient.setdefault(patient, []).append(row)
    pools = []
    for at, (name, own) in enumerate(data.sites.items()):
        dealt = list(of_patient.values())[at :: len(data.sites)]
        rows = torch.tensor([row for records in dealt for row in records])
        held = data.test.batch.rows(rows).only(frozenset(plan.site(name).modalities))
        both = Batch(
            {m: torch.cat([own.batch.inputs[m], x]) for m, x in held.inputs.items()},
            {m: torch.cat([own.batch.present[m], x]) for m, x in held.present.items()},
            torch.cat([own.batch.labels, held.labels]),
        )
        patients, start = [list(p) for p in own.patients], len(own.batch)
        for records in dealt:
            patients.append(list(range(start, start + len(records))))
            start += len(records)
        members = np.arange(len(patients)) < len(own.patients)
        pools.append(SitePool(name, both, 1, patients, members, both, both))
    return Population(tuple(pools), plan.label_names)


def deviations(attempt: Attempt) -> float:
    """How many standard deviations of the null the AUC is above one half (Mann and Whitney)."""
    inside = int(attempt.members.sum())
    outside = len(attempt.members) - inside
    sd = math.sqrt((inside + outside + 1) / (12 * inside * outside))
    return (auc(attempt.scores, attempt.members).area - 0.5) / sd


def by_heart(data: PreparedData) -> PreparedData:
    """The same inputs with labels by coin: whoever is sure of one has seen it."""
    coins = torch.Generator().manual_seed(0)

    def thrown(batch: Batch) -> Batch:
        return replace(batch, labels=torch.randint(2, batch.labels.shape, generator=coins).float())

    return replace(
        data,
        sites={name: replace(own, batch=thrown(own.batch)) for name, own in data.sites.items()},
        test=replace(data.test, batch=thrown(data.test.batch)),
    )


#: Beyond it by chance: one in a million, both sides together.
BAND = 4.9


def test_readable_updates_give_patients_away_and_ciphertexts_do_not(recipe: Make) -> None:
    config, plan, data = recipe(**LEAKY)
    data = by_heart(data)
    people = population_of(plan, data)
    found = {}
    for encryption, reading in (("none", None), ("bfv", None), ("none", "bytes")):
        found[encryption, reading] = coordinator_view(
            config, plan, data, people, rounds=3, encryption=encryption, reading=reading
        )  # type: ignore[arg-type]
    plain, hidden, broken = found.values()
    for attempt in plain.attempts:
        assert attempt.observer == "coordinator, no encryption"
        assert deviations(attempt) > BAND
    for attempt in hidden.attempts:
        assert attempt.observer == "coordinator"
        assert abs(deviations(attempt)) < BAND
    # The blind reading is no blindfold: pointed at bytes that hide nothing, it finds them out.
    for attempt in broken.attempts:
        assert deviations(attempt) > BAND


@pytest.mark.parametrize("encryption", ["bfv", "ckks"])
def test_messages_have_one_length_whatever_a_site_holds(recipe: Make, encryption: str) -> None:
    config, plan, data = recipe(privacy__reproducible=True)
    assert len({plan.site(name).modalities for name in plan.cohort}) > 1
    people = population_of(plan, data)
    view = coordinator_view(config, plan, data, people, rounds=1, encryption=encryption)  # type: ignore[arg-type]
    assert not view.sizes_tell_sites_apart
    assert all(len(sizes) == 1 for sizes in view.message_bytes.values())


@pytest.mark.parametrize("trust", ["local", "shared"])
def test_decoded_updates_are_what_sites_sent(recipe: Make, trust: str) -> None:
    """Averaged as the plan says, they make the very step that the global model took."""
    options: dict[str, Any] = {"crypto__min_owners": 1} if trust == "local" else {}
    config, plan, data = recipe(privacy__reproducible=True, privacy__trust=trust, **options)
    tapped = tap_rounds(config, plan, data, rounds=2, encryption="none")
    assert tapped.starts.shape == (2, plan.parameters)
    assert np.array_equal(tapped.starts[0], flatten(initial_model(config, len(plan.label_names))))
    for start, end, updates in zip(tapped.starts, tapped.ends, tapped.updates, strict=True):
        step = np.zeros(plan.parameters)
        for segment in plan.segments:
            at = slice(segment.start, segment.stop)
            own = [segment.divisor((name,)) for name in plan.cohort]
            mixed = sum(w * u[at] for w, u in zip(own, updates, strict=True))
            step[at] = mixed / segment.divisor(plan.cohort)
        assert np.allclose(start + step, end, atol=1e-5)


def test_the_tap_sees_every_byte_and_changes_nothing(
    recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, plan, data = recipe(privacy__reproducible=True)
    coordinators: list[Any] = []
    taps: list[WireTap] = []
    real = local.Coordinator
    monkeypatch.setattr(
        local, "Coordinator", lambda *a, **k: coordinators.append(real(*a, **k)) or coordinators[-1]
    )

    def tap(transport: Transport) -> Transport:
        taps.append(WireTap(transport))
        return taps[-1]

    vectors = []
    for name, listener in (("without", None), ("with", tap)):
        run = start_run(tmp_path / name, config, plan, data)
        train_locally(config, plan, data, run, tap=listener)
        vectors.append([saved.vector for saved in run.checkpoints()])
    assert len(taps) == 1
    traffic = coordinators[1].traffic
    assert (taps[0].up, taps[0].down) == (traffic.up, traffic.down)
    assert taps[0].up > 0 and taps[0].down > 0
    assert len(taps[0].updates) == plan.rounds * len(plan.cohort)
    for one, other in zip(*vectors, strict=True):
        assert np.array_equal(one, other)


class _Stopping(SilentObserver):
    """Looks at the private folder, then fails as a full disk or Ctrl-C would."""

    def __init__(self, scratch: Path, error: BaseException) -> None:
        self.scratch, self.error = scratch, error
        self.modes: list[int] = []

    def site_started(self, round_number: int, site: str) -> None:
        self.modes += [stat.S_IMODE(path.stat().st_mode) for path in self.scratch.iterdir()]
        if round_number == 2:
            raise self.error


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_the_private_folder_is_private_and_gone_after_an_error(
    recipe: Make, tmp_path: Path, error: BaseException
) -> None:
    config, plan, data = recipe(privacy__reproducible=True)
    watcher = _Stopping(tmp_path, error)
    with pytest.raises(type(error)):
        tap_rounds(
            config, plan, data, rounds=2, encryption="none", observer=watcher, scratch=tmp_path
        )
    assert set(watcher.modes) == {0o700}
    assert not list(tmp_path.iterdir())
    tap_rounds(config, plan, data, rounds=1, encryption="none", scratch=tmp_path)
    assert not list(tmp_path.iterdir())


def test_fewer_rounds_have_the_noise_of_the_whole_run(
    recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan made for one round alone would need less noise: another mechanism."""
    config, plan, data = recipe(training__rounds=8)
    seen: list[float] = []
    real = wire.train_locally

    def spy(used: RunConfig, planned: TrainingPlan, *rest: Any, **options: Any) -> Any:
        seen.extend(site.noise_multiplier for site in planned.sites)
        return real(used, planned, *rest, **options)

    monkeypatch.setattr(wire, "train_locally", spy)
    tapped = tap_rounds(config, plan, data, rounds=1, encryption="none")
    assert seen == [site.noise_multiplier for site in plan.sites]
    assert len(tapped.updates) == 1


def test_plain_codes_are_read_as_the_codes_they_are(tiny: Callable[..., RunConfig]) -> None:
    codes = np.random.default_rng(0).integers(1, 2**16, 100)
    content = (codes.astype("<u4").tobytes(),)
    assert np.array_equal(numbers_of(content, 100, tiny()), codes)
    assert numbers_of((b"abc",), 10, tiny()).shape == (10,)


@pytest.mark.parametrize(
    "imputer",
    ["fin", "fin-any", "pfin", "mlp", "linear", "prototype", "mean", "zero", "none", "late"],
)
def test_the_gradient_of_one_record_is_that_of_every_model(recipe: Make, imputer: str) -> None:
    """torch.func takes every kind of model apart into records as autograd does."""
    config, plan, data = recipe(model__imputer=imputer)
    model = initial_model(config, len(plan.label_names)).eval()
    with torch.no_grad():  # heads start at zero, where encoders have no gradient
        for p in model.parameters():
            p.add_(0.05 * torch.ones_like(p).cumsum(0).sin())
    batch = data.sites[plan.cohort[0]].batch.rows(torch.arange(3))
    named = {f"model.{name}": p for name, p in model.named_parameters()}
    found = record_gradients(loss_of_one(model, 0.7), named, record_tensors(batch))
    for at in range(3):
        model.zero_grad()
        model.per_record_loss(batch.rows(torch.tensor([at])), 0.7).sum().backward()
        expected = torch.cat([_gradient(p).reshape(-1) for p in model.parameters()])
        assert torch.allclose(found[at], expected, atol=1e-5)


def _gradient(parameter: torch.nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def test_a_site_sees_the_models_of_all_rounds(recipe: Make, tmp_path: Path) -> None:
    config, plan, data = recipe(**LEAKY)
    data = by_heart(data)
    run = start_run(tmp_path / "run", config, plan, data)
    people = population_of(plan, data)
    with pytest.raises(UserInputError, match="no checkpoints"):
        site_view(run, people)
    train_locally(config, plan, data, run)
    attempts = {a.attack: a for a in site_view(run, people)}
    assert set(attempts) == {"trajectory mean", "trajectory gain", "trajectory slope"}
    for attempt in attempts.values():
        assert attempt.observer == "site"
        assert len(attempt.scores) == sum(len(pool.patients) for pool in people.sites)
        assert deviations(attempt) > BAND


def test_who_cannot_be_attacked_is_refused(recipe: Make) -> None:
    config, plan, data = recipe()
    people = population_of(plan, data)
    two = replace(plan, sites=plan.sites[:2])
    with pytest.raises(UserInputError, match="3 or more"):
        coordinator_view(config, two, data, people, rounds=1, encryption="none")
    people.sites[0].members[0] = False
    with pytest.raises(ValueError, match="are not those it trains on"):
        coordinator_view(config, plan, data, people, rounds=1, encryption="none")
    with pytest.raises(ValueError, match="at least one round"):
        tap_rounds(config, plan, data, rounds=0, encryption="none")
