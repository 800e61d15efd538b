"""Intervals are drawn where there are any, and words are escaped."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from privfin.reporting.blocks_results import Interval
from privfin.reporting.page.charts_intervals import Whiskers, interval_chart
from privfin.reporting.page.svg import shortened


def _svg(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314


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


def test_words_beside_a_plot_are_cut_and_escaped() -> None:
    assert shortened("x" * 40) == "x" * 27 + "…"
    chart = interval_chart("c", "<t>", "&", [Whiskers("<b>", (Interval(value=0.5),))])
    assert "&lt;b&gt;" in chart.picture
    assert not re.search("<b>|<t>", chart.picture)
