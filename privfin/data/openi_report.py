"""One report of Open-I, whichever of its published forms it was read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class OpeniImage:
    """An image of a report. ``frontal`` is None where no table says how it was taken."""

    name: str
    path: Path
    frontal: bool | None = None


@dataclass(frozen=True, slots=True)
class OpeniReport:
    """``uid`` is "CXR" and the report's number. ``place`` names its file or row in errors.

    ``sections`` maps a section's name in lower case to its text. ``terms`` are the major MeSH
    terms, None in a form that has none. ``split`` is the form's own split, if it has one.
    """

    uid: str
    place: str
    sections: Mapping[str, str]
    terms: tuple[str, ...] | None
    images: tuple[OpeniImage, ...]
    split: str = ""
