"""The page holds every value of the report with its status, and nothing that a text smuggles in."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import pytest

from privfin.reporting.facts import Fact, declared, derived, measured, not_applicable, not_assessed
from privfin.reporting.page.labels import BLOCKS, COLUMNS, FIELDS
from privfin.reporting.page.page import report_page
from privfin.reporting.schema import Report

PRINT = "ab" * 32
STYLE = files("privfin.reporting.page").joinpath("templates/style.css").read_text("utf-8")
#: Elements that may run, load or send something.
ACTIVE = {"script", "iframe", "object", "embed", "form", "img", "video", "audio", "base", "source"}


class Element:
    """An element of a page: its tag, its attributes, its children and the words in it."""

    def __init__(self, tag: str, attributes: dict[str, str | None]) -> None:
        self.tag, self.attributes = tag, attributes
        self.children: list[Element] = []
        self.words = ""


class Tree(HTMLParser):
    """A page as elements; an end that fits no start fails."""

    VOID = frozenset({"meta", "link", "br", "img", "input"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.all: list[Element] = []
        self._open = [Element("", {})]
        self.feed(page)
        self.close()
        assert len(self._open) == 1, [one.tag for one in self._open]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = Element(tag, dict(attributes))
        assert len(found.attributes) == len(attributes), f"{tag} has an attribute twice"
        self._open[-1].children.append(found)
        self.all.append(found)
        if tag not in self.VOID:
            self._open.append(found)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        for one in self._open:
            one.words += data

    def by_id(self, ident: str) -> Element:
        (found,) = [one for one in self.all if one.attributes.get("id") == ident]
        return found


def _page(report: Report, **more: Any) -> str:
    return report_page(report, **{"fingerprint": PRINT, "is_signed": False, **more})


def _words(page: str) -> str:
    """What a reader reads: without the style sheet, spaces made plain."""
    tree = Tree(page)
    (body,) = [one for one in tree.all if one.tag == "body"]
    return re.sub(r"\s+", " ", body.words)


def _facts(report: Report) -> dict[str, Fact[Any]]:
    return {
        f"{block}-{field}": getattr(getattr(report, block), field)
        for block in BLOCKS
        for field in type(getattr(report, block)).model_fields
    }


def test_every_block_and_field_of_the_schema_has_a_name_and_no_name_is_left_over() -> None:
    fields = {
        f"{block}.{field}"
        for block in BLOCKS
        for field in Report.model_fields[block].annotation.model_fields  # type: ignore[union-attr]
    }
    assert set(BLOCKS) == set(Report.model_fields) - {"schema_version", "summary"}
    assert set(FIELDS) == fields


def test_names_of_columns_belong_to_rows_of_the_schema() -> None:
    rows = Report.model_json_schema()["$defs"]
    for name in COLUMNS:
        kind, _, field = name.partition(".")
        assert field in rows[kind]["properties"], name


@pytest.mark.parametrize("which", ["sample", "full"])
def test_every_fact_stands_in_the_page_with_its_status_source_and_note(
    which: str, sample_report: Callable[..., Report], full_report: Report
) -> None:
    report = sample_report() if which == "sample" else full_report
    tree = Tree(_page(report))
    facts = _facts(report)
    assert len(facts) == len(FIELDS)
    for ident, fact in facts.items():
        found = tree.by_id(ident)
        marks = [one for one in tree.all if "known" in (one.attributes.get("class") or "").split()]
        of_fact = [one for one in marks if _inside(found, one)]
        assert len(of_fact) == 1, ident
        assert of_fact[0].words.split(maxsplit=1)[1] == fact.status.replace("_", " "), ident
        assert f"from {fact.source}" in found.words, ident
        assert fact.note in found.words, ident


def _inside(outer: Element, wanted: Element) -> bool:
    return any(one is wanted or _inside(one, wanted) for one in outer.children)


def test_every_known_text_and_row_of_a_fact_is_readable(full_report: Report) -> None:
    tree = Tree(_page(full_report))
    for ident, fact in _facts(full_report).items():
        shown = tree.by_id(ident).words
        if isinstance(fact.value, str) and ident not in ("report-created", "report-run_created"):
            assert fact.value in shown, ident
        if ident == "guarantee-curve":
            continue  # some points of many; its chart has its own test
        for row in fact.value if isinstance(fact.value, tuple) else ():
            names = [row] if isinstance(row, str) else [next(iter(dict(row).values()))]
            assert all(str(name) in shown for name in names), (ident, names)


def test_a_gap_is_listed_before_the_body_and_shown_where_it_is(
    sample_report: Callable[..., Report],
) -> None:
    gap: Fact[Any] = not_assessed("nobody looked at the wire", "audit.json")
    with_gap = sample_report(exchange__sizes_tell_sites_apart=gap)
    without = sample_report(exchange__sizes_tell_sites_apart=measured(False, "audit.json"))
    link = 'href="#exchange-sizes_tell_sites_apart"'
    assert link in _page(with_gap)
    assert (
        "nobody looked at the wire"
        in Tree(_page(with_gap)).by_id("exchange-sizes_tell_sites_apart").words
    )
    assert link not in _page(without)


def test_page_one_has_the_sentences_of_the_summary_as_they_are(full_report: Report) -> None:
    tree = Tree(_page(full_report))
    main = tree.by_id("summary")
    for one in full_report.summary:
        answer = tree.by_id(f"answer-{one.key}")
        assert _inside(main, answer)
        assert one.question in answer.words
        assert one.text in answer.words.replace("\u00a0", " ")
    assert [one.attributes["id"] for one in main.children if one.tag == "section"] == [
        f"answer-{one.key}" for one in full_report.summary
    ]


@pytest.mark.parametrize(
    ("tone", "word"), [("good", "Checked"), ("open", "Open"), ("bad", "Warning"), ("plain", "")]
)
def test_a_tone_is_a_word_and_not_only_a_colour(
    tone: str, word: str, sample_report: Callable[..., Report]
) -> None:
    first = sample_report().summary[0].model_dump() | {"tone": tone}
    tree = Tree(_page(sample_report(summary=[first])))
    answer = tree.by_id("answer-trained")
    marks = [one.words for one in tree.all if one.attributes.get("class") == "tone"]
    assert marks == ([] if not word else [marks[0]])
    assert word in answer.words


def test_the_same_report_gives_the_same_bytes(full_report: Report) -> None:
    first = _page(full_report, glossary={"mu": "a", "epsilon": "b"})
    assert first == _page(full_report, glossary={"epsilon": "b", "mu": "a"})
    other = full_report.model_copy(update={"summary": full_report.summary[:1]})
    assert first != _page(other, glossary={"mu": "a", "epsilon": "b"})


def test_a_large_report_stays_below_600_kilobytes(full_report: Report) -> None:
    assert len(_page(full_report).encode()) < 600_000


HOSTILE = "</style></svg></title><script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{7*7}}"


def test_hostile_text_stays_text(full_report: Report) -> None:
    """Every text of the report at once is hostile; the page's elements are those of before."""
    hostile = Report.model_validate(_poisoned(full_report.model_dump(mode="python")))
    page = _page(hostile, glossary={HOSTILE: HOSTILE})
    elements = Tree(page).all
    assert not {one.tag for one in elements} & ACTIVE
    assert not [one for one in elements for name in one.attributes if name.startswith("on")]
    tame = Tree(_page(full_report, glossary={"a": "b"})).all
    assert {one.tag for one in elements} <= {one.tag for one in tame}
    assert HOSTILE in _words(page)
    assert "49" not in _words(page).split(HOSTILE)[0][-40:]


