"""``privfin report verify`` and ``key`` as a user meets them: lines, exit codes, JSON.

They are beside the reports that they need; a small command line of their own holds them.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from privfin.cli import app as command_line
from privfin.cli import report_key, report_verify
from privfin.reporting.sealing.signing import ReportKey

Make = Callable[..., Any]


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


@pytest.fixture
def privfin(capsys: pytest.CaptureFixture[str]) -> Make:
    """Runs the two commands with the error handling of the real command line."""
    report = typer.Typer()
    report.command("verify", epilog=report_verify.EPILOG)(report_verify.verify)
    report.command("key", epilog=report_key.EPILOG)(report_key.key)
    app = typer.Typer(rich_markup_mode=None)
    app.add_typer(report, name="report")

    def call(*words: Any) -> Said:
        capsys.readouterr()
        # Only here: runs are made with the whole command line.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(command_line, "app", app)
            code = command_line.run([str(word) for word in words])
        printed = capsys.readouterr()
        return Said(code, printed.out, printed.err)

    return call


def test_what_holds_is_said_in_a_line_each(privfin: Make, sealed_report: Make) -> None:
    made = sealed_report()
    said = privfin("report", "verify", made.file(".html"), "--run", made.run, "--home", made.home,
                   "--public-key", made.key.public)  # fmt: skip
    assert said.code == 0, said
    assert said.err == ""
    lines = said.out.splitlines()
    assert max(map(len, lines)) <= 80
    checks = made.check(".html", public_key=made.key.public)
    starts = [line.split()[0] for line in lines if line[:1].strip()]
    assert starts == ["holds"] * len(checks) + ["All"]
    shown = "".join("".join(lines).split())
    for one in checks:
        assert one.subject.replace(" ", "")[:12] in shown
    assert lines[-1] == f"All that could be checked holds: {len(checks)} checks."


def test_what_is_not_checked_is_counted(privfin: Make, sealed_report: Make, tmp_path: Path) -> None:
    made = sealed_report(signed=False)
    said = privfin("report", "verify", made.file(".json"), "--home", tmp_path / "none")
    assert said.code == 0
    assert "not checked" in said.out
    assert "nobody signed" in " ".join(said.out.split())
    assert said.out.splitlines()[-1].endswith("; 3 could not be checked.")


def test_what_fails_is_named_with_exit_code_4(privfin: Make, sealed_report: Make) -> None:
    made = sealed_report()
    path = made.run / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"\0")
    said = privfin("report", "verify", made.file(".json"), "--run", made.run, "--home", made.home)
    assert said.code == 4
    assert said.err.startswith("privfin: 1 of ")
    assert said.err.endswith("checks fail: run/model.safetensors\n")
    (line,) = (one for one in said.out.splitlines() if one.startswith("FAILS"))
    assert "run/model.safetensors" in line
    assert "All that could be checked holds" not in said.out


def test_json_says_the_same(privfin: Make, sealed_report: Make) -> None:
    made = sealed_report()
    words = ("report", "verify", made.file(".json"), "--run", made.run, "--home", made.home)
    said = privfin(*words, "--json")
    found = json.loads(said.out)
    assert (said.code, found["holds"]) == (0, True)
    assert found["checks"] == [
        {"subject": one.subject, "holds": one.holds, "words": one.words} for one in made.check()
    ]
    made.file(".md").write_text("another")
    said = privfin(*words, "--json")
    found = json.loads(said.out)
    assert (said.code, found["holds"]) == (4, False)
    assert [one["subject"] for one in found["checks"] if one["holds"] is False] == [
        "report-officer.md"
    ]


def test_bad_input_is_one_line_and_exit_code_2(
    privfin: Make, sealed_report: Make, tmp_path: Path
) -> None:
    file = sealed_report().file(".json")
    for words in (
        (tmp_path / "none.html",),
        (file, "--run", tmp_path / "none"),
        (file, "--public-key", "ab"),
        (),
    ):
        said = privfin("report", "verify", *words)
        assert said.code == 2, words
        assert said.out == ""
        assert said.err.startswith("privfin: ")
        assert said.err.count("\n") == 1


def test_a_key_is_made_once_and_its_public_half_printed(privfin: Make, tmp_path: Path) -> None:
    path = tmp_path / "reports.key"
    said = privfin("report", "key", path)
    assert said.code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert said.out.splitlines()[-1] == f"Its public key: {ReportKey.read(path).public}"
    assert path.read_text().splitlines()[1] not in said.out
    before = path.read_bytes()
    said = privfin("report", "key", path)
    assert (said.code, said.out) == (2, "")
    assert said.err.count("\n") == 1
    assert path.read_bytes() == before
    said = privfin("report", "key", tmp_path / "second.key", "--json")
    assert json.loads(said.out)["public_key"] == ReportKey.read(tmp_path / "second.key").public
