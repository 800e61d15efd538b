"""The PadChest reader and its labels, on tiny folders written here in the published layout."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from privfin.data.chexpert_labels import CHEXPERT_LABELS
from privfin.data.padchest import read_padchest
from privfin.data.padchest_labels import PADCHEST_TERMS, padchest_labels, parse_terms
from privfin.data.records import load_input
from privfin.data.sources import LoadedData
from privfin.errors import DataError

TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
HEADER = [
    "", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth",
    "PatientSex_DICOM", "Projection", "MethodProjection", "Report", "Labels",
]  # fmt: skip


def row(image: str, patient: str = "p1", **given) -> dict[str, str]:
    return {
        "ImageID": image, "ImageDir": "0", "StudyDate_DICOM": "20140915", "StudyID": f"s-{patient}",
        "PatientID": patient, "PatientBirth": "1950.0", "PatientSex_DICOM": "M",
        "Projection": "PA", "Report": "sin hallazg signific .", "Labels": "['normal']",
    } | given  # fmt: skip


def write(root: Path, *rows: dict[str, str], packed: bool = False, header=HEADER) -> Path:
    with (root / TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows(rows)
    if packed:
        (root / f"{TABLE}.gz").write_bytes(gzip.compress((root / TABLE).read_bytes()))
        (root / TABLE).unlink()
    return root


def read(root: Path, **options) -> LoadedData:
    return read_padchest(root, image_size=16, **options)


def values(cell: str, *names: str) -> list[float]:
    return padchest_labels(parse_terms(cell), names).tolist()


@pytest.mark.parametrize("packed", [False, True])
def test_studies_become_records(tmp_path, packed) -> None:
    write(
        tmp_path, row("a.png"), row("b.png", "p2", PatientSex_DICOM="F", Report=""), packed=packed
    )
    loaded = read(tmp_path)
    assert loaded.test_patients is None
    first, second = loaded.dataset.records
    assert loaded.dataset.label_names == CHEXPERT_LABELS
    assert (first.record_id, first.patient_id, first.sex, first.age) == ("s-p1", "p1", "M", 64)
    assert first.inputs["text"] == "sin hallazg signific ."
    assert set(second.inputs) == {"image"}
    assert second.sex == "F"
    assert "its labels were read from them" in loaded.dataset.notices[0]


def test_sixteen_bit_values_keep_their_range(tmp_path) -> None:
    write(tmp_path, row("a.png"))
    ramp = np.tile(np.linspace(0, 65535, 16), (16, 1)).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    image = load_input(read(tmp_path).dataset.records[0].inputs["image"])
    assert np.abs(image - ramp / 65535 * 255).max() <= 1


@pytest.mark.parametrize("folder", [".", "0", "37", "54"])
def test_images_lie_flat_or_in_folders(tmp_path, folder) -> None:
    write(tmp_path, row("a.png"), row("b.png", "p2"))
    (tmp_path / folder).mkdir(exist_ok=True)
    Image.fromarray(np.full((9, 9), 700, dtype=np.uint16)).save(tmp_path / folder / "a.png")
    first, second = read(tmp_path).dataset.records
    assert np.all(load_input(first.inputs["image"]) == round(700 / 257))
    with pytest.raises(DataError, match=r"160K_01\.02\.19\.csv row 2 .*b\.png does not exist"):
        load_input(second.inputs["image"])


def test_a_truncated_image_is_named(tmp_path) -> None:
    write(tmp_path, row("a.png"))
    noise = np.random.default_rng(0).integers(0, 65536, (32, 32)).astype(np.uint16)
    Image.fromarray(noise).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:900])
    with pytest.raises(DataError, match=r"row 1 .*a\.png cannot be decoded"):
        load_input(read(tmp_path).dataset.records[0].inputs["image"])


def test_frontal_views_and_the_best_of_a_study(tmp_path) -> None:
    write(
        tmp_path, row("a.png", Projection="AP_horizontal"), row("b.png", Projection="AP"),
        row("c.png", Projection="PA"), row("d.png", Projection="PA"), row("e.png", Projection="L"),
        row("f.png", "p2", Projection="COSTAL"), row("g.png", "p3", Projection=""),
        row("h.png", "p4", Projection="AP_horizontal"),
    )  # fmt: skip
    loaded = read(tmp_path)
    assert [r.inputs["image"].name for r in loaded.dataset.records] == ["c.png", "h.png"]
    assert loaded.dataset.notices[:2] == (
        "left out 3 further frontal images of studies that have several",
        "left out 3 images that are not frontal",
    )
    everything = read(tmp_path, views="all").dataset.records
    assert [r.record_id for r in everything] == [f"{letter}.png" for letter in "abcdefgh"]


def test_without_study_ids_a_study_is_a_patients_day(tmp_path) -> None:
    rows = [
        row("a.png"),
        row("b.png"),
        row("c.png", StudyDate_DICOM="20150101"),
        row("d.png", "p2"),
    ]
    write(tmp_path, *rows, header=[name for name in HEADER if name != "StudyID"])
    assert [r.record_id for r in read(tmp_path).dataset.records] == [
        "p1/20140915", "p1/20150101", "p2/20140915",
    ]  # fmt: skip


def test_a_study_of_two_patients_is_refused(tmp_path) -> None:
    with pytest.raises(DataError, match=r"row 2 .*study 's-p1' belongs to patient 'p2' here"):
        read(write(tmp_path, row("a.png"), row("b.png", "p2", StudyID="s-p1")))


@pytest.mark.parametrize(
    ("birth", "study", "age"),
    [
        ("1950", "20140915", 64), ("1950.0", "20140915", 64), ("19501231", "20140915", 63),
        ("19500915", "20140915", 64), ("19500916", "20140915", 63), ("", "20140915", np.nan),
        ("1950", "", np.nan), ("nan", "20140915", np.nan), ("2020", "20140915", np.nan),
        ("1850", "20140915", np.nan),
    ],
)  # fmt: skip
def test_age_at_the_study(tmp_path, birth, study, age) -> None:
    write(tmp_path, row("a.png", PatientBirth=birth, StudyDate_DICOM=study))
    found = read(tmp_path).dataset.records[0].age
    assert found == age or (np.isnan(found) and np.isnan(age))


# Labels.


def test_terms_become_labels() -> None:
    names = ("No Finding", "Pleural Effusion", "Pneumothorax", "Support Devices")
    assert values("['normal']", *names) == [1, 0, 0, 0]
    assert values("['hydropneumothorax', ' NSG tube ']", *names) == [0, 1, 1, 1]
    assert values("['normal', 'pacemaker']", *names) == [1, 0, 0, 1]
    assert values("['scoliosis']", *names) == [0, 0, 0, 0]
    assert values("['normal', 'pneumonia']", *names) == [0, 0, 0, 0]
    assert values("[\"pleural effusion\", 'mass', ]", *names) == [0, 1, 0, 0]


@pytest.mark.parametrize("cell", ["", "nan", "NaN", "[]", "['']", "[' ', '']", "['exclude']",
                                  "['suboptimal study', 'exclude']"])  # fmt: skip
def test_null_labels_are_unknown_not_normal(tmp_path, cell) -> None:
    assert np.isnan(values(cell, *CHEXPERT_LABELS)).all()
    loaded = read(write(tmp_path, row("a.png", Labels=cell)))
    assert np.isnan(loaded.dataset.records[0].labels).all()
    assert "1 images have no usable Labels: unknown, not normal" in loaded.dataset.notices


def test_a_hint_is_unknown_not_absent() -> None:
    assert np.isnan(values("['mass']", "Lung Lesion"))
    assert values("['mass', 'nodule']", "Lung Lesion", "No Finding", "Edema") == [1, 0, 0]
    assert values("['normal', 'mass']", "No Finding") == [0]


def test_an_unchanged_study_says_what_is_there_but_not_what_is_not() -> None:
    assert np.isnan(values("['unchanged']", *CHEXPERT_LABELS)).all()
    found = values("['unchanged', 'cardiomegaly']", "Cardiomegaly", "No Finding", "Edema")
    assert found[:2] == [1, 0]
    assert np.isnan(found[2])
    assert values("['unchanged', 'normal']", "No Finding", "Edema") == [1, 0]


def test_every_label_has_terms_in_lower_case_and_words_have_one_place() -> None:
    assert set(PADCHEST_TERMS) == set(CHEXPERT_LABELS)
    placed = [term for words in PADCHEST_TERMS.values() for term in words]
    assert all(term == term.strip().lower() for term in placed)
    twice = {term for term in placed if placed.count(term) > 1}
    assert twice == {"hydropneumothorax"}
    for name, words in PADCHEST_TERMS.items():
        for term in words:
            assert values(f"['{term.upper()}']", name) == [1]


WORDS = st.text("abc xyzÑ-", max_size=12)


@given(st.lists(WORDS, max_size=5), st.sampled_from(["'", '"']), st.sampled_from(["", " "]))
def test_lists_of_words_are_parsed(words, quote, space) -> None:
    cell = "[" + f",{space}".join(quote + word + quote for word in words) + "]"
    expected = {word.strip().lower() for word in words} - {""}
    assert parse_terms(cell) == (expected or None)


@pytest.mark.parametrize(
    "cell",
    ["normal", "['normal'", "['a' 'b']", "['a', __import__('os')]", "[1]", "('a',)", "['a'] + []",
     "[['a']]", "['a\\x41']", "{'a'}", "['a',,]", "[,]"],
)  # fmt: skip
def test_anything_else_in_labels_is_refused_and_named(tmp_path, cell) -> None:
    with pytest.raises(DataError, match=r"row 1 .*'Labels' is not a list of quoted words"):
        read(write(tmp_path, row("a.png", Labels=cell)))


def test_a_long_broken_list_is_refused_quickly() -> None:
    with pytest.raises(ValueError, match="not a list"):
        parse_terms("[" + "'a', " * 100_000)
    with pytest.raises(ValueError, match="not a list"):
        parse_terms("[" + " " * 200_000 + "'")


# What is refused.


@pytest.mark.parametrize("image", ["../a.png", "/etc/a.png", "0/a.png", "a.jpg", "", "a\\b.png"])
def test_image_names_of_another_form_are_refused(tmp_path, image) -> None:
    with pytest.raises(DataError, match=r"row 1 .*is not the name of a \.png file"):
        read(write(tmp_path, row(image)))


@pytest.mark.parametrize("column", ["ImageID", "PatientID", "PatientBirth", "Projection", "Labels"])
def test_a_missing_column_is_named(tmp_path, column) -> None:
    write(tmp_path, row("a.png"), header=[name for name in HEADER if name != column])
    with pytest.raises(DataError, match=f"no column '{column}'"):
        read(tmp_path)


def test_a_blank_patient_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"row 1 .*identifier is blank"):
        read(write(tmp_path, row("a.png", "")))


def test_one_table_is_found_or_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"has no table PADCHEST_.*160K_\*\.csv"):
        read(tmp_path)
    write(tmp_path, row("a.png"))
    (tmp_path / TABLE.replace("01.02.19", "02.03.20")).write_bytes((tmp_path / TABLE).read_bytes())
    with pytest.raises(DataError, match=r"several tables \(PADCHEST"):
        read(tmp_path)
