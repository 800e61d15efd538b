"""``privfin sweep``: ordinary runs, made once, that never spend more than their budget."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from privfin.federation import sweep as sweeping
from privfin.federation.training_run import complete_run

Options = Callable[..., list[str]]


@pytest.fixture
def words(tiny_options: Options) -> list[str]:
    """Two budgets by two imputers, each run in about a second."""
    options = tiny_options(
        data__patients=140,
        federation__sites=2,
        federation__modalities="1:0:1",
        evaluation__bootstrap=5,
        crypto__encryption="none",
    )
    return ["sweep", *options, "--epsilon", "8,inf", "--imputer", "fin,zero", "--out", "s"]


NAMES = ["fin-eps8-seed0", "fin-epsinf-seed0", "zero-eps8-seed0", "zero-epsinf-seed0"]


def events(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path("s") / name / "events.jsonl").open()]


def started(name: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for event in events(name):
        if event["event"] == "site-round-started":
            counts[event["site"]] = counts.get(event["site"], 0) + 1
    return counts


def test_a_sweep_makes_ordinary_runs_and_ends_in_a_frontier(
    privfin: Any, folder: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = []
    real = sweeping.prepare
    monkeypatch.setattr(
        sweeping, "prepare", lambda c, *rest: prepared.append(c.training.seed) or real(c, *rest)
    )
    said = privfin(*words, "--seeds", "2")
    assert said.code == 0, said.err
    assert said.err == ""
    assert prepared == [0, 1]  # once a seed, for four runs each
    tables = [line for line in said.out.splitlines() if "privfin" not in line and "/" not in line]
    assert max(map(len, tables)) <= 80
    for word in ("run 3/8: zero, epsilon 8, seed 0", " left)", "NOT PRIVATE", "too few", "±"):
        assert word in said.out, word
    assert "4 private runs so far, together epsilon 32 at most" in " ".join(said.out.split())
    for name in NAMES:
        run = folder / "s" / name
        assert (run / "model.safetensors").exists()
        privacy = json.loads((run / "privacy.json").read_text())
        assert any("choice of configuration" in text for text in privacy["not_covered"])
        assert all(float(site["epsilon"]) <= 8 or "inf" in name for site in privacy["sites"])
    with Image.open("s/frontier.png") as image:
        assert image.width > 600
    svg = Path("s/frontier.svg").read_text()
    for word in ("fin", "zero", "NOT PRIVATE", "image only", "log scale"):
        assert word in svg
    content = json.loads(Path("s/sweep.json").read_text())
    assert {run["state"] for run in content["runs"]} == {"finished"}
    assert content["frontier_cell"] == "image only"
    assert len(content["comparison"]["settings"]) == 4
    assert content["comparison"]["paired"]
    assert not re.search(r'"/', Path("s/sweep.json").read_text())
    # The same command again trains nothing and says the same.
    before = {p: p.stat().st_mtime_ns for p in (folder / "s").rglob("*.safetensors")}
    again = privfin(*words, "--seeds", "2", "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["comparison"] == content["comparison"]
    assert before == {p: p.stat().st_mtime_ns for p in (folder / "s").rglob("*.safetensors")}
    assert prepared == [0, 1]
    # Its runs can be compared like any others.
    assert privfin("compare", "s/fin-eps8-seed0", "s/zero-eps8-seed0").code == 0


def test_a_run_of_a_sweep_is_what_train_makes_of_the_same_options(
    privfin: Any, folder: Path, words: list[str]
) -> None:
    """In test mode to the last bit, although it shares its data with the run before it."""
    test_mode = ["--set", "privacy.reproducible=true"]
    assert privfin(*words, *test_mode, "--epsilon", "8").code == 0
    options = words[1 : words.index("--epsilon")]
    alone = ["--epsilon", "8", "--imputer", "zero", "--out", "alone"]
    assert privfin("train", *options, *test_mode, *alone).code == 0
    in_sweep = folder / "s" / "zero-eps8-seed0"
    for name in ("model.safetensors", "metrics.json", "privacy.json"):
        assert (in_sweep / name).read_bytes() == (folder / "alone" / name).read_bytes(), name
    assert "test mode" in Path("s/frontier.svg").read_text()


def test_an_interrupted_sweep_goes_on_with_the_checkpoint(
    privfin: Any, folder: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from privfin.cli.sweep_display import SweepDisplay

    real = SweepDisplay.round_finished
    rounds = []

    def interrupt(self: SweepDisplay, number: int, *args: Any) -> None:
        real(self, number, *args)
        rounds.append(number)
        if len(rounds) == 4:  # in the second run, after its first round of three
            os.kill(os.getpid(), signal.SIGINT)

    words = [*words, "--set", "training.rounds=3", "--epsilon", "8"]
    words = [*words, "--set", "training.local_steps=1"]
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(SweepDisplay, "round_finished", interrupt)
        said = privfin(*words)
        rounds.extend([0] * 100)
    assert signal.getsignal(signal.SIGINT) is before
    assert said.code == 130
    assert said.err == "privfin: stopped; run the same command again to go on\n"
    finished = {name for name in NAMES if (folder / "s" / name / "model.safetensors").exists()}
    states = {r["run"]: r["state"] for r in json.loads(Path("s/sweep.json").read_text())["runs"]}
    assert finished == {name for name, state in states.items() if state == "finished"}
    assert "interrupted" in states.values()
    (stopped,) = [name for name, state in states.items() if state == "interrupted"]
    kept = {name: (folder / "s" / name / "model.safetensors").read_bytes() for name in finished}
    again = privfin(*words)
    assert again.code == 0, again.err
    assert "goes on after round" in again.out
    for name, content in kept.items():
        assert (folder / "s" / name / "model.safetensors").read_bytes() == content
    numbers = [e["round"] for e in events(stopped) if e["event"] == "round-started"]
    assert numbers == [1, 2, 3]
    assert set(started(stopped).values()) == {3}


def test_a_crash_is_counted_and_never_overspends(
    privfin: Any, folder: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in a round: the round stays spent, and the run ends one round earlier."""
    from privfin.cli.sweep_display import SweepDisplay

    def crash(self: SweepDisplay, number: int, site: str) -> None:
        if number == 2:
            raise KeyboardInterrupt

    words = [*words, "--epsilon", "8", "--imputer", "zero", "--set", "training.rounds=3"]
    with monkeypatch.context() as patch:
        patch.setattr(SweepDisplay, "site_started", crash)
        said = privfin(*words)
    assert said.code == 130
    assert "run the same command again" in said.err
    kept = json.loads(Path("s/sweep.json").read_text())
    assert kept["runs"][0]["state"] == "interrupted"
    assert "1 private runs so far, together epsilon 8" in kept["not_covered"]
    again = privfin(*words)
    assert again.code == 0, again.err
    name = "zero-eps8-seed0"
    assert max(started(name).values()) == 3
    assert sum(e["event"] == "round-finished" for e in events(name)) == 2
    privacy = json.loads((folder / "s" / name / "privacy.json").read_text())
    assert all(site["epsilon"] <= 8 for site in privacy["sites"])


