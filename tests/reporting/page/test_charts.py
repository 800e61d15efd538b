"""Charts put values where they belong, and bounds are the bounds."""

from __future__ import annotations

import itertools
import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privfin.reporting.blocks_privacy import PopulationBudget, TradeOff
from privfin.reporting.blocks_results import AttackResult, Interval
from privfin.reporting.page.charts import (
    Whiskers,
    budget_bar,
    budget_title,
    interval_chart,
    most_by_epsilon_alone,
    trade_off_chart,
)
from privfin.reporting.page.svg import COLOURS, Scale, shortened


@given(
    rate=st.floats(0.0, 1.0), epsilon=st.floats(0.0, 30.0), delta=st.sampled_from([0.0, 1e-5, 0.1])
)
def test_the_bound_of_epsilon_is_that_of_the_test_of_two_hypotheses(
    rate: float, epsilon: float, delta: float
) -> None:
    """By the definition: no event may have P(S) > e^epsilon Q(S) + delta, nor its complement."""
    most = most_by_epsilon_alone(rate, epsilon, delta)
    assert rate <= most <= 1.0
    assert most <= math.exp(epsilon) * rate + delta + 1e-12
    assert math.exp(-epsilon) * (1.0 - rate - delta) <= 1.0 - most + 1e-12
    # A larger rate of members would break one of the two, so the bound is sharp.
    if most < 1.0:
        more = most + 1e-9
        breaks = more > math.exp(epsilon) * rate + delta or (
            math.exp(-epsilon) * (1.0 - rate - delta) > 1.0 - more
        )
        assert breaks


@pytest.mark.parametrize(
    ("epsilon", "at_one_percent"),
    [(0.5, 0.016), (1, 0.027), (2, 0.074), (3, 0.201), (5, 0.993), (math.inf, 1.0)],
)
def test_the_bound_agrees_with_published_values(epsilon: float, at_one_percent: float) -> None:
    assert most_by_epsilon_alone(0.01, epsilon, 1e-6) == pytest.approx(at_one_percent, abs=6e-4)


def _svg(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314


def _points(line: ET.Element) -> list[tuple[float, float]]:
    pairs = [pair.split(",") for pair in line.attrib["points"].split()]
    return [(float(x), float(y)) for x, y in pairs]


def test_the_curve_is_drawn_at_its_values() -> None:
    points = [TradeOff(false_positive_rate=a, true_positive_rate=b)
              for a, b in ((0.0, 0.0), (0.01, 0.1), (0.1, 0.5), (1.0, 1.0))]  # fmt: skip
    chart = trade_off_chart(points, 8.0, 1e-5, [])
    lines = [one for one in _svg(chart.picture) if one.tag.endswith("polyline")]
    (curve,) = [one for one in lines if one.attrib["class"] == "s-series-0"]
    drawn = _points(curve)
    # Both axes have three decades: 100 to the decade.
    ends = {"x": drawn[-1][0], "y": drawn[-1][1]}
    wanted = [(0.001, 0.01), (0.01, 0.1), (0.1, 0.5), (1.0, 1.0)]
    for (x, y), (rate, found) in zip(drawn, wanted, strict=True):
        assert x == pytest.approx(ends["x"] + 100 * math.log10(rate), abs=0.1)
        assert y == pytest.approx(ends["y"] - 100 * math.log10(found), abs=0.1)


def test_attacks_are_points_where_their_rate_can_be_told_from_none() -> None:
    def at(fpr: float, is_resolved: bool) -> dict[str, object]:
        tpr = {"value": 0.1, "low": 0.05, "high": 0.2}
        return {"target_fpr": 0.01, "tpr": tpr, "fpr": fpr, "is_resolved": is_resolved}

    attack = AttackResult.model_validate(
        {"attack": "a", "observer": "outsider", "stratum": "all", "members": 9, "nonmembers": 9,
         "auc": {"value": 0.5}, "tpr": [at(0.01, True), at(0.1, False), at(0.0, True)],
         "epsilon_bound": None, "epsilon_ceiling": None, "claim": 8.0, "curve": []}
    )  # fmt: skip
    flat = [TradeOff(false_positive_rate=x, true_positive_rate=x) for x in (0.0, 1.0)]
    svg = _svg(trade_off_chart(flat, 8.0, 1e-5, [attack]).picture)
    marks = [one for one in svg if one.attrib.get("class") == "f-series-2"]
    ((curve,),) = [[one] for one in svg if one.attrib.get("class") == "s-series-0"]
    right, bottom = _points(curve)[-1][0], _points(curve)[0][1]
    assert len(marks) == 1  # the other one is in the legend, inside a group
    xs = [x for x, _ in _points(marks[0])]
    ys = [y for _, y in _points(marks[0])]
    assert (max(xs) + min(xs)) / 2 == pytest.approx(right - 200, abs=0.1)
    assert (max(ys) + min(ys)) / 2 == pytest.approx(bottom - 200, abs=0.1)


@given(low=st.floats(-10, 10), span=st.floats(0.01, 100), inside=st.floats(0, 1), log=st.booleans())
def test_a_scale_keeps_order_and_its_ticks_are_inside(
    low: float, span: float, inside: float, log: bool
) -> None:
    first = 10 ** (low / 3) if log else low
    scale = Scale(first, first + span, 0.0, 100.0, is_log=log)
    assert 0.0 <= scale(first + span * inside) <= 100.0
    assert scale(first - 1) == pytest.approx(0.0)
    assert scale(first + span + 1) == pytest.approx(100.0)
    ticks = scale.ticks()
    assert all(a < b for a, b in itertools.pairwise(ticks))
    assert all(first - 1e-6 <= tick <= first + span + 1e-6 for tick in ticks)
    assert log or 2 <= len(ticks) <= 12


def test_a_value_without_interval_has_a_mark_and_a_gap_has_none() -> None:
    def marks(*rows: Interval | None) -> tuple[int, int]:
        chart = interval_chart("c", "t", "x", [Whiskers("a", (one,)) for one in rows])
        parts = [(p.tag.rpartition("}")[2], p.attrib.get("class", "")) for p in _svg(chart.picture)]
        return (
            sum(part == ("circle", "f-series-0") for part in parts),
            sum(part == ("polyline", "s-series-0") for part in parts),
        )

    assert marks(Interval(value=0.7, low=0.6, high=0.8)) == (1, 1)
    assert marks(Interval(value=0.7)) == (1, 0)
    assert marks(Interval(value=None)) == (0, 0)
    assert marks(None, Interval(value=0.7)) == (1, 0)


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


def test_nearly_used_up_is_not_shown_as_less() -> None:
    assert budget_title(_budget(left=0.001)) == "lungs: 100 % used"


def test_words_beside_a_plot_are_cut_and_escaped() -> None:
    assert shortened("x" * 40) == "x" * 27 + "…"
    chart = interval_chart("c", "<t>", "&", [Whiskers("<b>", (Interval(value=0.5),))])
    assert "&lt;b&gt;" in chart.picture
    assert not re.search("<b>|<t>", chart.picture)