#: Texts of which the schema allows only some, and those that an identifier is made of.
_FIXED = {
    "status", "tone", "verdict", "kind", "evidence", "criterion", "key", "audience",
    "schema_version", "release_class", "no_person_at_two_sites", "severity", "likelihood",
}  # fmt: skip


def _poisoned(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        if value.get("status") in ("measured", "derived", "declared") and name in _FIXED:
            return {**value, "source": HOSTILE}
        return {key: _poisoned(one, key) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_poisoned(one, name) for one in value]
    return HOSTILE if isinstance(value, str) and name not in _FIXED else value


def test_hostile_text_is_found_if_it_is_not_escaped(full_report: Report) -> None:
    """The test above can fail."""
    page = _page(full_report).replace("</h1>", HOSTILE.split("</title>")[1] + "</h1>", 1)
    assert {one.tag for one in Tree(page).all} & ACTIVE == {"script", "img"}


def test_the_page_names_no_address_and_runs_nothing(full_report: Report) -> None:
    elements = Tree(_page(full_report)).all
    assert not {one.tag for one in elements} & ACTIVE
    targets = [
        one.attributes[name]
        for one in elements
        for name in ("href", "src", "srcset", "action", "xlink:href", "data")
        if one.attributes.get(name)
    ]
    assert [t for t in targets if not str(t).startswith("#") and t != "data:,"] == []
    assert "@import" not in STYLE
    assert re.findall(r"url\((?!#)", _page(full_report)) == []
    policy = [o.attributes for o in elements if o.attributes.get("http-equiv")]
    assert [one["content"] for one in policy] == [
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    ]


def test_identifiers_are_there_once_and_every_link_leads_somewhere(full_report: Report) -> None:
    elements = Tree(_page(full_report, glossary={"mu": "a"})).all
    names = [one.attributes["id"] for one in elements if "id" in one.attributes]
    assert len(names) == len(set(names))
    links = [str(one.attributes["href"]) for one in elements if one.tag == "a"]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(names)
    for one in elements:
        for name in (one.attributes.get("aria-labelledby") or "").split():
            assert name in names


def test_headings_go_down_one_step_at_a_time(full_report: Report) -> None:
    levels = [int(o.tag[1]) for o in Tree(_page(full_report)).all if re.fullmatch("h[1-6]", o.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


def test_tables_have_captions_and_heads_and_charts_have_words(full_report: Report) -> None:
    elements = Tree(_page(full_report)).all
    tables = [one for one in elements if one.tag == "table"]
    assert len(tables) > 20
    for table in tables:
        caption, head, body = table.children
        assert (caption.tag, head.tag, body.tag) == ("caption", "thead", "tbody")
        assert caption.words
        width = len(head.children[0].children)
        assert all(cell.attributes.get("scope") == "col" for cell in head.children[0].children)
        for row in body.children:
            assert len(row.children) == width, caption.words
            assert row.children[0].attributes.get("scope") == "row"
    pictures = [one for one in elements if one.tag == "svg"]
    assert len(pictures) > 10
    for one in pictures:
        assert one.attributes["role"] == "img"
        assert [child.tag for child in one.children[:2]] == ["title", "desc"]
        assert all(child.words for child in one.children[:2])


def test_a_chart_in_the_body_is_followed_by_a_table(full_report: Report) -> None:
    for section in Tree(_page(full_report)).all:
        if section.attributes.get("class") == "exhibit":
            kinds = [one.tag for one in section.children if one.tag in ("figure", "div")]
            assert kinds[-1:] == ["div"], section.attributes["id"]


VERDICTS = r"\b(anonymous|anonymi[sz]ed|compliant|certified|safe|secure|GDPR-proof)\b"


def test_the_page_gives_no_verdict_of_its_own(full_report: Report) -> None:
    page = _page(full_report, is_signed=True)
    assert re.findall(VERDICTS, _words(page), re.IGNORECASE) == []
    said = declared("it is anonymous", "answers file")
    spoilt = full_report.model_copy(
        update={"purpose": full_report.purpose.model_copy(update={"people": said})}
    )
    assert re.findall(VERDICTS, _words(_page(spoilt)), re.IGNORECASE) == ["anonymous"]


def test_an_epsilon_is_never_alone(sample_report: Callable[..., Report]) -> None:
    tree = Tree(_page(sample_report()))
    for ident in ("guarantee-epsilon", "guarantee-epsilon_at_every_site", "audit-largest_ceiling",
                  "mechanism-target_epsilon", "accounting-recomputed_epsilon",
                  "accounting-second_accountant"):  # fmt: skip
        assert "at delta 1e-05, for one patient" in tree.by_id(ident).words, ident
    for table in (one for one in tree.all if one.tag == "table"):
        head = [cell.words for cell in table.children[1].children[0].children]
        if any("epsilon" in name for name in head):
            assert "delta" in " ".join([table.children[0].words, *head]), head


def test_an_infinite_epsilon_promises_nothing(sample_report: Callable[..., Report]) -> None:
    page = _page(
        sample_report(
            guarantee__epsilon=derived(math.inf, "privacy.json"),
            guarantee__curve=not_applicable("nothing is promised", "privacy.json"),
            accounting__recomputed_epsilon=derived(math.inf, "plan"),
        )
    )
    tree = Tree(page)
    assert "infinite: nothing is promised" in tree.by_id("guarantee-epsilon").words
    assert "nothing is promised" in tree.by_id("guarantee-curve").words


def test_a_report_of_gaps_alone_has_a_page(sample_report: Callable[..., Report]) -> None:
    report = sample_report()
    gap: Fact[Any] = not_assessed("nobody looked", "nowhere")
    empty = report.model_copy(
        update={
            name: getattr(report, name).model_copy(
                update=dict.fromkeys(type(getattr(report, name)).model_fields, gap)
            )
            for name in BLOCKS
        }
    )
    tree = Tree(_page(empty))
    gaps = [one for one in tree.all if "is-not_assessed" in (one.attributes.get("class") or "")]
    assert len(gaps) == len(FIELDS)


@pytest.mark.parametrize("value", [(), None])
def test_no_rows_are_none_and_not_nothing(value: Any, sample_report: Callable[..., Report]) -> None:
    fact = measured((), "x") if value == () else not_assessed("not looked at", "x")
    tree = Tree(_page(sample_report(audit__attacks=fact, parties__sites_left=fact)))
    for ident in ("audit-attacks", "parties-sites_left"):
        expected = "none" if value == () else "not assessed"
        assert expected in tree.by_id(ident).words


def test_what_was_withheld_is_in_a_table_and_in_no_chart(
    sample_report: Callable[..., Report],
) -> None:
    row = sample_report().utility.cells.get()[0].model_dump()
    nothing = {"value": None, "low": None, "high": None}
    row |= {"auroc": nothing, "auprc": nothing, "ece": None, "brier": None, "labels": [],
            "patients": "1 to 10", "withheld": "small cell"}  # fmt: skip
    attack = sample_report().audit.attacks.get()[0].model_dump()
    attack |= {"curve": (), "withheld": "few patients", "note": "by hand"}
    tree = Tree(
        _page(
            sample_report(
                utility__cells=measured((row,), "metrics.json"),
                audit__attacks=measured((attack,), "audit.json"),
                audit__best_attack=derived(0, "audit.json"),
            )
        )
    )
    cells = tree.by_id("utility-cells")
    assert "small cell" in cells.words
    assert "1 to 10" in cells.words
    assert "few patients" in tree.by_id("audit-attacks").words
    for section in (cells, tree.by_id("audit-attacks")):
        inside = [one.tag for one in tree.all if _inside(section, one)]
        assert "svg" not in inside
        assert "table" in inside


def test_a_clause_whose_number_was_not_verified_says_so(
    sample_report: Callable[..., Report],
) -> None:
    row = sample_report().clause_map.clauses.get()[0]
    for is_verified in (True, False):
        changed = row.model_copy(update={"is_verified": is_verified}).model_dump()
        words = _words(
            _page(sample_report(clause_map__clauses=derived((changed,), "clauses.json")))
        )
        assert ("35(7)(d) (number not verified)" in words) is not is_verified


def test_a_pointer_becomes_a_link_where_there_is_such_a_place(
    sample_report: Callable[..., Report],
) -> None:
    row = sample_report().clause_map.clauses.get()[0]
    pointers = ("/guarantee/epsilon", "/audit/attacks/0/auc", "/security", "/nowhere/at all")
    changed = row.model_copy(update={"fields": pointers}).model_dump()
    tree = Tree(_page(sample_report(clause_map__clauses=derived((changed,), "clauses.json"))))
    links = [one.attributes["href"] for one in tree.all
             if one.tag == "a" and _inside(tree.by_id("clause_map"), one)]  # fmt: skip
    assert links == ["#guarantee-epsilon", "#audit-attacks", "#security"]
    assert "/nowhere/at all" in tree.by_id("clause_map").words


def test_the_signature_is_claimed_only_where_there_is_one(
    sample_report: Callable[..., Report],
) -> None:
    assert "not signed" in _words(_page(sample_report()))
    signed = _words(_page(sample_report(), is_signed=True))
    assert "not signed" not in signed
    assert "privfin report verify" in signed


def test_a_fingerprint_is_a_sha256_and_stands_on_page_one(
    sample_report: Callable[..., Report],
) -> None:
    assert PRINT in Tree(_page(sample_report())).by_id("summary").words
    with pytest.raises(ValueError, match="not a SHA-256"):
        _page(sample_report(), fingerprint="} body { display: none")


def test_a_budget_over_its_cap_is_on_page_one_however_many_there_are(
    sample_report: Callable[..., Report],
) -> None:
    row = sample_report().ledger.budgets.get()[0].model_dump()
    rows = [row | {"population": f"p{k}"} for k in range(9)]
    rows.append(row | {"population": "last", "is_over": True, "before": 7.0, "left": -3.0})
    summary = Tree(_page(sample_report(ledger__budgets=derived(tuple(rows), "ledger")))).by_id(
        "summary"
    )
    assert "last: 125 % used, OVER THE CAP" in re.sub(r"\s+", " ", summary.words)
    assert "6 more in" in summary.words


def _colours(text: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", text))


def _contrast(one: str, other: str) -> float:
    """Of WCAG 2.2, "contrast ratio"."""

    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_stand_out_in_both_themes() -> None:
    assert _contrast("#000000", "#ffffff") == pytest.approx(21.0)
    light, dark = (_colours(text) for text in STYLE.split("prefers-color-scheme: dark")[:2])
    assert set(light) == set(dark)
    for theme in (light, dark):
        for name in ("ink", "muted", "link", "good", "open", "warn"):
            for ground in ("paper", "shade"):
                assert _contrast(theme[name], theme[ground]) >= 4.5, (name, ground)
        for name in (f"series-{k}" for k in range(6)):
            assert _contrast(theme[name], theme["paper"]) >= 3.0, name
