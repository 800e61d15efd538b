"""The sampler draws exactly Skellam values."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from privfin.privacy import skellam_noise
from privfin.privacy.skellam_noise import SkellamSampler
from privfin.randomness import RandomStream


def probabilities(variance: int) -> npt.NDArray[np.float64]:
    high, low, _, _ = skellam_noise._table(variance)
    words = [int(a) << 64 | int(b) for a, b in zip(high, low, strict=True)]
    steps = np.diff([0, *words, 2**128])
    return np.array([float(step) for step in steps]) / 2.0**128


@pytest.mark.parametrize("variance", [1, 2, 7, 100, 5000])
def test_the_table_is_the_skellam_distribution(variance: int) -> None:
    largest = SkellamSampler(variance).largest
    found = probabilities(variance)
    points = np.arange(-largest, largest + 1)
    expected = stats.skellam.pmf(points, variance / 2, variance / 2)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-15)
    np.testing.assert_allclose(found, found[::-1], rtol=1e-9, atol=2.0**-126)
    assert (found * points**2).sum() == pytest.approx(variance, rel=1e-12)


def chance(values: npt.NDArray[np.int64], variance: int) -> float:
    """p-value of a chi-square test of ``values`` against the Skellam of ``variance``."""
    normal = stats.norm.ppf(np.linspace(0, 1, 41)[1:-1]) * np.sqrt(variance)
    edges = np.unique(np.round(normal))
    cumulative = np.concatenate([[0], stats.skellam.cdf(edges, variance / 2, variance / 2), [1]])
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=edges.size + 1)
    return float(stats.chisquare(counts, values.size * np.diff(cumulative)).pvalue)


@pytest.mark.parametrize("variance", [1, 30, 10_000])
def test_draws_and_sums_of_shares_have_the_right_distribution(variance: int) -> None:
    sampler = SkellamSampler(variance)
    shares = [
        sampler.sample(RandomStream.reproducible(site, "share"), 200_000) for site in range(3)
    ]
    assert np.abs(shares).max() <= sampler.largest
    for share in shares:
        assert chance(share, variance) > 1e-8
        assert abs(share.mean()) < 6 * np.sqrt(variance / share.size)
    assert chance(sum(shares), 3 * variance) > 1e-8
    # Shares of half the variance, or one share left out, are told apart.
    assert chance(shares[0] + shares[1], 3 * variance) < 1e-12
    assert chance(shares[0], 2 * variance) < 1e-12
    assert abs(np.corrcoef(shares[0], shares[1])[0, 1]) < 6 / np.sqrt(200_000)


class Words(RandomStream):
    """A stream of given words."""

    def __init__(self, words: list[int]) -> None:
        super().__init__(bytes(32), reproducible=True)
        self.words = words

    def uint64(self, count: int) -> npt.NDArray[np.uint64]:
        taken, self.words = self.words[:count], self.words[count:]
        return np.array(taken, dtype=np.uint64)


@pytest.mark.parametrize("index", [0, 5, 30, 60])
def test_ties_are_decided_by_the_second_word(index: int) -> None:
    sampler = SkellamSampler(9)
    high, low = sampler._high, sampler._low
    whole = [int(a) << 64 | int(b) for a, b in zip(high, low, strict=True)]
    word, second = int(high[index]), int(low[index])
    for lower in (0, second - 1, second, 2**64 - 1):
        if lower < 0:
            continue
        expected = sum(threshold <= (word << 64 | lower) for threshold in whole) - sampler.largest
        assert sampler.sample(Words([word, lower]), 1)[0] == expected
    assert sampler.sample(Words([0, 0]), 1)[0] == -sampler.largest + whole.count(0)


def test_out_of_range() -> None:
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="variance"):
            SkellamSampler(wrong)
    with pytest.raises(ValueError, match="at least 0"):
        SkellamSampler(3).sample(RandomStream.system(), -1)
    assert SkellamSampler(3).sample(RandomStream.system(), 0).size == 0
