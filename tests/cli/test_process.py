"""The command as a process of its own: Ctrl-C, the network, the home folder, standard error."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Options = Callable[..., list[str]]
PROGRAM = [sys.executable, "-c", "from privfin.cli import main; main()"]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _start(words: list[str], home: Path, **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "HOME": str(home), "OMP_NUM_THREADS": "1"}
    environment.pop("PRIVFIN_DEBUG", None)
    return subprocess.Popen(  # noqa: S603
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def _events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


def test_ctrl_c_stops_after_the_round_and_resume_ends_in_the_same_bits(
    folder: Path,
    privfin: Callable[..., Any],
    tiny_options: Options,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from privfin.cli.display import TrainingDisplay

    options = tiny_options(privacy__reproducible="true", training__rounds=4)
    assert privfin("train", *options, "--out", "whole").code == 0
    real = TrainingDisplay.round_finished

    def interrupt(self: TrainingDisplay, number: int, *args: Any) -> None:
        real(self, number, *args)
        if number == 1:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(TrainingDisplay, "round_finished", interrupt)
        said = privfin("train", *options, "--out", "run")
    assert signal.getsignal(signal.SIGINT) is before
    assert said.code == 130
    assert "stopping after this round" in said.out
    assert said.err == "privfin: stopped; go on with: privfin train --resume --out run\n"
    assert not (folder / "run" / "model.safetensors").exists()
    kinds = [e["event"] for e in _events(folder / "run")]
    # The second round was under way: it was finished, so nothing was spent for nothing.
    assert kinds.count("round-started") == kinds.count("round-finished") == 2
    again = privfin("train", "--resume", "--out", "run")
    assert again.code == 0, again.err
    assert _sha256(folder / "run" / "model.safetensors") == _sha256(
        folder / "whole" / "model.safetensors"
    )


def test_a_second_ctrl_c_stops_at_once_and_leaves_the_round_counted(
    folder: Path,
    privfin: Callable[..., Any],
    tiny_options: Options,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from privfin.cli.display import TrainingDisplay

    def interrupt(self: TrainingDisplay, number: int, site: str) -> None:
        if (number, site) in ((2, "site-01"), (2, "site-02")):
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingDisplay, "site_started", interrupt)
        said = privfin("train", *tiny_options(training__rounds=3), "--out", "run")
    assert said.code == 130
    assert said.err.count("\n") == 1
    assert "--resume" in said.err
    started = [(e["site"], e["round"]) for e in _events(folder / "run") if "site" in e]
    assert started[-2:] == [("site-01", 2), ("site-02", 2)]
    assert privfin("train", "--resume", "--out", "run").code == 0
    privacy = json.loads((folder / "run" / "privacy.json").read_text())
    assert {s["site"]: s["steps"] for s in privacy["sites"]} == {
        "site-01": 6,
        "site-02": 6,
        "site-03": 4,
    }
    assert all(s["epsilon"] <= 8 for s in privacy["sites"])


@pytest.mark.slow
def test_ctrl_c_in_a_real_process(
    folder: Path, privfin: Callable[..., Any], tiny_options: Options
) -> None:
    options = tiny_options(privacy__reproducible="true", training__rounds=30)
    home = folder / "home"
    home.mkdir()
    process = _start([*PROGRAM, "train", *options, "--out", "run"], home)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("round 1/"):
            process.send_signal(signal.SIGINT)
            break
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err == "privfin: stopped; go on with: privfin train --resume --out run\n"
    assert not (folder / "run" / "model.safetensors").exists()
    assert privfin("train", "--resume", "--out", "run").code == 0
    assert privfin("train", *options, "--out", "whole").code == 0
    assert _sha256(folder / "run" / "model.safetensors") == _sha256(
        folder / "whole" / "model.safetensors"
    )


_WATCHED = """
import json, os, socket, sys

seen = {"connections": [], "telemetry": None}

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "flwr" and seen["telemetry"] is None:
            keys = ("FLWR_TELEMETRY_ENABLED", "FLWR_DISABLE_UPDATE_CHECK")
            seen["telemetry"] = [os.environ.get(key) for key in keys]
        return None

sys.meta_path.insert(0, Watch())

def audit(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        address = arguments[1] if event in ("socket.connect", "socket.sendto") else arguments[0]
        host = str(address[0]) if isinstance(address, tuple) else str(address)
        if host not in ("127.0.0.1", "::1", "localhost", "None"):
            seen["connections"].append(f"{event} {host}")

sys.addaudithook(audit)
from privfin.cli.app import run
code = run(sys.argv[2:])
with open(sys.argv[1], "w") as stream:
    json.dump(seen, stream)
sys.exit(code)
"""


def test_a_run_stays_on_this_machine_and_out_of_the_home_folder(
    folder: Path, tiny_options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No connection beyond loopback, no name look-up, telemetry off before Flower is imported."""
    home = folder / "home"
    home.mkdir()
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "FLWR_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("FLWR_TELEMETRY_ENABLED", raising=False)
    words = ["watch.json", "train", *tiny_options(training__rounds=1), "--out", "run"]
    process = _start([sys.executable, "-c", _WATCHED, *words], home)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    seen = json.loads((folder / "watch.json").read_text())
    assert seen["telemetry"] == ["0", "1"]
    assert seen["connections"] == []
    assert sorted(str(p.relative_to(home)) for p in home.rglob("*")) == []
    assert sorted(p.name for p in folder.iterdir()) == ["home", "run", "watch.json"]


def test_the_watch_sees_a_connection(folder: Path) -> None:
    """The audit hook above does notice a connection (to an address that is never answered)."""
    program = _WATCHED.replace(
        "code = run(sys.argv[2:])",
        "s = socket.socket(); s.settimeout(0.05); s.connect_ex(('192.0.2.1', 9)); code = 0",
    )
    process = _start([sys.executable, "-c", program, "watch.json"], folder)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    seen = json.loads((folder / "watch.json").read_text())
    assert seen["connections"] == ["socket.connect 192.0.2.1"]


def test_bad_input_and_a_full_disk_in_a_real_process(folder: Path, tiny_options: Options) -> None:
    """Standard error holds one line, with no warning of a library before it."""
    home = folder / "home"
    home.mkdir()
    process = _start([*PROGRAM, "train", "--epsilon", "0", "--out", "run"], home)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err.count("\n") == 1
    assert "privacy.epsilon" in err
    assert not (folder / "run").exists()


def test_output_into_a_closed_pipe_is_no_traceback(folder: Path) -> None:
    home = folder / "home"
    home.mkdir()
    process = _start([*PROGRAM, "train", "--help"], home)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.wait(timeout=60)
    process.stderr.close()
