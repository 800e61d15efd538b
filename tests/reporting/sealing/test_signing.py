"""Keys for reports: made once, kept from others, and nothing else is taken for one."""

from __future__ import annotations

import pickle
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, PublicFormat

from privfin.errors import UserInputError
from privfin.privacy.ledger.keys import signature_holds
from privfin.reporting.sealing.signing import ReportKey, check_public_key


def written(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def pem(key: object, encryption: object = None) -> bytes:
    wanted = encryption or serialization.NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, wanted)  # type: ignore[attr-defined,no-any-return]


def test_a_key_is_read_back_and_others_can_verify_with_its_public_half(tmp_path: Path) -> None:
    made = ReportKey.make(tmp_path / "key")
    again = ReportKey.read(tmp_path / "key")
    assert again.public == made.public == check_public_key(made.public)
    signature = again.sign(b"message")
    assert len(signature) == 64
    assert signature_holds(made.public, signature.hex(), b"message")
    assert not signature_holds(made.public, signature.hex(), b"massage")
    # Any program that reads PEM can use it.
    loaded = serialization.load_pem_private_key((tmp_path / "key").read_bytes(), None)
    assert isinstance(loaded, ed25519.Ed25519PrivateKey)
    assert loaded.public_key().public_bytes_raw().hex() == made.public


def test_a_key_is_for_its_owner_alone_and_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "key"
    ReportKey.make(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    with pytest.raises(UserInputError, match="exists: a key is never written over"):
        ReportKey.make(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_key_does_not_show_or_travel(tmp_path: Path) -> None:
    key = ReportKey.make(tmp_path / "key")
    assert repr(key) == "<ReportKey: secret>"
    with pytest.raises(TypeError, match="holds a key"):
        pickle.dumps(key)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "key", pem(ed25519.Ed25519PrivateKey.generate()), mode)
    with pytest.raises(UserInputError, match="others may read or write"):
        ReportKey.read(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pem(ed25519.Ed25519PrivateKey.generate(), serialization.BestAvailableEncryption(b"pass")),
         "is encrypted"),
        (pem(x25519.X25519PrivateKey.generate()), "another kind"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "another kind"),
        (ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "not a private key in PEM"),
        (ed25519.Ed25519PrivateKey.generate().private_bytes_raw(), "not a private key in PEM"),
        (pem(ed25519.Ed25519PrivateKey.generate())[:60], "not a private key in PEM"),
        (b"", "not a private key in PEM"),
    ],
    ids=["encrypted", "x25519", "p-256", "public", "raw", "cut", "empty"],
)  # fmt: skip
def test_anything_else_is_refused_in_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(UserInputError, match=words) as refused:
        ReportKey.read(written(tmp_path / "key", content))
    assert "\n" not in str(refused.value)


def test_a_missing_key_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="is missing"):
        ReportKey.read(tmp_path / "key")


@pytest.mark.parametrize("text", ["", "ab", "AB" * 32, "0x" + "a" * 62, "g" * 64, "a" * 64 + "\n"])
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(UserInputError, match="not a public key"):
        check_public_key(text)
