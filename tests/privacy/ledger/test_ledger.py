"""The ledger: what it admits, what it refuses, what it survives, and which tampering it finds."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from privfin.errors import BudgetError, LedgerError, UserInputError
from privfin.privacy.accounting import SubsampledGaussianEvent
from privfin.privacy.composition import EnvelopeEvent, Spend
from privfin.privacy.ledger import Binding, DatasetKey, Ledger, verify_ledger

KEY = DatasetKey("openi", "/data/openi")


def steps(count: int, noise: float = 1.0) -> Spend:
    return Spend(((SubsampledGaussianEvent(noise, 0.05, count),),))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRIVFIN_ANCHORS", str(tmp_path / "anchors"))
    with Ledger.create(tmp_path / "home", name="Clinic") as ledger:
        ledger.set_cap("lungs", Decimal(8), Decimal("1e-5"), officer="Ann", reason="")
        ledger.bind(KEY, "openi", "lungs", (f"p{i}" for i in range(100)), officer="Ann")
    return tmp_path / "home"


def bound(ledger: Ledger) -> Binding:
    found = ledger.binding_of(KEY)
    assert found is not None
    return found


def reserve(ledger: Ledger, run: str, spend: Spend):  # type: ignore[no-untyped-def]
    return ledger.reserve(run, [bound(ledger)], spend, kind="train", config_digest="c", delta=1e-5)


def test_a_crashed_run_counts_in_full_and_a_settled_one_what_it_started(home: Path) -> None:
    with Ledger.open(home) as ledger:
        run = reserve(ledger, "a", steps(100))
        ledger.start(run, steps(10))
        full = ledger.status()[0]
    with Ledger.open(home) as ledger:  # nothing was settled
        assert ledger.status()[0] == full
        assert full.spent == 0.0
        ledger.settle(run)
        after = ledger.status()[0]
        assert 0.0 < after.spent < full.reserved
        assert after.reserved == 0.0
        with pytest.raises(LedgerError, match="is settled"):
            ledger.start(run, steps(10))


def test_the_refusal_names_an_epsilon_that_then_fits(home: Path) -> None:
    with Ledger.open(home) as ledger:
        reserve(ledger, "a", Spend(((EnvelopeEvent(5.0, 0.0),),)))
        with pytest.raises(BudgetError, match=r"cap of epsilon 8 .* with epsilon 2\.9\d would fit"):
            reserve(ledger, "b", Spend(((EnvelopeEvent(5.0, 0.0),),)))
        assert ledger.status()[0].refusals == 1
        reserve(ledger, "b", Spend(((EnvelopeEvent(2.9, 0.0),),)))


def test_no_more_is_started_than_reserved_and_no_less_than_before(home: Path) -> None:
    with Ledger.open(home) as ledger:
        run = reserve(ledger, "a", steps(20))
        for wrong in (steps(21), steps(5, noise=0.9)):
            with pytest.raises(LedgerError, match="more than it reserved"):
                ledger.start(run, wrong)
        ledger.start(run, steps(10))
        with pytest.raises(LedgerError, match="less than it had started"):
            ledger.start(run, steps(9))
        with pytest.raises(LedgerError, match="is started"):
            ledger.abandon(run, "no")
    assert verify_ledger(home) == []


def test_an_abandoned_run_costs_nothing_and_cannot_go_on(home: Path) -> None:
    with Ledger.open(home) as ledger:
        run = ledger.abandon(reserve(ledger, "a", steps(100)), "unreadable data")
        assert ledger.status()[0].left == 8.0
        with pytest.raises(LedgerError, match="is abandoned"):
            ledger.start(run, steps(1))


def test_the_same_patients_are_found_under_another_name(home: Path) -> None:
    elsewhere = DatasetKey("manifest", "/copy")
    with Ledger.open(home) as ledger:
        for patients in ([" p3 ", "p4"], [f"p{i}" for i in range(300)]):
            with pytest.raises(BudgetError, match="in another population already"):
                ledger.bind(elsewhere, "copy", "others", patients, officer="Ann")
        with pytest.raises(BudgetError, match="stays there"):
            ledger.bind(KEY, "openi", "others", ["q"], officer="Ann")
        ledger.bind(elsewhere, "copy", "lungs", ["p3", "new"], officer="Ann")
        with pytest.raises(BudgetError, match="1 patients"):
            ledger.check_patients(bound(ledger), ["p1", "new"])
        assert ledger.status()[0].name == "lungs"
        assert len(ledger.status()) == 1


def test_a_cap_is_raised_only_with_a_reason(home: Path) -> None:
    with Ledger.open(home) as ledger:
        with pytest.raises(UserInputError, match="reason"):
            ledger.set_cap("lungs", Decimal(9), Decimal("1e-5"), officer="Ann", reason=" ")
        ledger.set_cap("lungs", Decimal(9), Decimal("1e-5"), officer="Ann", reason="follow-up")
        assert ledger.status()[0].raised == 1


def test_a_lost_ledger_is_noticed(home: Path) -> None:
    shutil.rmtree(home)
    for use in (Ledger.open, Ledger.exists, lambda h: Ledger.create(h, name="New")):
        with pytest.raises(LedgerError, match="missing"):
            use(home)


# Tampering: someone edits the database itself, triggers dropped.

COLUMNS = ("time", "kind", "body", "previous", "hash", "signature")


def edit(home: Path, *statements: str) -> None:
    with sqlite3.connect(home / "ledger.sqlite") as connection:
        for table in ("rows", "fingerprints", "places"):
            for action in ("UPDATE", "DELETE"):
                connection.execute(f"DROP TRIGGER {table}_{action}")
        for statement in statements:
            connection.execute(statement)
    connection.close()


def used(home: Path) -> None:
    with Ledger.open(home) as ledger:
        run = reserve(ledger, "a", steps(10))
        ledger.settle(ledger.start(run, steps(5)))


def assert_found(home: Path, row: int | None) -> None:
    found = verify_ledger(home)
    assert found
    if row is not None:
        assert row in [finding.seq for finding in found]
    with pytest.raises(LedgerError):
        Ledger.open(home)


@pytest.mark.parametrize("column", COLUMNS)
def test_a_flipped_byte_is_found_in_its_row(home: Path, column: str) -> None:
    used(home)
    flip = f"substr({column}, 1, 9) || char(unicode(substr({column}, 10, 1)) + 1)"
    if column == "kind":
        flip = "'settlee'"
    edit(home, f"UPDATE rows SET {column} = {flip} || substr({column}, 11) WHERE seq = 4")  # noqa: S608
    if column == "signature":  # an inner signature is checked by verify, not on every opening
        assert 4 in [finding.seq for finding in verify_ledger(home)]
    else:
        assert_found(home, 4)


def test_deleted_swapped_and_cut_rows_are_found(home: Path, tmp_path: Path) -> None:
    used(home)
    cases = {
        "deleted": (["DELETE FROM rows WHERE seq = 4"], 5),
        "swapped": ([f"UPDATE rows SET seq = {a} WHERE seq = {b}" for a, b in  # noqa: S608
                     ((99, 4), (4, 5), (5, 99))], 4),
        "cut": (["DELETE FROM rows WHERE seq > 4"], None),
        "blob": (["UPDATE fingerprints SET content = zeroblob(8)"], None),
        "place": (["UPDATE places SET root = '/other'"], None),
    }  # fmt: skip
    kept = tmp_path / "kept"
    shutil.copytree(home, kept)
    for name, (statements, row) in cases.items():
        shutil.rmtree(home)
        shutil.copytree(kept, home)
        edit(home, *statements)
        if name in ("blob", "place"):
            assert verify_ledger(home), name
        else:
            assert_found(home, row)


def test_an_old_copy_put_back_is_found(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "old")
    used(home)
    shutil.rmtree(home)
    shutil.copytree(tmp_path / "old", home)
    assert_found(home, None)
    with pytest.raises(LedgerError, match="rows were lost"):
        Ledger.open(home)


def test_another_key_is_refused(home: Path) -> None:
    (home / "ledger.key").write_bytes(bytes(32))
    assert_found(home, None)


# Torture: processes are killed at random points. Each writes to a log of its own what it was about
# to do ("?") and what it was told was done ("!").

WORKER = """
import os, random, sys
from pathlib import Path
from privfin.errors import BudgetError
from privfin.privacy.accounting import SubsampledGaussianEvent
from privfin.privacy.composition import Spend
from privfin.privacy.ledger import DatasetKey, Ledger
home, log, name, seed = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
rng = random.Random(seed)
out = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
say = lambda text: os.write(out, (text + "\\n").encode())
spend = lambda n: Spend(((SubsampledGaussianEvent(1.0, 0.05, n),),))
say("ready")
sys.stdin.readline()
with Ledger.open(home) as ledger:
    binding = ledger.binding_of(DatasetKey("openi", "/data/openi"))
    for number in range(20):
        run, size = f"{name}-{number}", rng.randint(5, 60)
        try:
            say(f"? reserve {run} {size}")
            held = ledger.reserve(run, [binding], spend(size), kind="train", config_digest="c",
                                  delta=1e-5)
            say(f"! reserve {run} {size}")
        except BudgetError:
            continue
        for done in range(1, rng.randint(2, 4)):
            part = size * done // 4
            say(f"? start {run} {part}")
            ledger.start(held, spend(part))
            say(f"! start {run} {part}")
        if rng.random() < 0.7:
            say(f"? settle {run} 0")
            ledger.settle(held)
            say(f"! settle {run} 0")
