"""The COVID-19 collection's reader, on tiny folders written here."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from privfin.data.covid_cxr import COVID_LABELS, read_covid_cxr
from privfin.data.records import Record, load_input
from privfin.errors import DataError

ROW = {
    "patientid": "1", "finding": "COVID-19, ARDS", "survival": "Y", "intubated": "N",
    "went_icu": "", "view": "PA", "modality": "X-ray", "location": " Rome, Italy ",
    "filename": "a.png", "clinical_notes": "Fever. COVID-19 confirmed.",
}  # fmt: skip
HEADER = list(ROW)


def write(root: Path, *rows: dict[str, str], header: list[str] | None = None) -> Path:
    (root / "images").mkdir(exist_ok=True)
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((30, 20), 90, dtype=np.uint8)).save(root / "images" / name)
    with (root / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header or HEADER, extrasaction="ignore")
        writer.writeheader()
        writer.writerows([ROW | row for row in rows])
    return root


def only(root: Path, **options) -> Record:
    (record,) = read_covid_cxr(root, image_size=16, **options).dataset.records
    return record


def test_a_row_becomes_a_record(tmp_path) -> None:
    loaded = read_covid_cxr(write(tmp_path, {}), image_size=16)
    assert loaded.test_patients is None
    assert loaded.dataset.label_names == ("covid-19",)
    assert loaded.dataset.notices == ()
    (record,) = loaded.dataset.records
    assert (record.record_id, record.patient_id, record.origin) == ("1-1", "1", "Rome, Italy")
    assert load_input(record.inputs["image"]).shape == (16, 16)
    assert record.inputs["text"] == "Fever. [masked] confirmed."
    assert record.labels.tolist() == [1.0]


@pytest.mark.parametrize(
    ("finding", "label"),
    [("COVID-19", 1), ("Pneumonia/Viral/COVID-19", 1), ("SARS", 0), ("No Finding", 0),
     ("", np.nan), ("todo", np.nan), ("Unknown", np.nan)],
)  # fmt: skip
def test_findings(tmp_path, finding, label) -> None:
    labels = only(write(tmp_path, {"finding": finding})).labels
    assert np.array_equal(labels, [label], equal_nan=True)


@pytest.mark.parametrize(
    ("finding", "label"),
    [("COVID-19", 1), ("COVID-19, ARDS", 1), ("Pneumonia/Bacterial/Streptococcus", 1),
     ("E.Coli", 1), ("Pneumocystis", 1), ("No Finding", 0), ("ARDS", np.nan),
     ("Tuberculosis", np.nan), ("", np.nan), ("todo", np.nan), ("Unknown", np.nan)],
)  # fmt: skip
def test_which_findings_are_pneumonias(tmp_path, finding, label) -> None:
    labels = only(write(tmp_path, {"finding": finding}), labels=("pneumonia",)).labels
    assert np.array_equal(labels, [label], equal_nan=True)


def test_outcomes_in_the_order_asked_for(tmp_path) -> None:
    names = ("went_icu", "survival", "intubated", "covid-19")
    labels = only(write(tmp_path, {}), labels=names).labels
    assert np.array_equal(labels, [np.nan, 1, 0, 1], equal_nan=True)


@pytest.mark.parametrize("name", ["survival", "went_icu", "intubated"])
def test_other_outcome_values_are_refused(tmp_path, name) -> None:
    write(tmp_path, {}, {name: "maybe"})
    with pytest.raises(DataError, match=rf"row 2 .*'{name}' is 'maybe'; use Y, N or blank"):
        read_covid_cxr(tmp_path, image_size=16, labels=(name,))


def test_studies_of_a_patient_are_numbered_and_blank_notes_leave_no_text(tmp_path) -> None:
    write(tmp_path, {}, {"filename": "b.png", "clinical_notes": "  "}, {"patientid": "2"})
    records = read_covid_cxr(tmp_path, image_size=16).dataset.records
    assert [r.record_id for r in records] == ["1-1", "1-2", "2-1"]
    assert [set(r.inputs) for r in records] == [{"image", "text"}, {"image"}, {"image", "text"}]


def test_other_views_and_modalities_are_counted(tmp_path) -> None:
    write(
        tmp_path, {}, {"view": "AP Supine"}, {"view": "AP semi erect"}, {"view": "L"},
        {"view": "Axial", "modality": "CT"}, {"modality": "CT"}, {"view": ""},
    )  # fmt: skip
    dataset = read_covid_cxr(tmp_path, image_size=16).dataset
    assert len(dataset.records) == 3
    assert dataset.notices == (
        "left out 2 rows that are not X-rays",
        "left out 2 rows that are not frontal views",
    )


def test_masking_can_be_changed(tmp_path) -> None:
    write(tmp_path, {})
    assert only(tmp_path, mask=()).inputs["text"] == "Fever. COVID-19 confirmed."
    assert only(tmp_path, mask=("fever",)).inputs["text"] == "[masked]. COVID-19 confirmed."


def test_a_missing_or_broken_image_is_named_when_it_is_needed(tmp_path) -> None:
    write(tmp_path, {}, {"filename": "gone.png"}, {"filename": "bad.png"})
    (tmp_path / "images" / "bad.png").write_bytes(b"nonsense")
    records = read_covid_cxr(tmp_path, image_size=16).dataset.records
    for record, message in zip(
        records[1:], [r"row 2 .*gone\.png does not exist", r"row 3 .*bad\.png cannot"], strict=True
    ):
        with pytest.raises(DataError, match=message):
            load_input(record.inputs["image"])


@pytest.mark.parametrize("name", ["../metadata.csv", "/etc/hostname", "..\\x.png", "C:\\x.png"])
def test_images_outside_the_folder_are_refused(tmp_path, name) -> None:
    write(tmp_path, {"filename": name})
    with pytest.raises(DataError, match="row 1"):
        read_covid_cxr(tmp_path, image_size=16)


def test_a_missing_table_or_column_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"metadata\.csv does not exist"):
        read_covid_cxr(tmp_path, image_size=16)
    write(tmp_path, {}, header=[h if h != "location" else "locations" for h in HEADER])
    with pytest.raises(DataError, match="no column 'location'; did you mean 'locations'"):
        read_covid_cxr(tmp_path, image_size=16)


@pytest.mark.parametrize("column", ["patientid", "filename"])
def test_blank_cells_that_matter_are_named(tmp_path, column) -> None:
    with pytest.raises(DataError, match=f"row 1 .*'{column}' is blank"):
        read_covid_cxr(write(tmp_path, {column: " "}), image_size=16)


def test_wrong_labels_are_refused(tmp_path) -> None:
    write(tmp_path, {})
    with pytest.raises(DataError, match="no label 'survivel'; did you mean 'survival'"):
        read_covid_cxr(tmp_path, image_size=16, labels=("survivel",))
    with pytest.raises(DataError, match="twice"):
        read_covid_cxr(tmp_path, image_size=16, labels=("survival", "survival"))
    with pytest.raises(DataError, match="choose from"):
        read_covid_cxr(tmp_path, image_size=16, labels=())
    assert set(COVID_LABELS) == {"covid-19", "pneumonia", "survival", "went_icu", "intubated"}


def test_a_table_without_frontal_images_is_refused(tmp_path) -> None:
    with pytest.raises(DataError, match="no usable frontal X-ray"):
        read_covid_cxr(write(tmp_path, {"view": "L"}), image_size=16)


VALUES = {
    "age": "63", "sex": "F", "temperature": "38.5", "pO2_saturation": "", "leukocyte_count": "9.1",
}  # fmt: skip


def write_values(root: Path, *rows: dict[str, str]) -> Path:
    return write(root, *({**VALUES, **row} for row in rows), header=[*HEADER, *VALUES])


def test_values_become_a_tabular_input(tmp_path) -> None:
    empty = dict.fromkeys(VALUES, "")
    write_values(tmp_path, {}, {"sex": "M", "age": ""}, empty)
    tables = {"labs": ("age", "pO2_saturation", "sex")}
    records = read_covid_cxr(tmp_path, image_size=16, tables=tables).dataset.records
    found = [r.inputs.get("labs") for r in records]
    assert np.array_equal(found[0], [63, np.nan, 0], equal_nan=True)
    assert np.array_equal(found[1], [np.nan, np.nan, 1], equal_nan=True)
    assert found[2] is None
    assert [r.sex for r in records] == ["F", "M", ""]
    assert np.array_equal([r.age for r in records], [63, np.nan, np.nan], equal_nan=True)


def test_sex_and_age_that_say_nothing_stop_only_those_who_train_on_them(tmp_path) -> None:
    write_values(tmp_path, {"age": "adult", "sex": "?"})
    assert (only(tmp_path).sex, str(only(tmp_path).age)) == ("", "nan")
    for column in ("age", "sex"):
        with pytest.raises(DataError, match=f"row 1 .*'{column}' is"):
            only(tmp_path, tables={"labs": (column,)})


def test_other_columns_are_refused_as_values(tmp_path) -> None:
    write_values(tmp_path, {})
    with pytest.raises(DataError, match="no values 'temprature'; did you mean 'temperature'"):
        only(tmp_path, tables={"labs": ("temprature",)})
    with pytest.raises(DataError, match="no values 'survival'"):  # it is a label
        only(tmp_path, tables={"labs": ("survival",)})
