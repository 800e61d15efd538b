"""Pictures of a report: page one on a screen, light and dark, and its first printed page.

Run ``python docs/report_screenshots.py report-officer.html docs/images``. It needs Playwright for
Python and a Chromium of the system; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: Without a sandbox, since containers have none; without anything that asks the network.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: A4 in CSS pixels (96 to the inch).
PRINTED = {"width": 794, "height": 1123}
#: The margins of the page's style sheet, which only paper has; and page one alone.
PAPER = "body { padding: 15mm 16mm 17mm !important } .body, footer { display: none }"
SCREEN = {"width": 1100, "height": 1300}
VIEWS: tuple[tuple[str, Any, Any, Any], ...] = (
    ("light", "light", "screen", SCREEN),
    ("dark", "dark", "screen", SCREEN),
    ("printed", "light", "print", PRINTED),
)


def browser_path() -> str | None:
    """Where a Chromium is, or None."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def pictures(browser: Browser, page: Path, folder: Path) -> list[Path]:
    """Write PNG pictures of a report into a folder.

    Args:
        browser: that runs.
        page: the HTML file.
        folder: must exist.

    Returns:
        The files: light, dark and printed.
    """
    written = []
    for name, scheme, media, size in VIEWS:
        tab = browser.new_page(viewport=size, color_scheme=scheme)
        tab.goto(page.resolve().as_uri())
        tab.emulate_media(media=media, color_scheme=scheme)
        if media == "print":
            tab.add_style_tag(content=PAPER)
        target = folder / f"report-{name}.png"
        tab.screenshot(path=target)
        written.append(target)
        tab.close()
    return written


def take_screenshots(page: Path, folder: Path, executable: str) -> list[Path]:
    """Start a browser, write PNG pictures of a report into a folder, and name them."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        try:
            return pictures(browser, page, folder)
        finally:
            browser.close()


def main() -> None:
    """Take the pictures that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path, help="HTML file of a report")
    parser.add_argument("folder", type=Path, help="where the pictures go; must exist")
    given = parser.parse_args()
    executable = browser_path()
    if executable is None:
        sys.exit(f"No browser found; looked for {', '.join(BROWSERS)}.")
    for written in take_screenshots(given.page, given.folder, executable):
        print(written)


if __name__ == "__main__":
    main()
