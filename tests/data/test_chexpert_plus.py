"""The CheXpert Plus reader, on tiny folders written here in the published layout."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from privfin.data.chexpert_labels import CHEXPERT_LABELS
from privfin.data.chexpert_plus import TABLE, read_chexpert_plus
from privfin.data.records import load_input
from privfin.data.sources import LoadedData
from privfin.errors import DataError

HEADER = [
    "path_to_image", "path_to_dcm", "frontal_lateral", "ap_pa", "deid_patient_id",
    "patient_report_date_order", "report", "section_narrative", "section_clinical_history",
    "section_history", "section_findings", "section_impression", "age", "sex", "race",
    "ethnicity", "split",
]  # fmt: skip


def row(path: str, **given) -> dict[str, str]:
    return {
        "path_to_image": path, "frontal_lateral": "Frontal", "ap_pa": "AP",
        "deid_patient_id": path.split("/")[1], "split": path.split("/")[0],
        "section_findings": "Heart size is normal.", "section_impression": "Secret diagnosis.",
        "section_clinical_history": "Cough.", "section_history": "Fever.",
        "report": "The whole report.", "age": "54.0", "sex": "Male",
    } | given  # fmt: skip


FIRST = "train/patient00001/study1/view1_frontal.jpg"
SECOND = "train/patient00002/study4/view1_frontal.jpg"
THIRD = "valid/patient64541/study1/view1_frontal.jpg"
ROWS = [row(FIRST), row(SECOND, section_findings="", sex="Female"), row(THIRD)]


def labels(path: str, **known) -> dict[str, object]:
    named = {name.replace("_", " "): value for name, value in known.items()}
    return {"path_to_image": path, **dict.fromkeys(sorted(CHEXPERT_LABELS)), **named}


LABELS = [labels(SECOND, Edema=1.0, Pneumonia=-1.0), labels(FIRST, Edema=0.0), labels(THIRD)]


def write(root: Path, rows=ROWS, entries=LABELS, kind="report", packed=False, header=HEADER):
    with (root / TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows(rows)
    if packed:
        (root / f"{TABLE}.gz").write_bytes(gzip.compress((root / TABLE).read_bytes()))
        (root / TABLE).unlink()
    folder = root / "chexbert_labels"
    folder.mkdir(exist_ok=True)
    lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
    (folder / f"{kind}_fixed.json").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def read(root: Path, **options) -> LoadedData:
    return read_chexpert_plus(root, image_size=16, **options)


@pytest.mark.parametrize("packed", [False, True])
def test_studies_become_records(tmp_path, packed) -> None:
    loaded = read(write(tmp_path, packed=packed))
    first, second, third = loaded.dataset.records
    assert [r.record_id for r in loaded.dataset.records] == [
        "patient00001/study1", "patient00002/study4", "patient64541/study1",
    ]  # fmt: skip
    assert [r.patient_id for r in (first, second)] == ["patient00001", "patient00002"]
    assert loaded.test_patients == {"patient64541"}
    assert [(r.sex, r.age) for r in (first, second, third)] == [("M", 54), ("F", 54), ("M", 54)]
    assert loaded.dataset.notices == (
        "labels are those of report_fixed.json",
        "1 images have no text in the sections asked for",
    )


def test_the_table_says_jpg_and_the_file_is_png(tmp_path) -> None:
    write(tmp_path)
    path = (tmp_path / "PNG" / FIRST).with_suffix(".png")
    path.parent.mkdir(parents=True)
    Image.fromarray(np.full((20, 20), 9, dtype=np.uint8)).save(path)
    first, second, _ = read(tmp_path).dataset.records
    assert np.all(load_input(first.inputs["image"]) == 9)
    with pytest.raises(DataError, match=rf"{TABLE} row 2 .*view1_frontal\.png does not exist"):
        load_input(second.inputs["image"])
    noise = np.random.default_rng(0).integers(0, 256, (40, 40)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DataError, match=r"row 1 .*view1_frontal\.png cannot be decoded"):
        load_input(first.inputs["image"])
    # Without a folder PNG, the images lie beside the table.
    (tmp_path / "PNG").rename(tmp_path / "other")
    (tmp_path / "other" / "train").rename(tmp_path / "train")
    image = read(tmp_path).dataset.records[0].inputs["image"]
    assert image.folder == tmp_path


@pytest.mark.parametrize(
    ("sections", "text"),
    [
        (("findings",), "Heart size is normal."),
        (("impression",), "Secret diagnosis."),
        (("indication",), "Cough. Fever."),
        (("indication", "findings"), "Cough. Fever.\nHeart size is normal."),
        ((), None),
    ],
)
def test_text_is_the_sections_asked_for_and_nothing_else(tmp_path, sections, text) -> None:
    record = read(write(tmp_path), sections=sections).dataset.records[0]
    assert record.inputs.get("text") == text


def test_an_impression_written_into_the_findings_is_left_out(tmp_path) -> None:
    rows = [row(FIRST, section_findings="Heart is large.\nIMPRESSION: Heart failure.")]
    record = read(write(tmp_path, rows=rows)).dataset.records[0]
    assert record.inputs["text"] == "Heart is large."


def test_a_study_without_the_section_has_no_text(tmp_path) -> None:
    assert set(read(write(tmp_path)).dataset.records[1].inputs) == {"image"}


def test_labels_are_joined_by_path(tmp_path) -> None:
    names = ("Pneumonia", "Edema")
    records = read(write(tmp_path), labels=names).dataset.records
    expected = [[np.nan, 0], [np.nan, 1], [np.nan, np.nan]]
    assert np.array_equal([r.labels for r in records], expected, equal_nan=True)
    certain = read(tmp_path, labels=names, uncertain="one").dataset.records
    assert np.array_equal(certain[1].labels, [1, 1])


def test_an_image_without_labels_is_unknown(tmp_path) -> None:
    loaded = read(write(tmp_path, entries=LABELS[:1]))
    assert np.isnan(loaded.dataset.records[0].labels).all()
    assert "2 images have no entry in report_fixed.json: labels unknown" in loaded.dataset.notices


def test_labels_of_the_whole_report_come_first(tmp_path) -> None:
    write(tmp_path, kind="findings", entries=[labels(FIRST, Edema=0.0)])
    assert read(tmp_path).dataset.notices[0] == "labels are those of findings_fixed.json"
    write(tmp_path, kind="impression", entries=[labels(FIRST, Edema=0.0)])
    assert read(tmp_path).dataset.notices[0] == "labels are those of impression_fixed.json"
    write(tmp_path)
    assert read(tmp_path).dataset.notices[0] == "labels are those of report_fixed.json"


def test_the_best_frontal_view_is_taken(tmp_path) -> None:
    study = "train/patient00001/study1"
    rows = [
        row(f"{study}/view1_frontal.jpg"),
        row(f"{study}/view2_lateral.jpg", frontal_lateral="Lateral", ap_pa=""),
        row(f"{study}/view3_frontal.jpg", ap_pa="PA"),
        row(THIRD),
    ]
    loaded = read(write(tmp_path, rows=rows))
    assert loaded.dataset.records[0].inputs["image"].name == f"{study}/view3_frontal.png"
    assert loaded.dataset.notices[:2] == (
        "left out 1 images that are not frontal",
        "left out 1 further frontal images of studies that have several",
    )
    assert len(read(tmp_path, views="all").dataset.records) == 4


def test_a_patient_in_both_splits_is_refused_and_named(tmp_path) -> None:
    rows = [*ROWS, row(FIRST.replace("study1", "study2"), split="valid")]
    with pytest.raises(DataError, match=r"row 4 .*'patient00001' .*'train' and 'valid'"):
        read(write(tmp_path, rows=rows))


def test_a_study_of_two_patients_is_refused(tmp_path) -> None:
    rows = [*ROWS, row(FIRST.replace("view1", "view2"), deid_patient_id="patient9")]
    with pytest.raises(DataError, match=r"row 4 .*'patient00001/study1' belongs to"):
        read(write(tmp_path, rows=rows))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"split": "test"}, "'split' is 'test'; use train or valid"),
        ({"deid_patient_id": ""}, "identifier is blank"),
        ({"path_to_image": "train/../../a.jpg"}, "published form"),
        ({"frontal_lateral": ""}, "'frontal_lateral' is ''"),
    ],
)
def test_wrong_cells_are_named(tmp_path, change, said) -> None:
    with pytest.raises(DataError, match=f"row 1 .*{said}"):
        read(write(tmp_path, rows=[ROWS[0] | change]))


@pytest.mark.parametrize("column", ["deid_patient_id", "split", "ap_pa", "section_findings"])
def test_a_missing_column_is_named(tmp_path, column) -> None:
    write(tmp_path, header=[name for name in HEADER if name != column])
    with pytest.raises(DataError, match=f"no column '{column}'"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{not json", "line 2 is not JSON"),
        ("[1, 2]", "line 2 is not a JSON object"),
        ("[" * 30_000, "line 2 is not JSON"),
        ('{"path_to_image": "' + "x" * 70_000 + '"}', "line 2 is not JSON"),
        ({"path_to_image": "/etc/a.jpg"}, "line 2 has no path_to_image"),
        ({"path_to_image": FIRST}, "line 2 has no label 'Edema'"),
        (labels(FIRST, Edema=3), "line 2: 'Edema' is '3'"),
        (labels(FIRST, Edema=True), "line 2: 'Edema' is 'True'"),
        (labels(FIRST, Edema=[1]), "line 2: 'Edema' is"),
        (LABELS[0], "line 2: .* is listed twice"),
    ],
)
def test_wrong_labels_are_named(tmp_path, entry, said) -> None:
    write(tmp_path, entries=[LABELS[0], entry])
    with pytest.raises(DataError, match=rf"report_fixed\.json {said}"):
        read(tmp_path, labels=("Edema",))


def test_missing_and_broken_files_are_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"none of report_fixed\.json"):
        read(tmp_path)
    write(tmp_path)
    (tmp_path / TABLE).unlink()
    with pytest.raises(DataError, match=rf"{TABLE} does not exist"):
        read(tmp_path)
    write(tmp_path)
    path = tmp_path / "chexbert_labels" / "report_fixed.json"
    whole = path.read_bytes()
    path.unlink()
    packed = path.with_name("report_fixed.json.gz")
    packed.write_bytes(gzip.compress(whole))
    assert len(read(tmp_path).dataset.records) == 3
    packed.write_bytes(gzip.compress(whole)[:-20])
    with pytest.raises(DataError, match=r"report_fixed\.json\.gz cannot be read"):
        read(tmp_path)
    path.write_bytes(b'{"path_to_image": "\xff"}\n')
    with pytest.raises(DataError, match="not UTF-8"):
        read(tmp_path)
