"""What a coordinator learns that works together with a site: nothing but the sum.

The coalition has everything that crossed the coordinator and every key of one site: it decrypts
each message and takes away the masks that its site shares with the sender.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression

from privfin.config import load_config
from privfin.crypto import masks
from privfin.crypto.encoding import digest
from privfin.crypto.keys import Roster, SiteIdentity
from privfin.crypto.masks import MaskBook, mask_for
from privfin.crypto.pack import DATA_SLOTS, POLY_DEGREE, Packing
from privfin.federation.messages import RunIdentity
from privfin.federation.protection import UpdateProtection

NAMES = ("site-01", "site-02", "site-03")
ROUNDS, VALUES = 300, 60
SIGMAS = 6.0  # 2e-9 two-sided


class Coalition:
    """Three sites, of which the first helps the coordinator against the second."""

    def __init__(self, layout: str) -> None:
        bits = {"2x20": 16, "3x15": 11}[layout]
        config = load_config(None, [("crypto.layout", layout), ("crypto.value_bits", bits)]).crypto
        self.packing = Packing.named(layout)
        self.middle = 2 ** (bits - 1)
        identities = {name: SiteIdentity.generate(name) for name in NAMES}
        roster = Roster(one.public() for one in identities.values())
        run = RunIdentity("run", digest("config"))
        self.sites = {
            name: UpdateProtection(config, one, roster, run) for name, one in identities.items()
        }
        _, *boxes = self.sites["site-01"].make_key()
        for name, box in zip(NAMES[1:], boxes, strict=True):
            self.sites[name].take_key(box)
        self.shared = masks.pair_secrets(identities["site-01"], roster)

    def opened(self, parts: list[bytes], number: int) -> npt.NDArray[np.int64]:
        """All slots of a message of site-02, with all that the coalition knows taken away."""
        own = self.sites["site-01"]
        slots = own._own_key().decrypt(parts, POLY_DEGREE)
        context = own._context(number, 1, NAMES, 0, "update")
        # The stream that site-02 shares with the colluder, as if they were alone.
        modulus = self.packing.modulus
        known = mask_for(
            "site-02",
            Alone(context),  # type: ignore[arg-type]
            {"site-01": self.shared["site-02"]},
            modulus,
            POLY_DEGREE,
        )
        return (slots - known) % modulus

    def features(self, slots: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """What the message would say if it were not masked, and the raw slots."""
        used = self.packing.slots(VALUES)
        fields = self.packing.unpack(slots[:used], VALUES).astype(float)
        return np.concatenate([fields / self.middle - 1, slots[:used] / self.packing.modulus])


class Alone:
    """A mask context in which only the colluder and its victim count, with the same streams."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.cohort = ("site-01", "site-02")

    def pair_info(self, first: str, second: str) -> bytes:
        found: bytes = self.inner.pair_info(first, second)
        return found


def attacked(layout: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], Coalition, Any]:
    """Features of every round, the secret coin of each, and the last message's slots."""
    rng = np.random.default_rng(3)
    coalition = Coalition(layout)
    coins = rng.integers(0, 2, ROUNDS)
    rows, slots = [], np.zeros(0, dtype=np.int64)
    for number, coin in enumerate(coins, start=1):
        # A strong signal: the whole update moves up or down by half of the range.
        level = coalition.middle * (0.5 if coin else -0.5)
        codes = (coalition.middle + level + rng.normal(0, 3, VALUES)).astype(np.uint32)
        parts = coalition.sites["site-02"].protect(codes, number, 1, NAMES)
        slots = coalition.opened(parts, number)
        rows.append(coalition.features(slots))
    return np.array(rows), coins, coalition, slots


def accuracy(rows: npt.NDArray[np.float64], coins: npt.NDArray[np.int64]) -> float:
    """Of a distinguisher trained on half of the rounds, on the other half."""
    half = ROUNDS // 2
    model = LogisticRegression(max_iter=2000).fit(rows[:half], coins[:half])
    return float(model.score(rows[half:], coins[half:]))


LAYOUT = pytest.mark.parametrize("layout", ["2x20", "3x15"])


@LAYOUT
def test_a_coalition_learns_nothing_of_another_site(layout: str) -> None:
    rows, coins, coalition, slots = attacked(layout)
    chance = 0.5 + SIGMAS * 0.5 / np.sqrt(ROUNDS / 2)
    assert 1 - chance < accuracy(rows, coins) < chance
    # One message: uniform modulo t, in every slot, tags and padding included.
    assert stats.kstest(slots / coalition.packing.modulus, "uniform").pvalue > 1e-7
    low = slots % 256
    assert stats.chisquare(np.bincount(low, minlength=256)).pvalue > 1e-7
    # All rounds together: no slot's mean depends on the secret coin.
    raw = rows[:, VALUES:]
    gap = raw[coins == 1].mean(axis=0) - raw[coins == 0].mean(axis=0)
    spread = np.sqrt((1 / 12) * (1 / (coins == 1).sum() + 1 / (coins == 0).sum()))
    assert np.abs(gap).max() < SIGMAS * spread


@LAYOUT
def test_without_masks_the_same_distinguisher_wins(
    layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        MaskBook, "take", lambda self, context, modulus, length: np.zeros(length, dtype=np.int64)
    )
    monkeypatch.setattr(f"{__name__}.mask_for", lambda *args: np.zeros(args[-1], dtype=np.int64))
    rows, coins, coalition, slots = attacked(layout)
    assert accuracy(rows, coins) == 1.0
    data = slots[:DATA_SLOTS]
    assert stats.kstest(data / coalition.packing.modulus, "uniform").pvalue < 1e-100


def test_a_mask_that_is_used_twice_gives_the_difference_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A broken variant: masks that do not depend on the round."""
    original: Callable[..., Any] = MaskBook.take
    first: dict[str, Any] = {}

    def again(self: MaskBook, context: Any, modulus: int, length: int) -> Any:
        return first.setdefault(self.site, original(self, context, modulus, length))

    monkeypatch.setattr(MaskBook, "take", again)
    rng = np.random.default_rng(5)
    coalition = Coalition("3x15")
    sent, opened = [], []
    for number in (1, 2):
        codes = rng.integers(0, 2**11, VALUES).astype(np.uint32)
        parts = coalition.sites["site-02"].protect(codes, number, 1, NAMES)
        sent.append(coalition.packing.pack(codes))
        opened.append(coalition.sites["site-01"]._own_key().decrypt(parts, POLY_DEGREE))
    found = (opened[1] - opened[0]) % coalition.packing.modulus
    wanted = (sent[1] - sent[0]) % coalition.packing.modulus
    assert np.array_equal(found[: wanted.size], wanted)
