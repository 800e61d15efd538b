"""A bar is divided as the budget is, and says when it is over."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pytest

from privfin.reporting.blocks_privacy import PopulationBudget
from privfin.reporting.page.charts_budget import budget_bar, budget_title
from privfin.reporting.page.svg import COLOURS


def _svg(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314


def _budget(**changes: object) -> PopulationBudget:
    return PopulationBudget.model_validate(
        {"population": "lungs", "cap_epsilon": 10.0, "cap_delta": 1e-5, "before": 1.0,
         "this_run": 4.0, "reserved": 2.0, "left": 3.0, "runs": 2, "refusals": 0, "raised": 0,
         "is_over": False, **changes}
    )  # fmt: skip


def _widths(budget: PopulationBudget) -> list[tuple[str, float]]:
    bar = budget_bar(budget, "b")
    assert bar is not None
    found = [p for p in _svg(bar.picture) if p.tag.endswith("rect") and p.attrib["fill"] != "none"]
    return [(p.attrib["fill"], float(p.attrib["width"]) / 358) for p in found]


def test_a_bar_is_divided_as_the_budget_is() -> None:
    parts = _widths(_budget())
    assert [share for _, share in parts] == pytest.approx([0.1, 0.4, 0.2], abs=1e-3)
    assert [fill for fill, _ in parts] == [COLOURS["muted"], COLOURS["series-0"], "url(#b-hatch)"]
    assert budget_title(_budget()) == "lungs: 70 % used"


def test_a_bar_over_its_cap_says_so_and_marks_the_cap() -> None:
    over = _budget(before=10.0, left=-6.0, is_over=True)
    parts = _widths(over)
    assert sum(share for fill, share in parts if fill != COLOURS["ink"]) == pytest.approx(
        1, abs=1e-3
    )
    assert parts[1][0] == COLOURS["warn"]
    assert parts[-1][0] == COLOURS["ink"]
    assert budget_title(over) == "lungs: 160 % used, OVER THE CAP"


def test_a_bar_of_what_has_no_end_is_full_and_one_without_a_cap_is_not_drawn() -> None:
    endless = _budget(this_run=math.inf, left=0.0, is_over=True)
    assert _widths(endless) == [(COLOURS["warn"], 1.0)]
    assert "more than any cap" in budget_title(endless)
    assert budget_bar(_budget(cap_epsilon=None, cap_delta=None), "b") is None
    assert budget_title(_budget(cap_epsilon=None)) == "lungs: no cap, so there is no bar"


def test_nearly_used_up_is_shown_neither_as_less_nor_as_all() -> None:
    assert budget_title(_budget(left=0.001)) == "lungs: 99.99 % used"
