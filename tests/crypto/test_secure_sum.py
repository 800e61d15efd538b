"""The whole path: encoded values, masks, ciphertexts, and exactly their sum at the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from privfin.crypto.bfv import BfvKey
from privfin.crypto.ciphertext_sum import CiphertextSum
from privfin.crypto.keys import Roster, SiteIdentity
from privfin.crypto.masks import MaskBook, MaskContext, pair_secrets
from privfin.crypto.pack import DATA_SLOTS, LAYOUTS, MAX_SUMMANDS, POLY_DEGREE, Packing, chunks_for
from privfin.crypto.quantize import Quantizer
from privfin.crypto.secure_sum import protect, reveal, tags_for
from privfin.errors import ProtocolError
from privfin.randomness import RandomStream

LAYOUT = pytest.mark.parametrize("packing", LAYOUTS.values(), ids=lambda p: p.name)
KEYS = {name: BfvKey.generate(packing) for name, packing in LAYOUTS.items()}
BITS = {"2x20": 16, "3x15": 11, "2x28": 16}
SITES = [SiteIdentity.generate(f"site-{i:02d}") for i in range(MAX_SUMMANDS)]
ROSTER = Roster(site.public() for site in SITES)
SECRETS = {site.name: pair_secrets(site, ROSTER) for site in SITES}


def context(sites: int) -> MaskContext:
    names = tuple(site.name for site in SITES[:sites])
    return MaskContext("run", "key", "plan", round=0, attempt=0, cohort=names)


def tags(packing: Packing, ctx: MaskContext, n: int) -> np.ndarray:
    """One site's tags for an update of ``n`` values."""
    secret = KEYS[packing.name].secret_bytes()
    return tags_for(secret, ctx, packing.modulus, chunks_for(packing.masked_slots(n)))


def opened(blobs: list[bytes], packing: Packing, n: int, ctx: MaskContext) -> np.ndarray:
    """The sum of the cohort of ``ctx``."""
    summed = tags(packing, ctx, n) * len(ctx.cohort) % packing.modulus
    return reveal(blobs, KEYS[packing.name], n, packing, summed)


def updates(packing: Packing, values: np.ndarray, ctx: MaskContext) -> list[list[bytes]]:
    public = KEYS[packing.name].public()
    length = packing.masked_slots(values.shape[1])
    return [
        protect(
            row,
            packing,
            MaskBook(name, SECRETS[name]).take(ctx, packing.modulus, length),
            public,
            tags(packing, ctx, row.size),
        )
        for row, name in zip(values, ctx.cohort, strict=True)
    ]


def add_up(packing: Packing, sent: list[list[bytes]]) -> list[bytes]:
    total = CiphertextSum(packing, len(sent[0]))
    for blobs in sent:
        total.add(blobs)
    return total.result()


@LAYOUT
@pytest.mark.parametrize("sites", [*range(2, 18), 31, 32, 33, 48, 63, 64])
def test_sum_is_exact_for_every_cohort(packing: Packing, sites: int) -> None:
    """As many bits as the cohort leaves room for; ``test_pack`` has every size, unencrypted."""
    bits = packing.largest_value_bits(sites)
    packing.check_headroom(sites, bits)
    n = packing.fields * DATA_SLOTS + 5  # two ciphertexts, the second nearly empty
    rng = np.random.default_rng(sites)
    values = rng.integers(0, 2**bits, (sites, n), dtype=np.uint64)
    values[:, :100] = 2**bits - 1
    values[:, 100:200] = 0
    values[::2, 200:300] = 2**bits - 1  # both ends in one slot
    values[1::2, 200:300] = 0
    blobs = add_up(packing, updates(packing, values, context(sites)))
    sums = opened(blobs, packing, n, context(sites))
    assert sums.dtype == np.uint64
    assert np.array_equal(sums, values.sum(axis=0))


@LAYOUT
def test_real_numbers_come_back(packing: Packing) -> None:
    quantizer = Quantizer(0.05, BITS[packing.name])
    x = np.random.default_rng(0).normal(0, 0.02, (5, 1000)).astype(np.float32)
    stream = RandomStream.reproducible(1, "secure sum")
    codes = np.stack([quantizer.encode(row, stream) for row in x])
    blobs = add_up(packing, updates(packing, codes, context(5)))
    total = quantizer.decode_sum(opened(blobs, packing, 1000, context(5)), 5)
    truth = np.clip(x.astype(np.float64), -0.05, 0.05).sum(axis=0)
    assert np.abs(total - truth).max() <= 5 * quantizer.step


def smallest_p(slots: np.ndarray, modulus: int) -> float:
    """The smaller p-value of two chi-square tests of uniformity: 128 bins, lowest 7 bits."""
    edges = np.linspace(0, modulus, 129)
    high = np.histogram(slots, edges)[0]
    low = np.bincount(slots % 128, minlength=128)
    return float(min(stats.chisquare(high).pvalue, stats.chisquare(low).pvalue))


