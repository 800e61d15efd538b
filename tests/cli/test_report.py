"""privfin report: the files it writes, what it refuses, and that nothing half-done stays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

USUAL = {"html", "json", "md", "seal.json"}


@pytest.fixture
def finished(folder: Path, finished_runs: Callable[..., Any]) -> Path:
    """A copy of a private run on made-up patients, without an audit."""
    shutil.copytree(finished_runs("dp").path, folder / "a")
    return Path("a")


def endings(where: Path) -> set[str]:
    return {path.name.partition(".")[2] for path in where.iterdir()}


def test_a_report_is_written_sealed_and_printed(finished: Path, privfin: Any) -> None:
    said = privfin("report", finished)
    assert said.code == 0, said.err
    assert endings(finished / "report") == USUAL
    assert "NOT TESTED" in said.out
    assert "Not signed" in said.out
    assert max(map(len, said.out.splitlines())) <= 80
    checked = privfin("report", "verify", finished / "report/report-officer.html", "--run", "a")
    assert checked.code == 0, checked.out + checked.err
    assert "fingerprint" in checked.out


def test_json_is_the_record_that_is_written(finished: Path, privfin: Any) -> None:
    said = privfin("report", finished, "--json", "--format", "json")
    assert said.code == 0, said.err
    written = json.loads((finished / "report/report-officer.json").read_text())
    assert json.loads(said.out) == written
    assert endings(finished / "report") == {"json", "seal.json"}


def test_every_format_for_every_audience(finished: Path, privfin: Any) -> None:
    for audience in ("officer", "engineer", "public"):
        said = privfin(
            "report", finished, "--audience", audience, "--out", audience,
            "--format", "html,json,md,registry,cyclonedx",
        )  # fmt: skip
        assert said.code == 0, said.err
        assert said.err == ""
        assert endings(Path(audience)) == {*USUAL, "registry.yaml", "cdx.json"}
    exact, public = (
        json.loads((Path(name) / f"report-{name}.json").read_text())
        for name in ("officer", "public")
    )
    for before, after in zip(
        exact["parties"]["sites"]["value"], public["parties"]["sites"]["value"], strict=True
    ):
        assert isinstance(before["patients"], int)
        assert after["patients"].startswith("about ")
    assert exact["data"]["fingerprints"]["value"]
    assert public["data"]["fingerprints"]["value"] is None
    assert public["report"]["withheld"]["value"]
    for digest in exact["data"]["fingerprints"]["value"].values():
        assert not [p for p in Path("public").iterdir() if digest.encode() in p.read_bytes()]


@pytest.mark.slow
def test_a_pdf_is_written_without_a_word_of_the_library(finished: Path, privfin: Any) -> None:
    said = privfin("report", finished, "--format", "pdf")
    assert (said.code, said.err) == (0, "")
    assert endings(finished / "report") == {"json", "pdf", "seal.json"}
    assert (finished / "report/report-officer.pdf").read_bytes()[:5] == b"%PDF-"


def test_a_changed_byte_is_found_and_named(finished: Path, privfin: Any) -> None:
    assert privfin("report", finished).code == 0
    metrics = finished / "metrics.json"
    metrics.write_bytes(metrics.read_bytes().replace(b"0.", b"1.", 1))
    said = privfin("report", "verify", finished / "report/report-officer.json", "--run", finished)
    assert said.code == 4
    assert "run/metrics.json" in said.err
    assert said.err.count("\n") == 1


def test_a_signed_report_is_not_written_over(finished: Path, privfin: Any) -> None:
    made = privfin("report", "key", "officer.pem", "--json")
    public = json.loads(made.out)["public_key"]
    assert privfin("report", finished, "--sign", "officer.pem").code == 0
    seal = finished / "report/report-officer.seal.json"
    before = seal.read_bytes()
    again = privfin("report", finished)
    assert again.code == 2
    assert "--replace" in again.err
    assert seal.read_bytes() == before
    checked = privfin("report", "verify", seal, "--public-key", public)
    assert checked.code == 0, checked.err
    assert privfin("report", finished, "--replace").code == 0
    downgraded = privfin("report", "verify", seal, "--public-key", public)
    assert downgraded.code == 4


def test_answers_are_asked_kept_and_shown(finished: Path, privfin: Any, refused: Any) -> None:
    assert privfin("report", "questions", finished).code == 0
    path = finished / "report/answers.toml"
    assert "exists" in refused("report", "questions", finished)
    text = path.read_text().replace('intended_use = ""', 'intended_use = "A study of triage."')
    path.write_text(text)
    said = privfin("report", finished, "--answers", path, "--json")
    fact = json.loads(said.out)["purpose"]["intended_use"]
    assert (fact["status"], fact["value"]) == ("declared", "A study of triage.")
    assert (
        privfin("report", "questions", finished, "--answers", path, "--out", "new.toml").code == 0
    )
    assert "A study of triage." in Path("new.toml").read_text()


def test_strict_writes_the_report_and_ends_with_five(finished: Path, privfin: Any) -> None:
    said = privfin("report", finished, "--strict")
    assert said.code == 5
    assert said.err.startswith("privfin: --strict: ")
    assert "the run was not audited" in said.err
    assert "required answer" in said.err
    assert said.err.count("\n") == 1
    assert endings(finished / "report") == USUAL


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--format", "html,docx"), "unknown format 'docx'"),
        (("--format", "htm"), "did you mean 'html'?"),
        (("--audience", "press"), "must be officer, engineer or public"),
        (("--compare",), "--compare needs further runs"),
        (("--open", "--format", "json"), "--open needs html"),
        (("--sign", "nowhere.pem"), "nowhere.pem"),
        (("--answers", "nowhere.toml"), "nowhere.toml"),
    ],
)
def test_bad_options_are_refused(
    finished: Path, refused: Any, words: tuple[str, ...], reason: str
) -> None:
    assert reason in refused("report", finished, *words)


def test_a_file_is_no_folder_to_write_to(finished: Path, refused: Any) -> None:
    Path("taken").write_text("x")
    assert "taken is a file" in refused("report", finished, "--out", "taken")


def test_answers_nobody_asked_for_are_refused(finished: Path, refused: Any) -> None:
    Path("answers.toml").write_text('[purpose]\nlegal_bases = "x"\n')
    line = refused("report", finished, "--answers", "answers.toml")
    assert "purpose.legal_bases" in line
    assert "did you mean 'purpose.legal_basis'?" in line


def test_what_is_no_finished_run_is_refused(finished: Path, refused: Any) -> None:
    assert "not a run directory" in refused("report", "nowhere")
    assert "add --compare" in refused("report", finished, finished)
    (finished / "model.safetensors").unlink()
    assert "has not finished" in refused("report", finished)


def test_a_statement_that_promises_too_much_gets_no_report(finished: Path, refused: Any) -> None:
    path = finished / "privacy.json"
    statement = json.loads(path.read_text())
    statement["population"]["epsilon"] = 1.0
    path.write_text(json.dumps(statement))
    assert "privacy.json" in refused("report", finished)


def test_runs_beside_each_other(
    finished: Path, privfin: Any, finished_runs: Callable[..., Any]
) -> None:
    shutil.copytree(finished_runs("inf").path, "b")
    said = privfin("report", finished, "b", "--compare", "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert len(found["comparison"]["runs"]["value"]) == 2
    cost = found["utility"]["cost_of_privacy"]
    assert cost["status"] == "derived"
    for row in cost["value"]:
        assert row["difference"] == pytest.approx(row["private"] - row["not_private"])


def test_the_registry_takes_private_runs_only(
    folder: Path, refused: Any, finished_runs: Callable[..., Any]
) -> None:
    shutil.copytree(finished_runs("inf").path, folder / "b")
    assert refused("report", "b", "--format", "html,registry")


def test_the_schema_is_printed(privfin: Any) -> None:
    found = json.loads(privfin("report", "schema").out)
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
