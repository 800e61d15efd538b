"""The noise is standard normal, independent, and as long-tailed as it must be.

The statistics are fixed by a seed. Their thresholds are sized so that another seed would fail by
chance less than once in a million.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from privfin.privacy import noise
from privfin.privacy.noise import gaussian_noise, standard_normal
from privfin.randomness import RandomStream

Values = npt.NDArray[np.float64]
Draw = Callable[[RandomStream, int], Values]

SAMPLES = 400_000
SIGMAS = 6.0  # of a test statistic: 2e-9 two-sided, so dozens of statistics stay below 1e-6
DRAWS = [pytest.param(standard_normal, id="single"), pytest.param(gaussian_noise, id="sum of four")]


def complaints(values: Values) -> list[str]:
    """What is wrong with ``values`` as independent standard normals."""
    count = values.size
    found = []
    for power, mean, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        if abs((values**power).mean() - mean) > SIGMAS * math.sqrt(variance / count):
            found.append(f"moment {power}")
    if stats.kstest(values, "norm").pvalue < 1e-7:
        found.append("distribution")
    chunk = noise._PAIRS_PER_CHUNK
    # Neighbours, and the distances at which one chunk or one pair's two outputs lie.
    for lag in (1, 2, 3, 4, chunk // 4, chunk // 2, chunk, 2 * chunk):
        for power in (1, 2):
            a, b = values[:-lag] ** power, values[lag:] ** power
            if a.std() == 0.0 or b.std() == 0.0:
                found.append("constant")
                continue
            if abs(np.corrcoef(a, b)[0, 1]) > SIGMAS / math.sqrt(a.size):
                found.append(f"correlation of power {power} at distance {lag}")
    for limit in (3.0, 4.0):
        chance = 2 * stats.norm.sf(limit)
        beyond = int((np.abs(values) > limit).sum())
        low, high = stats.binom.ppf([1e-9, 1 - 1e-9], count, chance)
        if not low <= beyond <= high:
            found.append(f"tail beyond {limit}")
    if np.unique(values).size < 0.9999 * count:
        found.append("repeated values")
    return found


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("seed", [1, 2])
def test_is_standard_normal(draw: Draw, seed: int) -> None:
    assert complaints(draw(RandomStream.reproducible(seed, "noise"), SAMPLES)) == []


def clipped(stream: RandomStream, count: int) -> Values:
    return np.clip(standard_normal(stream, count), -3.5, 3.5)


def repeated(stream: RandomStream, count: int) -> Values:
    return np.repeat(standard_normal(stream, count // 2), 2)


def same_chunk_again(stream: RandomStream, count: int) -> Values:
    chunk = 2 * noise._PAIRS_PER_CHUNK
    return np.resize(standard_normal(stream, chunk), count)


def shared_radius(stream: RandomStream, count: int) -> Values:
    """Box–Muller with neighbours that share a radius but have independent angles."""
    radius = np.sqrt(-2 * np.log(1 - stream.uniform(count // 2)))
    return np.repeat(radius, 2) * np.cos(2 * np.pi * stream.uniform(count))


def no_root(stream: RandomStream, count: int) -> Values:
    """Box–Muller that forgot the square root of the radius."""
    radius = -2 * np.log(1 - stream.uniform(count)) / math.sqrt(8)
    return radius * np.cos(2 * np.pi * stream.uniform(count)) * math.sqrt(2)


def one_draw_reused(stream: RandomStream, count: int) -> Values:
    """A sum of four in which neighbours share one of their draws."""
    draws = standard_normal(stream, 3 * count + 1)
    own = draws[: 3 * count].reshape(3, count).sum(axis=0)
    shared = np.repeat(standard_normal(stream, (count + 1) // 2), 2)[:count]
    return (own + shared) / 2


BROKEN = {
    "no square root": no_root,
    "one draw of four reused": one_draw_reused,
    "half the deviation": lambda stream, count: 0.5 * standard_normal(stream, count),
    "one per cent too little": lambda stream, count: 0.98 * standard_normal(stream, count),
    "sum of four not halved": lambda stream, count: 2.0 * gaussian_noise(stream, count),
    "shifted": lambda stream, count: standard_normal(stream, count) + 0.02,
    "constant": lambda stream, count: np.full(count, standard_normal(stream, 1)[0]),
    "zero": lambda stream, count: np.zeros(count),
    "repeated in pairs": repeated,
    "the same chunk again": same_chunk_again,
    "shared radius": shared_radius,
    "clipped": clipped,
    "float16": lambda stream, count: (
        standard_normal(stream, count).astype(np.float16).astype(float)
    ),
    "uniform": lambda stream, count: (stream.uniform(count) - 0.5) * math.sqrt(12),
    "Laplace": lambda stream, count: (
        (np.log(1 - stream.uniform(count)) - np.log(1 - stream.uniform(count))) / math.sqrt(2)
    ),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_broken_noise_is_caught(name: str) -> None:
    assert complaints(BROKEN[name](RandomStream.reproducible(1, "noise"), SAMPLES))


@pytest.mark.parametrize("draw", DRAWS)
def test_streams_are_independent(draw: Draw) -> None:
    a = draw(RandomStream.reproducible(1, "a"), SAMPLES)
    b = draw(RandomStream.reproducible(1, "b"), SAMPLES)
    for power in (1, 2):
        bound = SIGMAS / math.sqrt(SAMPLES)
        assert abs(np.corrcoef(a**power, b**power)[0, 1]) < bound
    assert np.unique(np.concatenate([a, b])).size == 2 * SAMPLES


def dependence(streams: list[Values]) -> list[str]:
    """Pairs of streams that are correlated, in values or in squares, in place or a chunk apart."""
    count = streams[0].size
    found = []
    for i in range(len(streams)):
        for j in range(i + 1, len(streams)):
            for power in (1, 2):
                for shift in (0, 1, noise._PAIRS_PER_CHUNK // 4):
                    a, b = streams[i] ** power, np.roll(streams[j], shift) ** power
                    if abs(np.corrcoef(a, b)[0, 1]) > SIGMAS / math.sqrt(count):
                        found.append(f"{i} and {j}, power {power}, shift {shift}")
    return found


def test_sites_and_steps_are_independent() -> None:
    """Streams as a run keys them, by site and step; and one stream cut into steps."""
    cut = RandomStream.reproducible(5, "one")
    streams = [
        gaussian_noise(RandomStream.reproducible(5, site, "noise", step), 100_000)
        for site in ("site-01", "site-02")
        for step in (1, 2)
    ] + [gaussian_noise(cut, 100_000) for _ in range(3)]
    assert dependence(streams) == []


def test_dependent_streams_are_caught() -> None:
    a, b = (gaussian_noise(RandomStream.reproducible(5, x), 100_000) for x in "ab")
    assert dependence([a, a])
    assert dependence([a, -a])
    assert dependence([a, np.roll(a, -1)])
    assert dependence([a, b * np.sign(a) * np.sign(b)])
    # A key that is used again by another site for one of the four draws.
    c = gaussian_noise(RandomStream.reproducible(5, "c"), 100_000)
    assert dependence([(a + math.sqrt(3) * b) / 2, (a + math.sqrt(3) * c) / 2])


@pytest.mark.parametrize("draw", DRAWS)
def test_system_streams_never_repeat(draw: Draw) -> None:
    first, second = draw(RandomStream.system(), 1000), draw(RandomStream.system(), 1000)
    assert np.intersect1d(first, second).size == 0
    stream = RandomStream.system()
    assert np.intersect1d(draw(stream, 1000), draw(stream, 1000)).size == 0


@pytest.mark.parametrize("draw", DRAWS)
def test_the_far_tail_is_there(draw: Draw) -> None:
    # 4 million values: about 27 lie beyond 4.5 sigma, and none of N(0, 1) would be expected
    # beyond 8. A clip anywhere below 4.5 would leave none.
    stream = RandomStream.reproducible(3, "tail")
    extremes = np.array([np.abs(draw(stream, 500_000)).max() for _ in range(8)])
    assert 4.5 < extremes.max() < 8.0


class Bits(RandomStream):
    """A stream that returns one word of bits again and again."""

    def __init__(self, word: int) -> None:
        super().__init__(bytes(32), reproducible=True)
        self.word = word

    def fill(self, words: npt.NDArray[np.uint64]) -> None:
        words[:] = self.word


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("word", [0, 2**64 - 1, 2**12 - 1, 2**64 - 2**12])
def test_the_ends_of_the_interval_are_finite(draw: Draw, word: int) -> None:
    assert np.isfinite(draw(Bits(word), 7)).all()


def test_the_smallest_uniform_gives_the_stated_limit() -> None:
    # All ones: the smallest uniform, 2^-52, hence the largest radius, at an angle of almost 0.
    largest = standard_normal(Bits(2**64 - 1), 1)[0]
    assert largest == pytest.approx(math.sqrt(2 * 52 * math.log(2)))
    assert largest > 8.0


def test_sum_of_four_uses_four_pairs_a_value() -> None:
    class Counting(RandomStream):
        taken = 0

        def fill(self, words: npt.NDArray[np.uint64]) -> None:
            Counting.taken += words.size
            super().fill(words)

    gaussian_noise(Counting(bytes(32), reproducible=True), 1000)
    # Eight uniforms a pair of values' four pairs: four uniforms a value.
    assert Counting.taken == 4 * 1000
    stream, again = RandomStream.reproducible(9), RandomStream.reproducible(9)
    unit = 1.0 - (stream.uint64(40) >> np.uint64(12)).astype(np.float64) * 2.0**-52
    radius, angle = np.sqrt(-2.0 * np.log(unit[:20])), -2.0 * np.pi * unit[20:]
    pairs = [radius * np.cos(angle), radius * np.sin(angle)]
    expected = np.concatenate([each.reshape(4, 5).sum(axis=0) / 2 for each in pairs])
    np.testing.assert_allclose(gaussian_noise(again, 10), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("draw", DRAWS)
@settings(deadline=None, max_examples=25)
@given(count=st.integers(0, 70_000), seed=st.integers(0, 2**63))
def test_any_count(draw: Draw, count: int, seed: int) -> None:
    values = draw(RandomStream.reproducible(seed), count)
    assert values.shape == (count,)
    assert values.dtype == np.float64
    assert np.isfinite(values).all()
    np.testing.assert_array_equal(values, draw(RandomStream.reproducible(seed), count))


@pytest.mark.parametrize("draw", DRAWS)
def test_negative_count(draw: Draw) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        draw(RandomStream.system(), -1)