@LAYOUT
def test_one_site_decrypts_to_noise(packing: Packing) -> None:
    """A coordinator and a key-holding site open one site's update: uniform modulo t."""
    key = KEYS[packing.name]
    n = packing.fields * 3 * DATA_SLOTS
    quantizer = Quantizer(1.0, BITS[packing.name])
    x = np.random.default_rng(5).normal(0, 0.1, n)
    codes = quantizer.encode(x, RandomStream.reproducible(2, "noise"))
    ctx = context(3)
    length = packing.masked_slots(n)
    mask = MaskBook(SITES[0].name, SECRETS[SITES[0].name]).take(ctx, packing.modulus, length)
    own = tags(packing, ctx, n)
    masked = key.decrypt(protect(codes, packing, mask, key.public(), own), length)
    bare = key.decrypt(protect(codes, packing, np.zeros_like(mask), key.public(), own), length)
    assert smallest_p(masked, packing.modulus) > 1e-7
    assert smallest_p(bare, packing.modulus) < 1e-100
    # The unmasked update is the update; the masked one is unrelated to it.
    data = bare.reshape(-1, POLY_DEGREE)[:, :DATA_SLOTS].reshape(-1)
    assert np.array_equal(packing.unpack(data, n), codes)
    assert abs(np.corrcoef(masked, bare)[0, 1]) < 6 / np.sqrt(length)


@LAYOUT
def test_missing_doubled_or_foreign_contributions_are_noticed(packing: Packing) -> None:
    values = np.ones((4, 100), dtype=np.uint64)
    sent = updates(packing, values, context(4))
    other = updates(packing, values, replace(context(4), attempt=1))
    assert np.all(opened(add_up(packing, sent), packing, 100, context(4)) == 4)
    for bad in (sent[:3], [*sent, sent[0]], [*sent[:3], other[3]], sent[:1]):
        with pytest.raises(ProtocolError, match="does not decrypt cleanly"):
            opened(add_up(packing, bad), packing, 100, context(4))
    stranger = BfvKey.generate(packing)
    with pytest.raises(ProtocolError, match="does not decrypt cleanly"):
        reveal(add_up(packing, sent), stranger, 100, packing, 4 * tags(packing, context(4), 100))


@pytest.mark.parametrize(
    "change",
    [
        {"round": 1},
        {"attempt": 1},
        {"run_id": "other"},
        {"plan_digest": "other"},
        {"key_id": "other"},
        {"purpose": "update/1"},
        {"cohort": tuple(site.name for site in SITES[1:4])},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_whole_sum_of_something_else_is_refused(change: dict[str, Any]) -> None:
    """Masks cancel in every whole sum, so that only the tags tell a replayed one."""
    packing = LAYOUTS["3x15"]
    values = np.ones((3, 100), dtype=np.uint64)
    replayed = add_up(packing, updates(packing, values, replace(context(3), **change)))
    with pytest.raises(ProtocolError, match="another one"):
        opened(replayed, packing, 100, context(3))


def test_swapped_ciphertexts_of_one_sum_are_refused() -> None:
    packing = LAYOUTS["3x15"]
    n = 2 * packing.fields * DATA_SLOTS
    blobs = add_up(packing, updates(packing, np.ones((2, n), dtype=np.uint64), context(2)))
    assert np.all(opened(blobs, packing, n, context(2)) == 2)
    for bad in (blobs[::-1], [blobs[0]] * 2):
        with pytest.raises(ProtocolError, match="another one"):
            opened(bad, packing, n, context(2))


def test_tags_need_the_federation_key() -> None:
    packing = LAYOUTS["3x15"]
    known = tags_for(b"key", context(3), packing.modulus, 50)
    assert np.unique(known).size == 50
    assert not np.intersect1d(known, tags_for(b"kez", context(3), packing.modulus, 50)).size


def test_damage_is_noticed() -> None:
    packing = LAYOUTS["3x15"]
    blobs = add_up(packing, updates(packing, np.ones((2, 100), dtype=np.uint64), context(2)))
    damaged = bytearray(blobs[0])
    damaged[5000] ^= 1
    with pytest.raises(ProtocolError):
        opened([bytes(damaged)], packing, 100, context(2))


def test_wrong_arguments_are_refused() -> None:
    packing, other = LAYOUTS["3x15"], LAYOUTS["2x20"]
    public = KEYS["3x15"].public()
    ones = np.ones(10, dtype=np.uint64)
    no_mask, no_tag = (np.zeros(n, dtype=np.int64) for n in (packing.masked_slots(10), 1))
    with pytest.raises(ProtocolError, match="packing"):
        protect(ones, other, no_mask, public, no_tag)
    with pytest.raises(ProtocolError, match="packing"):
        reveal([], KEYS["3x15"], 10, other, no_tag)
    with pytest.raises(ValueError, match="no values"):
        protect(ones[:0], packing, no_mask, public, no_tag)
    with pytest.raises(ValueError, match="mask must have"):
        protect(ones, packing, np.zeros(10, dtype=np.int64), public, no_tag)
    with pytest.raises(ProtocolError, match="expected 1 ciphertexts, got 0"):
        reveal([], KEYS["3x15"], 10, packing, no_tag)
