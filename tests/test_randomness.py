"""Random streams: uniform, independent, repeatable only when asked, and never stored."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from scipy import stats

from privfin.randomness import RandomStream

# Tests on fixed seeds do not vary; this is how unlucky a right stream would have to be.
CHANCE = 1e-7


def fixed(*labels: str | int, seed: int = 0) -> RandomStream:
    return RandomStream.reproducible(seed, *labels)


def test_the_stream_is_aes_256_in_counter_mode():
    """Checked against the cipher itself, key by key: no home-made generator."""
    key = bytes(range(32))
    wanted = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(100))
    stream = RandomStream(key, reproducible=True)
    assert stream.take(37) + stream.take(63) == wanted


def test_equal_seed_and_labels_give_equal_numbers_and_others_do_not():
    first = fixed("site", 3).take(64)
    assert fixed("site", 3).take(64) == first
    others = [fixed("site", 4), fixed("site"), fixed(3, "site"), fixed("site", 3, seed=1)]
    others += [fixed("site3"), fixed("si", "te", 3), fixed("site", 30)]
    taken = [first, *(stream.take(64) for stream in others)]
    assert len(set(taken)) == len(taken)


def test_system_streams_are_all_different():
    """A key from the operating system for every stream: no two releases share noise."""
    assert len({RandomStream.system().take(32) for _ in range(100)}) == 100
    assert not RandomStream.system().is_reproducible
    assert fixed().is_reproducible


def test_a_stream_never_gives_the_same_bytes_twice():
    stream = fixed()
    blocks = [stream.take(16) for _ in range(1000)]
    assert len(set(blocks)) == 1000


@pytest.mark.parametrize("make", [RandomStream.system, fixed])
@pytest.mark.parametrize(
    "copied",
    [pickle.dumps, lambda s: pickle.dumps(s, 2), copy.copy, copy.deepcopy, json.dumps],
    ids=["pickle", "pickle-2", "copy", "deepcopy", "json"],
)
def test_a_stream_cannot_be_stored_or_copied(make, copied):
    """A stored key would let its finder subtract the noise; a copy would repeat it."""
    with pytest.raises(TypeError):
        copied(make())


def test_the_key_is_not_shown_or_kept():
    key = bytes(range(32))
    stream = RandomStream(key, reproducible=False)
    assert repr(stream) == "RandomStream(reproducible=False)"
    assert key not in [v for v in vars(stream).values() if isinstance(v, bytes)]


def test_uniform_numbers_are_uniform():
    numbers = fixed().uniform(200_000)
    assert ((numbers >= 0) & (numbers < 1)).all()
    assert stats.kstest(numbers, "uniform").pvalue > CHANCE
    whole = numbers * 2**53
    assert (whole == np.round(whole)).all()
    # Every bit is used: the lowest one too is a fair coin.
    odd = int((whole.astype(np.int64) & 1).sum())
    assert stats.binomtest(odd, numbers.size).pvalue > CHANCE
    pairs = np.corrcoef(numbers[1:], numbers[:-1])[0, 1] * np.sqrt(numbers.size)
    assert abs(pairs) < stats.norm.isf(CHANCE)


def test_every_bit_of_the_integers_is_fair():
    bits = np.unpackbits(fixed().uint64(50_000).view(np.uint8).reshape(-1, 8), axis=1)
    assert all(stats.binomtest(int(n), 50_000).pvalue > CHANCE for n in bits.sum(axis=0))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 1000, 8191, 8192, 8193, 16_385, 30_001])
def test_filling_goes_on_where_the_stream_is(count):
    """Every length gives the same numbers as the plain bytes, and the next ones follow on."""
    one, other = fixed("fill"), fixed("fill")
    words = np.zeros(count, dtype=np.uint64)
    one.fill(words)
    np.testing.assert_array_equal(words, np.frombuffer(other.take(8 * count), dtype="<u8"))
    assert one.take(40) == other.take(40)
