"""What verifying says of a report that is as it was sealed, and of what it cannot check."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privfin.errors import UserInputError
from privfin.privacy.ledger import Ledger
from privfin.reporting.facts import derived, measured, not_applicable, not_assessed
from privfin.reporting.schema import Report
from privfin.reporting.sealing import verify_run
from privfin.reporting.sealing.canonical import digest
from privfin.reporting.sealing.checks import Check
from privfin.reporting.sealing.seal import seal, statement
from privfin.reporting.sealing.verify import seal_beside, verify_report

Make = Callable[..., Any]
ENDINGS = (".json", ".html", ".md", ".seal.json")


def one_of(checks: list[Check], subject: str) -> Check:
    (found,) = (one for one in checks if one.subject == subject)
    return found


def test_a_whole_report_holds_in_everything(sealed_report: Make) -> None:
    made = sealed_report()
    for ending in ENDINGS:
        checks = made.check(ending, public_key=made.key.public)
        assert {one.holds for one in checks} == {True}, checks
        assert {one.subject for one in checks} == {
            "report-officer.seal.json", "report-officer.json", "report-officer.html",
            "report-officer.md", "signature", "signer", "report", "fingerprint", "run id",
            "run/manifest.json", "run/model.safetensors", "run/metrics.json", "run/privacy.json",
            "run/events.jsonl", "run/audit.json", "epsilon", "ledger head", "ledger",
        }  # fmt: skip
        assert checks[0].subject == "report-officer.seal.json"
    assert made.check(".md")[3].subject == "report-officer.md"


def test_a_ledger_that_goes_on_still_holds(sealed_report: Make) -> None:
    made = sealed_report()
    with Ledger.open(made.home) as ledger:
        ledger.set_cap("hearts", Decimal(1), Decimal("1e-5"), officer="Ann", reason="")
    assert one_of(made.check(), "ledger").holds is True


def test_what_cannot_be_checked_is_said_and_is_no_failure(
    sealed_report: Make, tmp_path: Path
) -> None:
    made = sealed_report()
    page = tmp_path / "sent"
    page.mkdir()
    for ending in (".html", ".seal.json"):
        shutil.copy(made.file(ending), page)
    checks = verify_report(page / "report-officer.html", ledger_home=tmp_path / "nowhere")
    unchecked = {one.subject: one.words for one in checks if one.holds is None}
    assert unchecked.keys() == {
        "signer", "report-officer.json", "report-officer.md", "report", "run", "ledger",
    }  # fmt: skip
    assert "by another way" in unchecked["signer"]
    assert "--run" in unchecked["run"]
    assert "--anchor" in unchecked["ledger"]
    assert not [one for one in checks if one.holds is False]
    # With the run beside it, only what needs the report's JSON stays open.
    checks = verify_report(
        page / "report-officer.html", run=made.run, ledger_home=tmp_path / "nowhere"
    )
    assert one_of(checks, "run/model.safetensors").holds is True
    assert one_of(checks, "epsilon") == Check("epsilon", None, "needs the report's JSON file")


def test_a_seal_that_nobody_signed_is_said_to_find_accidents_only(sealed_report: Make) -> None:
    made = sealed_report(signed=False)
    found = one_of(made.check(), "signature")
    assert found.holds is None
    assert found.words == "nobody signed: this finds accidents, not forgery"
    assert made.wrong() == set()


def test_the_key_is_named_and_compared(sealed_report: Make) -> None:
    made = sealed_report()
    assert made.key.public in one_of(made.check(), "signature").words
    other = "ab" * 32
    assert made.wrong(public_key=other) == {"signer"}
    assert other in one_of(made.check(public_key=other), "signer").words


def test_a_missing_seal_or_an_unsealed_file_fails(sealed_report: Make) -> None:
    made = sealed_report()
    extra = made.file(".pdf")
    extra.write_bytes(b"%PDF")
    assert made.wrong(".pdf") == {"report-officer.pdf"}
    made.file(".seal.json").unlink()
    (found,) = made.check()
    assert found.holds is False
    assert "missing" in found.words


def test_a_run_without_ledger_or_hashes_says_so(sealed_report: Make) -> None:
    made = sealed_report(
        ledger__head=not_applicable("no ledger counts this run", "run"),
        reproducibility__files=not_assessed("withheld", "release class"),
    )
    checks = made.check()
    assert one_of(checks, "ledger head").holds is None
    assert one_of(checks, "run").holds is None
    assert made.wrong() == set()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"guarantee__epsilon": derived(7.0, "privacy.json")}, "the report states 7, calculated"),
        ({"guarantee__delta": measured(1e-4, "privacy.json")}, "the same delta"),
        ({"guarantee__claim": measured("dp, surely", "privacy.json")}, "do not claim the same"),
    ],
)
def test_a_report_that_states_another_guarantee_than_its_run_fails(
    sealed_report: Make, changes: dict[str, Any], words: str
) -> None:
    """Also where everything is signed as it is written."""
    made = sealed_report(**changes)
    assert made.wrong() == {"epsilon"}
    assert words in one_of(made.check(), "epsilon").words


@pytest.mark.parametrize(
    ("release_class", "stated", "wrong"),
    [
        ("public", 8.0, set()),
        ("public", 7.9391, {"epsilon"}),
        ("public", 7.9, {"epsilon"}),
        ("public", 9.0, {"epsilon"}),
        ("internal", 7.9391, set()),
        ("internal", 8.0, {"epsilon"}),
    ],
)
def test_a_public_copy_holds_if_it_rounds_up_what_the_run_cost(
    sealed_report: Make,
    monkeypatch: pytest.MonkeyPatch,
    release_class: str,
    stated: float,
    wrong: set[str],
) -> None:
    """Its epsilon is that of the run made coarse, and no other."""
    monkeypatch.setattr(verify_run, "_recomputed", lambda privacy, run: 7.9391)
    made = sealed_report(
        report__release_class=derived(release_class, "audience"),
        guarantee__epsilon=derived(stated, "privacy.json"),
    )
    assert made.wrong() == wrong


def test_files_that_a_public_copy_names_no_hash_of_are_said_to_be_unchecked(
    sealed_report: Make,
) -> None:
    kept = ({"file": "model.safetensors", "sha256": "0" * 64},)
    made = sealed_report(
        report__release_class=derived("public", "audience"),
        reproducibility__files=measured(kept, "files"),
    )
    checks = made.check()
    assert one_of(checks, "run/model.safetensors").holds is False
    for name in ("manifest.json", "metrics.json", "privacy.json"):
        assert one_of(checks, f"run/{name}").holds is None


@pytest.mark.parametrize(
    ("release_class", "stated", "wrong"),
    [("public", 1e-4, set()), ("public", 2e-5, {"epsilon"}), ("internal", 1e-4, {"epsilon"})],
)
def test_a_public_copy_states_delta_as_a_power_of_ten(
    sealed_report: Make, release_class: str, stated: float, wrong: set[str]
) -> None:
    made = sealed_report(
        report__release_class=derived(release_class, "audience"),
        guarantee__delta=measured(stated, "privacy.json"),
        guarantee__epsilon=derived(8.0, "privacy.json"),
        reproducibility__files=not_assessed("withheld", "release class"),
    )
    path = made.run / "privacy.json"
    content = json.loads(path.read_text())
    content["population"]["delta"] = 2e-5
    path.write_text(json.dumps(content))
    found = one_of(made.check(), "epsilon")
    assert (found.words == "report and privacy.json do not state the same delta") is bool(wrong)


def test_a_privacy_statement_that_does_not_follow_from_its_steps_fails(
    sealed_report: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epsilon comes from noise, rate and steps, not from the number beside them."""
    files = not_assessed("withheld", "release class")
    made = sealed_report(reproducibility__files=files)
    path = made.run / "privacy.json"
    content = json.loads(path.read_text())
    for site in content["sites"]:
        site["steps"] += 1
    path.write_text(json.dumps(content))
    assert made.wrong() == {"epsilon"}
    for damage in ({}, {"claim": "dp"}, {**content, "sites": [{}]}, {**content, "sites": []},
                   {**content, "population": 3}, {**content, "sites": None}):  # fmt: skip
        path.write_text(json.dumps(damage))
        assert made.wrong() == {"epsilon"}, damage
    monkeypatch.setattr(verify_run, "_GAUSSIAN", "another mechanism")  # then plan and events say it
    path.write_text(json.dumps(content))
    assert made.wrong() == set()