"""


def torture(home: Path, folder: Path, interleavings: int) -> None:
    rng = random.Random(4)
    kept = folder / "kept"
    shutil.copytree(home, kept)
    kept_anchors = folder / "kept-anchors"
    shutil.copytree(folder / "anchors", kept_anchors)
    for trial in range(interleavings):
        for there, back in ((kept, home), (kept_anchors, folder / "anchors")):
            shutil.rmtree(back)
            shutil.copytree(there, back)
        logs = [folder / f"log-{trial}-{i}" for i in range(3)]
        workers = [
            subprocess.Popen(  # noqa: S603
                [sys.executable, "-c", WORKER, home, log, f"w{i}", str(rng.random())[2:9]],
                stdin=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ,
            )
            for i, log in enumerate(logs)
        ]
        for log in logs:
            while not log.exists() or not log.read_bytes():
                pass
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write(b"go\n")
            worker.stdin.flush()
        for worker in workers:
            try:
                worker.wait(timeout=rng.uniform(0.02, 0.4))
            except subprocess.TimeoutExpired:
                worker.send_signal(signal.SIGKILL)
                worker.wait()
        check(home, logs)


def check(home: Path, logs: list[Path]) -> None:
    assert verify_ledger(home) == []  # among others: no cap was exceeded at any row
    with Ledger.open(home) as ledger:
        for log in logs:
            told: dict[tuple[str, str], int] = {}
            asked: dict[tuple[str, str], int] = {}
            for line in log.read_text().splitlines()[1:]:
                mark, action, run, size = line.split()
                (told if mark == "!" else asked)[action, run] = int(size)
            for (action, run), size in told.items():
                held = ledger.reservation(run)
                assert held is not None, "a spend that was committed is lost"
                if action == "start":
                    started = held.started.alternatives[0][0].steps  # type: ignore[union-attr]
                    assert size <= started <= asked["start", run]
                if action == "settle":
                    assert held.state == "settled"
                elif ("settle", run) not in asked:
                    assert held.charged == steps(told["reserve", run])


def test_killed_processes_lose_no_spend(home: Path, tmp_path: Path) -> None:
    torture(home, tmp_path, 3)


@pytest.mark.slow
def test_two_hundred_interleavings_with_kills(home: Path, tmp_path: Path) -> None:
    torture(home, tmp_path, 200)
