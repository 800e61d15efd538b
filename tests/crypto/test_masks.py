"""Masks: they cancel over the cohort, are uniform alone, fresh for every payload, used once."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from scipy import stats

from privfin.crypto.keys import Roster, SiteIdentity
from privfin.crypto.masks import (
    MaskBook,
    MaskContext,
    mask_for,
    pair_secrets,
    uniform_stream,
)
from privfin.crypto.pack import LAYOUTS
from privfin.errors import ProtocolError

T = LAYOUTS["2x20"].modulus
NAMES = tuple(f"site-{i:02d}" for i in range(16))


def fixed_secrets(site: str) -> dict[str, bytes]:
    """Symmetric pair secrets that do not change between runs of the tests."""
    out = {}
    for peer in NAMES:
        low, high = sorted((NAMES.index(site), NAMES.index(peer)))
        out[peer] = bytes([low, high]) * 16
    return out


def context(size: int = 3) -> MaskContext:
    return MaskContext("run", "key", "plan", round=2, attempt=1, cohort=NAMES[:size])


def mask(site: str, ctx: MaskContext, length: int = 500, modulus: int = T) -> np.ndarray:
    return mask_for(site, ctx, fixed_secrets(site), modulus, length)


@pytest.mark.parametrize("size", range(2, 17))
@pytest.mark.parametrize("modulus", [T, LAYOUTS["3x15"].modulus, 2, 97, 2**62 - 1])
def test_masks_cancel(size: int, modulus: int) -> None:
    masks = [mask(site, context(size), 50, modulus) for site in NAMES[:size]]
    for one in masks:
        assert one.dtype == np.int64 and one.min() >= 0 and one.max() < modulus
    assert all(sum(int(m[i]) for m in masks) % modulus == 0 for i in range(50))


def test_masks_from_real_agreements_cancel() -> None:
    sites = [SiteIdentity.generate(name) for name in NAMES[:4]]
    roster = Roster(site.public() for site in sites)
    total = sum(
        mask_for(s.name, context(4), pair_secrets(s, roster, NAMES[:4]), T, 1000) for s in sites
    )
    assert not (total % T).any()


def test_any_part_of_the_cohort_stays_masked() -> None:
    total = sum(mask(site, context(5), 20_000) for site in NAMES[:4]) % T
    bins = np.bincount((total * 64) // T, minlength=64)
    assert stats.chisquare(bins).pvalue > 1e-6
    assert np.count_nonzero(total) > 19_990


def test_one_mask_is_uniform() -> None:
    one = mask(NAMES[1], context(3), 200_000)
    high = np.bincount((one.astype(object) * 256 // T).astype(np.int64), minlength=256)
    low = np.bincount(one % 256, minlength=256)
    assert stats.chisquare(high).pvalue > 1e-6
    assert stats.chisquare(low).pvalue > 1e-6


def test_rejection_is_uniform_where_it_matters() -> None:
    # 97 of 128 candidates are kept: a remainder instead of rejection would show at once.
    draw = uniform_stream(bytes(32), 97, 97_000)
    assert stats.chisquare(np.bincount(draw, minlength=97)).pvalue > 1e-6


def test_stream_does_not_depend_on_length() -> None:
    long = uniform_stream(b"k" * 32, 97, 5000)
    assert np.array_equal(uniform_stream(b"k" * 32, 97, 1234), long[:1234])


@pytest.mark.parametrize("modulus", [2, 97, LAYOUTS["3x15"].modulus, 2**61 + 1])
def test_blocks_are_the_plain_definition(modulus: int) -> None:
    """AES-256-CTR words one by one, cut to the modulus' bits, those too large left out."""
    key, length = b"q" * 32, 40_000
    words = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(10**6))
    low = (1 << modulus.bit_length()) - 1
    plain = [int(word) & low for word in np.frombuffer(words, dtype="<u8")]
    wanted = [word for word in plain if word < modulus][:length]
    assert len(wanted) == length
    assert uniform_stream(key, modulus, length).tolist() == wanted


@pytest.mark.parametrize(
    "change",
    [
        {"round": 3},
        {"attempt": 2},
        {"run_id": "run2"},
        {"key_id": "key2"},
        {"plan_digest": "plan2"},
        {"purpose": "metrics"},
        {"cohort": NAMES[:4]},
        {"round": 1, "attempt": 2},
    ],
)
def test_every_field_changes_the_mask(change: dict[str, object]) -> None:
    before = mask(NAMES[0], context())
    after = mask(NAMES[0], replace(context(), **change))  # type: ignore[arg-type]
    assert np.count_nonzero(before == after) == 0


def test_cohort_order_does_not_matter() -> None:
    turned = replace(context(), cohort=NAMES[:3][::-1])
    assert np.array_equal(mask(NAMES[0], context()), mask(NAMES[0], turned))


@pytest.mark.parametrize("cohort", [(), ("a",), ("a", "a", "b")])
def test_refuses_a_bad_cohort(cohort: tuple[str, ...]) -> None:
    with pytest.raises(ProtocolError, match="two or more"):
        replace(context(), cohort=cohort)


def test_refuses_negative_rounds_strangers_and_missing_secrets() -> None:
    with pytest.raises(ProtocolError, match="below 0"):
        replace(context(), round=-1)
    with pytest.raises(ProtocolError, match="not in the cohort"):
        mask(NAMES[9], context())
    with pytest.raises(ProtocolError, match="shares no secret"):
        mask_for(NAMES[0], context(), {}, T, 10)
    with pytest.raises(ValueError, match="modulus"):
        uniform_stream(bytes(32), 2**62, 1)


def test_book_never_gives_a_mask_twice() -> None:
    book = MaskBook(NAMES[0], fixed_secrets(NAMES[0]))
    first = book.take(context(), T, 100)
    assert np.array_equal(first, mask(NAMES[0], context(), 100))
    for again in (
        context(),
        context(4),
        replace(context(), attempt=0),
        replace(context(), round=1, attempt=9),
    ):
        with pytest.raises(ProtocolError, match="never used twice"):
            book.take(again, T, 100)
    book.take(replace(context(), purpose="metrics"), T, 100)
    book.take(replace(context(), attempt=2), T, 100)
    book.take(replace(context(), round=3, attempt=0), T, 100)
    resumed = MaskBook(NAMES[0], fixed_secrets(NAMES[0]), after=book.marks())
    with pytest.raises(ProtocolError, match="never used twice"):
        resumed.take(replace(context(), round=3, attempt=0), T, 100)


def test_book_leaks_nothing() -> None:
    book = MaskBook(NAMES[0], {NAMES[1]: b"S" * 32})
    assert "SSS" not in repr(book) and "SSS" not in str(book)
    with pytest.raises(TypeError, match="cannot be copied"):
        pickle.dumps(book)
