"""Missingness: the rates asked for, one input kept, and no patient's draw another's business."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from privfin.data.missingness import effective_rate, rate_with_odds, thin, unlabel
from privfin.data.records import Dataset, Record
from privfin.errors import ConfigError

NAMES = ("image", "text", "labs")
LABELS = ("edema", "pneumonia")


def make(
    patients: int, held: tuple[str, ...] = ("image", "text"), records: int = 2, seed: int = 0
) -> Dataset:
    rng = np.random.default_rng(seed)
    made = []
    for i in range(patients):
        for j in range(records):
            labels = np.array([i % 3 == 0, rng.random() < 0.5], dtype=np.float32)
            if i % 5 == 4:
                labels[0] = np.nan
            made.append(Record(f"p{i}-{j}", f"p{i}", dict.fromkeys(held, "x"), labels))
    return Dataset("made", LABELS, tuple(made))


def inputs_of(dataset: Dataset) -> dict[str, frozenset[str]]:
    return {r.record_id: frozenset(r.inputs) for r in dataset.records}


def is_plausible(hits: int, trials: int, rate: float) -> bool:
    """Within bounds that a binomial count leaves less than once in 10^7."""
    low, high = binom.ppf([5e-8, 1 - 5e-8], trials, rate)
    return bool(low <= hits <= high)


def share_lost(before: Dataset, after: Dataset, modality: str) -> tuple[int, int]:
    pairs = zip(before.records, after.records, strict=True)
    lost = [modality not in b.inputs for a, b in pairs if modality in a.inputs]
    return sum(lost), len(lost)


# Rates


@pytest.mark.parametrize(
    ("held", "rates"),
    [
        (("image", "text"), {"text": 0.3}),
        (("image", "text"), {"text": 0.5, "image": 0.5}),
        (("image", "text"), {"text": 0.9, "image": 0.2}),
        (("image", "text", "labs"), {"text": 0.8, "image": 0.8, "labs": 0.8}),
        (("image", "text", "labs"), {"text": 0.8, "labs": 0.6}),
        (("text",), {"text": 0.9}),
    ],
)
def test_inputs_are_lost_at_the_stated_rates(held, rates) -> None:
    """The stated rate is the one after a last input was kept, and is exact by enumeration."""
    whole = make(4000, held, records=1)
    thinned = thin(whole, rates, split="train", seed=3)
    for modality in held:
        wanted = 0.0
        for gone in product([False, True], repeat=len(held)):
            weight = math.prod(
                rates.get(m, 0.0) if lost else 1 - rates.get(m, 0.0)
                for m, lost in zip(held, gone, strict=True)
            )
            lost = gone[held.index(modality)]
            wanted += weight * (1 - 1 / len(held) if all(gone) else float(lost))
        assert effective_rate(rates, modality, held) == pytest.approx(wanted, abs=1e-12)
        assert is_plausible(*share_lost(whole, thinned, modality), wanted)


def test_an_input_that_is_not_held_is_not_lost() -> None:
    assert effective_rate({"text": 0.5}, "text", ("image",)) == 0.0


def test_losses_of_two_inputs_are_independent() -> None:
    whole = make(4000, NAMES, records=1)
    kept = thin(whole, {"text": 0.4, "labs": 0.3}, split="train", seed=0)
    both = sum(set(r.inputs) == {"image"} for r in kept.records)
    assert is_plausible(both, 4000, 0.12)


@settings(max_examples=60, deadline=None)
@given(
    held=st.sets(st.sampled_from(NAMES), min_size=1),
    rates=st.dictionaries(st.sampled_from(NAMES), st.floats(0, 0.999)),
    seed=st.integers(0, 2**63 - 1),
    odds=st.floats(0.01, 100),
)
def test_every_record_keeps_an_input_and_gains_none(held, rates, seed, odds) -> None:
    whole = make(20, tuple(sorted(held)))
    kept = thin(whole, rates, split="test", seed=seed, label="edema", odds=odds)
    assert len(kept.records) == len(whole.records)
    for before, after in zip(whole.records, kept.records, strict=True):
        assert 0 < len(after.inputs) <= len(before.inputs)
        assert set(after.inputs) <= set(before.inputs)
        assert {m for m in before.inputs if not rates.get(m)} <= set(after.inputs)
        assert (after.record_id, after.patient_id) == (before.record_id, before.patient_id)
        assert np.array_equal(after.labels, before.labels, equal_nan=True)


def test_a_larger_rate_takes_what_a_smaller_one_took() -> None:
    """So that curves over the rate compare the same records."""
    whole = make(200, NAMES)
    few = inputs_of(thin(whole, {"text": 0.2}, split="train", seed=1))
    many = inputs_of(thin(whole, {"text": 0.6}, split="train", seed=1))
    assert all(many[name] <= few[name] for name in few)
    assert few != many


# Seeds and other patients


def test_the_seed_and_the_split_decide() -> None:
    whole = make(200)
    rates = {"text": 0.5, "image": 0.3}
    first = inputs_of(thin(whole, rates, split="train", seed=1))
    assert first == inputs_of(thin(whole, rates, split="train", seed=1))
    assert first != inputs_of(thin(whole, rates, split="train", seed=2))
    assert first != inputs_of(thin(whole, rates, split="test", seed=1))


@settings(max_examples=40, deadline=None)
@given(
    present=st.sets(st.integers(0, 29), min_size=1),
    order=st.randoms(use_true_random=False),
    seed=st.integers(0, 1000),
)
def test_a_patients_draws_do_not_depend_on_other_patients(present, order, seed) -> None:
    """Neighbouring data sets stay neighbouring: with or without the others, in any order."""
    whole = make(30)
    rates, shares = {"text": 0.5, "image": 0.5}, {"labs": 0.5}
    picked = [r for r in whole.records if int(r.patient_id[1:]) in present]
    order.shuffle(picked)
    fewer = Dataset("fewer", LABELS, tuple(picked))

    def result(dataset: Dataset) -> dict[str, tuple[frozenset[str], bytes]]:
        thinned = thin(dataset, rates, split="train", seed=seed, label="edema", odds=3.0)
        done = unlabel(thinned, shares, ("image", "text"), seed=seed)
        return {r.record_id: (frozenset(r.inputs), r.labels.tobytes()) for r in done.records}

    all_patients = result(whole)
    assert result(fewer) == {r.record_id: all_patients[r.record_id] for r in picked}


def test_an_absent_input_does_not_shift_the_draws_of_the_others() -> None:
    """What a site does not hold must not change what else its records lose."""
    rates = {"image": 0.5, "text": 0.5}
    full = inputs_of(thin(make(200, NAMES), rates, split="train", seed=0))
    part = inputs_of(thin(make(200, ("text", "labs")), rates, split="train", seed=0))
    assert {n: held - {"image"} for n, held in full.items()} == part


# Missing not at random


@pytest.mark.parametrize("odds", [0.2, 1.0, 4.0])
def test_odds_are_multiplied_where_the_label_is_one(odds) -> None:
    rate = 0.3
    whole = make(6000, NAMES, records=1)
    kept = thin(whole, {"text": rate}, split="train", seed=0, label="edema", odds=odds)
    counts = {"one": [0, 0], "other": [0, 0]}
    for before, after in zip(whole.records, kept.records, strict=True):
        kind = counts["one" if before.labels[0] == 1.0 else "other"]
        kind[0] += "text" not in after.inputs
        kind[1] += 1
    with_label = odds * rate / (1 - rate) / (1 + odds * rate / (1 - rate))
    assert rate_with_odds(rate, odds) == pytest.approx(with_label)
    assert is_plausible(*counts["one"], with_label)
    assert is_plausible(*counts["other"], rate)  # 0 and unknown alike
    assert all(trials > 1000 for _, trials in counts.values())


def test_a_label_that_the_data_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match="'edma' is no label of the run; did you mean 'edema'"):
        thin(make(3), {"text": 0.5}, split="train", seed=0, label="edma", odds=2.0)


# Labels that a site does not have


def test_patients_lose_their_labels_at_the_stated_share() -> None:
    whole = make(4000)
    done = unlabel(whole, {"labs": 0.8}, ("image", "text"), seed=0)
    known = {r.patient_id: np.isfinite(r.labels).any() for r in done.records}
    assert is_plausible(4000 - sum(known.values()), 4000, 0.8)
    for before, after in zip(whole.records, done.records, strict=True):
        kept = known[before.patient_id]  # all of a patient's records, or none
        wanted = before.labels if kept else np.full(2, np.nan)
        assert np.array_equal(after.labels, wanted, equal_nan=True)
        assert after.inputs == before.inputs


def test_each_modality_that_a_site_lacks_counts() -> None:
    whole = make(4000, ("image",), records=1)
    done = unlabel(whole, {"text": 0.5, "labs": 0.4, "image": 0.9}, ("image",), seed=0)
    unknown = sum(np.isnan(r.labels).all() for r in done.records)
    assert is_plausible(unknown, 4000, 1 - 0.5 * 0.6)


def test_a_site_that_holds_the_modality_keeps_its_labels() -> None:
    whole = make(50)
    assert unlabel(whole, {"text": 0.9}, ("image", "text"), seed=0) is whole
    assert unlabel(whole, {"labs": 0.0}, ("image", "text"), seed=0) is whole
