"""The ledger: what it admits, what it refuses, what it survives, and which tampering it finds."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from privfin.errors import BudgetError, LedgerError, UserInputError
from privfin.privacy.accounting import SubsampledGaussianEvent
from privfin.privacy.composition import EnvelopeEvent, Spend
from privfin.privacy.ledger import Binding, DataSet, DatasetKey, Ledger, verify_ledger
from privfin.privacy.ledger.chain import next_row
from privfin.privacy.ledger.keys import SigningKey
from privfin.privacy.ledger.spending import Cap
from privfin.privacy.ledger.store import Store

KEY = DatasetKey("openi", "/data/openi")


def crowd_spend(kind: str, size: int) -> Spend:
    """As crowd.py makes it."""
    if kind == "gaussian":
        return steps(size)
    return Spend(((EnvelopeEvent(0.25, 0.0),) * size,))


def steps(count: int, noise: float = 1.0) -> Spend:
    return Spend(((SubsampledGaussianEvent(noise, 0.05, count),),))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRIVFIN_ANCHORS", str(tmp_path / "anchors"))
    with Ledger.create(tmp_path / "home", name="Clinic") as ledger:
        ledger.set_cap("lungs", Decimal(8), Decimal("1e-5"), officer="Ann", reason="")
        ledger.bind([DataSet(KEY, "openi", [f"p{i}" for i in range(100)])], "lungs", officer="Ann")
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


def test_events_are_stated_in_the_place_of_their_reservation(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shares of delta go by order: a decision and its later check must see the same order."""
    seen: list[list[Spend]] = []
    cost = Cap.cost

    def spy(self: Cap, spends: Any) -> float:
        seen.append(list(spends))
        return cost(self, spends)

    with Ledger.open(home) as ledger:
        first = reserve(ledger, "a", Spend(((EnvelopeEvent(3.0, 0.0),),)))
        reserve(ledger, "b", steps(20))
        monkeypatch.setattr(Cap, "cost", spy)
        ledger.specify(first, steps(50))
        assert seen[-1] == [steps(50), steps(20)]
        assert ledger._state.spends("lungs") == seen[-1]
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
                ledger.bind([DataSet(elsewhere, "copy", patients)], "others", officer="Ann")
        with pytest.raises(BudgetError, match="stays there"):
            ledger.bind([DataSet(KEY, "openi", ["q"])], "others", officer="Ann")
        ledger.bind([DataSet(elsewhere, "copy", ["p3", "new"])], "lungs", officer="Ann")
        with pytest.raises(BudgetError, match="1 patients"):
            ledger.check_patients(bound(ledger), ["p1", "new"])
        assert ledger.status()[0].name == "lungs"
        assert len(ledger.status()) == 1


def test_several_data_sets_are_bound_together_or_not_at_all(home: Path) -> None:
    """A mix whose second part belongs to other people leaves no half of it bound."""
    strange, own = DatasetKey("manifest", "/b"), DatasetKey("manifest", "/a")
    with Ledger.open(home) as ledger:
        before = ledger.head()
        parts = [DataSet(own, "a", ["x1"]), DataSet(strange, "b", ["p1", "p2"])]
        with pytest.raises(BudgetError, match="'b' are in another population"):
            ledger.bind(parts, "others", officer="Ann")
        assert ledger.head() == before
        assert ledger.binding_of(own) is None
        found = ledger.bind(parts, "lungs", officer="Ann")
        assert [binding.name for binding in found] == ["a", "b"]
    assert verify_ledger(home) == []


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


def test_deleted_fingerprints_are_not_simply_bound_anew(home: Path) -> None:
    edit(home, "DELETE FROM fingerprints")
    assert 3 in [finding.seq for finding in verify_ledger(home)]
    with Ledger.open(home) as ledger, pytest.raises(LedgerError, match="are missing"):
        ledger.bind([DataSet(KEY, "openi", ["p1"])], "lungs", officer="Ann")


def test_a_row_slipped_in_without_the_key_is_not_built_upon(home: Path) -> None:
    with Ledger.open(home) as ledger:
        reserve(ledger, "a", steps(10))
        state, last = ledger._state, ledger._last
        body = {"population": "lungs", "epsilon": "99", "delta": "1e-5", "officer": "Eve",
                "reason": "more"}  # fmt: skip
        other = SigningKey.make(home.parent / "other.key")
        row = next_row(other, state.ledger_id, last, time="t", kind="cap_set", body=body)
        store = Store.open(home / "ledger.sqlite")
        with store.writing():
            store.append(row)
        store.close()
        with pytest.raises(LedgerError, match="row 5: its signature does not fit"):
            reserve(ledger, "b", steps(10))
    assert_found(home, 5)


def test_another_key_is_refused(home: Path) -> None:
    (home / "ledger.key").write_bytes(bytes(32))
    assert_found(home, None)


# Torture: processes are killed at random points (see crowd.py). Each writes to a log of its own
# what it was about to do ("?") and what it was told was done ("!").


