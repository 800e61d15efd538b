"""``privfin budget`` as an officer meets it, with a home of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
