"""Nothing is read or trained that the ledger of the data holder does not admit."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from privfin.cli.app import run
from privfin.config import RunConfig
from privfin.errors import BudgetError, LedgerError, PolicyError, ProtocolError
from privfin.federation import prepare as preparing
from privfin.federation.budget_gate import open_gate
from privfin.federation.ledger_heads import LedgerHeads
from privfin.federation.plan import declared_sites, make_plan
from privfin.federation.prepare import prepare
from privfin.privacy.composition import total_epsilon
from privfin.privacy.ledger import DataSet, Ledger, dataset_keys, verify_ledger
from privfin.privacy.policy import write_template
from privfin.runs import create_run

Makes = Callable[..., Any]
DELTA = 1e-5


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data holder with a ledger and the template policy."""
    place = tmp_path / "home"
    monkeypatch.setenv("PRIVFIN_HOME", str(place))
    monkeypatch.setenv("PRIVFIN_ANCHORS", str(tmp_path / "anchors"))
    Ledger.create(place, name="North General").close()
    write_template(place / "policy.toml")
    monkeypatch.chdir(tmp_path)
    return place


def bind(home: Path, config: RunConfig, epsilon: str = "12") -> list[str]:
    """Cap a population and bind the data set of ``config`` to it; gives its patients."""
    ids = list(preparing.load_source(config).dataset.patients())
    with Ledger.open(home) as ledger:
        cap = (Decimal(epsilon), Decimal(str(DELTA)))
        ledger.set_cap("lungs", *cap, officer="Ann Lee", reason="")
        (key,) = dataset_keys(config)
        ledger.bind([DataSet(key, "data", ids)], "lungs", officer="Ann Lee")
    return ids


def states(home: Path) -> dict[str, str]:
    with Ledger.open(home) as ledger:
        return {r.run_id: r.state for r in ledger._state.reservations.values()}


def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: Any) -> None:
        raise AssertionError("data were read")

    monkeypatch.setattr(preparing, "load_source", read)


