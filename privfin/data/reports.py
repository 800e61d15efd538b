"""Splits a radiology report into its sections, so that the impression can be left out.

Labels of public chest X-ray sets are mined from the reports, mostly from the impression: a model
that reads it learns to copy. So a report has only the text of the sections asked for, and none at
all where they are missing; the whole report never stands in for a section.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

#: Section names and the words that head them, as MIMIC-CXR, Open-I and CheXpert Plus write them.
#: Several names share a heading where a report joins sections ("FINDINGS AND IMPRESSION").
_HEADINGS: Mapping[str, tuple[str, ...]] = {
    "findings": (r"findings?", r"report of findings"),
    "impression": (
        r"impressions?",
        r"conclusions?",
        r"opinion",
        r"summary",
        r"(?:final )?diagnosis",
        r"interpretation",
        r"wet read",
    ),
    "indication": (
        r"(?:clinical )?indications?",
        r"(?:clinical )?history",
        r"clinical (?:information|details|data)",
        r"reason for (?:the )?(?:exam|examination|study|this exam|this examination)",
    ),
    "comparison": (r"comparisons?",),
    "technique": (r"techniques?",),
    "examination": (r"examinations?", r"exam", r"procedure", r"studies?", r"study"),
    "recommendation": (r"recommendations?",),
    "notification": (r"notifications?",),
}
_WORDS = "|".join(word for words in _HEADINGS.values() for word in words)
_JOINED = rf"(?:{_WORDS})(?:[ \t]*(?:/|&|\+|,|\band\b)[ \t]*(?:{_WORDS}))*"
#: A known heading with a colon, at a line's start or after a sentence, in any case; in the middle
#: of a sentence only if it is capitalised ("no prior for comparison: none" is prose).
_KNOWN = re.compile(
    rf"(?:(?:^|(?<=[.:;!?)\]]))[ \t]*(?P<start>{_JOINED})|(?<![\w-])(?P<middle>{_JOINED}))"
    r"[ \t]*:",
    re.IGNORECASE | re.MULTILINE,
)
#: Any other line that begins in capitals up to a colon ends a section, and so do these titles.
#: Organs in capitals do not: they order the findings.
_ORGANS = r"(?:LUNGS?|HEART|PLEURAL?|MEDIASTIN|HIL[AU]|BONES?|BONY|CARDI|AIRWAYS?|LINES|TUBES|SOFT)"
_OTHER = re.compile(
    rf"^[ \t]*(?:(?!{_ORGANS})[A-Z][A-Z0-9 ()/,&.#-]{{2,60}}:|"
    r"(?:FINAL|PRELIMINARY)[ \t]+(?:REPORT|ADDENDUM)\b|ADDENDUM\b|[_*=-]{5,}[ \t]*$)",
    re.MULTILINE,
)
#: What is left where a word was removed to protect a patient: Open-I's XXXX and MIMIC-CXR's ___.
_REMOVED = re.compile(r"X{3,}|_+")


def split_sections(report: str) -> list[tuple[frozenset[str], str]]:
    """The sections of a report in their order: their names and their text, blanks made single.

    A section usually has one name ("findings", "impression", "indication", "comparison",
    "technique", "examination", "recommendation", "notification"). One that a report heads as two
    ("FINDINGS AND IMPRESSION:") has both. What stands before the first heading, and under a
    heading that is not known, has no name. Sections without text are left out.
    """
    marks: list[tuple[int, int, frozenset[str]]] = []
    for match in _KNOWN.finditer(report):
        heading = match["start"] or match["middle"]
        if match["middle"] is not None and not heading[0].isupper():
            continue
        begins = match.start("start") if match["middle"] is None else match.start("middle")
        marks.append((begins, match.end(), _names(heading)))
    taken = [(begins, ends) for begins, ends, _ in marks]
    for match in _OTHER.finditer(report):
        if not any(a < match.end() and match.start() < b for a, b in taken):
            marks.append((match.start(), match.end(), frozenset()))
    marks = [(0, 0, frozenset()), *sorted(marks, key=lambda mark: mark[0])]
    ends = [begins for begins, _, _ in marks[1:]] + [len(report)]
    found = [
        (names, " ".join(report[start:end].split()))
        for (_, start, names), end in zip(marks, ends, strict=True)
    ]
    return [(names, text) for names, text in found if _says_something(text)]


def report_text(report: str, sections: Sequence[str]) -> str | None:
    """The text of the ``sections`` asked for, in the order asked for, or None if there is none.

    A section headed as two counts only where both are asked for.
    """
    return _joined(split_sections(report), sections)


def section_text(parts: Mapping[str, str], sections: Sequence[str]) -> str | None:
    """As :func:`report_text`, for a report that comes in parts by section name.

    A heading inside a part is obeyed too: an impression written into the findings is left out.
    """
    split = [piece for name, text in parts.items() for piece in split_sections(f"{name}:\n{text}")]
    return _joined(split, sections)


def _joined(split: Iterable[tuple[frozenset[str], str]], sections: Sequence[str]) -> str | None:
    wanted = frozenset(sections)
    usable = [(names, text) for names, text in split if names and names <= wanted]
    ordered = sorted(usable, key=lambda piece: min(sections.index(name) for name in piece[0]))
    # Some reports come with a section twice.
    return "\n".join(dict.fromkeys(text for _, text in ordered)) or None


def _names(heading: str) -> frozenset[str]:
    parts = re.split(r"[ \t]*(?:/|&|\+|,|\band\b)[ \t]*", heading.lower())
    return frozenset(
        name
        for part in parts
        for name, words in _HEADINGS.items()
        if any(re.fullmatch(word, part) for word in words)
    )


def _says_something(text: str) -> bool:
    return any(letter.isalnum() for letter in _REMOVED.sub("", text))
