"""The model card says what the report says, gaps included, and no more."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from markdown_it import MarkdownIt

from privfin.reporting.facts import derived, measured, not_assessed
from privfin.reporting.formats.card import model_card
from privfin.reporting.schema import Report

GAP = not_assessed("nobody looked", "test")


def _body(report: Report) -> str:
    return model_card(report).split("\n---\n", 1)[1]


def _rendered(report: Report) -> str:
    return MarkdownIt("commonmark").enable("table").render(_body(report))


def _tables(report: Report) -> list[list[list[str]]]:
    """Cells of every table, by rows."""
    return [
        [
            [html.unescape(cell) for cell in re.findall(r"<t[hd]>(.*?)</t[hd]>", row)]
            for row in re.findall(r"<tr>(.*?)</tr>", found, re.DOTALL)
        ]
        for found in re.findall(r"<table>(.*?)</table>", _rendered(report), re.DOTALL)
    ]


def _table(report: Report, first: str) -> list[dict[str, str]]:
    (found,) = [one for one in _tables(report) if one[0][0] == first]
    return [dict(zip(found[0], row, strict=True)) for row in found[1:]]


def test_page_one_is_there_word_for_word(sample_report: Callable[..., Report]) -> None:
    report = sample_report()
    words = html.unescape(re.sub(r"<[^>]*>", "", _rendered(report)))
    for sentence in report.summary:
        assert sentence.question in words
        assert sentence.text in words


def test_sections_come_in_order(sample_report: Callable[..., Report]) -> None:
    titles = re.findall(r"<h2>(.*?)</h2>", _rendered(sample_report()))
    assert titles == [
        "Intended use", "Privacy guarantee", "Attacks on the model", "Results",
        "Not covered by the guarantee", "License", "How to verify",
    ]  # fmt: skip


def test_every_observer_has_its_guarantee(sample_report: Callable[..., Report]) -> None:
    report = sample_report()
    rows = _table(report, "observer")
    assert [row["observer"] for row in rows] == [
        one.observer for one in report.guarantee.observers.get()
    ]
    assert rows[0]["epsilon"] == "8.00"  # 7.9999, rounded up
    assert rows[0]["delta"] == "1e-05"
    assert rows[0]["right guesses from 50:50, at most"] == "79 %"
    assert rows[0]["members found at 1 % false alarms, at most"] == "24.2 %"


def test_no_promise_is_shown_as_none(sample_report: Callable[..., Report]) -> None:
    observer = sample_report().guarantee.observers.get()[0].model_copy(
        update={"epsilon": math.inf, "mu": math.inf, "best_accuracy": 1.0, "trade_off": ()}
    )  # fmt: skip
    report = sample_report(
        guarantee__is_private=derived(False, "x"), guarantee__epsilon=derived(math.inf, "x"),
        guarantee__claim=measured("NOT PRIVATE: no noise was asked for", "x"),
        guarantee__observers=derived((observer,), "x"),
    )  # fmt: skip
    row = _table(report, "observer")[0]
    assert row["epsilon"] == "infinite"
    assert row["right guesses from 50:50, at most"] == "100 %"
    assert row["members found at 1 % false alarms, at most"] == "not stated"
    assert "Claim: NOT PRIVATE: no noise was asked for" in _rendered(report)


@pytest.mark.parametrize(
    "field",
    ["guarantee__observers", "guarantee__epsilon_at_every_site", "audit__attacks", "utility__cells",
     "utility__groups", "utility__cost_of_privacy", "other_releases__not_covered",
     "other_releases__releases", "other_releases__justification", "reproducibility__commands",
     "reproducibility__files", "purpose__labels", "purpose__intended_use", "audit__canaries",
     "audit__verdict", "report__valid_until", "guarantee__statement", "audit__confidence"],
)  # fmt: skip
def test_a_gap_is_shown_with_its_reason(field: str, sample_report: Callable[..., Report]) -> None:
    assert "not assessed: nobody looked" in _rendered(sample_report(**{field: GAP}))


def test_withheld_figures_stay_withheld(sample_report: Callable[..., Report]) -> None:
    report = sample_report()
    nothing = {"value": None, "low": None, "high": None}
    cell = report.utility.cells.get()[0].model_dump()
    cell |= {
        "records": "1 to 10", "patients": "1 to 10", "auroc": nothing, "auprc": nothing,
        "ece": None, "brier": None, "labels": [], "withheld": "fewer than 11 patients",
    }  # fmt: skip
    attack = report.audit.attacks.get()[0].model_dump() | {
        "members": "about 1,100",
        "nonmembers": "about 380",
    }
    changed = sample_report(
        utility__cells={"status": "measured", "value": [cell], "source": "x"},
        utility__groups=GAP, data__training_patients=derived("about 1,100", "x"),
        audit__attacks={"status": "measured", "value": [attack], "source": "x"},
        audit__best_attack=derived(0, "x"),
        summary=(), report__withheld=derived(("counts are rounded",), "x"),
    )  # fmt: skip
    row = _table(changed, "held-out records with")[0]
    assert (row["patients"], row["AUROC"]) == ("1 to 10", "not stated")
    card = model_card(changed)
    assert "fewer than 11 patients" in card
    assert "counts are rounded" in card
    assert "about 1,100 / about 380" in card
    assert "1125" not in card
    assert "model-index" not in card


def test_no_word_is_a_verdict(sample_report: Callable[..., Report]) -> None:
    words: Any = re.findall(r"[a-z]+", re.sub(r"\S*\.safetensors", "", model_card(sample_report())))
    assert not {"anonymous", "compliant", "certified", "safe", "guaranteed"} & set(words)


def test_an_epsilon_never_stands_alone(sample_report: Callable[..., Report]) -> None:
    """Every line of prose with an epsilon in it names the delta, or the ledger or test it is of."""
    for line in _body(sample_report()).splitlines():
        if re.search(r"epsilon \d", line):
            assert "delta" in line, line


def test_the_same_report_gives_the_same_card(sample_report: Callable[..., Report]) -> None:
    assert model_card(sample_report()) == model_card(sample_report())
