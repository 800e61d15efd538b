"""The process that decrypts: what breaks the native library inside it breaks nothing else.

Run as ``python -m privfin.crypto.decryption_worker``; :mod:`privfin.crypto.isolated` starts it and
talks to it over its standard input and output. It reads requests and writes one answer each, every
one framed as an 8-byte big-endian length and that many bytes:

* request: 1 byte of kind, a framed packing name, then for ``K`` (take a key) the framed secret
  bytes, and for ``D`` (decrypt) 8 bytes with the number of slots and one framed ciphertext each;
* answer: 1 byte, ``+`` or ``-``, then the slots as little-endian 64-bit integers, or a message.

With the packing name ``ckks`` the slots are 64-bit floats, and their number is not looked at.

It writes no file, makes no core dump that would hold the key, and ends when its input does.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Iterable
from typing import BinaryIO

from privfin.crypto.bfv import BfvKey
from privfin.crypto.ckks import CkksKey
from privfin.crypto.pack import Packing
from privfin.errors import PrivfinError

CKKS = b"ckks"
"""In place of a packing's name."""


def frame_parts(parts: Iterable[bytes]) -> bytes:
    """``parts``, each behind its length."""
    return b"".join(piece for part in parts for piece in (len(part).to_bytes(8, "big"), part))


def split_parts(data: bytes) -> list[bytes]:
    """The inverse of :func:`frame_parts`."""
    parts, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 8], "big")
        parts.append(data[at + 8 : at + 8 + size])
        at += 8 + size
    return parts


def _read(stream: BinaryIO) -> bytes | None:
    head = stream.read(8)
    if len(head) < 8:
        return None
    return stream.read(int.from_bytes(head, "big"))


def _answer(request: bytes, keys: dict[str, BfvKey | CkksKey]) -> bytes:
    kind, (name, *rest) = request[:1], split_parts(request[1:])
    if kind == b"K" and name == CKKS:
        keys["own"] = CkksKey.from_secret_bytes(rest[0])
        return b""
    if kind == b"K":
        packing = Packing.named(name.decode())
        keys["own"] = BfvKey.from_secret_bytes(rest[0], packing)
        return b""
    slots, *blobs = rest
    key = keys["own"]
    if isinstance(key, CkksKey):
        return key.decrypt(blobs).astype("<f8").tobytes()
    return key.decrypt(blobs, int.from_bytes(slots, "big")).astype("<i8").tobytes()


def main() -> None:
    """Answer requests until the input ends."""
    # Ctrl-C is for the process that started this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Whatever a library prints must not get between the answers.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    keys: dict[str, BfvKey | CkksKey] = {}
    while (request := _read(sys.stdin.buffer)) is not None:
        try:
            answer = b"+" + _answer(request, keys)
        except (PrivfinError, ValueError, RuntimeError) as error:
            answer = b"-" + str(error).encode()
        replies.write(len(answer).to_bytes(8, "big") + answer)
        replies.flush()


if __name__ == "__main__":
    main()
