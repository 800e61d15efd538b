"""A statement that promises more than plan and events give is refused, whatever it overstates."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privfin.errors import UserInputError
from privfin.reporting.collect.accounting import accounting_block
from privfin.reporting.evidence import Evidence, read_evidence

Of = Callable[[str], Evidence]


@pytest.mark.parametrize(
    "kind", ["dp", "json", "ckks", "shared", "fine-tuned", "dropped", "secure"]
)
def test_epsilon_is_found_again(kind: str, evidence_of: Of) -> None:
    evidence = evidence_of(kind)
    block = accounting_block(evidence)
    stated = evidence.privacy["population"]["epsilon"]
    assert block.recomputed_epsilon.get() == pytest.approx(stated, rel=1e-9)
    assert block.recomputed_epsilon.status == "derived"
    found = [one.model_dump() for one in block.assumptions.get()]
    assert [one["assumption_id"] for one in found] == [
        one["id"] for one in evidence.privacy["assumptions"]
    ]


def test_the_second_accountant_is_another_one_and_agrees(evidence_of: Of) -> None:
    """Opacus' upper bound at the largest site lies up to 0.02 above, and never below."""
    for kind in ("dp", "fine-tuned"):
        block = accounting_block(evidence_of(kind))
        first, second = block.recomputed_epsilon.get(), block.second_accountant.get()
        assert first < second < first + 0.03
        assert "Opacus" in block.second_accountant.source
        assert "site-01" in block.second_accountant.source
    assert "dp_accounting" in accounting_block(evidence_of("dp")).accountant.get()


def test_a_gap_of_the_second_accountant_says_why(
    evidence_of: Of, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = accounting_block(evidence_of("shared"))
    assert block.second_accountant.status == "not_applicable"
    assert "Skellam" in block.second_accountant.note
    assert "Skellam" in block.accountant.get()

    def fails(*_: Any) -> float:
        raise RuntimeError("Discrete mean differs")

    monkeypatch.setattr("privfin.reporting.collect.accounting.epsilon_prv", fails)
    found = accounting_block(evidence_of("dp")).second_accountant
    assert found.status == "not_assessed"
    assert "Discrete mean differs" in found.note


@pytest.mark.parametrize("kind", ["inf", "reproducible"])
def test_nothing_is_found_where_nothing_is_promised(kind: str, evidence_of: Of) -> None:
    block = accounting_block(evidence_of(kind))
    assert math.isinf(block.recomputed_epsilon.get())
    assert block.second_accountant.status == "not_applicable"


def put(place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Writes ``value`` at ``a/0/b``."""
    *path, last = (int(key) if key.isdigit() else key for key in place.split("/"))

    def change(content: dict[str, Any]) -> None:
        part: Any = content
        for key in path:
            part = part[key]
        part[last] = value

    return change


OVERSTATED = {
    "population/epsilon": 7.99,
    "population/epsilon_at_one_site": 1.0,
    "population/epsilon_at_every_site": 8.0,
    "population/delta": 1e-6,
    "sites/1/epsilon": 7.9,
    "sites/0/delta": 1e-7,
    "sites/2/steps": 3,
    "observers/outsider/epsilon": 7.9,
    "observers/outsider/gdp/mu": 1.5,
    "observers/another site/best_accuracy": 0.6,
    "observers/coordinator/certainty_of_epsilon_alone": 0.99,
    "observers/outsider/trade_off/0/true_positive_rate": 0.01,
}


@pytest.mark.parametrize(("place", "value"), OVERSTATED.items())
def test_an_overstated_promise_is_refused_and_named(
    place: str, value: float, evidence_of: Of
) -> None:
    evidence = evidence_of("dp")
    put(place, value)(evidence.privacy)
    with pytest.raises(UserInputError, match=r"privacy\.json states .* but the plan") as refused:
        accounting_block(evidence)
    assert "\n" not in str(refused.value)
    assert f"{value:g}" in str(refused.value)


def test_a_larger_epsilon_is_no_broken_promise(evidence_of: Of) -> None:
    """It happens where a later version finds a tighter bound. A larger delta is another promise."""
    evidence = evidence_of("dp")
    put("population/epsilon", 8.5)(evidence.privacy)
    accounting_block(evidence)
    put("population/delta", 1e-4)(evidence.privacy)
    with pytest.raises(UserInputError, match="population delta"):
        accounting_block(evidence)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda p: p.pop("population"), "lacks"),
        (lambda p: p["sites"].pop(), "site site-03"),
        (lambda p: p["observers"].pop("coordinator"), "observer coordinator"),
        (put("population/epsilon", None), "lacks"),
        (put("population/epsilon", True), "lacks"),
        (put("claim", "NOT PRIVATE: whatever"), "claims"),
    ],
)
def test_missing_figures_are_refused(
    change: Callable[[dict[str, Any]], Any], named: str, evidence_of: Of
) -> None:
    evidence = evidence_of("dp")
    change(evidence.privacy)
    with pytest.raises(UserInputError, match=named):
        accounting_block(evidence)


@pytest.mark.parametrize("kind", ["inf", "reproducible"])
def test_a_run_that_is_not_private_cannot_claim_to_be(kind: str, evidence_of: Of) -> None:
    evidence = evidence_of(kind)
    evidence.privacy["claim"] = "dp"
    evidence.manifest["claim"] = "dp"
    with pytest.raises(UserInputError, match="the configuration gives 'NOT PRIVATE"):
        accounting_block(evidence)
    evidence = evidence_of(kind)
    put("population/epsilon", 3.0)(evidence.privacy)
    with pytest.raises(UserInputError, match="population epsilon = 3"):
        accounting_block(evidence)


@pytest.mark.parametrize(
    ("change", "named"), [("one more", "population epsilon"), ("one less", "site-01 steps")]
)
def test_rounds_that_the_statement_does_not_count_are_found(
    change: str, named: str, report_run: Callable[[str], Path], tmp_path: Path
) -> None:
    """``events.jsonl`` has another number of started rounds than ``privacy.json`` was made from."""
    path = tmp_path / "run"
    shutil.copytree(report_run("dp"), path)
    lines = (path / "events.jsonl").read_text().splitlines()
    started = next(line for line in lines if "site-round-started" in line)
    if change == "one more":
        lines.append(json.dumps({**json.loads(started), "attempt": 2}))
    else:
        lines.remove(started)
    (path / "events.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(UserInputError, match=named):
        accounting_block(read_evidence(path))


def test_a_colluding_site_more_cannot_be_promised(evidence_of: Of) -> None:
    evidence = evidence_of("shared")
    put("colluding_sites/2/epsilon", 8.0)(evidence.privacy)
    with pytest.raises(UserInputError, match="2 colluding sites"):
        accounting_block(evidence)
