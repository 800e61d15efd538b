"""What is changed after a report was sealed is found, and named."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privfin.privacy.ledger import DataSet, DatasetKey, Ledger
from privfin.reporting.facts import measured
from privfin.reporting.schema import report_content
from privfin.reporting.sealing.canonical import canonical_json, digest
from privfin.reporting.sealing.seal import seal, statement
from privfin.reporting.sealing.signing import ReportKey

Make = Callable[..., Any]

#: Each file, its name in the answer, and what else can be wrong because of it.
PLACES: dict[str, tuple[str, set[str]]] = {
    ".json": ("report-officer.json", {"report"}),
    ".html": ("report-officer.html", {"fingerprint"}),
    ".md": ("report-officer.md", set()),
    "model.safetensors": ("run/model.safetensors", set()),
    "metrics.json": ("run/metrics.json", set()),
    "audit.json": ("run/audit.json", set()),
    "events.jsonl": ("run/events.jsonl", set()),
    "manifest.json": ("run/manifest.json", {"run id"}),
    "privacy.json": ("run/privacy.json", set()),
}


@pytest.fixture
def made(sealed_report: Make) -> Any:
    """A signed report that holds."""
    found = sealed_report()
    assert found.wrong(public_key=found.key.public) == set()
    return found


@pytest.fixture
def unsigned(sealed_report: Make) -> Any:
    """A report whose seal nobody signed; it holds."""
    found = sealed_report(signed=False)
    assert found.wrong() == set()
    return found


def path_of(made: Any, place: str) -> Path:
    return made.file(place) if place.startswith(".") else made.run / place


@contextmanager
def replaced(path: Path, content: bytes) -> Iterator[None]:
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


def flipped(content: bytes, at: int, mask: int) -> bytes:
    return content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :]


def positions(content: bytes, count: int = 20) -> list[tuple[int, int]]:
    """First and last byte, and others at random; each with another mask."""
    rng = random.Random(len(content))
    at = [0, len(content) - 1, *(rng.randrange(len(content)) for _ in range(count))]
    return [(one, rng.randint(1, 255)) for one in at]


@pytest.mark.parametrize("place", PLACES)
def test_one_changed_byte_is_found_and_its_file_named(made: Any, place: str) -> None:
    path, (name, others) = path_of(made, place), PLACES[place]
    content = path.read_bytes()
    for at, mask in positions(content):
        with replaced(path, flipped(content, at, mask)):
            wrong = made.wrong(public_key=made.key.public)
            assert name in wrong, (at, mask)
            assert wrong <= {name, *others}, (at, mask)
    for other in (content[:-1], content + b"\n", content[1:], b"", content + content):
        with replaced(path, other):
            assert name in made.wrong(".md")
    assert made.wrong() == set()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(sorted(PLACES)), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_any_byte_of_any_file(made: Any, place: str, where: float, mask: int) -> None:
    path = path_of(made, place)
    content = path.read_bytes()
    with replaced(path, flipped(content, int(where * len(content)), mask)):
        assert PLACES[place][0] in made.wrong()


@pytest.mark.parametrize("signed", [True, False])
def test_a_changed_byte_of_the_seal_is_found(sealed_report: Make, signed: bool) -> None:
    """It is unreadable, or its signature does not fit. Every single byte: see test_seal.py."""
    found = sealed_report(signed=signed)
    path = found.file(".seal.json")
    content = path.read_bytes()
    for at, mask in positions(content, 60):
        with replaced(path, flipped(content, at, mask)):
            assert found.wrong() & {"report-officer.seal.json", "signature"}, (at, mask)
    assert found.wrong() == set()


@pytest.mark.parametrize("name", [one for one in PLACES if not one.startswith(".")])
def test_a_removed_file_of_the_run_is_named(made: Any, name: str) -> None:
    (made.run / name).unlink()
    wrong = made.wrong()
    assert f"run/{name}" in wrong
    assert wrong <= {f"run/{name}", "run id"}


def test_two_files_that_are_swapped_are_both_named(made: Any) -> None:
    first, second = made.run / "metrics.json", made.run / "audit.json"
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)
    assert made.wrong() == {"run/metrics.json", "run/audit.json"}


# The signature.


def envelope(made: Any) -> dict[str, Any]:
    return dict(json.loads(made.file(".seal.json").read_bytes()))


def write_seal(made: Any, content: dict[str, Any]) -> None:
    made.file(".seal.json").write_bytes(rfc8785.dumps(content))


def files(made: Any) -> dict[str, bytes]:
    return {made.file(e).name: made.file(e).read_bytes() for e in (".json", ".html", ".md")}


def forged(made: Any, epsilon: float = 0.5) -> Any:
    """Another report with files to match, as somebody would write it who has everything but the
    key."""
    content = report_content(made.report)
    content["guarantee"]["epsilon"]["value"] = epsilon
    report = type(made.report).model_validate(content)
    made.file(".json").write_bytes(canonical_json(report))
    page = f'<p id="fingerprint">SHA-256: {digest(report)}</p>'
    made.file(".html").write_bytes(page.encode())
    return statement(report, files(made))


def test_a_signature_of_another_seal_does_not_fit(made: Any) -> None:
    """By the same key, over another statement."""
    own = envelope(made)
    other = json.loads(seal(statement(made.report, {"report-officer.md": b"other"}), made.key))
    write_seal(made, {**own, "signatures": other["signatures"]})
    assert made.wrong(public_key=made.key.public) == {"signature", "signer"}
    write_seal(made, {**own, "payload": other["payload"]})
    assert "signature" in made.wrong()


def test_a_signature_under_another_name_does_not_fit(made: Any, tmp_path: Path) -> None:
    content = envelope(made)
    content["signatures"][0]["keyid"] = ReportKey.make(tmp_path / "other").public
    write_seal(made, content)
    assert made.wrong() == {"signature"}


def test_a_second_signature_that_does_not_fit_is_no_decoration(made: Any, tmp_path: Path) -> None:
    content = envelope(made)
    other = ReportKey.make(tmp_path / "other")
    sig = base64.b64encode(other.sign(b"something else")).decode()
    content["signatures"].append({"keyid": other.public, "sig": sig})
    write_seal(made, content)
    assert made.wrong(public_key=made.key.public) == {"signature"}


def test_a_signature_over_the_bare_statement_does_not_fit(made: Any) -> None:
    """Type and length are signed too."""
    content = envelope(made)
    sig = made.key.sign(base64.b64decode(content["payload"]))
    content["signatures"][0]["sig"] = base64.b64encode(sig).decode()
    write_seal(made, content)
    assert "signature" in made.wrong()


def test_a_forged_report_under_the_old_seal_is_named(made: Any) -> None:
    forged(made)
    assert made.wrong() >= {"report-officer.json", "report-officer.html", "report", "epsilon"}


def test_a_seal_without_the_signature_fails_where_a_key_is_expected(made: Any) -> None:
    made.file(".seal.json").write_bytes(base64.b64decode(envelope(made)["payload"]))
    assert made.wrong(public_key=made.key.public) == {"signature"}
    # Without the key it can only be said that nobody signed.
    found = {one.subject: one for one in made.check()}
    assert found["signature"].holds is None
    assert "nobody signed" in found["signature"].words


def test_a_report_forged_and_sealed_anew_without_the_key_fails(made: Any) -> None:
    made.file(".seal.json").write_bytes(seal(forged(made), None))
    assert made.wrong(public_key=made.key.public) == {"signature", "epsilon"}


def test_a_report_forged_and_signed_with_another_key_fails(made: Any, tmp_path: Path) -> None:
    other = ReportKey.make(tmp_path / "other")
    made.file(".seal.json").write_bytes(seal(forged(made), other))
    assert made.wrong(public_key=made.key.public) == {"signer", "epsilon"}
    # Without the expected key the other one is shown, and not taken for anybody's.
    found = {one.subject: one for one in made.check()}
    assert other.public in found["signature"].words
    assert found["signer"].holds is None


def test_a_mended_checksum_is_no_signature(unsigned: Any) -> None:
    """The limit of a seal that nobody signed: who can write the files can mend it. Only the run
    shows it then."""
    unsigned.file(".seal.json").write_bytes(seal(forged(unsigned), None))
    assert unsigned.wrong() == {"epsilon"}
    assert unsigned.wrong(run=None) == set()


# Another report in its place.


def test_a_report_on_another_run_is_found(made: Any, sample_report: Make) -> None:
    """Whole, signed by the right key, about the wrong run."""
    hashes = tuple(
        {"file": one.file, "sha256": hashlib.sha256(one.file.encode()).hexdigest()}
        for one in made.report.reproducibility.files.get()
    )
    other = sample_report(
        report__run_id=measured("ab" * 16, "manifest.json"),
        reproducibility__files=measured(hashes, "files"),
        ledger__head=made.report.ledger.head,
    )
    made.file(".json").write_bytes(canonical_json(other))
    made.file(".html").write_bytes(f'<p id="fingerprint">{digest(other)}</p>'.encode())
    made.file(".seal.json").write_bytes(seal(statement(other, files(made)), made.key))
    assert made.wrong(public_key=made.key.public, run=None) == set()
    assert made.wrong() >= {"run id", "run/model.safetensors", "run/manifest.json"}


def test_an_old_report_is_found_by_what_came_after(made: Any) -> None:
    """Before the audit, with its own seal: all is whole, and the run says more than it does."""
    kept = tuple(one for one in made.report.reproducibility.files.get() if one.file != "audit.json")
    content = report_content(made.report)
    content["reproducibility"]["files"]["value"] = [one.model_dump() for one in kept]
    old = type(made.report).model_validate(content)
    made.file(".json").write_bytes(canonical_json(old))
    made.file(".html").write_bytes(f'<p id="fingerprint">{digest(old)}</p>'.encode())
    made.file(".seal.json").write_bytes(seal(statement(old, files(made)), made.key))
    assert made.wrong(public_key=made.key.public) == {"run/audit.json"}
    (made.run / "audit.json").unlink()
    assert made.wrong(public_key=made.key.public) == set()


def test_an_old_file_beside_a_new_seal_is_named(made: Any) -> None:
    old = files(made)
    new = forged(made, epsilon=7.0)
    made.file(".seal.json").write_bytes(seal(new, made.key))
    made.file(".json").write_bytes(old["report-officer.json"])
    assert made.wrong(public_key=made.key.public) == {"report-officer.json", "report"}


def test_a_seal_of_another_audience_does_not_pass(made: Any) -> None:
    for ending in (".json", ".html", ".md", ".seal.json"):
        shutil.copy(made.file(ending), made.folder / f"report-public{ending}")
    from privfin.reporting.sealing.verify import verify_report

    checks = verify_report(made.folder / "report-public.html", ledger_home=made.home)
    assert "report-public.html" in {one.subject for one in checks if one.holds is False}


# The ledger.


def edit(home: Path, *statements: str) -> None:
    """Change the database as somebody would who knows how it is made."""
    with sqlite3.connect(home / "ledger.sqlite") as connection:
        for table in ("rows", "fingerprints", "places"):
            for action in ("UPDATE", "DELETE"):
                connection.execute(f"DROP TRIGGER IF EXISTS {table}_{action}")
        for one in statements:
            connection.execute(one)
    connection.close()


def lines(made: Any) -> list[str]:
    return [one.words for one in made.check() if one.holds is False and one.subject == "ledger"]


@pytest.mark.parametrize("column", ["time", "kind", "body", "previous", "hash", "signature"])
@pytest.mark.parametrize("row", [1, 3, 6])
def test_a_changed_row_of_the_ledger_is_named(made: Any, column: str, row: int) -> None:
    with sqlite3.connect(made.home / "ledger.sqlite") as connection:
        select = f"SELECT {column} FROM rows WHERE seq = {row}"  # noqa: S608
        (value,) = connection.execute(select).fetchone()
    connection.close()
    rng = random.Random(f"{column} {row}")
    at = rng.randrange(len(value))
    other = value[:at] + ("0" if value[at] != "0" else "1") + value[at + 1 :]
    edit(made.home, f"UPDATE rows SET {column} = '{other}' WHERE seq = {row}")  # noqa: S608
    assert made.wrong() == {"ledger"}
    assert any(f"row {row}" in line for line in lines(made)), lines(made)


def test_a_tail_that_is_cut_off_is_found(made: Any) -> None:
    edit(made.home, "DELETE FROM rows WHERE seq > 4")
    assert made.wrong() == {"ledger"}
    assert "rows were lost: a head says row 6" in lines(made)


def test_an_old_copy_of_ledger_and_anchors_is_found_by_the_report_alone(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_ledger: Make
) -> None:
    """Nothing on the machine remembers the lost rows; the report's head does."""
    copy = tmp_path / "copies"
    home = make_ledger("second")
    for name, place in (("home", home), ("anchors", tmp_path / "anchors")):
        shutil.copytree(place, copy / name)
    with Ledger.open(home) as ledger:
        ledger.set_cap("hearts", Decimal(1), Decimal("1e-5"), officer="Ann", reason="")
        head = ledger.head()
    content = report_content(made.report)
    content["ledger"]["head"]["value"] = head.to_dict()
    report = type(made.report).model_validate(content)
    made.file(".json").write_bytes(canonical_json(report))
    made.file(".html").write_bytes(f'<p id="fingerprint">{digest(report)}</p>'.encode())
    made.file(".seal.json").write_bytes(seal(statement(report, files(made)), made.key))
    assert made.wrong(ledger_home=home) == set()

    def put_back() -> None:
        for name, place in (("home", home), ("anchors", tmp_path / "anchors")):
            shutil.rmtree(place)
            shutil.copytree(copy / name, place)

    put_back()
    found = [one.words for one in made.check(ledger_home=home) if one.holds is False]
    assert found == [f"rows were lost: a head says row {head.seq}"]
    # Going on from the old copy makes another history, which is as long.
    put_back()
    with Ledger.open(home) as ledger:
        ledger.set_cap("hearts", Decimal(9), Decimal("1e-5"), officer="Bob", reason="")
    found = [one.words for one in made.check(ledger_home=home) if one.holds is False]
    assert found == [f"row {head.seq} is not the one that a head saw"]


