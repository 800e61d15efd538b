"""The page about sources says what the code does."""

import re
from pathlib import Path

from privfin.data.catalogue import SOURCES
from privfin.data.padchest_labels import PADCHEST_TERMS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/reference/sources.md").read_text("utf-8")


def test_the_map_of_padchest_is_the_one_in_use() -> None:
    rows = dict(re.findall(r"^\| ([^|`]+) \| ([^|`]+) \|$", PAGE, re.MULTILINE))
    shown = {name: tuple(rows[name].split(", ")) for name in PADCHEST_TERMS}
    assert shown == dict(PADCHEST_TERMS)


def test_every_source_is_described_somewhere() -> None:
    for card in SOURCES:
        assert f"`{card.name}`" in PAGE, card.name
