"""Hostile XML: nothing is read, resolved or expanded, and the refusal names the document."""

import pytest

from privfin.data.plain_xml import LARGEST_XML, parse_plain_xml
from privfin.errors import DataError

LAUGHS = "".join(
    f'<!ENTITY l{i} "{"".join([f"&l{i - 1};"] * 10)}">' if i else '<!ENTITY l0 "ha">'
    for i in range(12)
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    "document",
    [
        f"<!DOCTYPE x [{LAUGHS}]><x>&l11;</x>",
        '<!DOCTYPE x [<!ENTITY file SYSTEM "file:///etc/passwd">]><x>&file;</x>',
        '<!DOCTYPE x SYSTEM "http://elsewhere.invalid/x.dtd"><x/>',
        '<!DOCTYPE x [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]><x/>',
        "<!DOCTYPE x><x/>",
    ],
)
def test_document_types_are_refused(document, encoding) -> None:
    # UTF-16 hides "<!DOCTYPE" from a search through the bytes.
    with pytest.raises(DataError, match=r"^a\.xml declares a document type"):
        parse_plain_xml(document.encode(encoding), "a.xml")


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (b"", "not well-formed"),
        (b"<x>", "not well-formed"),
        (b"<x>&unknown;</x>", "not well-formed"),
        (b"<x>\xff</x>", "not well-formed"),
        (b'<?xml version="1.0" encoding="nonsense"?><x/>', "not well-formed"),
        (b"<x>" * 101 + b"</x>" * 101, "nests more than 100"),
        (b"<x>" + b" " * LARGEST_XML + b"</x>", "larger than"),
    ],
)
def test_other_bad_documents_are_refused(document, problem) -> None:
    with pytest.raises(DataError, match=rf"^a\.xml .*{problem}"):
        parse_plain_xml(document, "a.xml")


def test_plain_documents_are_read() -> None:
    root = parse_plain_xml("<x a='1'><y>f\u00fcr &amp; &#65;</y>z</x>".encode(), "a.xml")
    assert (root.tag, root.get("a"), root.findtext("y"), root[0].tail) == ("x", "1", "für & A", "z")
