"""Key files: for their owner alone, whole or not there, and nobody else's key is taken for it."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privfin.crypto import key_files
from privfin.crypto.key_files import KeyKind, is_protected, read_key_file, write_key_file
from privfin.errors import UserInputError

SECRET = bytes(range(1, 65))
LABEL = "lungs/north"
WORD = b"correct horse"
QUICK = 14


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "identity.key"


def write(path: Path, passphrase: bytes | None = None, **change: object) -> None:
    given = {"kind": KeyKind.IDENTITY, "label": LABEL, "secret": SECRET} | change
    write_key_file(path, passphrase=passphrase, work=QUICK, **given)  # type: ignore[arg-type]


def read(path: Path, passphrase: bytes | None = None) -> bytes:
    return read_key_file(
        path, KeyKind.IDENTITY, LABEL, None if passphrase is None else lambda: passphrase
    )


def put(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.binary(max_size=200),
    st.text(min_size=1, max_size=40),
    st.none() | st.binary(min_size=8, max_size=40),
)
def test_round_trip(path: Path, secret: bytes, label: str, passphrase: bytes | None) -> None:
    path.unlink(missing_ok=True)
    try:
        label.encode()
    except UnicodeEncodeError:
        return
    write_key_file(path, KeyKind.FEDERATION, label, secret, passphrase, work=QUICK)
    assert is_protected(path) == (passphrase is not None)
    asked = (lambda: passphrase) if passphrase is not None else None
    assert read_key_file(path, KeyKind.FEDERATION, label, asked) == secret


def test_only_its_owner_may_read_it_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        write(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("bit", range(6))
def test_refuses_a_file_that_others_may_read_or_write(path: Path, bit: int) -> None:
    write(path)
    path.chmod(0o600 | 1 << bit)
    with pytest.raises(UserInputError, match="chmod 600"):
        read(path)


def test_never_writes_over_a_key(path: Path) -> None:
    write(path)
    before = path.read_bytes()
    with pytest.raises(UserInputError, match="never written over"):
        write(path, secret=b"another")
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
@pytest.mark.parametrize("call", ["fsync", "link"])
def test_stopped_while_writing_it_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: BaseException
) -> None:
    def stop(*given: object) -> None:
        raise error

    monkeypatch.setattr(os, call, stop)
    with pytest.raises((KeyboardInterrupt, UserInputError)):
        write(path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("passphrase", [None, WORD])
def test_refuses_every_flipped_bit_and_every_cut(path: Path, passphrase: bytes | None) -> None:
    write(path, passphrase)
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        bad = bytearray(whole)
        bad[bit // 8] ^= 1 << bit % 8
        put(path, bytes(bad))
        with pytest.raises(UserInputError):
            read(path, passphrase)
    for end in range(len(whole)):
        put(path, whole[:end])
        with pytest.raises(UserInputError):
            read(path, passphrase)


def test_refuses_lengths_that_do_not_fit_though_the_checksum_does(path: Path) -> None:
    write(path)
    whole = path.read_bytes()[:-32]
    for start, value in ((5, 9), (6, 2), (6, 1), (7, 255), (8, 12), (8, 10), (22, 1), (23, 9)):
        bad = bytearray(whole)
        bad[start] = value
        put(path, bytes(bad) + hashlib.sha256(bad).digest())
        with pytest.raises(UserInputError):
            read(path, WORD)


def test_a_passphrase_covers_the_key_and_all_that_is_said_of_it(path: Path) -> None:
    write(path, WORD)
    whole = path.read_bytes()[:-32]
    assert SECRET[:8] not in whole
    work = 9 + len(LABEL)
    assert whole[work] == QUICK
    # A checksum is no protection: whoever changes a bit can make a new one. Another work factor
    # is left out here, which would only take longer.
    for at in [i for i in range(len(whole)) if i != work]:
        bad = bytearray(whole)
        bad[at] ^= 1
        put(path, bytes(bad) + hashlib.sha256(bad).digest())
        with pytest.raises(UserInputError):
            read(path, WORD)
    for value in (0, 13, 21, 255):
        bad = bytearray(whole)
        bad[work] = value
        put(path, bytes(bad) + hashlib.sha256(bad).digest())
        with pytest.raises(UserInputError, match="damaged"):
            read(path, WORD)


def test_a_protected_key_cannot_be_passed_off_as_another(path: Path) -> None:
    write(path, WORD)
    other = path.read_bytes()[:-32].replace(b"lungs/north", b"lungs/south")
    put(path, other + hashlib.sha256(other).digest())
    with pytest.raises(UserInputError, match="does not open"):
        read_key_file(path, KeyKind.IDENTITY, "lungs/south", lambda: WORD)


def test_a_wrong_or_missing_passphrase_is_said(path: Path) -> None:
    write(path, WORD)
    with pytest.raises(UserInputError, match="does not open"):
        read(path, b"correct house")
    with pytest.raises(UserInputError, match="a passphrase is needed"):
        read(path)
    with pytest.raises(UserInputError, match="at least 8"):
        write(path.with_name("other"), b"short")


def test_two_files_of_one_key_and_passphrase_share_no_bytes_of_content(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name, WORD)
    one, two = ((tmp_path / name).read_bytes()[-112:-32] for name in ("one", "two"))
    assert len(one) == 80
    assert sum(a == b for a, b in zip(one, two, strict=True)) < 20


def test_another_key_is_not_taken_for_it(path: Path) -> None:
    for change in ({"kind": KeyKind.FEDERATION}, {"label": "lungs/south"}, {"label": "hips/north"}):
        path.unlink(missing_ok=True)
        write(path, **change)
        with pytest.raises(UserInputError, match="is not the identity key of lungs/north"):
            read(path)


def test_refuses_what_is_no_file_without_waiting(path: Path, tmp_path: Path) -> None:
    os.mkfifo(path, 0o600)
    with pytest.raises(UserInputError, match="is not a file"):
        read(path)
    with pytest.raises(UserInputError, match="missing"):
        read(tmp_path / "nothing")
    with pytest.raises(UserInputError):
        read(tmp_path)
    put(tmp_path / "large", bytes(200))
    with pytest.raises(UserInputError, match="too large"):
        key_files.read_private(tmp_path / "large", 100)
