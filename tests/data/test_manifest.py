"""The generic CSV reader: what it reads, and the one line it says about everything else."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from privfin.data.manifest import ManifestColumns, read_manifest
from privfin.data.records import load_input
from privfin.data.sources import LoadedData
from privfin.errors import DataError, UserInputError

COLUMNS = ManifestColumns(
    patient="person",
    inputs={"image": "file", "text": "report"},
    kinds={"image": "image", "text": "text"},
    labels=("edema", "fracture"),
    record="study",
    origin="hospital",
    split="part",
)
HEADER = "person,study,file,report,edema,fracture,hospital,part"
GOOD = "p1,s1,img/a.png,Some text.,1,0,North,train"


def write(root: Path, *lines: str, header: str = HEADER) -> Path:
    (root / "img").mkdir(exist_ok=True)
    Image.fromarray(np.full((10, 10), 77, dtype=np.uint8)).save(root / "img" / "a.png")
    (root / "list.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return root


def read(root: Path, columns: ManifestColumns = COLUMNS, **options) -> LoadedData:
    return read_manifest(root, file="list.csv", columns=columns, image_size=16, **options)


def test_rows_become_records(tmp_path) -> None:
    write(
        tmp_path, GOOD, "p2,s2,,Only text,0.0,,South,test",
        'p1,s3,img/a.png,"Quoted, and\nover two lines",,1.0,,train', "p3,s4,,,1,1,North,test",
    )  # fmt: skip
    loaded = read(tmp_path)
    assert loaded.test_patients == {"p2", "p3"}
    dataset = loaded.dataset
    assert dataset.label_names == ("edema", "fracture")
    assert [r.record_id for r in dataset.records] == ["s1", "s2", "s3"]
    assert [r.patient_id for r in dataset.records] == ["p1", "p2", "p1"]
    assert [r.origin for r in dataset.records] == ["North", "South", ""]
    assert [set(r.inputs) for r in dataset.records] == [
        {"image", "text"}, {"text"}, {"image", "text"},
    ]  # fmt: skip
    assert dataset.records[2].inputs["text"] == "Quoted, and\nover two lines"
    assert np.array_equal(
        [r.labels for r in dataset.records], [[1, 0], [0, np.nan], [np.nan, 1]], equal_nan=True
    )
    image = load_input(dataset.records[0].inputs["image"])
    assert image.shape == (16, 16)
    assert np.all(image == 77)
    assert dataset.notices == ("left out 1 records without any input",)


def test_optional_columns_can_be_left_out(tmp_path) -> None:
    columns = ManifestColumns("person", {"text": "report"}, {"text": "text"}, ("edema",))
    write(tmp_path, "p1,a,1", "p1,b,0", "p2,c,", header="person,report,edema")
    loaded = read(tmp_path, columns)
    assert loaded.test_patients is None
    assert [r.record_id for r in loaded.dataset.records] == ["p1-1", "p1-2", "p2-1"]


def test_a_byte_order_mark_does_no_harm(tmp_path) -> None:
    write(tmp_path, GOOD, header="\ufeff" + HEADER)
    assert len(read(tmp_path).dataset.records) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("p1,s1,img/a.png,x,2,0,N,train", r"row 2 .*'edema' is '2'; a label is 0, 1 or blank"),
        ("p1,s1,img/a.png,x,1,nan,N,train", r"row 2 .*'fracture' is 'nan'"),
        ("p1,s1,img/a.png,x,-1,0,N,train", r"row 2 .*'edema' is '-1'"),
        (",s1,img/a.png,x,1,0,N,train", r"row 2 .*'person' is blank"),
        ("p1,,img/a.png,x,1,0,N,train", r"row 2 .*'study' is blank"),
        ("p1,s0,img/a.png,x,1,0,N,train", r"row 2 .*record 's0' was already in .*row 1"),
        ("p1,s1,/etc/a.png,x,1,0,N,train", r"row 2 .*'/etc/a\.png' is an absolute path"),
        (r"p1,s1,C:\a.png,x,1,0,N,train", r"row 2 .*absolute path"),
        ("p1,s1,../a.png,x,1,0,N,train", r"row 2 .*leads out of"),
        (r"p1,s1,img\..\..\a.png,x,1,0,N,train", r"row 2 .*leads out of"),
        ("p1,s1,img/a.png,x,1,0,N,valid", r"row 2 .*'part' is 'valid'; use 'train' or 'test'"),
        ("p0,s1,img/a.png,x,1,0,N,test", r"row 2 .*patient 'p0' is in both splits"),
        ("p1,s1,img/a.png,x,1,0,N", r"row 2 .*has 7 cells where the header has 8"),
        ('p1,s1,img/a.png,"x"y,1,0,N,train', r"not a readable CSV file"),
    ],
)
def test_bad_rows_are_named(tmp_path, line, message) -> None:
    write(tmp_path, "p0,s0,img/a.png,x,1,0,N,train", line)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("img/gone.png", r"row 2 .*gone\.png does not exist"),
        ("list.csv", r"row 2 .*list\.csv cannot be decoded"),
    ],
)
def test_bad_images_are_named_when_they_are_needed(tmp_path, name, message) -> None:
    write(tmp_path, GOOD, f"p2,s2,{name},x,1,0,N,test")
    good, bad = read(tmp_path).dataset.records
    assert load_input(good.inputs["image"]).shape == (16, 16)
    with pytest.raises(DataError, match=message):
        load_input(bad.inputs["image"])


def test_links_out_of_the_folder_are_refused(tmp_path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    write(root, "p1,s1,link.png,x,1,0,N,train")
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(tmp_path / "outside.png")
    (root / "link.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(DataError, match="leads out of"):
        read(root)


def test_missing_columns_are_named_with_the_nearest(tmp_path) -> None:
    write(tmp_path, GOOD, header=HEADER.replace("edema", "oedema"))
    with pytest.raises(DataError, match="no column 'edema'; did you mean 'oedema'"):
        read(tmp_path)
    write(tmp_path, GOOD, header=HEADER.replace("hospital", "edema"))
    with pytest.raises(DataError, match="column 'edema' twice"):
        read(tmp_path)


def test_unusable_files_are_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"list\.csv does not exist"):
        read(tmp_path)
    (tmp_path / "list.csv").write_text("")
    with pytest.raises(DataError, match="is empty"):
        read(tmp_path)
    write(tmp_path)
    with pytest.raises(DataError, match="no rows"):
        read(tmp_path)
    (tmp_path / "list.csv").write_bytes(HEADER.encode() + b"\np\xff1,s1,,x,1,0,N,train\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read(tmp_path)
    write(tmp_path, "p1,s1,,,1,0,N,train")
    with pytest.raises(DataError, match="no record with a usable input"):
        read(tmp_path)
    with pytest.raises(DataError, match="leads out of"):
        read_manifest(tmp_path, file="../list.csv", columns=COLUMNS, image_size=16)
    (tmp_path / "list.csv").unlink()
    (tmp_path / "list.csv").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path)


TABLES = ManifestColumns(
    patient="person",
    inputs={"text": "report"},
    kinds={"text": "text"},
    labels=("edema",),
    tables={"vitals": ("temperature", "pulse"), "who": ("age", "gender")},
    sex="gender",
    age="age",
)
TABLE_HEADER = "person,report,age,gender,temperature,pulse,edema"


def test_values_become_tabular_inputs_and_blanks_are_missing(tmp_path) -> None:
    write(
        tmp_path, "p1,Note.,63,F,38.5,90,1", "p2,,41.5,m,,,0", "p3,Note.,,,,1e2,0",
        "p4,,,,,,1", header=TABLE_HEADER,
    )  # fmt: skip
    dataset = read(tmp_path, TABLES).dataset
    first, second, third = dataset.records
    assert dataset.notices == ("left out 1 records without any input",)
    assert set(first.inputs) == {"text", "vitals", "who"}
    assert first.inputs["vitals"].dtype == np.float32
    assert first.inputs["vitals"].tolist() == [38.5, 90]
    assert first.inputs["who"].tolist() == [63, 0]
    assert set(second.inputs) == {"who"}  # nothing of the vitals is known: no such modality
    assert second.inputs["who"].tolist() == [41.5, 1]
    assert np.array_equal(third.inputs["vitals"], [np.nan, 100], equal_nan=True)
    assert [r.sex for r in dataset.records] == ["F", "M", ""]
    assert np.array_equal([r.age for r in dataset.records], [63, 41.5, np.nan], equal_nan=True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("p1,,63,F,hot,90,1", r"row 1 .*'temperature' is 'hot'; a value is a number or blank"),
        ("p1,,63,F,38;5,90,1", r"row 1 .*'temperature' is '38;5'"),
        ("p1,,63,F,nan,90,1", r"row 1 .*'temperature' is 'nan'"),
        ("p1,,63,F,inf,90,1", r"row 1 .*'temperature' is 'inf'"),
        ("p1,,63,F,F,90,1", r"row 1 .*'temperature' is 'F'"),
        ("p1,,63,x,38,90,1", r"row 1 .*'gender' is 'x'; a value is M, F, a number or blank"),
        ("p1,,63,1,38,90,1", r"row 1 .*'gender' is '1'; use M, F or blank"),
        ("p1,,old,F,38,90,1", r"row 1 .*'age' is 'old'"),
    ],
)
def test_cells_that_are_no_values_are_named(tmp_path, line, message) -> None:
    write(tmp_path, line, header=TABLE_HEADER)
    with pytest.raises(DataError, match=message):
        read(tmp_path, TABLES)


def test_a_missing_column_of_a_table_is_named(tmp_path) -> None:
    write(tmp_path, "p1,,63,F,38,90,1", header=TABLE_HEADER.replace("pulse", "puls"))
    with pytest.raises(DataError, match="no column 'pulse'; did you mean 'puls'"):
        read(tmp_path, TABLES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": {}}, "no input"),
        ({"labels": ()}, "no label"),
        ({"labels": ("a", "a")}, "'a' is listed twice"),
        ({"kinds": {}}, "'text' needs a kind"),
        ({"kinds": {"text": "sound"}}, "'text' needs a kind"),
    ],
)
def test_impossible_column_roles_are_refused(changes, message) -> None:
    roles = {
        "patient": "p", "inputs": {"text": "t"}, "kinds": {"text": "text"}, "labels": ("a",),
    }  # fmt: skip
    with pytest.raises(UserInputError, match=message):
        ManifestColumns(**(roles | changes))
