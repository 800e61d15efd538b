"""The page in a real browser: quiet, alone, printable, reachable by keyboard, readable by all.

Every check is a function that lists what is wrong, and is tried on a broken page too.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from privfin.reporting.page.page import report_page
from privfin.reporting.schema import Report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[3]
NARROW = {"width": 320, "height": 640}
#: The width of A4 between the margins of the style sheet, in CSS pixels.
PAPER = round((210 - 2 * 16) / 25.4 * 96)
WIDE = {"width": 1100, "height": 900}


def _screenshots() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "report_screenshots", ROOT / "docs/report_screenshots.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


screenshots = _screenshots()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = screenshots.browser_path()
    if executable is None:
        pytest.skip(f"no browser found; looked for {', '.join(screenshots.BROWSERS)}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=executable, args=list(screenshots.FLAGS))
        yield found
        found.close()


class Shown:
    """A page as the browser shows it, with everything it asked for and complained about."""

    def __init__(self, tab: Page, address: str) -> None:
        self.tab, self.address = tab, address
        self.requests: list[str] = []
        self.complaints: list[str] = []
        tab.on("request", lambda request: self.requests.append(request.url))
        tab.on("console", lambda message: self.complaints.append(message.text))
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.goto(address)
        tab.wait_for_load_state("networkidle")

    def strangers(self) -> list[str]:
        """Requests for anything but the file itself."""
        return [one for one in self.requests if one not in (self.address, "data:,")]


Open = Callable[..., Shown]


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Shows HTML; the window's size and the theme can be chosen."""
    opened = []

    def _show(html: str, size: dict[str, int] = WIDE, theme: Any = "light") -> Shown:
        path = tmp_path / f"page-{len(opened)}.html"
        path.write_text(html, "utf-8")
        tab = browser.new_page(viewport=size, color_scheme=theme)  # type: ignore[arg-type]
        opened.append(tab)
        return Shown(tab, path.as_uri())

    yield _show
    for tab in opened:
        tab.close()


@pytest.fixture(scope="module")
def html(full_report: Report) -> str:
    return report_page(
        full_report,
        fingerprint="ab" * 32,
        is_signed=True,
        glossary={"epsilon": "How far the chance of an output may move with one patient."},
    )


@pytest.fixture(scope="module")
def small(sample_report: Callable[..., Report]) -> str:
    return report_page(
        sample_report(), fingerprint="ab" * 32, is_signed=False, glossary={"mu": "a number"}
    )


def _with(html: str, addition: str) -> str:
    """The page with something more in its summary."""
    end = '</div>\n<div class="body">'
    assert html.count(end) == 1
    return html.replace(end, addition + end)


def test_the_page_loads_nothing_and_complains_about_nothing(html: str, show: Open) -> None:
    shown = show(html)
    assert shown.tab.title() == "Privacy report on the run “first”"
    assert shown.strangers() == []
    assert shown.complaints == []


def test_a_page_that_loads_or_complains_is_caught(html: str, show: Open) -> None:
    outside = '<img src="http://host.invalid/x.png" alt="x">'
    blocked = show(_with(html, outside))
    assert any("Content Security Policy" in one for one in blocked.complaints)
    without_policy = re.sub(r"<meta http-equiv[^>]*>", "", _with(html, outside))
    assert show(without_policy).strangers() == ["http://host.invalid/x.png"]
    script = show(_with(html, "<script>document.title = 'changed'</script>"))
    assert script.tab.title() != "changed"
    assert script.complaints


def _serious(shown: Shown, within: str | None = None, without: tuple[str, ...] = ()) -> list[str]:
    """What axe-core finds serious or critical, with the elements."""
    from axe_playwright_python.sync_playwright import Axe

    options = {
        "resultTypes": ["violations"],
        "rules": {rule: {"enabled": False} for rule in without},
    }
    found = Axe().run(shown.tab, context=within, options=options).response["violations"]
    return [
        f"{one['id']}: {node['html'][:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.mark.parametrize(
    ("theme", "size"), [("light", WIDE), ("dark", WIDE), ("light", NARROW)], ids=str
)
def test_axe_finds_nothing_serious(
    theme: str, size: dict[str, int], small: str, show: Open
) -> None:
    assert _serious(show(small, size, theme)) == []


