"""The report: one schema from which every page and file is made.

Every field of every block is a :class:`privfin.reporting.facts.Fact`, with a status and a source;
rows inside a fact are plain. The JSON Schema is printed by ``privfin report schema`` and kept in
``docs/reference/report.schema.json``.
"""

from __future__ import annotations

import json
from typing import Any, Literal

import pydantic

from privfin.errors import UserInputError
from privfin.reporting.blocks_exchange import Exchange, Implementation, Reproducibility, Security
from privfin.reporting.blocks_people import (
    About,
    ClauseMap,
    Data,
    OtherReleases,
    Parties,
    Purpose,
    Risks,
    Sentence,
    SignOff,
    Tuning,
)
from privfin.reporting.blocks_privacy import Accounting, Guarantee, LedgerBlock, Mechanism
from privfin.reporting.blocks_results import Audit, ComparisonBlock, Utility
from privfin.reporting.facts import Strict

#: Of the schema: the first number changes when an old reader would misread a new report.
SCHEMA_VERSION = "1.0"


class Report(Strict):
    """A report on one run, with other runs beside it if they were asked for.

    Attributes:
        schema_version: of this schema.
        summary: page one, made from the blocks below; the same words in every format.
    """

    schema_version: Literal["1.0"]
    report: About
    summary: tuple[Sentence, ...]
    purpose: Purpose
    parties: Parties
    data: Data
    guarantee: Guarantee
    mechanism: Mechanism
    accounting: Accounting
    ledger: LedgerBlock
    tuning: Tuning
    other_releases: OtherReleases
    audit: Audit
    exchange: Exchange
    utility: Utility
    implementation: Implementation
    security: Security
    reproducibility: Reproducibility
    risks: Risks
    clause_map: ClauseMap
    sign_off: SignOff
    comparison: ComparisonBlock


def report_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of ``report.json``."""
    found = Report.model_json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:privfin:report:{SCHEMA_VERSION}",
        **found,
    }


def report_content(report: Report) -> dict[str, Any]:
    """The report as plain JSON values; infinity is ``"inf"``."""
    return report.model_dump(mode="json")


def read_report(text: str | bytes, name: str) -> Report:
    """A report from its JSON.

    Args:
        text: the JSON.
        name: of the file, for the message.

    Raises:
        UserInputError: it is not JSON, or not a report of this schema.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserInputError(f"{name} cannot be read as JSON") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise UserInputError(
            f"{name} has schema version {version}, this program reads {SCHEMA_VERSION}"
        )
    try:
        return Report.model_validate(content)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserInputError(f"{name} is not a report: {place}: {first['msg']}") from error
