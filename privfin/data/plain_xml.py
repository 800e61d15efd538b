"""Parses XML that may be hostile: no document types, so no entities, and bounded size and depth."""

from __future__ import annotations

from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from privfin.errors import DataError

#: Largest document that is read, in bytes: Open-I's largest is 9 kB.
LARGEST_XML = 2**20
_DEEPEST = 100


def parse_plain_xml(content: bytes, place: str) -> Element:
    """The root element of an XML document without a document type.

    A document type is where entities are declared, which can read local files or grow without
    bound, so it is refused before any of it takes effect.

    Raises:
        DataError: naming ``place``, if the document is malformed, too large, nested too deeply,
            or has a document type.
    """
    if len(content) > LARGEST_XML:
        raise DataError(f"{place} is larger than the {LARGEST_XML} bytes that are read of one XML")
    builder = TreeBuilder()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise DataError(f"{place} nests more than {_DEEPEST} elements in each other")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> None:
        raise DataError(
            f"{place} declares a document type (DTD); only plain XML is read, get the file again"
        )

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        # Encodings that Python does not know come as LookupError.
        raise DataError(f"{place} is not well-formed XML ({error})") from error
    return builder.close()
