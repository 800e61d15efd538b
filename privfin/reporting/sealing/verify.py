"""Checks a report against its seal, its run and the ledger: each thing in one line.

Whatever cannot be read is a check that fails. What there is nothing to compare with is said to be
unchecked, with the reason.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

from privfin.errors import UserInputError
from privfin.privacy.ledger import ledger_home as own_ledger_home
from privfin.reporting.schema import Report, read_report
from privfin.reporting.sealing.canonical import canonical_json
from privfin.reporting.sealing.checks import Check, read_whole
from privfin.reporting.sealing.seal import (
    SEAL_SUFFIX,
    SUFFIXES,
    SealSignature,
    Statement,
    open_seal,
)
from privfin.reporting.sealing.signing import check_public_key
from privfin.reporting.sealing.verify_ledger import check_ledger
from privfin.reporting.sealing.verify_run import check_run

#: The element of the page that holds the report's SHA-256.
FINGERPRINT_ID = "fingerprint"
_HASH = re.compile(r"\b[0-9a-f]{64}\b")


def verify_report(
    file: Path,
    *,
    run: Path | None = None,
    public_key: str | None = None,
    ledger_home: Path | None = None,
) -> list[Check]:
    """Everything that can be checked about a report, in a fixed order.

    Args:
        file: any file that ``privfin report`` wrote, or the seal, which lies beside it.
        run: the run directory, to compare it too.
        public_key: the key that must have signed, 64 hexadecimal digits; with it, a seal that
            nobody signed fails.
        ledger_home: folder of this machine's ledger; where it always is if None.

    Raises:
        UserInputError: ``file`` is not there or of no kind that is written, ``run`` is no
            directory, or ``public_key`` is no key. What is wrong with their content is a check.
    """
    if public_key is not None:
        check_public_key(public_key)
    if run is not None and not run.is_dir():
        raise UserInputError(f"{run} is not a directory")
    if not file.is_file():
        raise UserInputError(f"{file} is not a file")
    place = seal_beside(file)
    try:
        content = read_whole(place)
        if content is None:
            raise UserInputError("missing: put it back beside the report")
        sealed, signatures = open_seal(content)
    except UserInputError as error:
        return [Check(place.name, False, f"{error}; nothing else can be checked without it")]
    said = sealed.predicate
    contents, of_files = _files(sealed, file)
    report, of_report = _report(sealed, contents)
    return [
        Check(place.name, True, f"the seal of report {said.report_id} on run {said.run_id}"),
        *_signatures(sealed, signatures, public_key),
        *of_files,
        *of_report,
        _page(sealed, contents),
        *(
            [Check("run", None, "not compared: give --run RUN")]
            if run is None
            else check_run(sealed, report, run)
        ),
        *check_ledger(sealed, ledger_home or own_ledger_home()),
    ]


def seal_beside(file: Path) -> Path:
    """The seal of a report's file: of ``report-officer.html``, ``report-officer.seal.json``.

    Raises:
        UserInputError: the name ends like no file that is written.
    """
    for suffix in SUFFIXES:
        if file.name.endswith(suffix):
            return file.with_name(file.name.removesuffix(suffix) + SEAL_SUFFIX)
    endings = ", ".join(SUFFIXES)
    raise UserInputError(f"{file} is not a file of privfin report: these end in {endings}")


def _signatures(
    sealed: Statement, signatures: tuple[SealSignature, ...], public_key: str | None
) -> list[Check]:
    if not signatures:
        words = "nobody signed: this finds accidents, not forgery"
        if public_key is None:
            return [Check("signature", None, words)]
        return [Check("signature", False, f"{words}; {public_key} should have signed")]
    found = []
    for one in signatures:
        if not one.is_of(one.keyid, sealed):
            found.append(
                Check("signature", False, f"it does not fit the seal and the key {one.keyid}")
            )
        else:
            found.append(Check("signature", True, f"it fits the seal and the key {one.keyid}"))
    if public_key is None:
        words = "unknown: compare this key with the signer's by another way, or give --public-key"
        return [*found, Check("signer", None, words)]
    if any(one.is_of(public_key, sealed) for one in signatures):
        return [*found, Check("signer", True, "the key that was expected")]
    return [*found, Check("signer", False, f"not the key that was expected, {public_key}")]


def _files(sealed: Statement, given: Path) -> tuple[dict[str, bytes], list[Check]]:
    """What the sealed files hold, and a check of each; the given one comes first."""
    names = sorted(sealed.written, key=lambda name: name != given.name)
    contents: dict[str, bytes] = {}
    found = []
    if given.name not in sealed.written and not given.name.endswith(SEAL_SUFFIX):
        found.append(Check(given.name, False, "the seal does not name this file"))
    for name in names:
        try:
            content = read_whole(given.with_name(name))
        except UserInputError as error:
            found.append(Check(name, False, str(error)))
            continue
        if content is None:
            found.append(Check(name, None, "not here, so not compared"))
            continue
        contents[name] = content
        is_same = hashlib.sha256(content).hexdigest() == sealed.written[name]
        words = "as it was sealed" if is_same else "changed since it was sealed"
        found.append(Check(name, is_same, words))
    return contents, found


def _report(sealed: Statement, contents: Mapping[str, bytes]) -> tuple[Report | None, list[Check]]:
    """The report, None if it is not there or cannot be read, and whether it is the sealed one."""
    name = _written_as(contents, ".json")
    if name is None:
        return None, [Check("report", None, "its JSON file is not here, so not read")]
    try:
        report = read_report(contents[name], name)
        canonical = canonical_json(report)
    except UserInputError as error:
        return None, [Check("report", False, str(error))]
    if canonical != contents[name]:
        return report, [Check("report", False, f"{name} is not in canonical form (RFC 8785)")]
    digest, said = hashlib.sha256(canonical).hexdigest(), sealed.predicate
    if digest != said.report_sha256:
        words = f"its SHA-256 is {digest}, sealed was {said.report_sha256}"
        return report, [Check("report", False, words)]
    files = {one.file: one.sha256 for one in report.reproducibility.files.value or ()}
    for what, of_report, of_seal in (
        ("report id", report.report.report_id.value, said.report_id),
        ("run id", report.report.run_id.value, said.run_id),
        ("schema version", report.schema_version, said.schema_version),
        ("ledger head", report.ledger.head.value, said.ledger_head),
        ("list of the run's files", files, sealed.run_files),
    ):
        if of_report != of_seal:
            return report, [Check("report", False, f"report and seal differ in the {what}")]
    return report, [Check("report", True, f"reads by its schema; SHA-256 {digest}")]


def _page(sealed: Statement, contents: Mapping[str, bytes]) -> Check:
    name = _written_as(contents, ".html")
    if name is None:
        return Check("fingerprint", None, "the HTML file is not here, so not read")
    reader = _Fingerprint()
    try:
        reader.feed(contents[name].decode())
        reader.close()
    except (UnicodeDecodeError, AssertionError) as error:  # the parser's words for broken markup
        return Check("fingerprint", False, f"{name} cannot be read: {error}")
    if reader.elements != 1:
        words = f"{name} has {reader.elements} places for a fingerprint, not one"
        return Check("fingerprint", False, words)
    if _HASH.findall(reader.text) != [sealed.predicate.report_sha256]:
        return Check("fingerprint", False, f"{name} shows another one than the report's")
    return Check("fingerprint", True, f"{name} shows the report's SHA-256")


def _written_as(contents: Mapping[str, bytes], ending: str) -> str | None:
    """The file with this ending, and no longer one that is written too."""
    for name in contents:
        if next((one for one in SUFFIXES if name.endswith(one)), None) == ending:
            return name
    return None


class _Fingerprint(HTMLParser):
    """Collects the text of the element that holds the fingerprint, and counts such elements."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0
        self.text = ""
        self._tag = ""
        self._depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Enter the element, or one of its kind inside it."""
        if ("id", FINGERPRINT_ID) in attrs:
            self.elements += 1
            if not self._depth:
                self._tag, self._depth = tag, 1
        elif self._depth and tag == self._tag:
            self._depth += 1

    def handle_endtag(self, tag: str) -> None:
        """Leave the element, or one of its kind inside it."""
        if self._depth and tag == self._tag:
            self._depth -= 1

    def handle_data(self, data: str) -> None:
        """Keep text inside the element."""
        if self._depth:
            self.text += data
