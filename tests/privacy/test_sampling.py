"""Patients are drawn independently at the stated rate; records uniformly within a patient.

Seeds are fixed; thresholds are sized so that another seed would fail by chance less than once in a
million.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from privfin.errors import DataError
from privfin.privacy.sampling import one_record_each, poisson_patients
from privfin.randomness import RandomStream

Draw = Callable[[RandomStream, int, float], npt.NDArray[np.int64]]

PATIENTS, RATE, BATCHES = 60, 0.3, 20_000


def draw_batches(draw: Draw, seed: int = 1) -> npt.NDArray[np.float64]:
    """(batches, patients): 1 where a patient was drawn."""
    stream = RandomStream.reproducible(seed, "batches")
    drawn = np.zeros((BATCHES, PATIENTS))
    for batch in drawn:
        batch[draw(stream, PATIENTS, RATE)] = 1.0
    return drawn


def complaints(drawn: npt.NDArray[np.float64]) -> list[str]:
    """What is wrong with ``drawn`` as Poisson samples."""
    found = []
    low, high = stats.binom.ppf([1e-10, 1 - 1e-10], BATCHES, RATE)
    times = drawn.sum(axis=0)
    if (times < low).any() or (times > high).any():
        found.append("a patient's frequency")
    variance = PATIENTS * RATE * (1 - RATE)
    # The variance of a sample variance of nearly normal sizes is 2 * variance² / batches.
    if abs(drawn.sum(axis=1).var() / variance - 1) > 6 * math.sqrt(2 / BATCHES):
        found.append("the batch size's variance")
    between = np.cov(drawn.T) / (RATE * (1 - RATE))
    np.fill_diagonal(between, 0.0)
    if np.abs(between).max() > 7 / math.sqrt(BATCHES):
        found.append("independence of patients")
    for lag in (1, 2):
        joint = (drawn[:-lag] - RATE) * (drawn[lag:] - RATE)
        if abs(joint.mean()) > 7 * RATE * (1 - RATE) / math.sqrt(joint.size):
            found.append("independence of batches")
    return found


def test_is_poisson() -> None:
    assert complaints(draw_batches(poisson_patients)) == []


def fixed_size(stream: RandomStream, count: int, rate: float) -> npt.NDArray[np.int64]:
    return np.argsort(stream.uniform(count))[: round(count * rate)].astype(np.int64)


def shuffled_epochs() -> Draw:
    queue: list[int] = []

    def draw(stream: RandomStream, count: int, rate: float) -> npt.NDArray[np.int64]:
        if len(queue) < count * rate:
            queue[:] = np.argsort(stream.uniform(count)).tolist()
        size = round(count * rate)
        batch, queue[:] = queue[:size], queue[size:]
        return np.array(batch, dtype=np.int64)

    return draw


def neighbours_together(stream: RandomStream, count: int, rate: float) -> npt.NDArray[np.int64]:
    return np.flatnonzero(np.repeat(stream.uniform(count // 2) < rate, 2))


def twice_the_rate(stream: RandomStream, count: int, rate: float) -> npt.NDArray[np.int64]:
    return poisson_patients(stream, count, 2 * rate)


def never_empty_last(stream: RandomStream, count: int, rate: float) -> npt.NDArray[np.int64]:
    return poisson_patients(stream, count - 1, rate)


@pytest.mark.parametrize(
    "broken",
    [fixed_size, shuffled_epochs(), neighbours_together, twice_the_rate, never_empty_last],
    ids=["fixed size", "shuffled epochs", "neighbours together", "twice the rate", "last left out"],
)
def test_broken_sampling_is_caught(broken: Draw) -> None:
    assert complaints(draw_batches(broken))


def test_fixed_batches_are_caught_by_their_size() -> None:
    assert "the batch size's variance" in complaints(draw_batches(fixed_size))


@given(count=st.integers(0, 500), rate=st.floats(0, 1, exclude_min=True), seed=st.integers(0))
def test_indices_are_ascending_and_in_range(count: int, rate: float, seed: int) -> None:
    chosen = poisson_patients(RandomStream.reproducible(seed), count, rate)
    assert chosen.dtype == np.int64
    assert (np.diff(chosen) > 0).all()
    assert ((chosen >= 0) & (chosen < count)).all()


def test_rate_one_draws_everyone_and_a_batch_may_be_empty() -> None:
    stream = RandomStream.reproducible(1)
    np.testing.assert_array_equal(poisson_patients(stream, 1000, 1.0), np.arange(1000))
    assert poisson_patients(stream, 1000, 1e-9).size == 0
    assert poisson_patients(stream, 0, 0.5).size == 0


@pytest.mark.parametrize(
    ("count", "rate"), [(-1, 0.5), (10, 0.0), (10, -0.1), (10, 1.1), (10, math.nan)]
)
def test_out_of_range(count: int, rate: float) -> None:
    with pytest.raises(ValueError, match="must"):
        poisson_patients(RandomStream.system(), count, rate)


def record_counts(seed: int, sizes: list[int], draws: int) -> list[npt.NDArray[np.int64]]:
    """For each patient, how often each of the patient's records was drawn."""
    starts = np.concatenate([[0], np.cumsum(sizes)])
    groups = [range(starts[at], starts[at + 1]) for at in range(len(sizes))]
    chosen = np.tile(np.arange(len(sizes)), draws)
    drawn = one_record_each(RandomStream.reproducible(seed, "records"), groups, chosen)
    counts = np.bincount(drawn, minlength=int(starts[-1]))
    return [counts[group.start : group.stop] for group in groups]


def test_records_are_uniform_within_a_patient() -> None:
    for counts in record_counts(1, [1, 2, 3, 5, 7, 40], 20_000):
        assert counts.sum() == 20_000
        assert counts.size == 1 or stats.chisquare(counts).pvalue > 1e-8


def test_a_record_that_is_preferred_is_caught() -> None:
    counts = record_counts(1, [1, 2, 3, 5, 7, 40], 20_000)[3]
    counts[0] += counts[-1] // 5
    counts[-1] -= counts[-1] // 5
    assert stats.chisquare(counts).pvalue < 1e-8


def test_records_of_different_draws_are_independent() -> None:
    groups = [[0, 1], [2, 3]]
    chosen = np.tile([0, 1], 50_000)
    drawn = one_record_each(RandomStream.reproducible(4), groups, chosen) % 2
    for lag in (1, 2, 3):
        same = int((drawn[lag:] == drawn[:-lag]).sum())
        assert stats.binomtest(same, drawn.size - lag).pvalue > 1e-8


@given(
    groups=st.lists(st.lists(st.integers(0, 10**9), min_size=1, max_size=5), min_size=1),
    seed=st.integers(0),
    data=st.data(),
)
def test_every_record_belongs_to_its_patient(
    groups: list[list[int]], seed: int, data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(groups) - 1)))
    drawn = one_record_each(RandomStream.reproducible(seed), groups, chosen)
    assert drawn.dtype == np.int64
    assert drawn.shape == (len(chosen),)
    for patient, record in zip(chosen, drawn.tolist(), strict=True):
        assert record in groups[patient]


def test_a_patient_without_records() -> None:
    stream = RandomStream.system()
    with pytest.raises(DataError, match="patient number 1 has no record"):
        one_record_each(stream, [[0], [], [1]], [0, 1])
    assert one_record_each(stream, [[0], [], [1]], [0, 2]).tolist() == [0, 1]


def test_an_unknown_patient() -> None:
    for patient in (-1, 2):
        with pytest.raises(IndexError):
            one_record_each(RandomStream.system(), [[0], [1]], [patient])
