"""The one JSON text of a report (RFC 8785), and its SHA-256.

Unlike :func:`privfin.crypto.encoding.canonical_json`, which only this program reads, it is a
published standard: others can make the same bytes with their own programs.
"""

from __future__ import annotations

import hashlib
from typing import Any

import rfc8785

from privfin.errors import UserInputError
from privfin.reporting.schema import Report, report_content


def canonical(value: Any) -> bytes:
    """The RFC 8785 text of plain JSON values, UTF-8.

    Raises:
        UserInputError: a value that this text cannot hold: a whole number from 2^53 on, or text
            that is not Unicode.
    """
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise UserInputError(f"this has no canonical JSON (RFC 8785): {error}") from error


def canonical_json(report: Report) -> bytes:
    """The canonical JSON of a report: the content of ``report-AUDIENCE.json``. UserInputError as
    for :func:`canonical`."""
    return canonical(report_content(report))


def digest(report: Report) -> str:
    """SHA-256 of :func:`canonical_json`, 64 hexadecimal digits: the report's fingerprint."""
    return hashlib.sha256(canonical_json(report)).hexdigest()
