"""What a person answered: the facts that no program can know."""

from __future__ import annotations

from collections.abc import Mapping

from privfin.reporting.facts import Fact, declared, not_assessed

SOURCE = "answers file"


class Answers:
    """Answers by key, such as ``purpose.legal_basis``.

    Args:
        texts: by key; an empty text is no answer.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = {key: text.strip() for key, text in texts.items() if text.strip()}

    def text(self, key: str) -> Fact[str]:
        """The answer as a declared fact, or a gap that says that nobody answered."""
        if key in self._texts:
            return declared(self._texts[key], SOURCE)
        return not_assessed("nobody has answered this yet", SOURCE)
