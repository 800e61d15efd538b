"""Decryption in a worker process: the same numbers, and a crash that costs one message."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from privfin.crypto import isolated
from privfin.crypto.bfv import BfvKey
from privfin.crypto.decryption_worker import frame_parts, split_parts
from privfin.crypto.isolated import IsolatedKey
from privfin.crypto.pack import LAYOUTS, POLY_DEGREE
from privfin.errors import ProtocolError

PACKING = LAYOUTS["3x15"]
KEY = BfvKey.generate(PACKING)


@pytest.fixture
def key() -> IsolatedKey:
    return IsolatedKey.from_secret_bytes(KEY.secret_bytes(), PACKING)


#: A worker whose native library breaks on some messages: one dereferences a null pointer, one
#: never ends, one writes to standard output as libraries do.
BROKEN = """
import ctypes, sys, time
from privfin.crypto import decryption_worker as worker
decrypt = worker.BfvKey.decrypt
def broken(self, blobs, slots):
    found = decrypt(self, blobs, slots)
    if found[0] == 11:
        ctypes.string_at(0)
    if found[0] == 12:
        time.sleep(1000)
    print("a library says something")
    return found
worker.BfvKey.decrypt = broken
worker.main()
"""


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[IsolatedKey]:
    monkeypatch.setattr(isolated, "_COMMAND", (sys.executable, "-c", BROKEN))
    monkeypatch.setattr(isolated, "_pool", isolated._Pool())
    yield IsolatedKey.from_secret_bytes(KEY.secret_bytes(), PACKING)
    isolated._pool.stop()


@pytest.mark.parametrize("slots", [1, POLY_DEGREE, 70 * POLY_DEGREE + 5])
def test_numbers_are_those_of_the_key_itself(key: IsolatedKey, slots: int) -> None:
    values = np.random.default_rng(slots).integers(0, PACKING.modulus, slots)
    blobs = key.public().encrypt(values)
    assert np.array_equal(key.decrypt(blobs, slots), values)
    assert np.array_equal(KEY.decrypt(blobs, slots), values)
    assert key.public().to_bytes() == KEY.public().to_bytes()


def test_several_keys_take_turns(key: IsolatedKey) -> None:
    other = IsolatedKey.generate(LAYOUTS["2x20"])
    for _ in range(2):
        for one in (key, other):
            blobs = one.public().encrypt(np.arange(9))
            assert np.array_equal(one.decrypt(blobs, 9), np.arange(9))


@pytest.mark.parametrize(("first", "how"), [(11, "crashed"), (12, "did not end")])
def test_a_broken_library_costs_the_message_and_not_the_process(
    broken: IsolatedKey, monkeypatch: pytest.MonkeyPatch, first: int, how: str
) -> None:
    if first == 12:
        monkeypatch.setattr(isolated, "_START_SECONDS", 2.0)
        monkeypatch.setattr(isolated, "_SECONDS_A_CIPHERTEXT", 0.0)
    bad, good = (broken.public().encrypt(np.array([n, 7])) for n in (first, 5))
    with pytest.raises(ProtocolError, match=how):
        broken.decrypt(bad, 2)
    monkeypatch.setattr(isolated, "_START_SECONDS", 60.0)
    assert np.array_equal(broken.decrypt(good, 2), [5, 7])


def test_a_damaged_key_is_refused_by_the_worker(key: IsolatedKey) -> None:
    secret = bytearray(key.secret_bytes())
    secret[len(key.public().to_bytes()) + 1000] ^= 1
    with pytest.raises(ProtocolError):
        IsolatedKey.from_secret_bytes(bytes(secret), PACKING)
    values = np.arange(3)
    assert np.array_equal(key.decrypt(key.public().encrypt(values), 3), values)


def test_the_key_is_neither_an_argument_nor_left_behind(key: IsolatedKey) -> None:
    assert (sys.executable, "-m", "privfin.crypto.decryption_worker") == isolated._COMMAND
    for text in (repr(key), str(key)):
        assert len(text) < 80
    with pytest.raises(TypeError):
        pickle.dumps(key)
    # The worker ends when its input does, whatever happens to this process.
    own = isolated._Worker()
    own._requests.close()
    assert own._process.wait(timeout=60) == 0


def test_parts_survive_framing() -> None:
    for parts in ([], [b""], [b"a", b"", b"bc" * 1000]):
        assert split_parts(frame_parts(parts)) == parts
