"""Mixing sources: nobody is confused with anybody else, and unknown stays unknown."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privfin.config.data import PartConfig
from privfin.data.mix import MixedPart, mix_parts, part_labels, part_of
from privfin.data.records import Dataset, Record
from privfin.data.sources import LoadedData
from privfin.errors import ConfigError, DataError
from privfin.federation.training_run import public_notices

RUN = ("Edema", "Pneumonia", "covid")


def loaded(
    names: tuple[str, ...], patients: int = 8, *, test: tuple[str, ...] | None = None, origin=""
) -> LoadedData:
    records = tuple(
        Record(f"r{i}", f"p{i}", {"text": f"t{i}"}, np.full(len(names), i % 2, np.float32), origin)
        for i in range(patients)
    )
    data = Dataset("made", names, records, ("left out 3 rows",))
    return LoadedData(data, None if test is None else frozenset(test))


def mixed(*parts: MixedPart, seed: int = 0) -> LoadedData:
    return mix_parts(parts, RUN, test_fraction=0.25, seed=seed)


def part(name: str, data: LoadedData, **rename: str) -> MixedPart:
    return MixedPart(name, data, rename)


def test_equal_identifiers_of_two_parts_stay_two_patients() -> None:
    data = mixed(part("a", loaded(RUN)), part("b", loaded(RUN))).dataset
    assert len(data.patients()) == 16
    assert data.records[0].patient_id == "a:p0"
    assert data.records[8].record_id == "b:r0"


def test_the_part_is_the_place_and_its_own_place_follows() -> None:
    data = mixed(part("a", loaded(RUN)), part("b", loaded(RUN, origin="Rome, Italy"))).dataset
    assert {r.origin for r in data.records} == {"a", "b: Rome, Italy"}
    assert {part_of(r) for r in data.records} == {"a", "b"}


def test_labels_are_matched_by_name_and_what_a_part_lacks_is_unknown() -> None:
    data = mixed(
        part("a", loaded(("Pneumonia", "other"))),
        part("b", loaded(("covid", "Edema"))),
        part("c", loaded(("pneumonia",)), pneumonia="Pneumonia"),
    ).dataset
    assert data.label_names == RUN
    nan = np.nan
    for position, expected in ((1, [nan, 1, nan]), (9, [1, nan, 1]), (17, [nan, 1, nan])):
        assert np.array_equal(data.records[position].labels, expected, equal_nan=True)
    assert "a: only Pneumonia can be known of the 3 labels" in data.notices
    assert "b: Pneumonia cannot be known, the other 2 labels can" in data.notices
    assert "b: left out 3 rows" in data.notices


def test_notices_that_name_a_row_stay_out_of_a_runs_files() -> None:
    data = Dataset("made", RUN, loaded(RUN).dataset.records, ("skipped a.csv row 3: broken",))
    notices = mixed(part("a", LoadedData(data))).dataset.notices
    assert notices == ("skipped a: a.csv row 3: broken",)
    assert public_notices(notices) == ["skipped 1 records whose input could not be read"]


def test_official_test_patients_are_kept_and_others_drawn_by_seed() -> None:
    parts = (part("a", loaded(RUN, test=("p1", "p5"))), part("b", loaded(RUN, patients=40)))
    test = mixed(*parts).test_patients
    assert test is not None
    assert {p for p in test if p.startswith("a:")} == {"a:p1", "a:p5"}
    assert len({p for p in test if p.startswith("b:")}) == 10
    assert mixed(*parts).test_patients == test
    assert mixed(*parts, seed=1).test_patients != test


def test_what_is_drawn_in_one_part_does_not_depend_on_the_others() -> None:
    b = part("b", loaded(RUN, patients=40))
    alone = mixed(b).test_patients
    both = mixed(part("a", loaded(RUN, patients=100)), b).test_patients
    assert alone == {p for p in both if p.startswith("b:")}


@settings(max_examples=40)
@given(st.lists(st.lists(st.sampled_from(RUN), min_size=1, unique=True), min_size=1, max_size=4))
def test_no_label_is_lost_or_invented(choices) -> None:
    parts = [part(f"p{i}", loaded(tuple(names), patients=6)) for i, names in enumerate(choices)]
    data = mixed(*parts).dataset
    for i, names in enumerate(choices):
        for j in range(6):
            record = data.records[6 * i + j]
            for name, value in zip(RUN, record.labels, strict=True):
                assert value == j % 2 if name in names else np.isnan(value)


def test_two_labels_for_one_are_refused() -> None:
    with pytest.raises(DataError, match=r"part 'a': 'Pneumonia' and 'x' are both .*'Pneumonia'"):
        mixed(part("a", loaded(("Pneumonia", "x")), x="Pneumonia"))


def test_a_part_without_any_label_of_the_run_is_refused() -> None:
    with pytest.raises(DataError, match=r"part 'a' has none of the run's labels .*pneumonia"):
        mixed(part("a", loaded(("pneumonia",))))
    with pytest.raises(DataError, match=r"part 'a' has no label 'pneumona' .*mean 'pneumonia'"):
        mixed(part("a", loaded(("pneumonia",)), pneumona="Pneumonia"))


def config(**options) -> PartConfig:
    return PartConfig.model_validate({"name": "a", "source": "openi"} | options)


def test_labels_to_read_are_those_of_the_run_that_the_source_has() -> None:
    known = ("Edema", "Fracture", "Pneumonia")
    assert part_labels(config(), known, RUN) == ("Edema", "Pneumonia")
    assert part_labels(config(rename={"Fracture": "covid"}), known, RUN) == known
    assert part_labels(config(labels=["Pneumonia"]), known, RUN) == ("Pneumonia",)
    assert part_labels(config(source="medmnist"), None, RUN) == ()


@pytest.mark.parametrize(
    ("options", "known", "problem"),
    [
        ({"rename": {"Edem": "Edema"}}, ("Edema",), "openi has no label 'Edem'; did you mean"),
        ({"rename": {"Edema": "Edem"}}, ("Edema",), "'Edem' is no label of the run; did you mean"),
        ({"labels": ["Fracture"]}, ("Fracture",), "its label 'Fracture' is none of the run"),
        ({}, ("Fracture",), "openi has none of the run's labels .*Fracture"),
        ({"source": "manifest"}, None, "labels is empty"),
    ],
)
def test_labels_that_cannot_be_matched_are_refused_before_reading(options, known, problem) -> None:
    with pytest.raises(ConfigError, match=f"part 'a': .*{problem}"):
        part_labels(config(**options), known, RUN)
