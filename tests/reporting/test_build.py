"""Page one of real runs: each way a run can be wrong is said in the right answer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from privfin.cli.app import run as command
from privfin.data.load import load_source
from privfin.errors import UserInputError
from privfin.privacy.ledger import DataSet, Ledger, dataset_keys
from privfin.privacy.policy import write_template
from privfin.reporting.answers.answers import Answers
from privfin.reporting.build import build_report
from privfin.reporting.evidence import read_evidence
from privfin.reporting.schema import Report, read_report, report_content, report_schema
from privfin.reporting.sealing.canonical import canonical_json

AUDIENCES = ("officer", "engineer", "public")


def built(path: Path, **options: Any) -> Report:
    return build_report(read_evidence(path), Answers({}), **options)


def said(path: Path) -> dict[str, tuple[str, str]]:
    """Tone and text by question."""
    return {one.key: (one.tone, one.text) for one in built(path).summary}


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory, finished_runs: Callable[..., Any]) -> Path:
    """A copy of the private run, audited without shadow models."""
    path = tmp_path_factory.mktemp("audited") / "dp"
    shutil.copytree(finished_runs("dp").path, path)
    assert command(["audit", str(path), "--shadows", "0", "--attacks", "loss"]) == 0
    return path


@pytest.fixture
def mine(audited: Path, tmp_path: Path) -> Path:
    """A copy of it to change."""
    shutil.copytree(audited, tmp_path / "mine")
    return tmp_path / "mine"


def change_audit(path: Path, **values: Any) -> None:
    file = path / "audit.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_a_whole_report_follows_the_schema_for_every_audience(audited: Path) -> None:
    schema = report_schema()
    for audience in AUDIENCES:
        report = built(audited, audience=audience)
        jsonschema.validate(report_content(report), schema)
        assert read_report(canonical_json(report), "r.json") == report
        assert len(report.summary) == 9


def test_the_run_without_changes_has_nothing_bad(audited: Path) -> None:
    answers = said(audited)
    assert not [key for key, (tone, _) in answers.items() if tone == "bad"]
    assert "attacks (quick suite)" in answers["attacked"][1]
    assert "Observers could show epsilon" in answers["attacked"][1]


def test_a_missing_audit(mine: Path, audited: Path) -> None:
    (mine / "audit.json").unlink()
    tone, text = said(mine)["attacked"]
    assert (tone, "NOT TESTED" in text) == ("open", True)
    assert said(mine)["odds"] == said(audited)["odds"]


def test_an_audit_that_contradicts_the_claim(mine: Path) -> None:
    line = "loss (outsider) shows an epsilon of at least 9.53, the claim is 8.00"
    change_audit(mine, contradictions=[line], verdict="contradiction")
    answers = said(mine)
    assert answers["attacked"][0] == answers["odds"][0] == "bad"
    assert line in answers["attacked"][1]


def test_an_audit_that_passed_a_rule(mine: Path) -> None:
    change_audit(mine, risks=["auc>0.5: loss (outsider)"], verdict="risk")
    tone, text = said(mine)["attacked"]
    assert (tone, "RISK RULE WAS PASSED" in text) == ("bad", True)


@pytest.mark.parametrize(
    ("kind", "key", "words"),
    [
        ("inf", "protected", "NOT PRIVATE"),
        ("inf", "odds", "50:50 to 100:0"),
        ("reproducible", "protected", "test mode"),
        ("reproducible", "odds", "nothing is promised"),
        ("ckks", "left-sites", "WEAKER"),
        ("json", "left-sites", "NOT ENCRYPTED"),
        ("dropped", "trained", "DROPPED OUT: site-02"),
    ],
)
def test_what_is_weaker_about_a_run_is_said_loudly(
    report_run: Callable[[str], Path], kind: str, key: str, words: str
) -> None:
    tone, text = said(report_run(kind))[key]
    assert tone == "bad"
    assert words in text
    base = said(report_run("dp"))
    assert words not in base[key][1]


@pytest.mark.parametrize("kind", ["shared", "fine-tuned", "secure"])
def test_other_kinds_of_runs_have_a_report(report_run: Callable[[str], Path], kind: str) -> None:
    for audience in AUDIENCES:
        content = report_content(built(report_run(kind), audience=audience))
        jsonschema.validate(content, report_schema())


def test_an_overspent_budget(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny: Callable[..., Any],
    tiny_options: Callable[..., list[str]],
) -> None:
    """An officer who lowers a cap below what is spent is told so by every later report."""
    monkeypatch.setenv("PRIVFIN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PRIVFIN_ANCHORS", str(tmp_path / "anchors"))
    Ledger.create(tmp_path / "home", name="North General").close()
    write_template(tmp_path / "home" / "policy.toml")
    config = tiny()
    with Ledger.open(tmp_path / "home") as ledger:
        ledger.set_cap("lungs", Decimal(9), Decimal("1e-5"), officer="Ann Lee", reason="")
        (key,) = dataset_keys(config)
        ids = list(load_source(config).dataset.patients())
        ledger.bind([DataSet(key, "data", ids)], "lungs", officer="Ann Lee")
    path = tmp_path / "run"
    assert command(["train", *tiny_options(), "--epsilon", "3", "--out", str(path)]) == 0
    tone, text = said(path)["budget"]
    assert tone != "bad"
    assert "lungs" in text
    with Ledger.open(tmp_path / "home") as ledger:
        ledger.set_cap("lungs", Decimal(2), Decimal("1e-5"), officer="Ann Lee", reason="less")
    tone, text = said(path)["budget"]
    assert (tone, "OVER BUDGET" in text) == ("bad", True)


def test_a_damaged_file_is_named(mine: Path) -> None:
    statement = json.loads((mine / "privacy.json").read_text())
    del statement["observers"]
    (mine / "privacy.json").write_text(json.dumps(statement))
    with pytest.raises(UserInputError, match=r"privacy\.json is damaged"):
        built(mine)


def test_a_number_too_large_for_a_float_is_no_internal_error(mine: Path) -> None:
    statement = json.loads((mine / "privacy.json").read_text())
    statement["observers"]["outsider"]["certainty_of_epsilon_alone"] = 10**400
    (mine / "privacy.json").write_text(json.dumps(statement))
    with pytest.raises(UserInputError, match=r"privacy\.json is damaged"):
        built(mine)


def test_a_verdict_milder_than_the_bounds_is_refused(mine: Path) -> None:
    attacks = json.loads((mine / "audit.json").read_text())["attacks"]
    attacks[0]["epsilon_bound"] = 50.0
    change_audit(mine, attacks=attacks)
    with pytest.raises(UserInputError, match="its own rows say 'contradiction'"):
        built(mine)
    change_audit(mine, attacks=attacks, verdict="contradiction", contradictions=["loss: 50"])
    assert {one.key: one.tone for one in built(mine).summary}["attacked"] == "bad"


def test_a_finding_that_the_verdict_hides_is_refused(mine: Path) -> None:
    change_audit(mine, risks=["auc>0.5: loss"])
    with pytest.raises(UserInputError, match="its own rows say 'risk'"):
        built(mine)


def test_an_audit_of_another_model_is_refused(mine: Path, finished_runs: Any) -> None:
    other = finished_runs("inf").path / "model.safetensors"
    shutil.copyfile(other, mine / "model.safetensors")
    with pytest.raises(UserInputError, match="audit of another model"):
        built(mine)


def test_a_damaged_model_gets_no_report(mine: Path) -> None:
    (mine / "audit.json").unlink()
    model = mine / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-100])
    with pytest.raises(UserInputError, match=r"model\.safetensors"):
        built(mine)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.update(unit="record"), "another unit"),
        (lambda s: s.update(not_covered=s["not_covered"][1:]), "not_covered lacks"),
        (lambda s: s.update(assumptions=[]), "does not state poisson-sampling as checked"),
        (lambda s: s["assumptions"][-1].update(status="checked"), "settings-chosen-in-advance"),
    ],
)
def test_a_statement_that_leaves_something_out_is_refused(
    mine: Path, change: Callable[[dict[str, Any]], None], named: str
) -> None:
    statement = json.loads((mine / "privacy.json").read_text())
    change(statement)
    (mine / "privacy.json").write_text(json.dumps(statement))
    with pytest.raises(UserInputError, match=named):
        built(mine)