def test_a_run_without_privacy_states_no_epsilon(sealed_report: Make) -> None:
    made = sealed_report(kind="inf")
    assert made.wrong() == set()
    assert "inf at delta" in one_of(made.check(), "epsilon").words


def test_persons_at_several_sites_are_charged_for_all(sealed_report: Make) -> None:
    """The headline is then the composition over sites, which privacy.json states too."""
    made = sealed_report(reproducibility__files=not_assessed("withheld", "release class"))
    path = made.run / "privacy.json"
    content = json.loads(path.read_text())
    content["population"]["no_person_at_two_sites"] = "unknown"
    path.write_text(json.dumps(content))
    again = verify_run._recomputed(content, made.run)
    assert again == pytest.approx(content["population"]["epsilon_at_every_site"], rel=1e-9)
    assert made.wrong() == {"epsilon"}


@pytest.mark.parametrize(
    "page",
    [
        "<p>SHA-256: {0}</p>",
        "<!-- <p id='fingerprint'>{0}</p> -->",
        "<p id='fingerprint'></p>{0}",
        "<p id='fingerprint'>{0}</p><p id='fingerprint'>{0}</p>",
        "<p id='fingerprint'>{0}</p><p id='fingerprint'> is not it</p>",
        "<p id='fingerprint'>{0} {1}</p>",
        "<p id='fingerprint'>{0}0</p>",
        "<p id='fingerprint'>{1}</p>{0}",
        "<script>document.write(\"<p id='fingerprint'>{0}</p>\")</script>",
        "<p id='finger\xff",
        "<![ not html",
    ],
)  # fmt: skip
def test_a_page_with_no_or_another_fingerprint_fails(sealed_report: Make, page: str) -> None:
    made = sealed_report()
    content = page.format(digest(made.report), "ab" * 32).encode("latin-1")
    reseal(made, {".html": content})
    assert made.wrong(public_key=made.key.public) == {"fingerprint"}


