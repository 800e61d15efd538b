"""Hides words that give a diagnosis away in free text.

Clinical notes often name the diagnosis that a model is to predict; a model that reads it learns
to copy. This removes known words only: a description that implies the diagnosis stays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

MASK = "[masked]"

#: Stems of diagnosis words. A stem hides every word that starts with it; blanks, dots, hyphens
#: and underscores between its parts are optional; "=" in front hides the exact word only.
DIAGNOSIS_WORDS: tuple[str, ...] = (
    "covid",
    "covid 19",
    "coronavirus",
    "corona virus",
    "=corona",
    "sars",
    "sars cov",
    "sars cov 2",
    "n cov",
    "2019 n cov",
    "h cov",
    "mers",
    "pneumonia",
    "pneumonic",
    "pneumonitis",
    "bronchopneumoni",
    "pneumocyst",
    "=pjp",
    "=pcp",
    "=ards",
    "acute respiratory distress syndrome",
    "streptococc",
    "pneumococc",
    "pneumophila",
    "legionell",
    "legionnaire",
    "klebsiell",
    "e coli",
    "escherichia",
    "influenza",
    "=flu",
    "flu like",
    "h1n1",
    "mycoplasm",
    "chlamydophil",
    "chlamydia",
    "tubercul",
    "=tb",
    "varicell",
    "nocardi",
    "aspergill",
    "staphylococc",
    "jirovec",
)


@lru_cache(maxsize=32)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    choices = []
    # Longer stems first, so that "2019 n cov" is hidden whole.
    for word in sorted(words, key=len, reverse=True):
        parts = [re.escape(part) for part in re.split(r"[\s._-]+", word.removeprefix("=")) if part]
        if not parts:
            continue
        ending = r"(?![^\W_])" if word.startswith("=") else r"[^\W_]*(?:[-_][^\W_]+)*"
        choices.append(r"[\s._-]*".join(parts) + ending)
    if not choices:
        return re.compile(r"(?!)")
    # A letter or digit in front is part of another word; an underscore or hyphen is not.
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(choices)})", re.IGNORECASE)


def mask_words(text: str, words: Sequence[str] = DIAGNOSIS_WORDS) -> str:
    """``text`` with every word that starts with one of the stems ``words`` as ``[masked]``.

    Case does not matter. A hyphenated tail goes with the word ("SARS-CoV-2", "covid-positive").
    A stem of several parts ("e coli") also matches "E. coli" and "E.Coli"; a stem that begins
    with "=" matches the whole word only ("=flu" leaves "fluid").
    """
    return _pattern(tuple(words)).sub(MASK, text)
