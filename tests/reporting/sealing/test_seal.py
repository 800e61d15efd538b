"""The seal: what it holds, that others can read it, and that nothing else is read as one."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from privfin.errors import UserInputError
from privfin.reporting.facts import not_applicable, not_assessed
from privfin.reporting.schema import Report
from privfin.reporting.sealing.canonical import digest
from privfin.reporting.sealing.seal import (
    MAX_SEAL_BYTES,
    Statement,
    open_seal,
    pre_authentication_encoding,
    seal,
    statement,
)
from privfin.reporting.sealing.signing import ReportKey

FILES = {"report-officer.html": b"<p>", "report-officer.cdx.json": b"{}"}


@pytest.fixture
def key(tmp_path: Path) -> ReportKey:
    return ReportKey.make(tmp_path / "key")


@pytest.fixture
def sealed(sample_report: Callable[..., Report]) -> Statement:
    return statement(sample_report(), FILES)


def test_the_encoding_is_that_of_the_dsse_specification() -> None:
    # The example of protocol.md, version 1.0.0.
    assert (
        pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    # Lengths are of bytes, so that type and payload cannot lend each other a byte.
    assert pre_authentication_encoding("é", b"") == b"DSSEv1 2 \xc3\xa9 0 "
    assert pre_authentication_encoding("a", b"b c") != pre_authentication_encoding("a 1 b", b"c")


def test_an_outsider_can_check_the_seal_with_the_two_standards_alone(
    sealed: Statement, key: ReportKey, sample_report: Callable[..., Report]
) -> None:
    envelope = json.loads(seal(sealed, key))
    assert set(envelope) == {"payload", "payloadType", "signatures"}
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    payload = base64.b64decode(envelope["payload"])
    message = b"DSSEv1 28 application/vnd.in-toto+json %d %b" % (len(payload), payload)
    (signature,) = envelope["signatures"]
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.public))
    public.verify(base64.b64decode(signature["sig"]), message)
    with pytest.raises(InvalidSignature):
        public.verify(base64.b64decode(signature["sig"]), payload)
    content = json.loads(payload)
    assert content["_type"] == "https://in-toto.io/Statement/v1"
    assert content["predicateType"] == "urn:privfin:report:1"
    report = sample_report()
    run_files = {f"run/{one.file}": one.sha256 for one in report.reproducibility.files.get()}
    written = {name: hashlib.sha256(one).hexdigest() for name, one in FILES.items()}
    assert {one["name"]: one["digest"]["sha256"] for one in content["subject"]} == {
        **run_files, **written,
    }  # fmt: skip
    said = content["predicate"]
    assert said["report_sha256"] == digest(report)
    assert said["run_id"] == report.report.run_id.get()
    assert said["ledger_head"]["hash"] == "cd" * 32


def test_it_is_read_back(sealed: Statement, key: ReportKey, tmp_path: Path) -> None:
    assert open_seal(seal(sealed, None)) == (sealed, ())
    found, (signature,) = open_seal(seal(sealed, key))
    assert found == sealed
    assert signature.keyid == key.public
    assert signature.is_of(key.public, sealed)
    assert not signature.is_of(ReportKey.make(tmp_path / "other").public, sealed)
    assert sealed.written.keys() == FILES.keys()
    assert "model.safetensors" in sealed.run_files


def test_without_a_ledger_or_hashes_of_the_run_it_says_so(
    sample_report: Callable[..., Report],
) -> None:
    report = sample_report(
        ledger__head=not_applicable("no ledger", "run"),
        reproducibility__files=not_assessed("withheld", "release class"),
    )
    found = statement(report, FILES)
    assert found.predicate.ledger_head is None
    assert found.run_files == {}


def test_a_report_of_no_run_cannot_be_sealed(sample_report: Callable[..., Report]) -> None:
    with pytest.raises(ValueError, match="nothing is known"):
        statement(sample_report(report__run_id=not_assessed("?", "?")), FILES)


@pytest.mark.parametrize(
    "name", ["../x.html", "/etc/passwd", "a/b.html", "run/../x", "run/", ".hidden", "a\x1b[2J", ""]
)
def test_a_name_leads_nowhere_else(sample_report: Callable[..., Report], name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        statement(sample_report(), {name: b""})


def changed(content: dict[str, Any], **changes: Any) -> bytes:
    """Canonical JSON of a seal with other fields, its checksum made to fit."""
    content = {**json.loads(json.dumps(content)), **changes}
    if "predicate" in content and "checksum" in content["predicate"]:
        rest = {k: v for k, v in content["predicate"].items() if k != "checksum"}
        text = rfc8785.dumps({**content, "predicate": rest})
        content["predicate"]["checksum"] = hashlib.sha256(text).hexdigest()
    return rfc8785.dumps(content)


def test_every_unknown_field_is_refused(sealed: Statement, key: ReportKey) -> None:
    bare = json.loads(seal(sealed, None))
    assert open_seal(changed(bare))[0] == sealed  # the helper by itself changes nothing
    subject, said = bare["subject"][0], bare["predicate"]
    for other in (
        {"extra": 1},
        {"subject": [{**subject, "uri": "x"}]},
        {"subject": [{**subject, "digest": {**subject["digest"], "md5": "x"}}]},
        {"predicate": {**said, "extra": 1}},
        {"predicate": {**said, "ledger_head": {**said["ledger_head"], "extra": 1}}},
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"predicateType": "urn:privfin:report:2"},
        {"subject": bare["subject"][::-1]},
        {"subject": [subject, subject]},
        {"predicate": {**said, "ledger_head": {**said["ledger_head"], "seq": "9"}}},
    ):
        with pytest.raises(UserInputError, match="the seal's statement is"):
            open_seal(changed(bare, **other))
    envelope = json.loads(seal(sealed, key))
    (signature,) = envelope["signatures"]
    for other in (
        {"extra": 1},
        {"payloadType": "application/json"},
        {"signatures": []},
        {"signatures": [{**signature, "cert": "x"}]},
        {"signatures": [signature] * 17},
        {"payload": envelope["payload"].rstrip("=") + "!"},
    ):
        with pytest.raises(UserInputError, match="the seal's envelope is"):
            open_seal(changed(envelope, **other))


def test_doubled_keys_and_spaces_are_refused(sealed: Statement, key: ReportKey) -> None:
    for text in (seal(sealed, None), seal(sealed, key)):
        content = json.loads(text)
        name = next(iter(content))
        doubled = text[:1] + json.dumps({name: content[name]}).encode()[1:-1] + b"," + text[1:]
        assert json.loads(doubled) == content
        for other in (doubled, text + b"\n", json.dumps(content).encode()):
            with pytest.raises(UserInputError, match="not canonical JSON"):
                open_seal(other)


@pytest.mark.parametrize("signed", [True, False])
def test_every_byte_of_a_seal_has_a_meaning(
    sealed: Statement, key: ReportKey, signed: bool
) -> None:
    """Changed, the seal is unreadable or its signature does not fit, also from digit to digit."""
    text = seal(sealed, key if signed else None)
    rng = random.Random(0)
    for at, before in enumerate(text):
        other = rng.choice([one for one in b"0123456789abcdefgAQ" if one != before])
        for byte in (other, before ^ rng.randint(1, 255), before ^ 1):
            try:
                found, signatures = open_seal(text[:at] + bytes([byte]) + text[at + 1 :])
            except UserInputError:
                continue
            assert signatures, at
            assert not any(one.is_of(one.keyid, found) for one in signatures), at


def test_a_signature_has_one_text(sealed: Statement, key: ReportKey) -> None:
    """The last digit of 64 bytes in base64 has four bits that stand for nothing."""
    envelope = json.loads(seal(sealed, key))
    sig = envelope["signatures"][0]["sig"]
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = sig[:-3] + digits[digits.index(sig[-3]) + 1] + "=="
    assert base64.b64decode(other) == base64.b64decode(sig)
    envelope["signatures"][0]["sig"] = other
    with pytest.raises(UserInputError, match="canonical base64"):
        open_seal(rfc8785.dumps(envelope))


def test_a_seal_has_a_limit(sealed: Statement) -> None:
    with pytest.raises(UserInputError, match="too large"):
        open_seal(b" " * (MAX_SEAL_BYTES + 1))
    for deep in (b"[" * 10**6, b'{"a":' * 10**6):
        with pytest.raises(UserInputError, match="cannot be read as JSON"):
            open_seal(deep)


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_anything_else_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(UserInputError, match="the seal"):
        open_seal(data)
