"""The CheXpert reader, on tiny folders written here in the published layout."""

import csv
import gzip
import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from privfin.data.chexpert import read_chexpert
from privfin.data.chexpert_labels import CHEXPERT_LABELS
from privfin.data.records import Record, load_input
from privfin.data.sources import LoadedData
from privfin.errors import DataError

# CheXpert's own order of columns.
LABELS = [
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion",
    "Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion",
    "Pleural Other", "Fracture", "Support Devices",
]  # fmt: skip
HEADER = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS]
SMALL = "CheXpert-v1.0-small"


def row(file: str, **given) -> dict[str, str]:
    view = "Lateral" if "lateral" in file else "Frontal"
    base = {
        "Path": f"{SMALL}/{file}", "Sex": "Female", "Age": "68", "Frontal/Lateral": view,
        "AP/PA": "" if view == "Lateral" else "AP",
    }  # fmt: skip
    return base | {name.replace("_", "/"): value for name, value in given.items()}


TRAIN = [
    row("train/patient00001/study1/view1_frontal.jpg", Edema="1.0", Pneumonia="-1.0"),
    row("train/patient00002/study2/view1_frontal.jpg", Sex="Male", Age="87", Fracture="0.0"),
    row("train/patient00002/study2/view2_lateral.jpg", Sex="Male", Age="87", Fracture="0.0"),
]
VALID = [row("valid/patient64541/study1/view1_frontal.jpg", Sex="Unknown", Age="")]


def table(rows: list[dict[str, str]], header: list[str] = HEADER) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, header, extrasaction="ignore", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def write(root: Path, train=TRAIN, valid=VALID, packed=(), header: list[str] = HEADER) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", train), ("valid", valid)):
        if rows is None:
            continue
        content = table(rows, header)
        if name in packed:
            (root / f"{name}.csv.gz").write_bytes(gzip.compress(content))
        else:
            (root / f"{name}.csv").write_bytes(content)
    return root


def add_image(root: Path, file: str, grey: int = 120) -> Path:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((32, 39), grey, dtype=np.uint8)).save(path)
    return path


def read(root: Path, **options) -> LoadedData:
    return read_chexpert(root, image_size=16, **options)


def by_id(loaded: LoadedData) -> dict[str, Record]:
    return {record.record_id: record for record in loaded.dataset.records}


@pytest.mark.parametrize("packed", [(), ("train",), ("train", "valid")])
@pytest.mark.parametrize("inside", [".", SMALL, "CheXpert-v1.0"])
def test_tables_are_found_plain_or_packed(tmp_path, packed, inside) -> None:
    write(tmp_path / inside, packed=packed)
    loaded = read(tmp_path)
    assert list(by_id(loaded)) == [
        "patient00001/study1", "patient00002/study2", "patient64541/study1",
    ]  # fmt: skip
    assert loaded.test_patients == {"patient64541"}
    assert loaded.dataset.notices == ("left out 1 images that are not frontal",)


def test_a_study_becomes_a_record(tmp_path) -> None:
    write(tmp_path)
    add_image(tmp_path, "train/patient00001/study1/view1_frontal.jpg")
    first, second, third = read(tmp_path).dataset.records
    assert first.patient_id == "patient00001"
    assert set(first.inputs) == {"image"}
    image = load_input(first.inputs["image"])
    assert image.shape == (16, 16)
    assert np.abs(image[8].astype(int) - 120).max() <= 2
    assert (first.sex, first.age) == ("F", 68.0)
    assert (second.sex, second.age) == ("M", 87.0)
    assert third.sex == ""
    assert np.isnan(third.age)


def test_labels_are_found_by_name_whatever_their_order(tmp_path) -> None:
    shuffled = [*HEADER[:5], *sorted(LABELS)]
    rows = [row("train/patient00001/study1/view1_frontal.jpg", Edema="1.0", Fracture="0.0")]
    write(tmp_path, train=rows, header=shuffled)
    loaded = read(tmp_path)
    assert loaded.dataset.label_names == CHEXPERT_LABELS
    labels = dict(zip(CHEXPERT_LABELS, loaded.dataset.records[0].labels, strict=True))
    assert labels.pop("Edema") == 1
    assert labels.pop("Fracture") == 0
    assert all(np.isnan(value) for value in labels.values())


