"""The strict readers in front of TenSEAL."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privfin.crypto import wire
from privfin.errors import ProtocolError


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def zstd(blocks: list[bytes], declared: int | None = None, kind: int = 0) -> bytes:
    size = sum(map(len, blocks)) if declared is None else declared
    body = b"\x28\xb5\x2f\xfd\xa0" + size.to_bytes(4, "little")
    for i, block in enumerate(blocks):
        head = len(block) << 3 | kind << 1 | (i == len(blocks) - 1)
        body += head.to_bytes(3, "little") + block
    return b"\x5e\xa1\x10\x04\x03\x02\0\0" + (16 + len(body)).to_bytes(8, "little") + body


@given(st.integers(0, 2**64 - 1))
def test_varint_round_trip(value: int) -> None:
    data = varint(value)
    assert wire.read_varint(b"x" + data + b"y", 1) == (value, 1 + len(data))


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"\x80\x00", b"\xff" * 10, b"\xff" * 9 + b"\x02", b"\x80" * 9 + b"\0"]
)
def test_varint_refuses(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        wire.read_varint(data, 0)


def test_fields() -> None:
    data = field(1, b"ab") + b"\x10\x07" + b"\x19" + bytes(8)
    assert wire.read_fields(data) == [(1, b"ab"), (2, 7), (3, bytes(8))]
    for bad in (data[:-1], b"\x02\x00", b"\x0d" + bytes(4), b"\x0b", b"\x0a\x05abc"):
        with pytest.raises(ProtocolError):
            wire.read_fields(bad)


def test_vector() -> None:
    good = field(1, varint(8192)) + field(2, b"C")
    assert wire.read_vector(good, 8192) == b"C"
    for bad in (
        b"",
        field(2, b"C"),
        field(1, varint(8192)),
        field(1, varint(8193)) + field(2, b"C"),
        field(1, varint(2**40)) + field(2, b"C"),
        field(1, b"") + field(2, b"C"),
        field(1, varint(8192) * 2) + field(2, b"C"),
        good + field(2, b"C"),
        good + field(3, b""),
        good + b"\0",
        field(2, b"C") + field(1, varint(8192)),
        b"\x08" + varint(8192) + field(2, b"C"),
        field(1, varint(8192)) + b"\x10\x01",
    ):
        with pytest.raises(ProtocolError):
            wire.read_vector(bad, 8192)


def test_seal_object() -> None:
    good = zstd([b"abc", b"de"])
    assert wire.read_seal(good, "thing") == b"abcde"
    for bad in (
        b"",
        good[:20],
        good[:-1],
        good + b"\0",
        zstd([b"abc"], declared=4),
        zstd([b"abc"], kind=1),
        zstd([b"abc"], kind=2),
        zstd([b"abc", b""]),
        zstd([]),
    ):
        with pytest.raises(ProtocolError, match="thing"):
            wire.read_seal(bad, "thing")
    for at in (0, 1, 2, 3, 5, 6, 7, 8, 16, 20, 21, 25, 26, 27):
        flipped = bytearray(good)
        flipped[at] ^= 0x40
        with pytest.raises(ProtocolError, match="thing"):
            wire.read_seal(bytes(flipped), "thing")


@settings(max_examples=300)
@given(st.binary(max_size=64))
def test_readers_only_ever_raise_protocol_errors(data: bytes) -> None:
    for read in (
        lambda: wire.read_fields(data),
        lambda: wire.read_vector(data, 8192),
        lambda: wire.read_seal(zstd([b"abc"])[:16] + data, "thing"),
    ):
        try:
            read()
        except ProtocolError as error:
            assert str(error)
