"""No text gets out of its place in Markdown, whichever program renders it."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

import markdown
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from privfin.reporting.facts import declared, not_applicable, not_assessed
from privfin.reporting.formats.markdown import gap, inline, items, lines_of_code, table, words
from privfin.reporting.formats.plain_text import one_line

RENDERERS: list[Callable[[str], str]] = [
    MarkdownIt("commonmark").enable(["table", "strikethrough"]).render,
    lambda text: markdown.markdown(text, extensions=["tables", "fenced_code", "def_list"]),
]
MARKS = st.text(alphabet="ab1 \n\t-+#=:>|`*_[]()!<>/&;\\~$^.{}\"'\u202e", max_size=30)


def _tags(rendered: str) -> list[str]:
    return re.findall(r"<[^>]*>", rendered)


def _words(rendered: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", rendered)).split())


@pytest.mark.parametrize("render", RENDERERS)
@given(text=MARKS)
def test_a_paragraph_stays_one_and_keeps_its_words(render: Callable[[str], str], text: str) -> None:
    rendered = render(inline(text))
    assert _tags(rendered) == (["<p>", "</p>"] if one_line(text) else [])
    assert _words(rendered) == one_line(text)


@pytest.mark.parametrize("render", RENDERERS)
@given(text=MARKS)
def test_a_table_keeps_its_cells(render: Callable[[str], str], text: str) -> None:
    def drawn(cell: str) -> str:
        return render(table(("a", cell), [(cell, "b"), ("c", cell)]))

    assert _tags(drawn(text)) == _tags(drawn("x"))
    assert drawn(text).count("<td") == 4


@pytest.mark.parametrize("render", RENDERERS)
@given(text=MARKS)
def test_a_list_keeps_its_items(render: Callable[[str], str], text: str) -> None:
    assert _tags(render(items(["a", text + "a", "b"]))) == _tags(render(items(["a", "x", "b"])))


@pytest.mark.parametrize("render", RENDERERS)
@given(text=MARKS)
def test_code_stays_code(render: Callable[[str], str], text: str) -> None:
    rendered = render("Commands:\n\n" + lines_of_code(["one", "a" + text, "two"]) + "\n\nend")
    assert _tags(rendered) == ["<p>", "</p>", "<pre>", "<code>", "</code>", "</pre>", "<p>", "</p>"]
    assert one_line("a" + text) in html.unescape(rendered)


@pytest.mark.parametrize("render", RENDERERS)
@given(text=MARKS)
def test_a_heading_keeps_its_words(render: Callable[[str], str], text: str) -> None:
    rendered = render(f"# Run {inline(text)}")
    assert len(_tags(rendered)) == 2
    assert _words(rendered) == one_line(f"Run {text}")


def test_a_gap_says_its_status_and_why() -> None:
    assert gap(not_assessed("nobody asked", "x")) == "not assessed: nobody asked"
    assert words(not_applicable("no noise", "x")) == "not applicable: no noise"
    assert words(declared("yes", "x")) == "yes (declared)"
