"""The seal of a report: what was written and what it rests on, by SHA-256, signed if wanted.

An in-toto Statement v1 (https://github.com/in-toto/attestation) with a predicate of our own. With a
key it lies in a DSSE envelope (https://github.com/secure-systems-lab/dsse, version 1.0.0) signed
with Ed25519; without one it is the bare statement, which finds accidents and no forgery. Both are
canonical JSON (RFC 8785), and nothing else is read: one byte more or less is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import Field, StringConstraints, model_validator

from privfin.errors import UserInputError
from privfin.privacy.ledger.keys import signature_holds
from privfin.reporting.blocks_privacy import Head
from privfin.reporting.facts import Strict
from privfin.reporting.schema import Report
from privfin.reporting.sealing.canonical import canonical, digest
from privfin.reporting.sealing.signing import ReportKey

SEAL_SUFFIX = ".seal.json"
#: What ends the name of a file of ``privfin report``; the longer of two that fit comes first.
SUFFIXES = (SEAL_SUFFIX, ".registry.yaml", ".cdx.json", ".html", ".json", ".md", ".pdf")
#: Before the name of a file of the run.
RUN_PREFIX = "run/"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_SEAL_BYTES = 2**24

_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]
# A name leads nowhere but down, and holds nothing that a terminal would obey.
_Name = Annotated[str, StringConstraints(pattern=rf"^({_WORD}|run(/{_WORD}){{1,8}})$")]


class Digest(Strict):
    """Digests of a file, of which there is one kind."""

    sha256: _Sha256


class Subject(Strict):
    """A file: its name (``run/NAME`` if it is in the run directory) and its digest."""

    name: _Name
    digest: Digest


class Predicate(Strict):
    """What is said of the files.

    Attributes:
        report_id: of the report.
        run_id: of the run that it is about.
        schema_version: of the report.
        report_sha256: of the report's canonical JSON, whether that was written or not.
        ledger_head: of the ledger that counts the run; None if none does.
        checksum: SHA-256 of the canonical statement without this field. It finds accidents in a
            seal that nobody signed.
    """

    report_id: _Id
    run_id: _Id
    schema_version: Annotated[str, StringConstraints(pattern=r"^[0-9.]{1,16}$")]
    report_sha256: _Sha256
    ledger_head: Head | None
    checksum: _Sha256


class Statement(Strict):
    """An in-toto Statement v1 on the files of one report; the subjects are sorted by name."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: tuple[Subject, ...]
    predicate_type: Literal["urn:privfin:report:1"] = Field(alias="predicateType")
    predicate: Predicate

    @model_validator(mode="after")
    def _names_are_sorted(self) -> Self:
        names = [one.name for one in self.subject]
        if names != sorted(set(names)):
            raise ValueError("its subjects are not sorted, or two have the same name")
        return self

    @property
    def written(self) -> dict[str, str]:
        """SHA-256 of the report's files, by name."""
        return {
            one.name: one.digest.sha256
            for one in self.subject
            if not one.name.startswith(RUN_PREFIX)
        }

    @property
    def run_files(self) -> dict[str, str]:
        """SHA-256 of the run's files, by name within the run directory."""
        return {
            one.name.removeprefix(RUN_PREFIX): one.digest.sha256
            for one in self.subject
            if one.name.startswith(RUN_PREFIX)
        }


class SealSignature(Strict):
    """A signature: the public key that it says it is of (hexadecimal), and the base64 of it."""

    keyid: _Sha256
    sig: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]{86}==$")]

    @model_validator(mode="after")
    def _is_the_only_text(self) -> Self:
        # The last digit has bits that no byte uses.
        if base64.b64encode(base64.b64decode(self.sig)).decode() != self.sig:
            raise ValueError("a signature is not in canonical base64")
        return self

    def is_of(self, public_key: str, statement: Statement) -> bool:
        """Whether the key ``public_key`` (hexadecimal) made it over ``statement``."""
        message = pre_authentication_encoding(PAYLOAD_TYPE, _bytes(statement))
        return signature_holds(public_key, base64.b64decode(self.sig).hex(), message)


