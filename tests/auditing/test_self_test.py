"""The self-test: coverage, the uncorrected maximum, and every broken step found by a real audit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from attacks.coverage import broken_trial, cover, trials
from privfin.auditing import self_test as tested
from privfin.auditing.self_test_broken import BROKEN
from privfin.auditing.self_test_steps import observe_steps
from privfin.cli.self_test import self_test
from privfin.privacy.dpsgd import DpSgd

app = typer.Typer()
app.command()(self_test)


@pytest.mark.parametrize("name", list(BROKEN))
def test_broken_step_is_flagged(name: str) -> None:
    kind, _ = BROKEN[name]
    assert (observe_steps(kind, 700, 1).bound(0.95).mu or 0.0) > 1.0


def test_sound_step_is_not() -> None:
    assert (observe_steps(DpSgd, 700, 1).bound(1 - 1e-7).mu or 0.0) <= 1.0


def test_coverage_of_few_audits_and_the_uncorrected_maximum() -> None:
    for trial in trials():
        found = cover(trial, 8, 0.95, tests=17, seed=np.random.SeedSequence(5))
        assert found.sound
        assert found.reached
    assert not cover(broken_trial(), 200, 0.95, tests=17, seed=np.random.SeedSequence(5)).sound


def test_json_and_exit_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tested, "trials", lambda: trials()[:1])
    monkeypatch.setattr(tested, "_SOUND_STEPS", 60)
    monkeypatch.setattr(tested, "BROKEN", {"no noise": (BROKEN["no noise"][0], 400)})
    done = CliRunner().invoke(app, ["--seeds", "20", "--json"])
    assert done.exit_code == 0
    content = json.loads(done.stdout)
    assert content["ok"] is True
    assert content["problems"] == []
    assert [one["flagged"] for one in content["steps"]] == [False, True]
    monkeypatch.setattr(tested, "BROKEN", {"no noise": (DpSgd, 60), "other": (DpSgd, 60)})
    monkeypatch.setattr(tested, "broken_trial", lambda: trials()[0])
    assert CliRunner().invoke(app, ["--seeds", "20"]).exit_code == 4
