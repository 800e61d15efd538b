"""A page is printed without asking for anything else."""

from __future__ import annotations

import importlib
import re
import socket
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import ImageFile

from privfin.errors import UserInputError
from privfin.reporting.formats.pdf import to_pdf

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Report</title>
<meta name="dcterms.created" content="2026-01-02T03:04:05Z">
<style>@page { size: A4 } h2 { break-before: page }</style></head>
<body><h1>First</h1><p>Odds <a href="#second">at most</a> 79:21.</p>
<svg width="100" height="20" role="img"><rect width="70" height="20" fill="teal"/></svg>
<h2 id="second">Second</h2></body></html>"""


def _unpacked(printed: bytes) -> bytes:
    """The file and what is in its streams; no PDF library is needed."""
    found = printed
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", printed, re.DOTALL):
        try:
            found += zlib.decompress(stream)
        except zlib.error:
            continue
    return found


def test_a_page_becomes_a_pdf_of_its_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    printed = to_pdf(PAGE)
    assert printed.startswith(b"%PDF-")
    assert printed.rstrip().endswith(b"%%EOF")
    assert len(re.findall(rb"/Type\s*/Page\b", _unpacked(printed))) == 2


def test_headings_are_tagged_for_screen_readers() -> None:
    found = _unpacked(to_pdf(PAGE))
    assert re.search(rb"/Marked\s+true", found)
    assert re.search(rb"/S\s*/H1\b", found)
    assert re.search(rb"/Lang\s*\(en\)", found)


def test_the_same_page_gives_the_same_bytes() -> None:
    assert to_pdf(PAGE) == to_pdf(PAGE)
    assert to_pdf(PAGE) != to_pdf(PAGE.replace("79:21", "80:20"))


@pytest.mark.parametrize(
    "asks",
    [
        '<img src="https://host.invalid/a.png">',
        '<link rel="stylesheet" href="{file}">',
        '<link rel="attachment" href="{file}">',
        '<style>@import url("http://host.invalid/a.css")</style>',
        '<style>p {{ background: url("{file}") }}</style><p>x</p>',
        '<style>@font-face {{ font-family: a; src: url("{file}") }} p {{ font-family: a }}</style>'
        "<p>x</p>",
        '<img src="data:image/png;base64,AAAA">',
        '<svg><image href="{file}"/></svg>',
        '<object data="{file}"></object>',
        '<embed src="{file}">',
    ],
)
def test_a_page_that_asks_for_a_file_is_refused(asks: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    with pytest.raises(ValueError, match="asks for"):
        to_pdf(asks.format(file=secret.as_uri()))


@pytest.mark.parametrize(
    "error", [ModuleNotFoundError("No module named 'weasyprint'"),
              OSError("cannot load library 'libpango-1.0-0'\nand more lines")],
)  # fmt: skip
def test_what_is_missing_is_said_in_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> ModuleType:
        raise error

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UserInputError, match=r'pip install "privfin\[pdf\]"') as found:
        to_pdf(PAGE)
    assert "\n" not in str(found.value)
    assert str(error).splitlines()[0] in str(found.value)


def test_printing_does_not_make_broken_images_of_patients_whole() -> None:
    """WeasyPrint switches a check of Pillow off for the whole process when it is imported."""
    to_pdf("<!doctype html><title>x</title><p>words</p>")
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