def test_axe_finds_nothing_serious_in_a_large_report(html: str, show: Open) -> None:
    """Contrast is left to the smaller page and to the test of the palette: it takes long here."""
    assert _serious(show(html), without=("color-contrast",)) == []


@pytest.mark.parametrize(
    ("theme", "broken", "rule"),
    [
        ("light", '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">', "image-alt"),
        ("light", '<p style="color:#bbb">pale words</p>', "color-contrast"),
        ("dark", '<p style="color:#444">pale words</p>', "color-contrast"),
        ("light", '<svg role="img" width="9" height="9"></svg>', "svg-img-alt"),
    ],
)
def test_axe_catches_what_is_broken(
    theme: str, broken: str, rule: str, html: str, show: Open
) -> None:
    found = _serious(show(_with(html, broken), WIDE, theme), within="#summary")
    assert [one.split(":")[0] for one in found] == [rule]


def _too_wide(shown: Shown) -> list[str]:
    """Elements that stick out of the window, outside of areas that scroll by themselves."""
    found: list[str] = shown.tab.evaluate(
        """() => [...document.querySelectorAll('body *')]
            .filter(one => !one.closest('.scroll, .skip, .unseen'))
            .filter(one => one.getBoundingClientRect().right > window.innerWidth + 1)
            .map(one => one.outerHTML.slice(0, 120))"""
    )
    if shown.tab.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
        found.append("the window scrolls sideways")
    return found


def test_a_narrow_window_needs_no_scrolling_sideways(html: str, show: Open) -> None:
    assert _too_wide(show(html, NARROW)) == []


def test_a_page_that_is_too_wide_is_caught(html: str, show: Open) -> None:
    found = _too_wide(show(_with(html, '<p style="width:50rem">wide</p>'), NARROW))
    assert "the window scrolls sideways" in found


def test_very_long_words_break(full_report: Report, show: Open) -> None:
    long = full_report.model_dump()
    long["purpose"]["task"]["value"] = "w" * 900
    long["parties"]["sites"]["value"][0]["site"] = "s" * 900
    long["summary"][0]["text"] = "t" * 400
    long["report"]["run_name"]["value"] = "n" * 200
    page = report_page(Report.model_validate(long), fingerprint="ab" * 32, is_signed=False)
    assert _too_wide(show(page, NARROW)) == []


def _unreached(shown: Shown) -> list[str]:
    """Links and areas that scroll, but that the Tab key does not reach or not show."""
    tab = shown.tab
    stops = tab.evaluate("document.querySelectorAll('a[href], .scroll').length")
    first = ""
    for step in range(stops + 5):
        tab.keyboard.press("Tab")
        at = tab.evaluate(
            """() => { const at = document.activeElement;
                const shape = getComputedStyle(at);
                if (shape.outlineStyle !== 'none' && parseFloat(shape.outlineWidth) >= 2)
                    at.setAttribute('data-reached', '');
                return at.textContent; }"""
        )
        first = first or at if step == 0 else first
    missed: list[str] = tab.evaluate(
        """() => [...document.querySelectorAll('a[href], .scroll')]
            .filter(one => !one.hasAttribute('data-reached'))
            .map(one => one.outerHTML.slice(0, 120))"""
    )
    return missed if first == "Skip to the summary" else [*missed, f"first is {first!r}"]


def test_the_keyboard_reaches_everything(html: str, show: Open) -> None:
    shown = show(html)
    assert _unreached(shown) == []


def test_what_the_keyboard_does_not_reach_is_caught(small: str, show: Open) -> None:
    unreachable = _with(small, '<a href="#ledger" tabindex="-1">no</a>')
    assert len(_unreached(show(unreachable))) == 1
    unseen = small.replace("</style>", "a:focus-visible { outline: none } </style>")
    assert len(_unreached(show(unseen))) > 20
    no_skip = re.sub(r'<a class="skip".*?</a>', "", small)
    assert "first is" in _unreached(show(no_skip))[-1]


def test_the_skip_link_shows_itself_and_leads_to_the_summary(html: str, show: Open) -> None:
    tab = show(html).tab
    tab.keyboard.press("Tab")
    box = tab.locator(".skip").bounding_box()
    assert box is not None
    assert box["y"] >= 0
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "summary"


