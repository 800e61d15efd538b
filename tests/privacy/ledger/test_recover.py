"""Recovery of a ledger from an export: what it needs, what it refuses, what it costs."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from privfin.errors import BudgetError, LedgerError, UserInputError
from privfin.files import write_json
from privfin.privacy.composition import EnvelopeEvent, Spend
from privfin.privacy.ledger import (
    DataSet,
    DatasetKey,
    Ledger,
    LedgerHead,
    Recovery,
    recover_ledger,
    verify_ledger,
)
from privfin.privacy.ledger.export import export_rows, read_export

KEY = DatasetKey("openi", "/data/openi")
PATIENTS = [f"p{i}" for i in range(100)]
TWO = Spend(((EnvelopeEvent(1.0, 0.0),) * 2,))
ONE = Spend(((EnvelopeEvent(1.0, 0.0),),))


def reserve(ledger: Ledger, run: str) -> Any:
    binding = ledger.binding_of(KEY)
    assert binding is not None
    return ledger.reserve(run, [binding], TWO, kind="train", config_digest="c", delta=1e-5)


def export(home: Path, file: Path) -> Path:
    with Ledger.open(home) as ledger:
        write_json(file, export_rows(home, ledger.head()))
    return file


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger with an open run, exported to early.json, and one more row in late.json."""
    monkeypatch.setenv("PRIVFIN_ANCHORS", str(tmp_path / "anchors"))
    home = tmp_path / "home"
    with Ledger.create(home, name="Clinic") as ledger:
        ledger.set_cap("lungs", Decimal(8), Decimal("1e-5"), officer="Ann", reason="")
        ledger.bind([DataSet(KEY, "openi", PATIENTS)], "lungs", officer="Ann")
        run = reserve(ledger, "a")
    export(home, tmp_path / "early.json")
    with Ledger.open(home) as ledger:
        ledger.start(run, ONE)
    export(home, tmp_path / "late.json")
    return home


def lose(home: Path, *names: str) -> None:
    for name in ("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm", *names):
        (home / name).unlink(missing_ok=True)


def recover(home: Path, file: str, **options: Any) -> Recovery:
    rows, head = read_export(home.parent / file)
    return recover_ledger(home, rows, head, **{"officer": "Ann", "reason": "disk", **options})


def test_a_full_export_brings_everything_back_but_who_the_patients_are(home: Path) -> None:
    with Ledger.open(home) as ledger:
        before, run = ledger.status()[0], ledger.reservation("a")
    lose(home)
    assert recover(home, "late.json").rows_lost == 0
    assert verify_ledger(home) == []
    with Ledger.open(home) as ledger:
        after = ledger.status()[0]
        assert (after.epsilon, after.reserved, after.left, after.runs) == (
            before.epsilon, before.reserved, before.left, before.runs,
        )  # fmt: skip
        assert ledger.reservation("a") == run
        binding = ledger.binding_of(KEY)
        assert binding is not None
        with pytest.raises(LedgerError, match="budget bind for it again"):
            ledger.check_patients(binding, PATIENTS)
        with pytest.raises(BudgetError, match="stays there"):
            ledger.bind([DataSet(KEY, "openi", PATIENTS)], "fresh", officer="Ann")
        with pytest.raises(LedgerError, match="lost in a recovery"):
            ledger.bind(
                [DataSet(DatasetKey("openi", "/copy"), "x", PATIENTS)], "fresh", officer="Ann"
            )
        ledger.bind([DataSet(KEY, "openi", PATIENTS)], "lungs", officer="Ann")
        ledger.check_patients(binding, PATIENTS)
        assert run is not None
        ledger.settle(ledger.start(run, TWO))
    assert verify_ledger(home) == []


def test_an_export_that_ends_before_the_anchor_is_refused(home: Path) -> None:
    lose(home)
    with pytest.raises(LedgerError, match="1 rows of it are lost"):
        recover(home, "early.json")
    shutil.rmtree(home.parent / "anchors")
    with pytest.raises(LedgerError, match="no anchor says"):
        recover(home, "late.json")
    assert not (home / "ledger.sqlite").exists()


