"""The report as one HTML file: no script, no network, to be read, heard and printed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any

import jinja2

from privfin.reporting.facts import Fact, Strict
from privfin.reporting.page.charts_budget import budget_bar, budget_title
from privfin.reporting.page.exhibits import Exhibit, exhibit
from privfin.reporting.page.labels import BLOCKS, FIELDS
from privfin.reporting.page.svg import Chart
from privfin.reporting.page.tables import Blank, Links
from privfin.reporting.page.wording import KEEP, fact_words, moment
from privfin.reporting.schema import Report

NO_GLOSSARY: Mapping[str, str] = MappingProxyType({})
#: Sizes in points of page one on paper, and the letters that fill an A4 page at the largest.
_LARGEST, _SMALLEST, _LETTERS = 9.0, 6.5, 3000
_MOST_BARS = 4
_HASH = re.compile(r"[0-9a-f]{32,}")
_MARKS = {
    "measured": "●", "derived": "◐", "declared": "○", "not_assessed": "!", "not_applicable": "–",
}  # fmt: skip
_MEANINGS = {
    "measured": "read off data, a model or the run's own records",
    "derived": "calculated from other values",
    "declared": "somebody says so; nothing checked it",
    "not_assessed": "a gap: it could be known, and is not",
    "not_applicable": "there is nothing to know",
}
_TONES = {"plain": None, "good": ("✓", "Checked"), "open": ("○", "Open"), "bad": ("!", "Warning")}


@dataclass(frozen=True)
class Entry:
    """A fact with the words that stand for its value, and what is drawn and tabled of it."""

    ident: str
    label: str
    fact: Fact[Any]
    words: str | tuple[str, ...]
    shown: Exhibit = ()


@dataclass(frozen=True)
class Section:
    """A block of the report in its body."""

    ident: str
    number: int
    title: str
    intro: str
    entries: tuple[Entry, ...] = field(default=())


def report_page(
    report: Report,
    *,
    fingerprint: str,
    is_signed: bool,
    glossary: Mapping[str, str] = NO_GLOSSARY,
) -> str:
    """The whole page. Every text of the report is escaped; the same report gives the same bytes.

    Args:
        report: with its summary, which is page one.
        fingerprint: SHA-256 of the report's canonical JSON, 64 hexadecimal digits.
        is_signed: whether a signed seal goes with the file.
        glossary: words and what they mean; may be empty.

    Raises:
        ValueError: ``fingerprint`` is not a SHA-256.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", fingerprint):
        raise ValueError(f"not a SHA-256: {fingerprint!r}")
    sections = [_section(report, number, name) for number, name in enumerate(BLOCKS, start=1)]
    entries = [entry for section in sections for entry in section.entries]
    template = _environment().get_template("page.html.j2")
    return template.render(
        report=report,
        fingerprint=fingerprint,
        is_signed=is_signed,
        glossary=dict(sorted(glossary.items(), key=lambda pair: pair[0].lower())),
        sections=sections,
        gaps=[(s, e) for s in sections for e in s.entries if e.fact.status == "not_assessed"],
        tally={status: sum(e.fact.status == status for e in entries) for status in _MARKS},
        bars=_bars(report),
        print_size=_print_size(report),
        places=_Places(sections),
        marks=_MARKS,
        meanings=_MEANINGS,
        tones=_TONES,
    )


def _print_size(report: Report) -> float:
    """Points, such that page one fits one A4 page: what is twice as long takes twice the area."""
    letters = sum(len(one.question) + len(one.text) for one in report.summary)
    fitting = _LARGEST * math.sqrt(_LETTERS / max(letters, _LETTERS))
    return round(max(fitting, _SMALLEST), 2)


@cache
def _environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("privfin.reporting.page", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["moment"] = moment
    found.filters["unbroken"] = lambda words: words.replace(" %", f"{KEEP}%")
    found.tests["digest"] = lambda words: bool(_HASH.fullmatch(words))
    found.tests["chart"] = lambda one: isinstance(one, Chart)
    found.tests["links"] = lambda cell: isinstance(cell, Links)
    found.tests["blank"] = lambda cell: isinstance(cell, Blank)
    return found


def _section(report: Report, number: int, name: str) -> Section:
    block: Strict = getattr(report, name)
    title, intro = BLOCKS[name]
    return Section(
        ident=name,
        number=number,
        title=title,
        intro=intro,
        entries=tuple(_entry(report, f"{name}.{one}", getattr(block, one))
                      for one in type(block).model_fields),
    )  # fmt: skip


def _entry(report: Report, path: str, fact: Fact[Any]) -> Entry:
    shown = exhibit(report, path, fact)
    words = "" if shown else fact_words(report, path, fact)
    return Entry(path.replace(".", "-"), FIELDS[path], fact, words, shown)


@dataclass(frozen=True)
class Bar:
    """A population's budget on page one."""

    title: str
    chart: Chart | None


def _bars(report: Report) -> tuple[Sequence[Bar], int]:
    """Bars of the first populations, and how many more there are."""
    budgets = report.ledger.budgets.value or ()
    # Those over their cap come first, so that none of them is left to the body.
    ordered = sorted(budgets, key=lambda one: not one.is_over)
    bars = [
        Bar(
            budget_title(one),
            budget_bar(one, f"bar-{place}"),
        )
        for place, one in enumerate(ordered[:_MOST_BARS])
    ]
    return bars, len(budgets) - len(bars)


class _Places:
    """From JSON pointers into the report to places of the page."""

    def __init__(self, sections: Sequence[Section]) -> None:
        self._sections = {section.ident: section for section in sections}
        self._entries = {e.ident: (s, e) for s in sections for e in s.entries}

    def of(self, pointers: Sequence[str]) -> list[tuple[str | None, str]]:
        """For each pointer an identifier, None where there is no such place, and its name."""
        return list(dict.fromkeys(self._one(pointer) for pointer in pointers))

    def sections_of(self, pointers: Sequence[str]) -> list[Section]:
        """The sections that pointers lead into, each once."""
        names = dict.fromkeys(pointer.lstrip("/").split("/")[0] for pointer in pointers)
        return [self._sections[name] for name in names if name in self._sections]

    def _one(self, pointer: str) -> tuple[str | None, str]:
        parts = pointer.lstrip("/").split("/")
        found = self._entries.get("-".join(parts[:2]))
        if found is not None:
            section, entry = found
            return entry.ident, f"{section.number} {entry.label}"
        if len(parts) == 1 and parts[0] in self._sections:
            return parts[0], f"{self._sections[parts[0]].number} {self._sections[parts[0]].title}"
        return None, pointer