@pytest.mark.parametrize(("policy", "value"), [("unknown", np.nan), ("zero", 0), ("one", 1)])
def test_uncertain_labels_follow_the_policy(tmp_path, policy, value) -> None:
    loaded = read(write(tmp_path), labels=("Pneumonia", "Edema"), uncertain=policy)
    assert np.array_equal(loaded.dataset.records[0].labels, [value, 1], equal_nan=True)
    blank = loaded.dataset.records[1].labels
    assert np.isnan(blank).all()


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]])
def test_of_several_frontal_views_the_best_is_taken(tmp_path, order) -> None:
    study = "train/patient00007/study1"
    rows = [
        row(f"{study}/view1_frontal.jpg", AP_PA="LL"),
        row(f"{study}/view2_frontal.jpg", AP_PA="AP"),
        row(f"{study}/view3_frontal.jpg", AP_PA="PA"),
        row(f"{study}/view4_lateral.jpg"),
    ]
    write(tmp_path, train=[rows[i] for i in order])
    loaded = read(tmp_path)
    image = by_id(loaded)["patient00007/study1"].inputs["image"]
    assert image.name == f"{study}/view3_frontal.jpg"
    assert set(loaded.dataset.notices) == {
        "left out 1 images that are not frontal",
        "left out 2 further frontal images of studies that have several",
    }


def test_of_equal_views_the_first_is_taken(tmp_path) -> None:
    study = "train/patient00007/study1"
    write(tmp_path, train=[row(f"{study}/view{n}_frontal.jpg") for n in (2, 1, 3)])
    assert read(tmp_path).dataset.records[0].inputs["image"].name.endswith("view2_frontal.jpg")


def test_all_views_are_records_of_their_own(tmp_path) -> None:
    loaded = read(write(tmp_path), views="all")
    assert list(by_id(loaded)) == [
        "train/patient00001/study1/view1_frontal.jpg",
        "train/patient00002/study2/view1_frontal.jpg",
        "train/patient00002/study2/view2_lateral.jpg",
        "valid/patient64541/study1/view1_frontal.jpg",
    ]
    assert loaded.dataset.notices == ()
    with pytest.raises(DataError, match="listed twice"):
        read(write(tmp_path, train=[TRAIN[0], TRAIN[0]]), views="all")


def test_a_patient_in_both_official_splits_is_refused_and_named(tmp_path) -> None:
    # Even if one of the two images would be left out.
    for file in ("view1_frontal.jpg", "view1_lateral.jpg"):
        write(tmp_path, valid=[*VALID, row(f"valid/patient00002/study9/{file}")])
        with pytest.raises(
            DataError, match=r"valid\.csv row 2 .*patient 'patient00002' .*'train' and 'valid'"
        ):
            read(tmp_path)


def test_a_broken_or_missing_image_is_named_with_its_row_when_it_is_read(tmp_path) -> None:
    write(tmp_path)
    whole = add_image(tmp_path, "train/patient00002/study2/view1_frontal.jpg")
    whole.write_bytes(whole.read_bytes()[:-200])
    first, second, _ = read(tmp_path).dataset.records
    with pytest.raises(DataError, match=r"train\.csv row 1 .*view1_frontal\.jpg does not exist"):
        load_input(first.inputs["image"])
    with pytest.raises(DataError, match=r"train\.csv row 2 .*view1_frontal\.jpg cannot be decoded"):
        load_input(second.inputs["image"])