@pytest.mark.parametrize(
    "page",
    [
        "<p>x<div id=fingerprint>SHA-256: <div>{0}</div></div>",
        "<code id='fingerprint'><br>SHA-256:&nbsp;{0}</code><p>{1}",
    ],
)
def test_a_page_that_shows_it_holds(sealed_report: Make, page: str) -> None:
    made = sealed_report()
    reseal(made, {".html": page.format(digest(made.report), "ab" * 32).encode()})
    assert made.wrong() == set()


def reseal(made: Any, contents: dict[str, bytes], report: Report | None = None) -> None:
    """Other files, sealed with the report's own key."""
    for ending, content in contents.items():
        made.file(ending).write_bytes(content)
    files = {made.file(e).name: made.file(e).read_bytes() for e in (".json", ".html", ".md")}
    sealed = statement(report or made.report, files)
    made.file(".seal.json").write_bytes(seal(sealed, made.key))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"report__report_id": measured("ff" * 16, "random")}, "SHA-256"),
        ({"report__run_id": measured("ff" * 16, "manifest.json")}, "SHA-256"),
    ],
)
def test_a_seal_of_another_report_fails(
    sealed_report: Make, sample_report: Make, changes: dict[str, Any], words: str
) -> None:
    made = sealed_report()
    reseal(made, {}, sample_report(**changes))
    found = one_of(made.check(), "report")
    assert found.holds is False
    assert words in found.words


def test_a_seal_that_says_other_things_than_its_report_fails(sealed_report: Make) -> None:
    made = sealed_report()
    files = {made.file(e).name: made.file(e).read_bytes() for e in (".json", ".html", ".md")}
    honest = statement(made.report, files)
    said = honest.predicate
    for what, changes in (
        ("report id", {"report_id": "ff"}),
        ("run id", {"run_id": "ff"}),
        ("schema version", {"schema_version": "9"}),
        ("ledger head", {"ledger_head": None}),
    ):
        other = honest.model_copy(update={"predicate": said.model_copy(update=changes)})
        write_with_checksum(made, other)
        found = one_of(made.check(), "report")
        assert found == Check("report", False, f"report and seal differ in the {what}")
    fewer = tuple(one for one in honest.subject if one.name != "run/model.safetensors")
    write_with_checksum(made, honest.model_copy(update={"subject": fewer}))
    found = one_of(made.check(), "report")
    assert found.words == "report and seal differ in the list of the run's files"


