"""One score a patient: loops as reference, blindness to the order of rows, ties that stay ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attacks.auc import auc
from attacks.patients import by_patient, members_by_patient, owners

ROWS = st.lists(
    st.tuples(st.floats(-1e6, 1e6), st.sampled_from(["a", "b", "c", "dd"])), min_size=1, max_size=30
)


@given(rows=ROWS, data=st.data())
def test_order_of_rows_changes_no_digit(rows: list[tuple[float, str]], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(rows))
    (scores, patients), (others, owners_) = zip(*rows, strict=True), zip(*shuffled, strict=True)
    assert np.array_equal(by_patient(scores, patients, "mean"), by_patient(others, owners_, "mean"))
    assert np.array_equal(by_patient(scores, patients, "max"), by_patient(others, owners_, "max"))


@given(rows=ROWS)
def test_against_a_loop(rows: list[tuple[float, str]]) -> None:
    scores, patients = zip(*rows, strict=True)
    names = sorted(set(patients))
    own = [[s for s, p in rows if p == name] for name in names]
    assert by_patient(scores, patients, "max").tolist() == [max(s) for s in own]
    mean = by_patient(scores, patients, "mean")
    assert np.allclose(mean, [np.mean(s) for s in own], rtol=1e-9, atol=1e-6)


@given(value=st.floats(-1e9, 1e9), counts=st.lists(st.integers(1, 7), min_size=4, max_size=12))
def test_equal_scores_stay_tied(value: float, counts: list[int]) -> None:
    """A plain mean of three 0.1 is not 0.1, and would break the tie by the number of records."""
    patients = np.repeat(np.arange(len(counts)), counts)
    scores = by_patient(np.full(patients.size, value), patients)
    assert np.unique(scores).size == 1
    assert auc(scores, np.arange(len(counts)) % 2).area == 0.5


def test_leading_axes_are_models() -> None:
    rng = np.random.default_rng(0)
    scores, patients = rng.normal(size=(3, 2, 20)), rng.permutation(20) % 6
    found = by_patient(scores, patients)
    assert found.shape == (3, 2, 6)
    assert np.array_equal(found[1, 1], by_patient(scores[1, 1], patients))
    coins = rng.random((5, 6)) < 0.5
    assert np.array_equal(members_by_patient(coins[:, patients], patients), coins)


def test_owners_keep_the_order_of_the_patients() -> None:
    owner = owners([[2, 0], [1], [3, 4]], 5)
    assert owner.tolist() == [0, 1, 0, 2, 2]
    assert by_patient([1.0, 5.0, 3.0, 7.0, 9.0], owner).tolist() == [2.0, 5.0, 8.0]
    for patients, records in (([[0], [0]], 1), ([[0]], 2), ([[0], []], 1), ([[1]], 1)):
        with pytest.raises(ValueError, match="patient"):
            owners(patients, records)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="split by patient"):
        members_by_patient([1, 0, 0], ["a", "a", "b"])
    with pytest.raises(ValueError, match="finite"):
        by_patient([np.nan], ["a"])
    with pytest.raises(ValueError, match="one patient"):
        by_patient([1.0, 2.0], ["a"])
    with pytest.raises(ValueError, match="mean or max"):
        by_patient([1.0], ["a"], "sum")  # type: ignore[arg-type]
