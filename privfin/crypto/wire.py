"""Strict readers for the two formats that TenSEAL would parse without checking enough.

TenSEAL trusts the ``sizes`` field of a serialised vector: a forged one makes it read out of
bounds, and a missing one crashes the process. So every byte that reaches it is read here first:
the protobuf wire format around a vector or context, and the frame that Microsoft SEAL writes
inside (a 16-byte header and a Zstandard frame, RFC 8878, whose blocks are stored raw because
coefficients modulo a 60-bit prime do not compress).
"""

from __future__ import annotations

from privfin.errors import ProtocolError

_SEAL_MAGIC = b"\x5e\xa1\x10"
_SEAL_HEADER = 16
_ZSTD = 2
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_SINGLE_SEGMENT_4 = 0xA0
"""Frame descriptor: one segment, 4-byte content size, no checksum, no dictionary."""


def read_varint(data: bytes, start: int) -> tuple[int, int]:
    """Read a protobuf varint of at most 64 bits, in its shortest form.

    Returns:
        the value and the position behind it.

    Raises:
        ProtocolError: cut off, too long, or padded.
    """
    value = 0
    for length in range(10):
        if start + length >= len(data):
            raise ProtocolError("a length in the message is cut off")
        byte = data[start + length]
        value |= (byte & 0x7F) << (7 * length)
        if byte < 0x80:
            if (byte == 0 and length) or value >= 1 << 64:
                break
            return value, start + length + 1
    raise ProtocolError("a number in the message is not a shortest varint of 64 bits")


def read_fields(data: bytes) -> list[tuple[int, int | bytes]]:
    """Read a protobuf message into (field number, value) pairs in their order.

    Varints come back as integers; 8-byte and length-delimited fields as bytes.

    Raises:
        ProtocolError: any other wire type, field number 0, or a field that is cut off.
    """
    fields: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if number == 0 or kind not in (0, 1, 2):
            raise ProtocolError(f"the message holds an unknown kind of field (tag {tag})")
        if kind == 0:
            value, at = read_varint(data, at)
            fields.append((number, value))
            continue
        size = 8
        if kind == 2:
            size, at = read_varint(data, at)
        if size > len(data) - at:
            raise ProtocolError("a field of the message is longer than the message")
        fields.append((number, data[at : at + size]))
        at += size
    return fields


def read_message(data: bytes, numbers: tuple[int, ...], what: str) -> list[int | bytes]:
    """The values of a message that has exactly the fields ``numbers``, once each, in order.

    Raises:
        ProtocolError: a field is missing, doubled, unknown or out of order.
    """
    fields = read_fields(data)
    found = tuple(number for number, _ in fields)
    if found != numbers:
        raise ProtocolError(f"{what}: expected the fields {numbers}, got {found[:8]}")
    return [value for _, value in fields]


def read_bytes(value: int | bytes, what: str) -> bytes:
    """Return ``value`` if it is bytes, else raise ProtocolError."""
    if isinstance(value, int):
        raise ProtocolError(f"{what}: a number where bytes belong")
    return value


def read_vector(data: bytes, size: int) -> bytes:
    """The one ciphertext inside a serialised TenSEAL vector of ``size`` slots.

    Raises:
        ProtocolError: not exactly one size, another size, or not exactly one ciphertext.
    """
    what = "ciphertext"
    sizes, ciphertext = read_message(data, (1, 2), what)
    packed = read_bytes(sizes, what)
    value, end = read_varint(packed, 0)
    if end != len(packed) or value != size:
        raise ProtocolError(f"{what}: it does not declare exactly one vector of {size} slots")
    return read_bytes(ciphertext, what)


def read_seal(data: bytes, what: str) -> bytes:
    """The content of an object that SEAL 4 saved with Zstandard and raw blocks.

    Raises:
        ProtocolError: wrong magic, version, compression or size; a compressed or malformed
            block; bytes missing or left over.
    """
    size = int.from_bytes(data[8:_SEAL_HEADER], "little")
    if data[:3] != _SEAL_MAGIC or len(data) < _SEAL_HEADER + 9 or size != len(data):
        raise ProtocolError(f"{what}: not a SEAL object of its declared size")
    if data[3] != 4 or data[5] != _ZSTD or data[6:8] != b"\0\0":
        raise ProtocolError(f"{what}: made by another version of SEAL")
    at = _SEAL_HEADER
    if data[at : at + 4] != _ZSTD_MAGIC or data[at + 4] != _ZSTD_SINGLE_SEGMENT_4:
        raise ProtocolError(f"{what}: not the expected Zstandard frame")
    declared = int.from_bytes(data[at + 5 : at + 9], "little")
    at += 9
    blocks: list[bytes] = []
    last = False
    while not last:
        header = int.from_bytes(data[at : at + 3], "little")
        last, kind, length = bool(header & 1), header >> 1 & 3, header >> 3
        at += 3
        if kind != 0 or length == 0 or at + length > len(data):
            raise ProtocolError(f"{what}: a block is compressed, empty or cut off")
        blocks.append(data[at : at + length])
        at += length
    content = b"".join(blocks)
    if at != len(data) or len(content) != declared:
        raise ProtocolError(f"{what}: its content does not have the declared size")
    return content
