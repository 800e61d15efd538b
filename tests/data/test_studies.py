"""Rows become studies as a plain loop says, in any order, and never across patients or splits."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privfin.data.records import Record
from privfin.data.studies import StudyRecords, parse_age, parse_sex
from privfin.errors import DataError

LABELS = np.array([1, np.nan], dtype=np.float32)
#: (patient, study of the patient, rank of the view)
IMAGES = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from([None, 0, 1, 2, 3])),
    min_size=1,
    max_size=25,
)


def record(studies: StudyRecords, name: str, patient: int, image: int, split: str = "") -> Record:
    known = studies.patient(f"p{patient}", split, f"row {image}")
    return Record(name, known, {"image": f"image {image}"}, studies.labels(LABELS.copy()))


def collect(images, views: str) -> StudyRecords:
    studies = StudyRecords(views)
    for number, (patient, study, rank) in enumerate(images):
        if studies.takes(rank):
            name = f"p{patient}/s{study}" if views == "frontal" else f"image {number}"
            studies.add(record(studies, name, patient, number), rank, f"row {number}")
    return studies


@given(IMAGES)
def test_each_study_keeps_its_first_best_frontal_image(images) -> None:
    best: dict[str, tuple[int, int]] = {}
    lateral = frontal = 0
    for number, (patient, study, rank) in enumerate(images):
        if rank is None:
            lateral += 1
            continue
        frontal += 1
        name = f"p{patient}/s{study}"
        best[name] = min(best.get(name, (9, 0)), (rank, number))
    studies = collect(images, "frontal")
    if not best:
        with pytest.raises(DataError, match="no row is an image that can be used"):
            studies.loaded("x", ("a", "b"))
        return
    dataset = studies.loaded("x", ("a", "b")).dataset
    found = {r.record_id: r.inputs["image"] for r in dataset.records}
    assert found == {name: f"image {number}" for name, (_, number) in best.items()}
    assert all(r.record_id.startswith(f"{r.patient_id}/") for r in dataset.records)
    further = frontal - len(best)
    expected = set()
    if lateral:
        expected.add(f"left out {lateral} images that are not frontal")
    if further:
        expected.add(f"left out {further} further frontal images of studies that have several")
    assert set(dataset.notices) == expected


@given(IMAGES)
def test_all_views_keep_every_image(images) -> None:
    dataset = collect(images, "all").loaded("x", ("a", "b")).dataset
    assert [r.inputs["image"] for r in dataset.records] == [
        f"image {number}" for number in range(len(images))
    ]
    assert dataset.notices == ()


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["train", "valid"])), min_size=1))
def test_a_patient_is_in_one_split_or_refused(rows) -> None:
    studies = StudyRecords("all")
    first: dict[int, str] = {}
    for number, (patient, split) in enumerate(rows):
        if first.setdefault(patient, split) != split:
            with pytest.raises(DataError, match=rf"row {number}: patient 'p{patient}' .*splits"):
                record(studies, f"i{number}", patient, number, split)
            return
        studies.add(record(studies, f"i{number}", patient, number, split), 0, f"row {number}")
    loaded = studies.loaded("x", ("a", "b"), test_split="valid")
    assert loaded.test_patients == {f"p{p}" for p, split in first.items() if split == "valid"}


def test_patients_without_a_record_are_in_no_split() -> None:
    studies = StudyRecords("frontal")
    studies.add(record(studies, "s", 1, 0, "train"), 0, "row 0")
    studies.patient("p2", "valid", "row 1")
    assert not studies.takes(None)
    assert studies.loaded("x", ("a", "b"), test_split="valid").test_patients == frozenset()


def test_a_blank_patient_is_refused() -> None:
    with pytest.raises(DataError, match="row 7: the patient's identifier is blank"):
        StudyRecords("all").patient("", "train", "row 7")


def test_equal_labels_and_names_are_stored_once() -> None:
    studies = StudyRecords("all")
    made = [record(studies, str(i), 1, i) for i in range(3)]
    assert made[0].labels is made[2].labels
    assert made[0].patient_id is made[2].patient_id
    other = studies.labels(np.array([0, np.nan], dtype=np.float32))
    assert other is not made[0].labels
    assert np.array_equal(made[1].labels, LABELS, equal_nan=True)


@pytest.mark.parametrize(
    ("text", "sex"),
    [("M", "M"), ("male", "M"), ("F", "F"), ("Female", "F"), ("Unknown", ""), ("", ""), ("O", "")],
)
def test_sex(text, sex) -> None:
    assert parse_sex(text) == sex


@pytest.mark.parametrize(
    ("text", "age"),
    [("0", 0), ("68", 68), ("54.0", 54), ("120", 120), ("121", None), ("-1", None), ("", None),
     ("nan", None), ("inf", None), ("old", None)],
)  # fmt: skip
def test_age(text, age) -> None:
    found = parse_age(text)
    assert math.isnan(found) if age is None else found == age
