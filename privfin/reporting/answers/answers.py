"""What a person answered: the facts that no program can know."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, cast

from privfin.errors import UserInputError, nearest
from privfin.reporting.answers.asked import ASKED, LEVELS, Asked, asked, risk_keys, signature_keys
from privfin.reporting.blocks_people import Level
from privfin.reporting.facts import Fact, declared, not_assessed

SOURCE = "answers file"
#: More runs than anybody makes; larger numbers are a mistake.
_MOST = 10**9
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True)
class RiskAnswer:
    """What a person says of a risk; None where nobody has said it yet."""

    severity: Level | None
    likelihood: Level | None
    decision: str | None


class Answers:
    """Answers by key, such as ``purpose.legal_basis``.

    Args:
        values: by key: a text, a whole number or a date, as
            :mod:`privfin.reporting.answers.asked` says. An empty text is no answer.
        origin: what they were read from, for messages.

    Raises:
        UserInputError: an unknown key, or a value of another kind than the key's.
    """

    def __init__(self, values: Mapping[str, Any], origin: str = "the answers") -> None:
        self.origin = origin
        checked = {key: _checked(key, value, origin) for key, value in values.items()}
        self._values = {key: value for key, value in checked.items() if value is not None}

    @property
    def values(self) -> dict[str, str | int]:
        """Every answer that was given, by key; dates are texts."""
        return dict(self._values)

    def has(self, key: str) -> bool:
        """Whether this was answered.

        Raises:
            KeyError: there is no such question.
        """
        if asked(key) is None:
            raise KeyError(key)
        return key in self._values

    def text(self, key: str) -> Fact[str]:
        """The answer as a declared fact, or a gap that says that nobody answered.

        Raises:
            KeyError: there is no such question.
        """
        if self.has(key):
            return declared(str(self._values[key]), SOURCE)
        return not_assessed("nobody has answered this yet", SOURCE)

    def count(self, key: str) -> Fact[int]:
        """As :meth:`text`, of a question that is answered with a number."""
        if self.has(key):
            return declared(int(self._values[key]), SOURCE)
        return not_assessed("nobody has answered this yet", SOURCE)

    def said(self, key: str) -> str | None:
        """The answer, or None. Raises KeyError if there is no such question."""
        return str(self._values[key]) if self.has(key) else None

    def risk(self, risk_id: str) -> RiskAnswer:
        """What was said of a risk."""
        severity, likelihood, decision = map(self.said, risk_keys([risk_id]))
        return RiskAnswer(
            cast("Level | None", severity), cast("Level | None", likelihood), decision
        )

    def check_risks(self, risk_ids: Sequence[str]) -> None:
        """Refuse answers about a risk that the report does not have.

        Raises:
            UserInputError: naming the first one and the nearest that there is.
        """
        for key in self._values:
            section, _, rest = key.partition(".")
            risk = rest.partition(".")[0]
            if section == "risks" and risk not in risk_ids:
                known = ", ".join(risk_ids) or "none"
                raise UserInputError(
                    f"{self.origin}: '{key}' is about a risk that this report does not have"
                    f"{nearest(risk, risk_ids) or f' (known: {known})'}"
                )


def read_answers(path: Path) -> Answers:
    """Read an answers file.

    Raises:
        UserInputError: it cannot be read, is not TOML, or holds something that is not asked; one
            line that names the key and the nearest one that there is.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserInputError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserInputError(f"{path} is not valid TOML: {error}") from error
    values: dict[str, Any] = {}
    for key, value in _flat(content):
        if key in values:
            raise UserInputError(f"{path}: {key} is answered twice")
        values[key] = value
    return Answers(values, str(path))


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested tables as ``section.key``. An empty table says nothing if its name is known."""
    for name, value in content.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and not (value and asked(key)):
            if not value and not any(known.startswith(f"{key}.") for known in _known(key)):
                yield key, value
            yield from _flat(value, f"{key}.")
        else:
            yield key, value


def _known(key: str) -> list[str]:
    """All keys; of risks, those of the risk that ``key`` names."""
    parts = key.split(".")
    risk = parts[1] if parts[0] == "risks" and len(parts) > 1 else "membership"
    return [*ASKED, *risk_keys([risk]), *signature_keys()]


def _checked(key: str, value: Any, origin: str) -> str | int | None:
    """The value as it is kept; None for no answer."""
    question = asked(key)
    if question is None:
        raise UserInputError(f"{origin}: unknown question {key!r}{nearest(key, _known(key))}")
    if isinstance(value, str) and not value.strip():
        return None
    found = _as_kind(question, value)
    if found is None:
        shown = repr(value) if isinstance(value, str | int | float) else f"a {_named(value)}"
        raise UserInputError(f"{origin}: {key} must be {_wanted(question)}, not {shown}")
    if isinstance(found, str):
        _check_characters(key, found, origin)
    return found


def _as_kind(question: Asked, value: Any) -> str | int | None:
    """The value if it is of the question's kind."""
    match question.kind:
        case "count":
            is_number = isinstance(value, int) and not isinstance(value, bool)
            return value if is_number and 0 <= value <= _MOST else None
        case "date":
            if isinstance(value, date) and not isinstance(value, datetime):
                return value.isoformat()
            return value.strip() if isinstance(value, str) and _is_date(value.strip()) else None
        case "level":
            return value.strip() if isinstance(value, str) and value.strip() in LEVELS else None
        case "text":
            return value.replace("\r\n", "\n").strip() if isinstance(value, str) else None


def _is_date(text: str) -> bool:
    if not _DATE.fullmatch(text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _wanted(question: Asked) -> str:
    return {
        "text": "a text",
        "count": f"a whole number from 0 to {_MOST}",
        "date": "a date such as 2027-12-31",
        "level": f"one of {', '.join(LEVELS)}",
    }[question.kind]


def _named(value: Any) -> str:
    return {"dict": "table", "list": "list"}.get(type(value).__name__, type(value).__name__)


def _check_characters(key: str, text: str, origin: str) -> None:
    """Characters that no page and no file format can show are refused here, once for all."""
    for character in text:
        if character not in "\n\t" and unicodedata.category(character) in ("Cc", "Cs"):
            raise UserInputError(
                f"{origin}: {key} holds the control character U+{ord(character):04X}: remove it"
            )