def test_a_failed_run_is_named_and_the_others_go_on(
    privfin: Any, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from privfin.errors import DataError

    def fail(run: Any, config: Any, data: Any, **options: Any) -> Any:
        if run.path.name == NAMES[0]:
            raise DataError("patient-7.png cannot be decoded")
        if run.path.name == NAMES[2]:
            raise KeyError("patient-8")
        return complete_run(run, config, data, **options)

    with monkeypatch.context() as patch:
        patch.setattr(sweeping, "complete_run", fail)
        said = privfin(*words)
    assert said.code == 1
    assert said.err.count("\n") == 1
    assert f"2 of 4 runs failed: {NAMES[0]}, {NAMES[2]}" in said.err
    assert "FAILED: fin, epsilon 8, seed 0: patient-7.png cannot be decoded" in said.out
    assert "internal error (KeyError)" in said.out
    assert "Traceback" not in said.out
    kept = Path("s/sweep.json").read_text()
    # The terminal may name a file to whoever has the data; what is stored does not.
    assert "patient-" not in kept
    assert [r["reason"] for r in json.loads(kept)["runs"]] == ["DataError", None, "KeyError", None]
    assert Path("s/frontier.png").exists()
    again = privfin(*words)
    assert again.code == 0, again.err
    assert "2 of them finished before" in again.out


@pytest.fixture
def begun(folder: Path, words: list[str], privfin: Any) -> list[str]:
    """A folder with a sweep of which nothing is trained yet."""
    from privfin.cli.sweep import _sweep
    from privfin.config import parse_override

    given = [parse_override(words[i + 1]) for i, word in enumerate(words) if word == "--set"]
    asked = _sweep(None, given, "8,inf", "fin,zero", 1)
    Path("s").mkdir()
    sweeping.write_state(asked, Path("s"), sweeping.Outcome(dict.fromkeys(NAMES, "waiting")))
    return words


def test_a_changed_configuration_is_refused_by_name(refused: Any, begun: list[str]) -> None:
    for more, said in (
        (["--set", "model.width=16"], "model.width was 8, is now 16"),
        (["--set", "training.seed=1"], "seed 0 belongs to the sweep"),
        (["--epsilon", "8,3"], "epsilon inf belongs to the sweep"),
        (["--imputer", "zero"], "imputer fin belongs to the sweep"),
    ):
        assert said in refused(*begun, *more)


def test_more_values_are_welcome(privfin: Any, begun: list[str]) -> None:
    said = privfin(*begun, "--epsilon", "inf,8,3", "--seeds", "3", "--dry-run")
    assert said.code == 0, said.err
    assert "18 runs" in said.out


def test_a_sweep_of_one_run_is_not_called_runs(privfin: Any, folder: Path) -> None:
    said = privfin("sweep", "--epsilon", "8", "--out", "single", "--dry-run")
    assert said.code == 0, said.err
    assert "1 run " in said.out and "1 runs" not in said.out


def test_refusals_come_before_any_work(refused: Any, words: list[str], folder: Path) -> None:
    for more, said in (
        (["--epsilon", "8,x"], "'x' must be a number above 0"),
        (["--epsilon", "0"], "'0' must be"),
        (["--epsilon", "8,,3"], "with commas"),
        (["--epsilon", "nan"], "'nan' must be"),
        (["--epsilon", "8,0.0000001"], "use a larger epsilon"),
        (["--imputer", "fin,zerro"], "did you mean 'zero'?"),
        (["--imputer", "fin,retrieval"], "needs a public set"),
        (["--cell", "image"], "'image only'"),
        (["--seeds", "0"], "--seeds"),
        (
            ["--set", "data.source=covid-cxr", "--no-ledger", "--data-root", "none"],
            "does not exist",
        ),
    ):
        assert said in refused(*words, *more), more
    (folder / "s").mkdir()
    (folder / "s" / "thesis.txt").write_text("x")
    assert "not a sweep" in refused(*words)
    (folder / "file").write_text("x")
    assert "is a file" in refused("sweep", "--epsilon", "8", "--out", "file")
    assert (folder / "file").read_text() == "x"


def test_two_processes_do_not_sweep_together(privfin: Any, begun: list[str]) -> None:
    from privfin.runs import lock_folder

    with lock_folder(Path("s")):
        said = privfin(*begun)
    assert said.code == 2
    assert "another process is working on s" in said.err


def test_a_dry_run_lists_the_runs_and_touches_nothing(
    privfin: Any, folder: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "prepare", lambda *a: pytest.fail("data was touched"))
    said = privfin(*words, "--dry-run")
    assert said.code == 0, said.err
    for name in NAMES:
        assert name in said.out
    assert json.loads(privfin(*words, "--dry-run", "--json").out)["runs"] == dict.fromkeys(
        NAMES, "waiting"
    )
    assert list(folder.iterdir()) == []


def test_every_kind_of_imputer_can_be_named() -> None:
    from typing import get_args

    from privfin.cli.sweep import _imputers
    from privfin.config import ImputerKind

    kinds = list(get_args(ImputerKind))
    assert _imputers(" , ".join(kinds)) == kinds
