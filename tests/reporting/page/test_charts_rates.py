"""Curves are drawn at their values, and bounds are the bounds."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privfin.reporting.blocks_privacy import TradeOff
from privfin.reporting.blocks_results import AttackResult
from privfin.reporting.page.charts_rates import most_by_epsilon_alone, trade_off_chart


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
