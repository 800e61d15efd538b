"""Fine-tuning: inside the budget, written down first, and for the site alone."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privfin.config import RunConfig
from privfin.federation import fine_tuning
from privfin.federation.assessment import assess
from privfin.federation.local_training import LocalTrainer
from privfin.federation.plan import make_plan
from privfin.federation.training_run import complete_run, start_run
from privfin.models.segments import flatten
from privfin.privacy.accounting import SubsampledGaussianEvent, epsilon
from privfin.privacy.dpsgd import DpSgd
from privfin.runs import Run, load_run

STEPS = 3
SITES = ["site-01", "site-02", "site-03"]


class CrashError(Exception):
    """Stands for a machine that stops; nothing in privfin catches it."""


@pytest.fixture
def started(
    tiny: Callable[..., RunConfig], prepared: Any, tmp_path: Path
) -> Callable[..., tuple[Run, RunConfig, Any]]:
    def make(name: str = "run", **options: Any) -> tuple[Run, RunConfig, Any]:
        config = tiny(**{"training__fine_tune_steps": STEPS, **options})
        data = prepared(config)
        plan = make_plan(config, data.declarations)
        return start_run(tmp_path / name, config, plan, data), config, data

    return make


def before_tuning(patch: pytest.MonkeyPatch, before: Callable[[str], None]) -> None:
    """Calls ``before(site)`` in the place where a site starts to fine-tune."""

    class Watched(LocalTrainer):
        def fine_tune(self, start: Any, steps: int) -> Any:
            before(self._plan.name)
            return super().fine_tune(start, steps)

    patch.setattr(fine_tuning, "LocalTrainer", Watched)


def crash_at(site: str) -> Callable[[str], None]:
    def before(name: str) -> None:
        if name == site:
            raise CrashError

    return before


def local_models(run: Run) -> dict[str, bytes]:
    return {p.stem: p.read_bytes() for p in sorted((run.path / "local").glob("*"))}


def test_the_noise_covers_rounds_and_fine_tuning(
    started: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config, data = started()
    taken: Counter[str] = Counter()
    real = DpSgd.step

    def step(self: DpSgd) -> None:
        taken["steps"] += 1
        real(self)

    monkeypatch.setattr(DpSgd, "step", step)
    result = complete_run(run, config, data)
    assert result is not None
    assert taken["steps"] == 3 * (2 * 2 + STEPS)
    for entry in result.privacy["sites"]:
        assert entry["steps"] == entry["steps_planned"] == 2 * 2 + STEPS
        event = SubsampledGaussianEvent(entry["noise_multiplier"], entry["sampling_rate"], 7)
        assert entry["epsilon"] == epsilon([event], entry["delta"])
        # All of the budget is used: no step was left out of the calibration, and none added.
        assert config.privacy.epsilon - 0.02 <= entry["epsilon"] <= config.privacy.epsilon


def test_it_is_on_disk_before_a_site_takes_a_step(
    started: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config, data = started()
    sync, synced, order = os.fsync, [], []

    def note_sync(number: int) -> None:
        sync(number)
        synced.append(os.fstat(number).st_size)

    def before(site: str) -> None:
        log = run.path / "events.jsonl"
        last = json.loads(log.read_text().splitlines()[-1])
        found = (last["event"], last["site"], last["steps"])
        assert found == ("site-fine-tuning-started", site, STEPS)
        assert synced[-1] == log.stat().st_size
        order.append(site)

    monkeypatch.setattr(os, "fsync", note_sync)
    before_tuning(monkeypatch, before)
    assert complete_run(run, config, data) is not None
    assert order == SITES


def test_each_site_gets_its_own_model_of_what_it_trains(started: Callable[..., Any]) -> None:
    run, config, data = started()
    assert complete_run(run, config, data) is not None
    final = flatten(run.model())
    plan = make_plan(config, data.declarations)
    assert list(local_models(run)) == SITES
    assert len(set(local_models(run).values())) == 3
    for site in plan.sites:
        changed = flatten(run.local_model(site.name)) != final
        trained = plan.trained_mask(site.modalities, config.model.imputer)
        assert not changed[~trained].any()
        assert changed[trained].mean() > 0.9


def test_metrics_tell_the_spread_over_sites(started: Callable[..., Any]) -> None:
    run, config, data = started()
    result = complete_run(run, config, data)
    assert result is not None
    told = run.metrics["fine_tuned"]
    assert (told["steps"], told["sites"], told["without"]) == (STEPS, SITES, [])
    assert set(told["cells"]) == set(run.metrics["cells"])
    names = make_plan(config, data.declarations).label_names
    for cell, summary in told["cells"].items():
        scores = [
            assess(run.local_model(s), data.test, names, config.evaluation, 0)[cell].macro_auroc
            for s in SITES
        ]
        assert summary["mean"] == pytest.approx(np.mean(scores))
        assert (summary["min"], summary["max"]) == (min(scores), max(scores))


def test_nothing_of_it_is_sent_and_the_statement_says_who_sees_it(
    started: Callable[..., Any],
) -> None:
    traffic = []
    for name, steps in (("with", STEPS), ("without", 0)):
        run, config, data = started(name, training__fine_tune_steps=steps)
        assert complete_run(run, config, data) is not None
        finished = [e for e in run.events() if e["event"] == "round-finished"]
        # Signatures and run identifiers have fixed lengths, so equal rounds send equal bytes.
        traffic.append([(e["up"], e["down"]) for e in finished])
        told = run.privacy.get("fine_tuning")
        assert (told is not None) == bool(steps) == (run.path / "local").exists()
        assert ("fine_tuned" in run.metrics) == bool(steps)
        if told:
            assert told["steps"] == STEPS
            assert "stays at its site" in told["seen_by"]
            assert "inside the site's epsilon" in told["seen_by"]
    assert traffic[0] == traffic[1]


def test_a_crash_counts_in_full_and_is_not_repeated(
    started: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no noise left for a second try, so the site goes without a model of its own."""
    run, config, data = started()
    with monkeypatch.context() as patch, pytest.raises(CrashError):
        before_tuning(patch, crash_at("site-02"))
        complete_run(run, config, data)
    assert not load_run(run.path).is_finished
    again: list[str] = []
    before_tuning(monkeypatch, again.append)
    result = complete_run(load_run(run.path), config, data)
    assert result is not None
    assert again == ["site-03"]
    assert list(local_models(run)) == ["site-01", "site-03"]
    assert run.metrics["fine_tuned"]["without"] == ["site-02"]
    for entry in result.privacy["sites"]:
        assert entry["steps"] == 2 * 2 + STEPS
        assert entry["epsilon"] <= config.privacy.epsilon


