"""The files of a report: one a format, and the seal over all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal, get_args

from privfin.errors import ConfigError, nearest
from privfin.reporting.formats.card import model_card
from privfin.reporting.formats.cyclonedx import bill_of_materials
from privfin.reporting.formats.pdf import to_pdf
from privfin.reporting.formats.registry import registry_entry
from privfin.reporting.page.page import report_page
from privfin.reporting.schema import Report
from privfin.reporting.sealing.canonical import canonical_json, digest
from privfin.reporting.sealing.seal import seal, statement
from privfin.reporting.sealing.signing import ReportKey
from privfin.reporting.summary.glossary import GLOSSARY

Format = Literal["html", "json", "md", "pdf", "registry", "cyclonedx"]
FORMATS: tuple[Format, ...] = get_args(Format)

_ENDINGS: dict[Format, str] = {
    "html": "html",
    "json": "json",
    "md": "md",
    "pdf": "pdf",
    "registry": "registry.yaml",
    "cyclonedx": "cdx.json",
}


def read_formats(text: str) -> tuple[Format, ...]:
    """Formats of a list such as ``html,json``, each once, in its order.

    Raises:
        ConfigError: an unknown one.
    """
    found: list[Format] = []
    for name in dict.fromkeys(part.strip() for part in text.split(",")):
        for known in FORMATS:
            if name == known:
                found.append(known)
                break
        else:
            raise ConfigError(
                f"--format: unknown format '{name}'{nearest(name, FORMATS)} "
                f"(known: {', '.join(FORMATS)})"
            )
    return tuple(found)


def file_name(audience: str, ending: str) -> str:
    """``report-officer.html``."""
    return f"report-{audience}.{ending}"


def seal_name(audience: str) -> str:
    """``report-officer.seal.json``."""
    return file_name(audience, "seal.json")


def report_files(
    report: Report, formats: Sequence[Format], key: ReportKey | None = None
) -> dict[str, bytes]:
    """Every file by name, the seal last.

    Args:
        report: the report.
        formats: what to write. JSON is always among the files, because it is the record that all
            others are made from and that the seal is over.
        key: signs the seal; without one it finds accidents, not forgery.

    Raises:
        UserInputError: ``pdf`` without the library it needs.
    """
    audience = report.report.audience.get()
    wanted = [one for one in FORMATS if one in formats or one == "json"]
    files = {
        file_name(audience, _ENDINGS[one]): _content(report, one, is_signed=key is not None)
        for one in wanted
    }
    files[seal_name(audience)] = seal(statement(report, files), key)
    return files


def _content(report: Report, kind: Format, *, is_signed: bool) -> bytes:
    if kind == "json":
        return canonical_json(report)
    if kind == "html":
        return _page(report, is_signed).encode()
    if kind == "pdf":
        return to_pdf(_page(report, is_signed))
    if kind == "md":
        return model_card(report).encode()
    if kind == "registry":
        return registry_entry(report).encode()
    return (json.dumps(bill_of_materials(report), indent=2, ensure_ascii=False) + "\n").encode()


def _page(report: Report, is_signed: bool) -> str:
    return report_page(
        report, fingerprint=digest(report), is_signed=is_signed, glossary=dict(GLOSSARY)
    )
