"""The budgets of a report are those of the ledger, and a ledger that lies is not believed."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant

from privfin.cli.app import run
from privfin.data.load import load_source
from privfin.errors import UserInputError
from privfin.federation.plan import declared_sites, make_plan
from privfin.privacy.ledger import DataSet, Ledger, dataset_keys
from privfin.privacy.policy import write_template
from privfin.reporting.blocks_privacy import LedgerBlock
from privfin.reporting.collect.ledger import NOTHING_FOUND, ledger_block
from privfin.reporting.evidence import Evidence, read_evidence

CAP, DELTA = 12.0, 1e-5
Makes = Callable[..., Any]


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory, tiny: Makes, tiny_options: Makes) -> Path:
    """A home with a ledger that has counted two runs, ``first`` and ``second``, and refused one."""
    place = tmp_path_factory.mktemp("counted")
    with pytest.MonkeyPatch.context() as patch:
        use(place, patch)
        Ledger.create(place / "home", name="North General").close()
        write_template(place / "home" / "policy.toml")
        config = tiny()
        with Ledger.open(place / "home") as ledger:
            ledger.set_cap("lungs", Decimal(12), Decimal("1e-5"), officer="Ann Lee", reason="")
            (key,) = dataset_keys(config)
            ids = list(load_source(config).dataset.patients())
            ledger.bind([DataSet(key, "data", ids)], "lungs", officer="Ann Lee")
        for name, epsilon, code in (("first", 3, 0), ("second", 4, 0), ("third", 12, 5)):
            words = ["train", *tiny_options(), "--epsilon", str(epsilon)]
            assert run([*words, "--out", str(place / name)]) == code
        words = ["train", *tiny_options(), "--epsilon", "8", "--out", str(place / "third")]
        assert run(words) == 3
    return place


def use(place: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("PRIVFIN_HOME", str(place / "home"))
    patch.setenv("PRIVFIN_ANCHORS", str(place / "anchors"))


@pytest.fixture
def here(counted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to damage; an anchor knows its home by place, so it is moved to the new one."""
    place = tmp_path / "here"
    shutil.copytree(counted, place)
    use(place, monkeypatch)
    Ledger.open(place / "home").close()
    return place


def block_of(place: Path, name: str = "second") -> LedgerBlock:
    return ledger_block(read_evidence(place / name))


def own_epsilon(evidence: Evidence, delta: float) -> float:
    """What a run costs by itself: the largest of its sites, by dp_accounting alone."""
    found = []
    for site in evidence.manifest["plan"]:
        gaussian = dp_event.GaussianDpEvent(site["noise_multiplier"])
        accountant = PLDAccountant(value_discretization_interval=1e-3)
        step = dp_event.PoissonSampledDpEvent(site["sampling_rate"], gaussian)
        accountant.compose(step, site["steps"])
        found.append(float(accountant.get_epsilon(delta)))
    return max(found)


def test_budgets_are_those_of_the_ledger(here: Path) -> None:
    first, second = block_of(here, "first"), block_of(here)
    for block in (first, second):
        assert block.status.value == "counted"
        assert block.check.value == NOTHING_FOUND
        assert block.check.status == "measured"
    (one,), (two,) = first.budgets.get(), second.budgets.get()
    assert (one.population, one.cap_epsilon, one.cap_delta) == ("lungs", CAP, DELTA)
    assert (two.runs, two.refusals, two.raised, two.is_over) == (2, 1, 0, False)
    # Alone, a run costs its own epsilon; a second one costs what the ledger's total grows by.
    assert one.before == 0.0
    alone = own_epsilon(read_evidence(here / "first"), DELTA)
    assert one.this_run == pytest.approx(alone, abs=1e-3)
    assert two.before == pytest.approx(one.this_run)
    with Ledger.open(here / "home") as ledger:
        (status,) = ledger.status()
    assert two.before + two.this_run == pytest.approx(status.spent)
    assert one.left == two.left == pytest.approx(status.left)
    assert two.left == pytest.approx(CAP - status.spent)
    assert one.reserved == two.reserved == 0.0
    # Two runs together cost more than each alone, and less than each at a share of delta.
    later = read_evidence(here / "second")
    assert max(alone, own_epsilon(later, DELTA)) < status.spent
    assert status.spent <= own_epsilon(later, DELTA / 12) + own_epsilon(
        read_evidence(here / "first"), DELTA / 4
    )


def test_the_extract_lists_the_runs_of_these_patients(here: Path) -> None:
    rows = block_of(here).extract.get()
    names = [read_evidence(here / name).run.run_id for name in ("first", "second")]
    assert [row.run for row in rows] == names
    assert [row.state for row in rows] == ["settled", "settled"]
    assert [row.kind for row in rows] == ["train", "train"]
    for row, name in zip(rows, ("first", "second"), strict=True):
        stated = read_evidence(here / name).privacy["population"]["epsilon"]
        assert row.epsilon == pytest.approx(stated, rel=1e-9)
        assert row.populations == "lungs"


def test_an_open_run_is_held_and_a_lower_cap_is_over(here: Path, tiny: Makes) -> None:
    config = tiny(privacy__epsilon=2.0)
    spend = make_plan(config, declared_sites(config)).spend()
    with Ledger.open(here / "home") as ledger:
        (key,) = dataset_keys(config)
        binding = ledger.binding_of(key)
        assert binding is not None
        ledger.reserve("open", [binding], spend, kind="train", config_digest="x", delta=DELTA)
        (status,) = ledger.status()
    (found,) = block_of(here).budgets.get()
    assert found.runs == 3
    assert found.reserved == pytest.approx(status.reserved)
    assert found.reserved > 0.1
    assert found.left == pytest.approx(CAP - status.spent - status.reserved)
    with Ledger.open(here / "home") as ledger:
        ledger.set_cap("lungs", Decimal(5), Decimal("1e-5"), officer="Ann Lee", reason="")
    (found,) = block_of(here).budgets.get()
    assert found.is_over
    assert found.left < 0.0