def write_with_checksum(made: Any, other: Any) -> None:
    from privfin.reporting.sealing.seal import Statement, _checksum

    content = other.model_dump(mode="json", by_alias=True)
    content["predicate"]["checksum"] = _checksum(content)
    made.file(".seal.json").write_bytes(seal(Statement.model_validate(content), made.key))


NO_REPORTS = ["", "[]", "{", '{"schema_version":"9"}', '{"schema_version":"1.0"}', "[" * 10**6]


@pytest.mark.parametrize("text", [*NO_REPORTS, "\ud800"])
def test_a_sealed_file_that_is_no_report_fails(sealed_report: Make, text: str) -> None:
    made = sealed_report()
    reseal(made, {".json": text.encode("utf-8", "surrogatepass")})
    assert made.wrong() == {"report"}


def test_a_report_with_other_spaces_or_doubled_keys_fails(sealed_report: Make) -> None:
    made = sealed_report()
    text = made.file(".json").read_bytes()
    for other in (text + b"\n", b'{"schema_version":"1.0",' + text[1:]):
        reseal(made, {".json": other})
        assert made.wrong() == {"report"}
        assert "canonical form" in one_of(made.check(), "report").words


# Whatever lies there, it is a check that fails: never an exception, never silence.


def put_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def put_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def put_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


@pytest.mark.parametrize("put", [put_folder, put_pipe, put_loop])
def test_what_is_no_file_fails(sealed_report: Make, put: Callable[[Path], None]) -> None:
    made = sealed_report()
    put(made.file(".html"))
    assert made.wrong() == {"report-officer.html"}
    put(made.run / "metrics.json")
    assert made.wrong() == {"report-officer.html", "run/metrics.json"}
    put(made.run / "manifest.json")
    assert "run id" in made.wrong()
    put(made.file(".seal.json"))
    assert made.wrong() == {"report-officer.seal.json"}


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.sampled_from([".json", ".html", ".seal.json", "manifest.json", "privacy.json"]),
       content=st.binary(max_size=80) | st.text(max_size=20).map(str.encode)
       | st.sampled_from([b"{}", b"[]", b"null", b'{"run_id": {}}', b"[" * 10**5]))  # fmt: skip
def test_any_content_is_a_failed_check(whole: Any, place: str, content: bytes) -> None:
    path = whole.run / place if place[0] != "." else whole.file(place)
    name = f"run/{place}" if place[0] != "." else path.name
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        assert name in {one.subject for one in whole.check(".md") if one.holds is False}
    finally:
        path.write_bytes(before)


@pytest.fixture
def whole(sealed_report: Make) -> Any:
    return sealed_report()


def test_words_of_a_forged_file_cannot_steer_a_terminal(sealed_report: Make) -> None:
    made = sealed_report()
    reseal(made, {".json": b'{"schema_version":"1.0","\\u001b[2J\\nholds":1}'})
    words = one_of(made.check(), "report").words
    assert "\x1b" not in words
    assert "\n" not in words


# What is asked for wrongly.


def test_bad_input_is_refused(sealed_report: Make, tmp_path: Path) -> None:
    made = sealed_report()
    file = made.file(".json")
    for words, call in (
        ("is not a file", lambda: verify_report(tmp_path / "none.json")),
        ("is not a file", lambda: verify_report(tmp_path)),
        ("is not a directory", lambda: verify_report(file, run=file)),
        ("is not a public key", lambda: verify_report(file, public_key="ab")),
        ("is not a file of privfin report", lambda: verify_report(made.run / "model.safetensors")),
    ):
        with pytest.raises(UserInputError, match=words):
            call()


def test_every_file_has_its_seal_beside_it() -> None:
    for ending in (".html", ".json", ".md", ".pdf", ".registry.yaml", ".cdx.json", ".seal.json"):
        assert seal_beside(Path("a/report-x" + ending)) == Path("a/report-x.seal.json")