def test_another_ledger_in_its_place_is_found(made: Any, tmp_path: Path) -> None:
    shutil.rmtree(made.home)
    assert made.wrong() == {"ledger"}
    assert "an anchor says that there was one" in lines(made)[0]
    # A new one cannot be made there by the program, so somebody moves one in.
    with Ledger.create(tmp_path / "elsewhere", name="Clinic") as ledger:
        ledger.bind([DataSet(DatasetKey("openi", "/x"), "openi", ["p"])], "lungs", officer="Ann")
    shutil.move(tmp_path / "elsewhere", made.home)
    assert made.wrong() == {"ledger"}
    assert any("another ledger" in line for line in lines(made))


def test_a_ledger_that_was_never_that_of_the_report_is_no_failure(
    made: Any, make_ledger: Make
) -> None:
    home = make_ledger("of somebody else")
    found = {one.subject: one for one in made.check(ledger_home=home)}
    assert found["ledger"].holds is None
    assert "is another one" in found["ledger"].words


@pytest.mark.parametrize("field", ["ledger_id", "seq", "hash", "public_key", "signature"])
def test_a_forged_head_is_found_in_a_seal_that_is_whole(made: Any, field: str) -> None:
    content = report_content(made.report)
    head = content["ledger"]["head"]["value"]
    head[field] = 5 if field == "seq" else ("0" if head[field][0] != "0" else "1") + head[field][1:]
    report = type(made.report).model_validate(content)
    made.file(".json").write_bytes(canonical_json(report))
    made.file(".html").write_bytes(f'<p id="fingerprint">{digest(report)}</p>'.encode())
    made.file(".seal.json").write_bytes(seal(statement(report, files(made)), made.key))
    assert made.wrong(public_key=made.key.public) == {"ledger head"}


def test_a_database_that_is_none_any_more_is_found(made: Any) -> None:
    content = (made.home / "ledger.sqlite").read_bytes()
    for other in (b"", b"no database", content[: len(content) // 2], b"\0" * len(content)):
        with replaced(made.home / "ledger.sqlite", other):
            for beside in ("-wal", "-shm"):
                (made.home / f"ledger.sqlite{beside}").unlink(missing_ok=True)
            assert made.wrong() == {"ledger"}