def test_a_second_run_over_the_cap_is_refused_before_data_are_read(
    home: Path,
    tiny: Makes,
    tiny_options: Makes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bind(home, tiny())
    words = ["train", *tiny_options(), "--epsilon", "8"]
    assert run([*words, "--out", "first"]) == 0
    assert "Budget: population 'lungs'" in capsys.readouterr().out
    no_reading(monkeypatch)
    assert run([*words, "--out", "second"]) == 3
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "cap of epsilon 12" in said
    offered = float(said.split("with epsilon ")[1].split(" would fit")[0])
    assert 0.5 < offered < 6
    assert not Path("second").exists()
    monkeypatch.undo()
    monkeypatch.setenv("PRIVFIN_HOME", str(home))
    monkeypatch.setenv("PRIVFIN_ANCHORS", str(home.parent / "anchors"))
    monkeypatch.chdir(home.parent)
    # What is offered really fits.
    assert run(["train", *tiny_options(), "--epsilon", f"{offered}", "--out", "third"]) == 0
    manifest = json.loads((home.parent / "first" / "manifest.json").read_text())
    assert manifest["ledger"]["status"] == "counted"
    with Ledger.open(home) as ledger:
        (one,) = ledger.status()
        assert one.spent <= 12
        assert one.refusals == 1
    assert verify_ledger(home, []) == []
    assert sorted(states(home).values()) == ["settled", "settled"]


def test_an_undeclared_number_of_patients_holds_the_budget_all_the_same(
    home: Path, tiny: Makes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What noise a run needs is not known before its data are read, but what it may cost is."""
    config = tiny()
    ids = bind(home, config, "9")
    monkeypatch.setattr("privfin.federation.budget_gate.declared_patients", lambda config: {})
    with open_gate(config, kind="train") as gate:
        gate.reserve()
        with pytest.raises(BudgetError, match="refused"), open_gate(config, kind="train") as other:
            other.reserve()
        plan = make_plan(config, prepare(config).declarations)
        gate.specify(plan, ids)
        with Ledger.open(home) as ledger:
            held = ledger.reservation(gate.run_id)
        assert held is not None
        assert held.spend == plan.spend()
        gate.give_back("the test ends")


def test_only_a_run_that_never_started_is_given_back(home: Path, tiny: Makes) -> None:
    config = tiny()
    ids = bind(home, config)
    plan = make_plan(config, declared_sites(config))
    with pytest.raises(ZeroDivisionError), open_gate(config, kind="train") as gate:
        gate.reserve()
        raise ZeroDivisionError
    assert states(home) == {gate.run_id: "abandoned"}
    with pytest.raises(ZeroDivisionError), open_gate(config, kind="train") as gate:
        gate.reserve()
        gate.specify(plan, ids)
        gate.start(plan.spend(dict.fromkeys(plan.cohort, 1)))
        raise ZeroDivisionError
    assert states(home)[gate.run_id] == "started"
    with Ledger.open(home) as ledger:  # counted in full, not up to where it came
        (one,) = ledger.status()
        whole = total_epsilon([plan.spend()], DELTA)
        assert one.spent + one.reserved == pytest.approx(whole, abs=1e-3)


def test_other_patients_behind_the_same_place_are_refused(home: Path, tiny: Makes) -> None:
    config = tiny()
    ids = bind(home, config)
    plan = make_plan(config, declared_sites(config))
    with pytest.raises(BudgetError, match="bind again"), open_gate(config, kind="train") as gate:
        gate.reserve()
        gate.specify(plan, [*ids, "a stranger"])


def test_nothing_is_read_of_patients_whom_no_ledger_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Makes
) -> None:
    monkeypatch.setenv("PRIVFIN_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("PRIVFIN_ANCHORS", str(tmp_path / "anchors"))
    config = tiny(data__source="openi", data__root=str(tmp_path), federation__patients=500)
    with pytest.raises(BudgetError, match="privfin budget init"), open_gate(config, kind="train"):
        pass
    with open_gate(config, kind="train", no_ledger=True) as gate:
        assert gate.block()["status"] == "none"
    with open_gate(tiny(), kind="train") as gate:
        assert gate.block()["status"] == "simulated"


def test_a_home_is_obeyed(home: Path, tiny: Makes, tmp_path: Path) -> None:
    """An unbound data set, a run that bounds nothing, no policy, --no-ledger: all refused."""
    config = tiny()
    other = tiny(data__source="openi", data__root=str(tmp_path), federation__patients=500)
    with pytest.raises(BudgetError, match="bound to no population"), open_gate(other, kind="train"):
        pass
    bind(home, config)
    for broken in (tiny(privacy__epsilon="inf"), tiny(privacy__reproducible=True)):
        with pytest.raises(PolicyError, match="allow_not_private"), open_gate(broken, kind="train"):
            pass
    with (
        pytest.raises(PolicyError, match="allow_without_ledger"),
        open_gate(config, kind="train", no_ledger=True),
    ):
        pass
    (home / "policy.toml").unlink()
    with pytest.raises(PolicyError, match="missing"), open_gate(config, kind="train"):
        pass
    (home / "ledger.sqlite").unlink()
    with pytest.raises(LedgerError), open_gate(config, kind="train"):
        pass


#: Joint steps of few sites, so that a run takes seconds.
SHARED = {
    "privacy__trust": "shared",
    "federation__sites": 4,
    "federation__modalities": "1:1:2",
    "training__batch_size": 40,
}


def train_in_a_process(words: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", "from privfin.cli import main; main()", "train", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("options", [{}, SHARED], ids=["local", "shared"])
def test_a_killed_run_stays_counted_and_goes_on_under_its_reservation(
    home: Path, tiny: Makes, tiny_options: Makes, options: dict[str, Any]
) -> None:
    bind(home, tiny(**options))
    settings = {**options, "training__rounds": 40, "training__local_steps": 1}
    process = train_in_a_process([*tiny_options(**settings), "--out", "run"])
    events = Path("run/events.jsonl")
    while process.poll() is None:
        if events.exists() and events.read_text().count("round-finished") >= 2:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert events.exists()
    assert list(states(home).values()) == ["started"]
    assert run(["train", *tiny_options(**options), "--epsilon", "8", "--out", "other"]) == 3
    assert run(["train", "--resume", "--out", "run"]) == 0
    assert list(states(home).values()) == ["settled"]
    assert verify_ledger(home, []) == []
    privacy = json.loads(Path("run/privacy.json").read_text())
    assert privacy["population"]["epsilon"] <= 8
    with Ledger.open(home) as ledger:  # what the ledger charges is what the run says
        (one,) = ledger.status()
        assert one.spent == pytest.approx(max(s["epsilon"] for s in privacy["sites"]), abs=1e-9)


def test_of_two_runs_at_once_one_gets_the_budget(
    home: Path, tiny: Makes, tiny_options: Makes
) -> None:
    bind(home, tiny())
    processes = [
        train_in_a_process([*tiny_options(), "--epsilon", "8", "--out", name])
        for name in ("first", "second")
    ]
    said = [process.communicate()[1].decode() for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 3]
    refused = said[[process.returncode for process in processes].index(3)]
    assert "would fit" in refused
    assert [Path(name).exists() for name in ("first", "second")].count(True) == 1
    assert verify_ledger(home, []) == []


def test_messages_anchor_the_ledger(
    home: Path, tiny: Makes, tiny_options: Makes, capsys: pytest.CaptureFixture[str]
) -> None:
    """What sites say of their ledger in messages is kept, and later shows that rows were lost."""
    bind(home, tiny())
    kept, anchors = home.parent / "kept", home.parent / "anchors"
    shutil.copytree(home, kept)
    shutil.copytree(anchors, kept / "anchors")
    assert run(["train", *tiny_options(), "--epsilon", "3", "--out", "run"]) == 0
    lines = [json.loads(line) for line in Path("run/events.jsonl").read_text().splitlines()]
    heads = [line["head"]["seq"] for line in lines if line["event"] == "ledger-head"]
    # One row a round, and the one that the run began with.
    assert heads == sorted(set(heads))
    assert len(heads) == tiny().training.rounds + 1
    assert run(["budget", "verify", "--anchor", "run/events.jsonl"]) == 0
    # Ledger and anchors put back from before the run: only who has the messages can tell.
    shutil.rmtree(home)
    shutil.rmtree(anchors)
    shutil.copytree(kept, home)
    shutil.move(home / "anchors", anchors)
    assert run(["budget", "verify"]) == 0
    capsys.readouterr()
    assert run(["budget", "verify", "--anchor", "run/events.jsonl"]) == 4
    assert f"rows were lost: a head says row {heads[-1]}" in capsys.readouterr().out


def test_what_a_site_says_of_its_ledger_is_checked(home: Path, tmp_path: Path, tiny: Makes) -> None:
    bind(home, tiny())
    with Ledger.open(home) as ledger:
        head = ledger.head()
    block = {"status": "counted", "head": head.to_dict()}
    kept = LedgerHeads(create_run(tmp_path / "run", {"run_id": "r", "ledger": block}))
    text = head.to_text()
    assert len(text) <= 256
    kept.keep("site-01", text)
    kept.keep("site-01", text)
    flipped = text[:-1] + ("0" if text[-1] != "0" else "1")
    for wrong in (flipped, text.replace(":3:", ":4:"), text[:-1], "", "a:b:c:d", text + ":"):
        with pytest.raises(ProtocolError, match="ledger"):
            kept.keep("site-01", wrong)
    uncounted = LedgerHeads(create_run(tmp_path / "other", {"ledger": {"status": "none"}}))
    with pytest.raises(ProtocolError, match="cannot be read"):
        uncounted.keep("site-01", text)
    with Ledger.create(tmp_path / "stranger", name="Eve") as other, pytest.raises(ProtocolError):
        kept.keep("site-01", other.head().to_text())