def test_a_lost_round_and_a_lost_fine_tuning_stay_within_the_budget(
    started: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config, data = started(training__rounds=3)
    asked = iter([False, False, True])
    assert complete_run(run, config, data, should_stop=lambda: next(asked)) is None
    run.record("site-round-started", site="site-01", round=3, attempt=1)  # and then it crashed
    with monkeypatch.context() as patch, pytest.raises(CrashError):
        before_tuning(patch, crash_at("site-01"))
        complete_run(load_run(run.path), config, data)
    result = complete_run(load_run(run.path), config, data)
    assert result is not None
    assert [e["steps"] for e in result.privacy["sites"]] == [9, 7, 7]
    assert max(e["epsilon"] for e in result.privacy["sites"]) <= config.privacy.epsilon


@pytest.mark.parametrize("site", SITES)
def test_a_reproducible_run_resumes_to_the_same_models(
    started: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, site: str
) -> None:
    whole, config, data = started("whole", privacy__reproducible=True)
    complete_run(whole, config, data)
    run, _, _ = started("cut", privacy__reproducible=True)
    with monkeypatch.context() as patch, pytest.raises(CrashError):
        before_tuning(patch, crash_at(site))
        complete_run(run, config, data)
    result = complete_run(load_run(run.path), config, data)
    assert result is not None
    assert local_models(run) == local_models(whole)
    assert {e["steps"] for e in result.privacy["sites"]} == {2 * 2 + STEPS}


@pytest.mark.parametrize("target", [8.0, math.inf])
def test_a_stop_between_two_sites_costs_nothing(started: Callable[..., Any], target: float) -> None:
    run, config, data = started(privacy__epsilon=target)
    asked = iter([False] * 3 + [True])  # two rounds, site-01, and then stop
    assert complete_run(run, config, data, should_stop=lambda: next(asked)) is None
    assert list(local_models(run)) == ["site-01"]
    assert [e["steps"] for e in run.privacy["sites"]] == [7, 4, 4]
    result = complete_run(load_run(run.path), config, data)
    assert result is not None
    assert list(local_models(run)) == SITES
    assert [e["steps"] for e in result.privacy["sites"]] == [7, 7, 7]
