"""The page is one file with nothing fetched, and shows names as text, whatever is in them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from html.parser import HTMLParser
from typing import Any

from privfin.comparison.finished import load_finished
from privfin.comparison.page import comparison_page
from privfin.comparison.results import compare_runs

EVIL = "<script>alert('1 & $2$')<img src=x>"
VOID = {"meta", "img", "br", "hr", "link"}


class Page(HTMLParser):
    """Collects elements and text, and checks that they are nested."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.text = ""
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data") and not str(value).startswith("#"):
                self.fetched.append(str(value))
            assert not name.startswith("on")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(make_run: Any) -> str:
    paths = [
        make_run(EVIL.replace("/", "")),
        make_run("inf", privacy__epsilon="inf", data__labels=[EVIL]),
    ]
    return comparison_page(compare_runs(load_finished(paths)))


def test_names_are_shown_and_not_obeyed(make_run: Any) -> None:
    text = page_of(make_run)
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert page.tags["script"] == page.tags["img"] == page.tags["link"] == 0
    assert page.fetched == []
    assert EVIL in page.text
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_the_page_can_be_read_without_seeing_it(make_run: Any) -> None:
    text = page_of(make_run)
    page = Page()
    page.feed(text)
    assert page.tags["h1"] == 1
    assert page.tags["h2"] >= 3
    assert page.tags["table"] == page.tags["caption"] >= 3
    assert page.tags["th"] > page.tags["table"]
    assert 'scope="col"' in text
    assert 'lang="en"' in text
    assert re.search(r'<svg[^>]* role="img" aria-label="macro AUROC of 2 runs"', text)
    assert "prefers-color-scheme: dark" in text
    assert "NOT PRIVATE" in page.text


def test_the_picture_takes_the_colours_of_the_page(make_run: Any) -> None:
    svg = re.search(r"<svg.*</svg>", page_of(make_run), re.DOTALL)
    assert svg is not None
    ElementTree.fromstring(svg.group())  # noqa: S314
    assert not re.search(r"#[0-9a-f]{6}|metadata", svg.group())
    assert "currentColor" in svg.group()
    assert "var(--series-0)" in svg.group()