class _Envelope(Strict):
    payload: str
    payload_type: Literal["application/vnd.in-toto+json"] = Field(alias="payloadType")
    signatures: tuple[SealSignature, ...] = Field(min_length=1, max_length=16)


def statement(report: Report, files: Mapping[str, bytes]) -> Statement:
    """What is sealed.

    Args:
        report: the report; the run's files are those of ``reproducibility.files``.
        files: contents of every file written, by name, without the seal.

    Raises:
        ValueError: report or run have no identifier, or a name cannot be in a seal.
    """
    found = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    for one in report.reproducibility.files.value or ():
        found[RUN_PREFIX + one.file] = one.sha256
    head = report.ledger.head.value
    content: dict[str, Any] = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": found[name]}} for name in sorted(found)],
        "predicateType": "urn:privfin:report:1",
        "predicate": {
            "report_id": report.report.report_id.get(),
            "run_id": report.report.run_id.get(),
            "schema_version": report.schema_version,
            "report_sha256": digest(report),
            "ledger_head": None if head is None else head.model_dump(),
        },
    }
    content["predicate"]["checksum"] = _checksum(content)
    return Statement.model_validate(content)


def seal(sealed: Statement, key: ReportKey | None) -> bytes:
    """The seal file's content: signed with ``key``, or the bare statement."""
    payload = _bytes(sealed)
    if key is None:
        return payload
    signature = key.sign(pre_authentication_encoding(PAYLOAD_TYPE, payload))
    return canonical(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": key.public, "sig": base64.b64encode(signature).decode()}],
        }
    )


def open_seal(data: bytes) -> tuple[Statement, tuple[SealSignature, ...]]:
    """Read back :func:`seal`. Signatures are parsed here, and checked by
    :meth:`SealSignature.is_of`.

    Raises:
        UserInputError: anything that :func:`seal` does not write: unknown, doubled or missing
            fields, spaces, another order, a wrong checksum, or too many bytes.
    """
    if len(data) > MAX_SEAL_BYTES:
        raise UserInputError(f"the seal is too large: more than {MAX_SEAL_BYTES} bytes")
    content = _json(data)
    if "payload" not in content:
        return _statement(data, content), ()
    try:
        envelope = _Envelope.model_validate(content)
        payload = base64.b64decode(envelope.payload, validate=True)
    except (pydantic.ValidationError, binascii.Error) as error:
        raise UserInputError(f"the seal's envelope is malformed: {_first(error)}") from error
    again = {**content, "payload": base64.b64encode(payload).decode()}
    if canonical(again) != data:
        raise UserInputError("the seal's envelope is not canonical JSON: its bytes were changed")
    return _statement(payload, _json(payload)), envelope.signatures


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """What a DSSE signature covers (PAE of DSSE 1.0.0): type and payload with their lengths."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _bytes(sealed: Statement) -> bytes:
    return canonical(sealed.model_dump(mode="json", by_alias=True))


def _checksum(content: Mapping[str, Any]) -> str:
    rest = {name: one for name, one in content["predicate"].items() if name != "checksum"}
    return hashlib.sha256(canonical({**content, "predicate": rest})).hexdigest()


def _statement(data: bytes, content: dict[str, Any]) -> Statement:
    try:
        found = Statement.model_validate(content)
    except pydantic.ValidationError as error:
        raise UserInputError(f"the seal's statement is malformed: {_first(error)}") from error
    # Also finds doubled fields, of which the parser keeps one, and numbers written as text.
    if _bytes(found) != data:
        raise UserInputError("the seal's statement is not canonical JSON: its bytes were changed")
    if found.predicate.checksum != _checksum(content):
        raise UserInputError("the seal's checksum does not fit: its content was changed")
    return found


def _json(data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserInputError("the seal cannot be read as JSON") from error
    if not isinstance(content, dict):
        raise UserInputError("the seal is not a JSON object")
    return content


def _first(error: Exception) -> str:
    if not isinstance(error, pydantic.ValidationError):
        return "its payload is not base64"
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
