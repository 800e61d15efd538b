"""privfin audit: what it writes, its verdicts and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privfin.cli.app import run as command

Options = Callable[..., list[str]]
SIZES = {"data__patients": 300, "data__test_fraction": 0.5}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_options: Options) -> Path:
    """A finished run with as many held-out patients as members."""
    path = tmp_path_factory.mktemp("audited") / "a"
    assert command(["train", *tiny_options(**SIZES), "--no-ledger", "--out", str(path)]) == 0
    return path


@pytest.fixture
def audited(trained: Path, folder: Path) -> Path:
    """A copy of that run, for one test."""
    shutil.copytree(trained, folder / "a")
    return Path("a")


def test_an_audit_writes_what_it_prints(audited: Path, privfin: Any) -> None:
    said = privfin("audit", audited, "--shadows", 8, "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found == json.loads((audited / "audit.json").read_text())
    assert {"outsider", "site"} == {a["observer"] for a in found["attacks"]}
    names = {a["attack"] for a in found["attacks"]}
    assert {"loss", "lira", "rmia", "imputer-error", "trajectory slope"} <= names
    for attack in found["attacks"]:
        assert attack["unit"] == "patient"
        if attack["stratum"] == "all":
            assert 0 <= attack["epsilon_bound"] <= attack["epsilon_ceiling"]
            assert attack["members"] + attack["nonmembers"] <= 300
        else:
            assert attack["epsilon_bound"] is None  # bounds share the error: fewer, and larger
    assert found["verdict"] == "none found"
    assert (audited / "audit-roc.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in (audited / "audit-roc.svg").read_text()
    text = (audited / "audit.json").read_text()
    assert "phantom-" not in text
    assert not list(audited.glob(".*.tmp"))


def test_tables_fit_and_a_rule_that_is_passed_is_a_risk(audited: Path, privfin: Any) -> None:
    said = privfin("audit", audited, "--shadows", 0, "--fail-on", "auc>0.01")
    assert said.code == 5
    assert "RISK" in said.out
    assert "CONTRADICTION" not in said.out
    assert "lira: too few shadow models" in said.out
    assert max(map(len, said.out.splitlines())) <= 80 or "/" in said.out


def test_a_bound_above_the_claim_is_a_contradiction(
    audited: Path, privfin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that gives members away under a claim of almost nothing must be called wrong."""
    from attacks.attempt import Attempt
    from privfin.auditing import audit as auditing

    def leaking(run: Any, population: Any, *, public: Any = None) -> tuple[Attempt, ...]:
        members = population.members
        return (Attempt("trajectory mean", "site", "all", members * 1.0, members),)

    monkeypatch.setattr(auditing, "site_view", leaking)
    statement = json.loads((audited / "privacy.json").read_text())
    for observer in statement["observers"].values():
        observer["epsilon"] = 0.5
    (audited / "privacy.json").write_text(json.dumps(statement))
    said = privfin("audit", audited, "--observer", "site", "--fail-on", "auc>0.6")
    assert said.code == 4
    assert "CONTRADICTION" in said.out
    assert json.loads((audited / "audit.json").read_text())["verdict"] == "contradiction"


def test_no_bound_where_membership_was_no_coin(
    audited: Path, privfin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from privfin.auditing import audit as auditing

    read = auditing.read_population
    monkeypatch.setattr(
        auditing, "read_population", lambda *given: replace(read(*given), is_random_split=False)
    )
    said = privfin("audit", audited, "--observer", "site", "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert {attack["epsilon_bound"] for attack in found["attacks"]} == {None}
    assert any("membership was no coin" in line for line in found["left_out"])


def test_a_stopped_audit_keeps_its_shadow_models_and_writes_nothing_else(
    audited: Path, privfin: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from privfin.auditing import outsider

    monkeypatch.setenv("PRIVFIN_CACHE", str(tmp_path / "cache"))
    asked = outsider.stacked_logits

    def interrupt(*given: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return asked(*given, **options)

    with monkeypatch.context() as patch:
        patch.setattr(outsider, "stacked_logits", interrupt)
        said = privfin("audit", audited, "--shadows", 8)
    assert said.code == 130
    assert "stopping before the next part" in said.out
    assert said.err.count("\n") == 1
    assert not (audited / "audit.json").exists()
    kept = sorted((tmp_path / "cache" / "shadows").iterdir())
    assert kept
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}
    again = privfin("audit", audited, "--shadows", 8)
    assert again.code == 0, again.err
    assert sorted((tmp_path / "cache" / "shadows").iterdir()) == kept


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--suite", "huge"], "quick or full"),
        (["--attacks", "loss,lyra"], "did you mean 'lira'"),
        (["--shadows", 3], "at least 8"),
        (["--observer", "nobody"], "outsider, site or coordinator"),
        (["--observer", "coordinator"], "needs --suite full"),
        (["--confidence", 1], "between 0.5 and 1"),
        (["--fail-on", "auc=1"], "is no rule"),
    ],
)
def test_bad_options_are_refused(
    trained: Path, refused: Callable[..., str], options: list[Any], reason: str
) -> None:
    assert reason in refused("audit", trained, *options)


def test_what_is_no_finished_run_is_refused(folder: Path, refused: Callable[..., str]) -> None:
    assert "not a run directory" in refused("audit", "nowhere")


def test_other_data_are_refused(audited: Path, refused: Callable[..., str]) -> None:
    manifest = json.loads((audited / "manifest.json").read_text())
    manifest["data_sha256"]["site-01"] = "0" * 64
    (audited / "manifest.json").write_text(json.dumps(manifest))
    assert "the records of 'site-01' are not those" in _last(refused, audited)


def _last(refused: Callable[..., str], path: Path) -> str:
    # Opening a run leaves its lock file.
    (path / ".lock").touch()
    return refused("audit", path, "--shadows", 0)


@pytest.mark.slow
def test_the_full_suite_makes_every_part(audited: Path, privfin: Any) -> None:
    said = privfin("audit", audited, "--suite", "full", "--shadows", 8, "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    observers = {one["observer"] for one in found["attacks"]}
    assert {"outsider", "site", "coordinator", "coordinator, no encryption"} <= observers
    attacks = {one["attack"] for one in found["attacks"]}
    assert {"lira-covariance", "lira gap of text", "lira without image"} <= attacks
    kinds = {one["kind"]: one for one in found["canaries"]}
    assert {"all kinds", "gradient", "report text"} <= set(kinds)
    for kind in ("all kinds", "gradient", "report text"):
        assert kinds[kind]["epsilon_bound"] <= kinds[kind]["ceiling"]
    assert found["attributes"]
    assert found["inversion"]
    assert {"coordinator, encryption bfv", "coordinator, encryption none"} == set(found["views"])
    assert "phantom-" not in said.out