def test_an_image_is_never_read_from_outside(tmp_path) -> None:
    outside = add_image(tmp_path, "elsewhere/view1_frontal.jpg")
    root = write(tmp_path / "data")
    link = root / "train" / "patient00001" / "study1"
    link.parent.mkdir(parents=True)
    link.symlink_to(outside.parent, target_is_directory=True)
    with pytest.raises(DataError, match="leads out of"):
        load_input(read(root).dataset.records[0].inputs["image"])


@pytest.mark.parametrize(
    "path",
    ["train/../../x/patient1/study1/a.jpg", "/etc/patient1/study1/a.jpg", "patient1/a.jpg", "",
     "a/b/train/patient1/study1/v.jpg", "train/patient1/study1/..\\a.jpg",
     "train/patient1/study1/v.gif"],
)  # fmt: skip
def test_paths_of_another_form_are_refused(tmp_path, path) -> None:
    write(tmp_path, train=[TRAIN[0] | {"Path": path}])
    with pytest.raises(DataError, match=r"train\.csv row 1 .*published form"):
        read(tmp_path)


@pytest.mark.parametrize("column", ["Path", "Sex", "Frontal/Lateral", "AP/PA", "Edema"])
def test_a_missing_column_is_named(tmp_path, column) -> None:
    write(tmp_path, header=[name for name in HEADER if name != column])
    with pytest.raises(DataError, match=f"no column '{column}'"):
        read(tmp_path)


def test_columns_of_other_labels_may_be_missing(tmp_path) -> None:
    write(tmp_path, header=[name for name in HEADER if name != "Fracture"])
    assert read(tmp_path, labels=("Edema",)).dataset.label_names == ("Edema",)


def test_wrong_values_are_named(tmp_path) -> None:
    write(tmp_path, train=[TRAIN[0] | {"Edema": "2"}])
    with pytest.raises(DataError, match=r"row 1 .*'Edema' is '2'; a label is 1, 0, -1 or blank"):
        read(tmp_path)
    write(tmp_path, train=[TRAIN[0] | {"Frontal/Lateral": "Oblique"}])
    with pytest.raises(DataError, match=r"row 1 .*'Frontal/Lateral' is 'Oblique'"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"'Edma' is not one of the 14 .*did you mean 'Edema'"):
        read(tmp_path, labels=("Edma",))
    with pytest.raises(DataError, match="twice"):
        read(tmp_path, labels=("Edema", "Edema"))


def test_missing_tables_are_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"no train\.csv"):
        read(tmp_path)
    loaded = read(write(tmp_path, valid=None))
    assert loaded.test_patients is None
    assert "no official split" in loaded.dataset.notices[-1]
    write(tmp_path / SMALL)
    with pytest.raises(DataError, match=r"several train\.csv"):
        read(tmp_path)
    (tmp_path / "train.csv").unlink()
    write(tmp_path / SMALL, train=[TRAIN[2]], valid=None)
    (tmp_path / SMALL / "valid.csv").unlink()
    with pytest.raises(DataError, match="no row is an image that can be used"):
        read(tmp_path)


def test_labels_are_shared_and_cannot_be_written(tmp_path) -> None:
    _, second, _ = read(write(tmp_path)).dataset.records
    with pytest.raises(ValueError, match="read-only"):
        second.labels[0] = 1


def memory_per_record(root: Path, studies: int) -> float:
    rng = np.random.default_rng(0)
    values = rng.choice(["", "1.0", "0.0", "-1.0"], (studies, 14))
    rows = [
        row(f"train/patient{i // 3:06d}/study{i % 3}/view1_frontal.jpg")
        | dict(zip(LABELS, values[i], strict=True))
        for i in range(studies)
    ]
    write(root, train=rows)
    del rows
    tracemalloc.start()
    loaded = read(root)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(loaded.dataset.records) == studies + 1
    assert peak < 1.4 * held  # nothing like the table is in memory on the way
    return held / studies


def test_a_record_takes_little_memory(tmp_path) -> None:
    # A row as a dictionary takes about 2,500 bytes.
    per_record = memory_per_record(tmp_path, 3000)
    assert per_record < 1000, per_record