def _pages(tab: Page, rule: str) -> int:
    """How many pages are printed with one more rule of style."""
    style = tab.add_style_tag(content=rule)
    printed = tab.pdf(prefer_css_page_size=True)
    style.evaluate("one => one.remove()")
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", printed))


def _print_faults(shown: Shown) -> list[str]:
    """What is wrong with page one on paper."""
    alone = _pages(shown.tab, ".body, footer { display: none }")
    one_line = ".body > *, footer { display: none } .body::before { content: 'body' }"
    faults = [] if alone == 1 else [f"page one takes {alone} pages"]
    if _pages(shown.tab, one_line) != alone + 1:
        faults.append("the body does not start on a page of its own")
    shown.tab.set_viewport_size({"width": PAPER, "height": 900})
    shown.tab.emulate_media(media="print")
    if shown.tab.evaluate("document.documentElement.scrollWidth") > PAPER:
        faults.append("it is wider than the paper, so a browser prints all of it smaller")
    return faults


@pytest.mark.parametrize("which", ["small", "full"])
def test_page_one_is_one_printed_page_with_every_answer(
    which: str, html: str, small: str, show: Open
) -> None:
    shown = show(small if which == "small" else html)
    assert _print_faults(shown) == []
    # By its layout too: the last answer ends above the lower margin of an A4 page.
    answers = shown.tab.locator(".answer")
    assert answers.count() == 9
    assert all(answers.nth(k).is_visible() for k in range(9))
    bottom = shown.tab.evaluate("document.querySelector('#summary').getBoundingClientRect().bottom")
    assert 300 < bottom <= (297 - 32) / 25.4 * 96


@pytest.mark.parametrize("factor", [1.5, 2.5])
def test_long_answers_still_fit_since_they_are_set_smaller(
    factor: float, full_report: Report, show: Open
) -> None:
    long = [one.model_copy(update={"text": f"{one.text} " * 3}) for one in full_report.summary]
    cut = [one.model_copy(update={"text": one.text[: int(len(one.text) * factor / 3)]})
           for one in long]  # fmt: skip
    report = full_report.model_copy(update={"summary": tuple(cut)})
    page = report_page(report, fingerprint="ab" * 32, is_signed=True)
    assert _print_faults(show(page)) == []
    largest = re.sub(r"--print-size: [0-9.]+pt", "--print-size: 9pt", page)
    assert (_print_faults(show(largest)) == []) is (factor < 2)


def test_a_page_one_that_does_not_fit_is_caught(html: str, show: Open) -> None:
    assert _print_faults(show(_with(html, "<p>more</p>" * 20))) == ["page one takes 2 pages"]
    joined = html.replace(".body { break-before: page; }", "")
    assert joined != html
    assert _print_faults(show(joined)) == ["the body does not start on a page of its own"]
    wide = '<div class="body"><table><tr><td><div style="width: 20cm">x</div></td></tr></table>'
    too_wide = html.replace('<div class="body">', wide)
    assert "wider than the paper" in _print_faults(show(too_wide))[-1]


def test_paper_is_white_in_the_dark_theme(html: str, show: Open) -> None:
    tab = show(html, WIDE, "dark").tab
    ground = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.querySelector('.f-ink')).fill"
    assert (tab.evaluate(ground), tab.evaluate(ink)) == ("rgb(20, 23, 26)", "rgb(230, 232, 234)")
    tab.emulate_media(media="print", color_scheme="dark")
    assert (tab.evaluate(ground), tab.evaluate(ink)) == ("rgb(255, 255, 255)", "rgb(27, 31, 36)")


def test_screenshots_are_pictures_of_three_kinds(
    html: str, browser: Browser, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    page.write_text(html, "utf-8")
    written = screenshots.pictures(browser, page, tmp_path)
    assert [one.name for one in written] == [
        "report-light.png", "report-dark.png", "report-printed.png",
    ]  # fmt: skip
    contents = [one.read_bytes() for one in written]
    assert all(one.startswith(b"\x89PNG") for one in contents)
    assert len(set(contents)) == 3
