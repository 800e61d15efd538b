"""Hostile bytes for every door, and the federation of tests/federation to send them to."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import FrameType

import numpy as np
import pytest

from privfin.errors import PrivfinError

# Pytest shares fixtures with subfolders only.
_path = Path(__file__).parents[1] / "federation" / "conftest.py"
_spec = spec_from_file_location("federation_of_tests", _path)
if _spec is None or _spec.loader is None:
    raise ImportError(f"{_path} cannot be loaded")
_module = module_from_spec(_spec)
sys.modules[_spec.name] = _module
_spec.loader.exec_module(_module)

federation = _module.federation

CASES = int(os.environ.get("PRIVFIN_FUZZ_CASES", "300"))
SEED = 20_505
SECONDS, MEBIBYTES = 60, 768
Random = np.random.Generator


# How bytes go wrong. Each gets the honest bytes and others of the same kind.


def random_bytes(rng: Random, good: bytes, others: list[bytes]) -> bytes:
    return rng.bytes(int(rng.integers(0, 2 * len(good) + 2)))


def flipped(rng: Random, good: bytes, others: list[bytes]) -> bytes:
    bad = bytearray(good)
    for _ in range(int(rng.integers(1, 5))):
        bad[int(rng.integers(len(bad)))] ^= 1 << int(rng.integers(8))
    return bytes(bad)


def flipped_head(rng: Random, good: bytes, others: list[bytes]) -> bytes:
    bad = bytearray(good)
    bad[int(rng.integers(min(len(bad), 400)))] ^= 1 << int(rng.integers(8))
    return bytes(bad)


def truncated(rng: Random, good: bytes, others: list[bytes]) -> bytes:
    return good[: int(rng.integers(len(good)))]


def longer(rng: Random, good: bytes, others: list[bytes]) -> bytes:
    return good + rng.bytes(int(rng.integers(1, 64)))


def oversized(rng: Random, good: bytes, others: list[bytes]) -> bytes:
    return good * int(rng.integers(2, 40))


def nothing(rng: Random, good: bytes, others: list[bytes]) -> bytes:
    return b""


def forged_size(rng: Random, good: bytes, others: list[bytes]) -> bytes:
    """A large number, big- or little-endian or as a varint, over one of the first bytes."""
    value = (2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)[int(rng.integers(6))]
    form = int(rng.integers(3))
    if form == 2:
        number = b""
        while value > 127:
            number += bytes([value & 127 | 128])
            value >>= 7
        number += bytes([value])
    else:
        number = value.to_bytes(8, "big" if form else "little")[: int(rng.choice([4, 8]))]
    at = int(rng.integers(0, min(len(good), 160)))
    return good[:at] + number + good[at + len(number) :]


def spliced(rng: Random, good: bytes, others: list[bytes]) -> bytes:
    other = others[int(rng.integers(len(others)))]
    at = int(rng.integers(1, min(len(good), len(other))))
    return good[:at] + other[at:]


def another(rng: Random, good: bytes, others: list[bytes]) -> bytes:
    """Replayed, of another round, key, parameters or sender."""
    return others[int(rng.integers(len(others)))]


MUTATIONS = (
    random_bytes,
    flipped,
    flipped_head,
    truncated,
    longer,
    oversized,
    nothing,
    forged_size,
    spliced,
    another,
)


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """No case hangs, and all together need little memory."""

    def late(number: int, frame: FrameType | None) -> None:
        raise AssertionError("a case did not end")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    old = signal.signal(signal.SIGALRM, late)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < MEBIBYTES


class Hostile:
    """Makes hostile bytes, the same ones on every machine."""

    count, seed, mutations = CASES, SEED, MUTATIONS

    @staticmethod
    def cases(good: bytes, others: list[bytes]) -> Iterator[bytes]:
        """Different hostile versions of ``good``, all mutations in turn."""
        for number in range(CASES):
            rng = np.random.default_rng([SEED, number])
            bad = MUTATIONS[number % len(MUTATIONS)](rng, good, others)
            if bad != good:
                signal.alarm(SECONDS)
                yield bad

    @staticmethod
    def line_of(error: PrivfinError) -> str:
        """The message as a user sees it: one line, of bounded length."""
        text = str(error)
        assert "\n" not in text
        assert 0 < len(text) < 500
        return text


@pytest.fixture(scope="session")
def hostile() -> Hostile:
    return Hostile()