def test_nothing_is_written(here: Path) -> None:
    """Neither rows nor anchors, and no file is left behind."""

    def content() -> dict[str, bytes]:
        return {str(p.relative_to(here)): p.read_bytes() for p in here.rglob("*") if p.is_file()}

    before = content()
    block_of(here)
    assert content() == before


def test_the_head_and_the_sites_whose_messages_named_it_are_listed(here: Path) -> None:
    """All sites of this process have one ledger, and a row is kept once: from the first to say."""
    block = block_of(here)
    evidence = read_evidence(here / "second")
    assert block.head.get().model_dump() == evidence.privacy["ledger"]["head"]
    assert [e["site"] for e in evidence.events if e["event"] == "ledger-head"]
    assert block.heads_of_sites.get() == ("site-01",)


def database(place: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(place / "home" / "ledger.sqlite", isolation_level=None)
    for table in ("rows", "fingerprints", "places"):
        for action in ("UPDATE", "DELETE"):
            connection.execute(f"DROP TRIGGER {table}_{action}")
    return connection


def change_a_cap(place: Path) -> None:
    connection = database(place)
    connection.execute("UPDATE rows SET body = replace(body, '12', '99') WHERE kind = 'cap_set'")
    connection.close()


def cut_the_end(place: Path) -> None:
    connection = database(place)
    connection.execute("DELETE FROM rows WHERE seq > 5")
    connection.close()


def break_the_file(place: Path) -> None:
    (place / "home" / "ledger.sqlite").write_bytes(b"no database")
    for other in (place / "home").glob("ledger.sqlite-*"):
        other.unlink()


def take_it_away(place: Path) -> None:
    for file in (place / "home").glob("ledger.sqlite*"):
        file.unlink()


def put_another_in_its_place(place: Path) -> None:
    anchors = {path: path.read_bytes() for path in (place / "anchors").glob("*.json")}
    shutil.rmtree(place / "home")
    shutil.rmtree(place / "anchors")
    Ledger.create(place / "home", name="South General").close()
    for path, content in anchors.items():
        path.write_bytes(content)


def open_to_others(place: Path) -> None:
    (place / "home" / "ledger.sqlite").chmod(0o644)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (change_a_cap, "was changed"),
        (cut_the_end, "rows were lost"),
        (break_the_file, "cannot be used"),
        (take_it_away, "gone from this machine"),
        (put_another_in_its_place, "another ledger"),
        (open_to_others, "others may read"),
    ],
)
def test_a_damaged_ledger_is_a_finding_and_its_figures_are_left_out(
    damage: Callable[[Path], None], named: str, here: Path
) -> None:
    damage(here)
    block = block_of(here)
    assert block.check.status == "measured"
    assert "problems: " in block.check.get()
    assert named in block.check.get()
    assert block.budgets.status == block.extract.status == "not_assessed"
    assert block.status.value == "counted"


def test_a_ledger_that_charges_less_than_was_trained_is_found(here: Path) -> None:
    """Whoever can sign rows could settle a run early; the run's own events say more."""
    events = here / "second" / "events.jsonl"
    lines = events.read_text().splitlines(keepends=True)
    started = next(line for line in lines if "site-round-started" in line)
    events.write_text("".join([*lines, started]))
    assert "charges this run less" in block_of(here).check.get()


def test_a_run_that_the_ledger_does_not_know_is_found(here: Path) -> None:
    evidence = read_evidence(here / "second")
    evidence.manifest["run_id"] = "0" * 32
    assert "no row of this run" in ledger_block(evidence).check.get()


@pytest.mark.parametrize("there", [True, False])
def test_elsewhere_nothing_is_assessed(
    there: bool, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is made where the ledger is not: that is a gap and no finding."""
    use(tmp_path / "elsewhere", monkeypatch)
    if there:
        Ledger.create(tmp_path / "elsewhere" / "home", name="South General").close()
    block = block_of(here)
    for fact in (block.check, block.budgets, block.extract):
        assert fact.status == "not_assessed"
        assert ("another one" if there else "no ledger on this machine") in fact.note
    assert block.head.is_known


def test_a_head_that_nobody_signed_is_refused(here: Path) -> None:
    evidence = read_evidence(here / "second")
    evidence.privacy["ledger"]["head"]["seq"] += 1
    with pytest.raises(UserInputError, match="not signed"):
        ledger_block(evidence)
    evidence.privacy["ledger"]["head"]["hash"] = "x"
    with pytest.raises(UserInputError, match="malformed"):
        ledger_block(evidence)


@pytest.mark.parametrize(("kind", "gap"), [("dp", "not_applicable"), ("dropped", "not_assessed")])
def test_without_a_ledger_it_says_why(
    kind: str, gap: str, evidence_of: Callable[[str], Evidence]
) -> None:
    """``dp`` has simulated patients, whom nobody counts; ``dropped`` was made without a gate."""
    evidence = evidence_of(kind)
    block = ledger_block(evidence)
    assert block.status.value == evidence.privacy["ledger"]["status"]
    assert block.budgets.status == gap
    assert block.budgets.note == evidence.privacy["ledger"]["meaning"]
    assert block.head.status == block.check.status == "not_applicable"
    evidence.privacy["ledger"]["status"] = "fine"
    with pytest.raises(UserInputError, match="ledger status 'fine'"):
        ledger_block(evidence)