@pytest.mark.parametrize("anchored", [True, False])
def test_accepted_loss_withdraws_caps_and_charges_open_runs_in_full(
    home: Path, anchored: bool
) -> None:
    lose(home)
    if not anchored:
        shutil.rmtree(home.parent / "anchors")
    found = recover(home, "early.json", accept_loss=True)
    assert found.rows_lost == (1 if anchored else None)
    assert found.caps_withdrawn
    assert verify_ledger(home) == []
    with Ledger.open(home) as ledger:
        run = ledger.reservation("a")
        assert run is not None
        assert run.charged == TWO
        for go_on in (lambda: ledger.abandon(run, "x"), lambda: ledger.start(run, TWO)):
            with pytest.raises(LedgerError, match="is settled"):
                go_on()
        with pytest.raises(BudgetError, match="has no cap"):
            reserve(ledger, "b")
        cap = ("lungs", Decimal(8), Decimal("1e-5"))
        with pytest.raises(UserInputError, match="reason"):
            ledger.set_cap(*cap, officer="Ann", reason="")
        ledger.set_cap(*cap, officer="Ann", reason="counted by hand")
        assert 5.9 < ledger.status()[0].left <= 6.0


def test_a_head_from_elsewhere_shows_a_loss_that_the_anchor_does_not(home: Path) -> None:
    late = read_export(home.parent / "late.json")[1]
    lose(home)
    anchors = home.parent / "anchors"
    shutil.rmtree(anchors)
    with pytest.raises(LedgerError, match="1 rows"):
        recover(home, "early.json", heads=[late])
    bad = LedgerHead.from_dict({**late.to_dict(), "hash": "0" * 64})
    with pytest.raises(LedgerError, match="not signed"):
        recover(home, "early.json", heads=[bad], accept_loss=True)


def test_changed_exports_and_live_ledgers_are_refused(home: Path) -> None:
    with pytest.raises(LedgerError, match="is there"):
        recover(home, "late.json", accept_loss=True)
    lose(home)
    file = home.parent / "late.json"
    file.write_text(file.read_text().replace("Ann", "Eve", 1))
    with pytest.raises(LedgerError, match="not whole: row 2 was changed"):
        recover(home, "late.json", accept_loss=True)
    with pytest.raises(UserInputError, match="reason"):
        recover(home, "early.json", accept_loss=True, reason=" ")
    assert not (home / "ledger.sqlite").exists()


def test_a_lost_key_is_replaced_only_when_asked_and_old_heads_still_verify(home: Path) -> None:
    old = read_export(home.parent / "late.json")[1]
    lose(home, "ledger.key", "fingerprint.key")
    with pytest.raises(LedgerError, match="--new-key"):
        recover(home, "late.json")
    found = recover(home, "late.json", new_key=True)
    assert found.new_key
    assert found.head.public_key != old.public_key
    assert verify_ledger(home, [old, found.head]) == []
    with Ledger.open(home) as ledger:
        assert ledger.binding_of(KEY) is None  # its name was keyed by the lost key
        with pytest.raises(LedgerError, match="lost in a recovery"):
            ledger.bind([DataSet(KEY, "openi", PATIENTS)], "fresh", officer="Ann")
        ledger.bind([DataSet(KEY, "openi", PATIENTS)], "lungs", officer="Ann")
        assert ledger.status()[0].reserved > 1.9
    assert verify_ledger(home) == []


def test_a_foreign_key_beside_the_export_is_refused(home: Path) -> None:
    lose(home)
    (home / "ledger.key").write_bytes(bytes(32))
    with pytest.raises(LedgerError, match="not the key of this ledger"):
        recover(home, "late.json", new_key=True)


def test_a_disk_that_fails_leaves_nothing_behind(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(home, "ledger.key")
    monkeypatch.setattr("os.rename", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(LedgerError):
        recover(home, "late.json", new_key=True)
    monkeypatch.undo()
    assert sorted(p.name for p in home.iterdir()) == ["fingerprint.key"]
