"""What was started is spent: journals, crashes and resumed runs."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privfin.config import RunConfig
from privfin.errors import BudgetError
from privfin.federation import local
from privfin.federation.local import train_locally
from privfin.federation.local_training import LocalTrainer
from privfin.federation.messages import SiteFailedError
from privfin.federation.plan import make_plan
from privfin.federation.training_run import complete_run, start_run
from privfin.privacy.accounting import SubsampledGaussianEvent, epsilon
from privfin.runs import Run, load_run


class CrashError(Exception):
    """Stands for a machine that stops; nothing in privfin catches it."""


@contextmanager
def trainers(
    monkeypatch: pytest.MonkeyPatch, before: Callable[[str, int], None], *, quick: bool = False
) -> Iterator[None]:
    """Calls ``before(site, round)`` in the place where a site starts to train."""

    class Watched(LocalTrainer):
        def train(self, start: Any, round_number: int, steps: int) -> Any:
            before(self._plan.name, round_number)
            if quick:
                return np.full_like(start, 0.01)
            return super().train(start, round_number, steps)

    with monkeypatch.context() as patch:
        patch.setattr(local, "LocalTrainer", Watched)
        yield


@pytest.fixture
def started(
    tiny: Callable[..., RunConfig], prepared: Any, tmp_path: Path
) -> Callable[..., tuple[Run, RunConfig, Any]]:
    def make(name: str = "run", **options: Any) -> tuple[Run, RunConfig, Any]:
        config = tiny(**options)
        data = prepared(config)
        plan = make_plan(config, data.declarations)
        return start_run(tmp_path / name, config, plan, data), config, data

    return make


def lines(run: Run) -> list[dict[str, Any]]:
    return [json.loads(x) for x in (run.path / "events.jsonl").read_text().splitlines()]


def rounds_started(run: Run) -> Counter[str]:
    return Counter(e["site"] for e in lines(run) if e["event"] == "site-round-started")


def crash_at(site: str, number: int) -> Callable[[str, int], None]:
    def before(name: str, round_number: int) -> None:
        if (name, round_number) == (site, number):
            raise CrashError

    return before


def test_a_round_is_on_disk_before_its_site_trains(
    started: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config, data = started()
    order: list[tuple[str, int]] = []
    sync = os.fsync
    synced: list[int] = []

    def note_sync(number: int) -> None:
        sync(number)
        synced.append(os.fstat(number).st_size)

    def before(site: str, number: int) -> None:
        last = lines(run)[-1]
        assert (last["event"], last["site"], last["round"]) == ("site-round-started", site, number)
        # The file was flushed to the disk at its present length: nothing waits in a buffer.
        assert synced[-1] == (run.path / "events.jsonl").stat().st_size
        order.append((site, number))

    monkeypatch.setattr(os, "fsync", note_sync)
    with trainers(monkeypatch, before):
        assert complete_run(run, config, data) is not None
    assert order == [(f"site-0{s}", n) for n in (1, 2) for s in (1, 2, 3)]


def test_a_crash_in_a_round_leaves_it_counted(
    started: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config, data = started(training__rounds=4)
    with trainers(monkeypatch, crash_at("site-02", 2), quick=True), pytest.raises(CrashError):
        complete_run(run, config, data)
    assert rounds_started(run) == {"site-01": 2, "site-02": 2, "site-03": 1}
    assert not load_run(run.path).is_finished
    saved = run.last_checkpoint()
    assert saved is not None
    assert saved.round == 1


@pytest.mark.parametrize("crashes", [[(2, 2)], [(2, 2), (2, 2)], [(1, 1), (3, 2)], [(3, 4)]])
def test_a_resumed_private_run_never_spends_more_than_planned(
    started: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    crashes: list[tuple[int, int]],
) -> None:
    """Each crash costs a round at the end, so the noise still covers everything started."""
    run, config, data = started(training__rounds=4)
    for site, number in crashes:
        stop = crash_at(f"site-0{site}", number)
        with trainers(monkeypatch, stop, quick=True), pytest.raises(CrashError):
            complete_run(load_run(run.path), config, data)
    with trainers(monkeypatch, lambda site, number: None, quick=True):
        result = complete_run(load_run(run.path), config, data)
    assert result is not None
    assert load_run(run.path).metrics["rounds"] == 4 - len(crashes)
    counts = rounds_started(run)
    assert max(counts.values()) <= 4
    for entry in result.privacy["sites"]:
        assert entry["steps"] == counts[entry["site"]] * 2
        event = SubsampledGaussianEvent(
            entry["noise_multiplier"], entry["sampling_rate"], entry["steps"]
        )
        assert epsilon([event], entry["delta"]) == pytest.approx(entry["epsilon"])
        assert entry["epsilon"] <= config.privacy.epsilon


def test_attempts_that_finish_nothing_use_the_budget_up(
    started: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config, data = started()
    for _ in range(2):
        with trainers(monkeypatch, crash_at("site-02", 1)), pytest.raises(CrashError):
            complete_run(load_run(run.path), config, data)
    trained: list[str] = []
    with (
        trainers(monkeypatch, lambda site, number: trained.append(site)),
        pytest.raises(BudgetError, match="start a new run"),
    ):
        complete_run(load_run(run.path), config, data)
    assert trained == []
    assert rounds_started(run)["site-01"] == 2


def test_a_run_with_no_budget_for_another_round_ends_with_what_it_has(
    started: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config, data = started()
    with trainers(monkeypatch, crash_at("site-03", 2)), pytest.raises(CrashError):
        complete_run(run, config, data)
    trained: list[str] = []
    with trainers(monkeypatch, lambda site, number: trained.append(site)):
        result = complete_run(load_run(run.path), config, data)
    assert trained == []
    assert result is not None
    assert load_run(run.path).metrics["rounds"] == 1
    spent = {e["site"]: e["steps"] for e in result.privacy["sites"]}
    assert spent == {"site-01": 4, "site-02": 4, "site-03": 4}


@pytest.fixture(scope="module")
def uninterrupted(
    tiny: Callable[..., RunConfig], prepared: Any, tmp_path_factory: pytest.TempPathFactory
) -> bytes:
    config = tiny(privacy__reproducible=True, training__rounds=4)
    data = prepared(config)
    plan = make_plan(config, data.declarations)
    run = start_run(tmp_path_factory.mktemp("whole") / "run", config, plan, data)
    assert complete_run(run, config, data) is not None
    return (run.path / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("site", "number"), [(2, 1), (1, 2), (2, 2), (3, 4)])
def test_a_reproducible_run_resumes_after_a_crash_to_the_same_bits(
    started: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: bytes,
    site: int,
    number: int,
) -> None:
    run, config, data = started(privacy__reproducible=True, training__rounds=4)
    stop = crash_at(f"site-0{site}", number)
    with trainers(monkeypatch, stop), pytest.raises(CrashError):
        complete_run(run, config, data)
    result = complete_run(load_run(run.path), config, data)
    assert result is not None
    assert (run.path / "model.safetensors").read_bytes() == uninterrupted


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_reproducible_run_resumes_after_a_stop_to_the_same_bits(
    started: Callable[..., Any], uninterrupted: bytes, after: int
) -> None:
    run, config, data = started(privacy__reproducible=True, training__rounds=4)

    def stop() -> bool:
        finished = sum(e["event"] == "round-started" for e in lines(run))
        return finished >= after

    assert complete_run(run, config, data, should_stop=stop) is None
    assert set(rounds_started(run).values()) <= {after}
    saved = run.last_checkpoint()
    assert (0 if saved is None else saved.round) == after
    assert lines(run)[-1]["event"] == "interrupted"
    # A stopped run states what it has spent so far, too.
    assert {e["steps"] for e in run.privacy["sites"]} == {after * config.training.local_steps}
    assert complete_run(load_run(run.path), config, data) is not None
    assert (run.path / "model.safetensors").read_bytes() == uninterrupted


def test_a_stop_between_rounds_costs_no_budget(
    started: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config, data = started(training__rounds=4)
    with trainers(monkeypatch, lambda site, number: None, quick=True):
        asked = iter([False, False, True])
        assert complete_run(run, config, data, should_stop=lambda: next(asked)) is None
        assert complete_run(load_run(run.path), config, data) is not None
    assert set(rounds_started(run).values()) == {4}
    assert load_run(run.path).metrics["rounds"] == 4


def test_noise_differs_between_runs_and_attempts_unless_reproducible(
    started: Callable[..., Any], uninterrupted: bytes
) -> None:
    models = set()
    for name in ("a", "b"):
        run, config, data = started(name)
        complete_run(run, config, data)
        models.add((run.path / "model.safetensors").read_bytes())
    assert len(models) == 2
    assert uninterrupted not in models


@pytest.mark.parametrize(("error", "code"), [(BudgetError, 3), (OSError, 2)])
def test_an_error_at_a_site_names_it_and_keeps_its_exit_code(
    started: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
    code: int,
) -> None:
    from privfin.errors import UserInputError

    run, config, data = started()

    def before(site: str, number: int) -> None:
        if site == "site-02":
            raise (error if error is BudgetError else UserInputError)("it went wrong here")

    with (
        trainers(monkeypatch, before),
        pytest.raises(SiteFailedError, match=r"site 'site-02' failed: it went wrong") as caught,
    ):
        train_locally(config, make_plan(config, data.declarations), data, run)
    assert caught.value.exit_code == code


def test_a_half_written_line_does_not_keep_a_run_from_going_on(
    started: Callable[..., Any], uninterrupted: bytes
) -> None:
    """A disk that fills up, or a machine that stops, can cut the last line of the log."""
    run, config, data = started(privacy__reproducible=True, training__rounds=4)
    asked = iter([False, True])
    assert complete_run(run, config, data, should_stop=lambda: next(asked)) is None
    with (run.path / "events.jsonl").open("ab") as stream:
        stream.write(b'{"time": "2026-01-01T00:00:00+00:00", "event": "site-rou')
    again = load_run(run.path)
    again.record("resumed")
    assert complete_run(again, config, data) is not None
    assert (run.path / "model.safetensors").read_bytes() == uninterrupted
