"""``privfin budget`` as an officer meets it, with a home of its own."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from privfin.privacy.composition import EnvelopeEvent, Spend
from privfin.privacy.ledger import DataSet, DatasetKey, Ledger

Call = Callable[..., Any]
OFFICER = ("--officer", "Ann Lee")


@pytest.fixture
def budget(folder: Path, privfin: Call, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("PRIVFIN_HOME", str(folder / "home"))
    monkeypatch.setenv("PRIVFIN_ANCHORS", str(folder / "anchors"))
    return lambda *words: privfin("budget", *words)


def test_without_a_home_it_says_what_to_do(budget: Call) -> None:
    said = budget("show")
    assert said.code == 4
    assert "privfin budget init" in said.err


def test_a_data_set_is_capped_bound_shown_and_verified(budget: Call, hospitals: Call) -> None:
    config = hospitals()
    assert budget("init", "--name", "North").code == 0
    assert budget("cap", "lungs", "--epsilon", "12", "--delta", "1e-5", *OFFICER).code == 0
    words = ("bind", config, "--data-root", "data", *OFFICER)
    assert budget(*words, "--population", "lungs").code == 0
    assert budget(*words, "--population", "others").code == 3
    higher = ("cap", "lungs", "--epsilon", "13", "--delta", "1e-5", *OFFICER)
    assert budget(*higher).code == 2
    assert budget(*higher, "--reason", "follow-up").code == 0
    shown = budget("show")
    assert "raised 1 times" in shown.out
    assert "left 13.00" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80
    status = json.loads(budget("show", "--json").out)["populations"][0]
    assert status["datasets"][0]["source"] == "manifest"
    assert budget("export", "ledger.json").code == 0
    exported = Path("ledger.json").read_text()
    assert "patient-0" not in exported
    assert str(Path("data").resolve()) not in exported
    for check in ((), ("--anchor", "ledger.json"), ("--export", "ledger.json")):
        assert budget("verify", *check).code == 0
    Path("ledger.json").write_text(exported.replace("follow-up", "follow up"))
    said = budget("verify", "--export", "ledger.json")
    assert said.code == 4
    assert "row 4 was changed" in said.out


def test_bind_sets_the_cap_too_and_says_that_it_reads(budget: Call, hospitals: Call) -> None:
    budget("init", "--name", "North")
    words = ("bind", hospitals(), "--data-root", "data", *OFFICER, "--population", "lungs")
    assert budget(*words, "--epsilon", "8").code == 2
    said = budget(*words, "--epsilon", "8", "--delta", "1e-5")
    assert said.code == 0
    assert "reading data" in said.out
    assert "cap epsilon 8 at delta 0.00001" in budget("show").out
    rows = json.loads(budget("show", "--json").out)["head"]["seq"]
    assert budget(*words, "--epsilon", "9", "--delta", "1e-5").code == 2
    assert json.loads(budget("show", "--json").out)["head"]["seq"] == rows
    raised = budget(*words, "--epsilon", "9", "--delta", "1e-5", "--reason", "more", "--json")
    assert json.loads(raised.out)["head"]["seq"] == rows + 1


def test_charges_are_exported_as_a_table(budget: Call, folder: Path) -> None:
    budget("init", "--name", "North")
    key = DatasetKey("openi", "/data")
    with Ledger.open(folder / "home") as ledger:
        ledger.set_cap("lungs", Decimal(8), Decimal("1e-5"), officer="Ann", reason="")
        bound = ledger.bind([DataSet(key, "openi", ["p1"])], "lungs", officer="Ann")
        spend = Spend(((EnvelopeEvent(1.23456, 0.0),),))
        for run in ("a", "=b"):
            ledger.reserve(run, bound, spend, kind="train", config_digest="c", delta=1e-5)
    assert budget("export").code == 2
    assert budget("export", "--csv", "spends.csv").code == 0
    assert budget("export", "--csv", "spends.csv").code == 2
    lines = list(csv.DictReader(Path("spends.csv").read_text().splitlines()))
    assert [line["run"] for line in lines] == ["a", "'=b"]
    assert lines[0]["epsilon"] == "1.2346"
    assert (lines[0]["state"], lines[0]["datasets"]) == ("reserved", "openi")


def test_a_lost_ledger_is_rebuilt_from_an_export(budget: Call, hospitals: Call) -> None:
    config = hospitals()
    budget("init", "--name", "North")
    budget("cap", "lungs", "--epsilon", "8", "--delta", "1e-5", *OFFICER)
    bind = ("bind", config, "--data-root", "data", *OFFICER, "--population", "lungs")
    assert budget(*bind).code == 0
    assert budget("export", "ledger.json").code == 0
    for path in Path("home").glob("ledger.sqlite*"):
        path.unlink()
    for lost in (("show",), ("init", "--name", "North")):
        said = budget(*lost)
        assert said.code == 4
        assert "privfin budget recover" in said.err
    words = ("recover", "ledger.json", *OFFICER)
    assert budget(*words).code == 2
    said = budget(*words, "--reason", "disk failed")
    assert said.code == 0
    assert "privfin budget bind" in said.out
    assert budget(*words, "--reason", "again").code == 4
    assert budget("verify", "--anchor", "ledger.json").code == 0
    assert budget(*bind).code == 0
    assert "left 8.00" in budget("show").out
    for path in [*Path("home").glob("ledger.sqlite*"), *Path("anchors").glob("*.json")]:
        path.unlink()
    assert budget(*words, "--reason", "disk failed").code == 4
    found = budget(*words, "--reason", "disk failed", "--accept-loss", "--json")
    assert json.loads(found.out)["caps_withdrawn"] is True
    assert "cap none" in budget("show").out