@pytest.fixture
def crowd(home: Path) -> Iterator[Callable[..., list[int]]]:
    with subprocess.Popen(  # noqa: S603
        [sys.executable, Path(__file__).with_name("crowd.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def run(**job: Any) -> list[int]:
            process.stdin.write(json.dumps({"home": str(home), **job}) + "\n")
            process.stdin.flush()
            codes: list[int] = json.loads(process.stdout.readline())
            return codes

        yield run


# About as many calls as a process makes for its three runs.
MOST_CALLS = 40_000


@dataclass
class Tally:
    """What happened over all interleavings."""

    finished: int = 0
    killed: int = 0
    reserved: int = 0
    refused: int = 0


def torture(crowd: Callable[..., list[int]], home: Path, count: int) -> Tally:
    rng = random.Random(4)
    folder = home.parent
    tally = Tally()
    places = ((folder / "kept", home), (folder / "kept-anchors", folder / "anchors"))
    for kept, place in places:
        shutil.copytree(place, kept)
    for trial in range(count):
        for kept, place in places:
            shutil.rmtree(place)
            shutil.copytree(kept, place)
        logs = [folder / f"log-{trial}-{i}" for i in range(3)]
        kind = "gaussian" if trial % 10 == 3 else "envelope"
        # A third of the processes live, but in every fifth interleaving, where all do.
        kills = [
            None
            if trial % 5 == 4 or rng.random() < 1 / 3
            else (rng.randint(1, MOST_CALLS), rng.uniform(0.0, 0.005))
            for _ in logs
        ]
        codes = crowd(seed=trial, kind=kind, runs=3, logs=list(map(str, logs)), kills=kills)
        assert codes == [0 if kill is None else -signal.SIGKILL for kill in kills]
        check(home, kind, logs, codes, tally)
    return tally


def check(home: Path, kind: str, logs: list[Path], codes: list[int], tally: Tally) -> None:
    assert verify_ledger(home) == []  # among others: no cap was exceeded at any row
    cap = Cap(Decimal(8), Decimal("1e-5"))
    with Ledger.open(home) as ledger:
        state = ledger._state
        assert cap.admits(cap.cost(state.spends("lungs")))
        refused = state.populations["lungs"].refusals
        told_refused = asked_refused = 0
        for log, code in zip(logs, codes, strict=True):
            told: dict[tuple[str, str], int] = {}
            asked: dict[tuple[str, str], int] = {}
            for line in log.read_text().splitlines() if log.exists() else ():
                mark, action, run, size = line.split()
                (told if mark == "!" else asked)[action, run] = int(size)
            tally.finished += code == 0
            tally.killed += code != 0
            for (action, run), size in told.items():
                held = ledger.reservation(run)
                if action == "refused":
                    told_refused += 1
                    assert held is None, "a run was refused and charged"
                    # All that was ever reserved bounds what the decision saw: it was full.
                    every = [r.spend for r in state.reservations.values()]
                    assert not cap.admits(cap.cost([*every, crowd_spend(kind, size)]))
                    continue
                assert held is not None, "a spend that was committed is lost"
                if action == "start":
                    most = asked["start", run]
                    assert held.started in [crowd_spend(kind, n) for n in range(size, most + 1)]
                elif action == "settle":
                    assert held.state == "settled"
                elif ("settle", run) not in asked:
                    assert held.charged == crowd_spend(kind, told["reserve", run])
            # Every run was decided, or its process was killed before it heard.
            heard = {run for action, run in told if action in ("reserve", "refused")}
            unheard = {run for action, run in asked if action == "reserve"} - heard
            assert len(unheard) <= (code != 0)
            asked_refused += len([run for run in unheard if ledger.reservation(run) is None])
        assert told_refused <= refused <= told_refused + asked_refused
        tally.refused += told_refused
        tally.reserved += len(state.reservations)


def assert_contended(tally: Tally, count: int) -> None:
    assert tally.finished + tally.killed == 3 * count
    assert tally.finished >= count // 5 * 3  # those that no one meant to kill
    assert tally.killed >= count // 2
    assert tally.refused >= 1
    assert tally.reserved >= count // 2


def test_killed_processes_lose_no_spend_and_exceed_no_cap(
    home: Path, crowd: Callable[..., list[int]]
) -> None:
    assert_contended(torture(crowd, home, 10), 10)


@pytest.mark.slow
def test_two_hundred_interleavings_with_kills(
    home: Path, crowd: Callable[..., list[int]], record_property: Callable[[str, object], None]
) -> None:
    tally = torture(crowd, home, 200)
    record_property("tally", repr(tally))
    print(tally)
    assert_contended(tally, 200)


def test_of_eight_processes_exactly_as_many_win_as_fit(
    home: Path, crowd: Callable[..., list[int]], tmp_path: Path
) -> None:
    with Ledger.open(home) as ledger:
        # 8 - 3.5 leaves 4.5: room for runs of 1, 2 or 3 in whole numbers, so 0.5 always stays.
        reserve(ledger, "first", Spend(((EnvelopeEvent(3.5, 0.0),),)))
    logs = [tmp_path / f"log-{i}" for i in range(8)]
    codes = crowd(
        seed=1, kind="envelope", runs=1, hold=True, logs=list(map(str, logs)), kills=[None] * 8
    )
    assert codes == [0] * 8
    lines = [log.read_text().splitlines()[-1].split() for log in logs]
    won = [int(size) / 4 for _, action, _, size in lines if action == "reserve"]
    lost = [int(size) / 4 for _, action, _, size in lines if action == "refused"]
    assert len(won) + len(lost) == 8
    assert sum(won) <= 4.5
    assert lost
    assert all(sum(won) + size > 4.5 for size in lost)  # none that would fit was turned away
    with Ledger.open(home) as ledger:
        status = ledger.status()[0]
        assert (status.runs, status.refusals) == (1 + len(won), len(lost))
        assert 0.0 <= status.left <= 4.5 - sum(won)
    assert verify_ledger(home) == []


def test_verify_finds_a_ledger_that_does_not_check_its_cap(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ledger, "_over", lambda *_: [])
    with Ledger.open(home) as ledger:
        for run in ("a", "b"):
            reserve(ledger, run, Spend(((EnvelopeEvent(5.0, 0.0),),)))
    assert [found.problem for found in verify_ledger(home)] == [
        "row 5: the cap of 'lungs' was exceeded"
    ]
