"""Open-I in its three published forms, on tiny folders written here."""

import csv
import gzip
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from privfin.data.chexpert_labels import CHEXPERT_LABELS
from privfin.data.openi import read_openi
from privfin.data.records import Record, load_input
from privfin.data.sources import LoadedData
from privfin.errors import DataError

FINDINGS = "Clear lungs. No XXXX."


def xml(
    number: int,
    *,
    findings: str = FINDINGS,
    majors: tuple[str, ...] = ("normal",),
    images: tuple[str, ...] = (),
) -> bytes:
    pictures = "".join(
        f'<parentImage id="{i}"><caption>Secretcaption</caption></parentImage>' for i in images
    )
    coded = "".join(f"<major>{major}</major>" for major in majors)
    return f"""<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="CXR{number}"/><MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON">None.</AbstractText>
<AbstractText Label="INDICATION">Cough.</AbstractText>
<AbstractText Label="FINDINGS">{findings}</AbstractText>
<AbstractText Label="IMPRESSION">Secretimpression.</AbstractText>
</Abstract></Article></MedlineCitation>
<MeSH>{coded}<automatic>Secretautomatic</automatic></MeSH>{pictures}</eCitation>""".encode()


def png(path: Path, grey: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((30, 20), grey, dtype=np.uint8)).save(path)


def folder(root: Path, *documents: bytes) -> Path:
    (root / "ecgen-radiology").mkdir(exist_ok=True)
    for number, document in enumerate(documents, start=1):
        (root / "ecgen-radiology" / f"{number}.xml").write_bytes(document)
    return root


def archive(root: Path, *members: tuple[str | tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(root / "NLMCXR_reports.tgz", "w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return root


def table(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def read(root: Path, **options) -> LoadedData:
    return read_openi(root, image_size=16, **options)


def records(root: Path, **options) -> tuple[Record, ...]:
    return read(root, **options).dataset.records


# --- XML


def test_folder_and_archive_say_the_same(tmp_path) -> None:
    documents = [xml(1), xml(2, majors=("Cardiomegaly/mild",)), xml(3), *[xml(i) for i in (4, 5)]]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    packed = [(f"ecgen-radiology/{n}.xml", d) for n, d in enumerate(documents, start=1)]
    one = read(folder(tmp_path / "a", *documents))
    two = read(archive(tmp_path / "b", *reversed(packed)))
    assert one.dataset.fingerprint() == two.dataset.fingerprint()
    assert one.dataset.notices == two.dataset.notices
    assert one.test_patients is None


def test_a_report_becomes_a_record(tmp_path) -> None:
    (record,) = records(folder(tmp_path, xml(1, majors=("Opacity/lung", "Pneumonia"))))
    assert (record.record_id, record.patient_id, record.origin) == ("CXR1", "CXR1", "")
    assert record.inputs == {"text": FINDINGS}
    positive = {n for n, v in zip(CHEXPERT_LABELS, record.labels, strict=True) if v == 1}
    assert positive == {"Lung Opacity", "Pneumonia"}


def test_a_notice_says_that_a_report_is_no_person(tmp_path) -> None:
    notices = read(folder(tmp_path, xml(1))).dataset.notices
    assert notices[-1].startswith("Open-I does not say which reports belong to one person")


def test_no_section_code_or_caption_leaks_into_the_text(tmp_path) -> None:
    root = folder(tmp_path, xml(1, images=("CXR1_1_IM-0001-3001",)))
    assert "Secret" not in records(root)[0].inputs["text"]
    everything = records(root, sections=("indication", "findings", "impression"))[0].inputs["text"]
    assert everything == f"Cough.\n{FINDINGS}\nSecretimpression."


def test_reports_without_findings_or_images_are_counted(tmp_path) -> None:
    png(tmp_path / "NLMCXR_png" / "CXR2_IM-0002-1001.png")
    root = folder(
        tmp_path,
        xml(1),
        xml(2, findings="", images=("CXR2_IM-0002-1001",)),
        xml(3, findings=" XXXX. "),
        xml(4, majors=("No Indexing",)),
    )
    loaded = read(root)
    kinds = {r.record_id: set(r.inputs) for r in loaded.dataset.records}
    assert kinds == {"CXR1": {"text"}, "CXR2": {"image"}, "CXR4": {"text"}}
    assert loaded.dataset.notices[:-1] == (
        "1 reports lack the sections asked for: their records have no text",
        "left out 1 reports without the sections asked for and without an image",
        "2 reports have no image: their records have text only",
        "1 reports do not say which image is frontal: the first one is used",
        "1 reports are not coded: their labels are unknown",
    )


def test_images_stay_in_their_files(tmp_path) -> None:
    root = folder(tmp_path, xml(1, images=("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001")))
    assert set(records(root)[0].inputs) == {"text"}  # without NLMCXR_png
    png(root / "NLMCXR_png" / "CXR1_1_IM-0001-3001.png")
    (record,) = records(root)
    assert load_input(record.inputs["image"]).shape == (16, 16)
    assert [r.record_id for r in records(root, views="all")] == [
        "CXR1/CXR1_1_IM-0001-3001",
        "CXR1/CXR1_1_IM-0001-4001",
    ]
    missing = records(root, views="all")[1].inputs["image"]
    with pytest.raises(DataError, match=r"1\.xml: image .*CXR1_1_IM-0001-4001\.png does not exist"):
        load_input(missing)


def test_a_truncated_png_is_named(tmp_path) -> None:
    root = folder(tmp_path, xml(1, images=("CXR1_1_IM-0001-3001",)))
    path = root / "NLMCXR_png" / "CXR1_1_IM-0001-3001.png"
    png(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"ecgen-radiology/1\.xml: image .*3001\.png cannot be dec"):
        load_input(records(root)[0].inputs["image"])


def test_projections_beside_the_xml_find_the_frontal_image(tmp_path) -> None:
    # As published: the first image of report 1 is the lateral one.
    names = ("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001")
    root = folder(tmp_path, xml(1, images=names), xml(2, images=("CXR2_IM-0652-1001",)))
    for name in (*names, "CXR2_IM-0652-1001"):
        png(root / "NLMCXR_png" / f"{name}.png")
    projections = [("1", "1_IM-0001-4001", "Frontal"), ("1", "1_IM-0001-3001", "Lateral"),
                   ("2", "2_IM-0652-1001", "Lateral")]  # fmt: skip
    table(
        root / "indiana_projections.csv",
        [{"uid": u, "filename": f"{f}.dcm.png", "projection": p} for u, f, p in projections],
    )
    loaded = read(root)
    first, second = loaded.dataset.records
    assert first.inputs["image"].path.name == "CXR1_1_IM-0001-4001.png"
    assert set(second.inputs) == {"text"}
    assert "left out 2 images that are not frontal" in loaded.dataset.notices


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><eCitation/>', "document type"),
        (b"<eCitation>", "not well-formed"),
        (b"<other/>", "no Open-I report"),
        (b"<eCitation/>", "no Open-I report"),
        (b"<eCitation><uId id='CXR1/../x'/></eCitation>", "no Open-I report"),
        (xml(1, images=("../../secret",)), "no image id"),
    ],
)
@pytest.mark.parametrize("form", ["folder", "archive"])
def test_bad_documents_are_named(tmp_path, document, problem, form) -> None:
    (tmp_path / "NLMCXR_png").mkdir()
    if form == "folder":
        folder(tmp_path, document)
    else:
        archive(tmp_path, ("ecgen-radiology/1.xml", document))
    with pytest.raises(DataError, match=rf"ecgen-radiology/1\.xml.*{problem}"):
        read(tmp_path)


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


@pytest.mark.parametrize(
    ("member", "problem"),
    [
        ("../ecgen-radiology/1.xml", "leads out of the archive"),
        ("/ecgen-radiology/1.xml", "leads out of the archive"),
        ("ecgen-radiology/../../1.xml", "leads out of the archive"),
        ("ecgen-radiology\\..\\1.xml", "leads out of the archive"),
        (special("ecgen-radiology/1.xml", tarfile.SYMTYPE, "/etc/passwd"), "neither a file"),
        (special("ecgen-radiology/1.xml", tarfile.LNKTYPE, "/etc/passwd"), "neither a file"),
        (special("ecgen-radiology/1.xml", tarfile.FIFOTYPE), "neither a file"),
        (special("ecgen-radiology/1.xml", tarfile.CHRTYPE), "neither a file"),
    ],
)
def test_hostile_members_are_refused(tmp_path, member, problem) -> None:
    content = xml(1) if isinstance(member, str) else b""
    root = archive(tmp_path, ("ecgen-radiology/2.xml", xml(2)), (member, content))
    with pytest.raises(DataError, match=f"NLMCXR_reports.tgz: .*{problem}"):
        read(root)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["NLMCXR_reports.tgz"]


def test_a_member_that_unpacks_to_a_lot_is_refused(tmp_path) -> None:
    root = archive(tmp_path, ("ecgen-radiology/1.xml", b" " * (2**20 + 1)))
    with pytest.raises(DataError, match=r"1\.xml.* is larger than"):
        read(root)


def test_other_members_are_passed_over(tmp_path) -> None:
    root = archive(tmp_path, ("README", b"x"), ("./ecgen-radiology/7.xml", xml(7)), ("a.xml", b""))
    assert [r.record_id for r in records(root)] == ["CXR7"]


def test_a_damaged_archive_is_named(tmp_path) -> None:
    path = archive(tmp_path, ("ecgen-radiology/1.xml", xml(1))) / "NLMCXR_reports.tgz"
    whole = path.read_bytes()
    for content in (b"", b"no archive", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"NLMCXR_reports\.tgz cannot be read"):
            read(tmp_path)


def test_a_report_twice_in_the_archive_is_refused(tmp_path) -> None:
    twice = [("ecgen-radiology/1.xml", xml(1)), ("./ecgen-radiology/1.xml", xml(1))]
    with pytest.raises(DataError, match="CXR1 appears twice"):
        read(archive(tmp_path, *twice))


# --- Kaggle's two CSV files

REPORT = {"uid": "1", "MeSH": "normal", "Problems": "normal", "image": "Secretcaption",
          "indication": "Cough.", "comparison": "None.", "findings": FINDINGS,
          "impression": "Secretimpression."}  # fmt: skip
IMAGES = [
    ("1", "1_IM-0001-4001.dcm.png", "Frontal"),
    ("1", "1_IM-0001-3001.dcm.png", "Lateral"),
    ("1", "1_IM-0001-5001.dcm.png", "Frontal"),
]


def kaggle(root: Path, *reports: dict[str, str], images=IMAGES, drop: str = "") -> Path:
    rows = [{k: v for k, v in (REPORT | r).items() if k != drop} for r in reports or ({},)]
    table(root / "indiana_reports.csv", rows)
    listed = [{"uid": u, "filename": f, "projection": p} for u, f, p in images]
    table(root / "indiana_projections.csv", listed)
    for _, name, _ in images:
        png(root / "images" / "images_normalized" / Path(name).name)
    return root


def test_the_csv_form(tmp_path) -> None:
    loaded = read(kaggle(tmp_path, {}, {"uid": "2", "MeSH": "Cardiomegaly/mild;Opacity/lung"}))
    first, second = loaded.dataset.records
    assert (first.record_id, first.patient_id) == ("CXR1", "CXR1")
    assert first.inputs["text"] == FINDINGS
    assert first.inputs["image"].path.name == "1_IM-0001-4001.dcm.png"
    assert load_input(first.inputs["image"]).shape == (16, 16)
    assert set(second.inputs) == {"text"}
    positive = {n for n, v in zip(CHEXPERT_LABELS, second.labels, strict=True) if v == 1}
    assert positive == {"Cardiomegaly", "Lung Opacity"}
    assert loaded.test_patients is None
    assert loaded.dataset.notices[:-1] == (
        "1 reports have no image: their records have text only",
        "left out 1 images that are not frontal",
        "left out 1 further images of reports with several",
    )
    assert len(records(tmp_path, views="all")) == 4


def test_packed_tables_say_the_same(tmp_path) -> None:
    plain = read(kaggle(tmp_path, {}, {"uid": "2"})).dataset
    for name in ("indiana_reports.csv", "indiana_projections.csv"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
        (tmp_path / name).unlink()
    assert read(tmp_path).dataset.fingerprint() == plain.fingerprint()


def test_problems_stand_in_where_there_is_no_mesh_column(tmp_path) -> None:
    root = kaggle(tmp_path, {"MeSH": "x", "Problems": "Pneumothorax;Nodule"}, drop="MeSH")
    labels = records(root, labels=("Pneumothorax", "Lung Lesion", "Edema"))[0].labels
    assert labels.tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"drop": "findings"}, "no column 'findings'"),
        ({"drop": "uid"}, "no column 'uid'"),
        ({"images": [("9", "9_IM-1.dcm.png", "Frontal")]}, "images of report CXR9"),
        ({"images": [("1", "a.png", "Oblique")]}, "row 1 .*'projection' is 'Oblique'"),
        ({"images": [("1", "../../a.png", "Frontal")]}, r"row 1 .*leads out of"),
        ({"images": [("x", "a.png", "Frontal")]}, "'uid' is 'x'"),
    ],
)
def test_bad_tables_are_named(tmp_path, change, problem) -> None:
    with pytest.raises(DataError, match=problem):
        read(kaggle(tmp_path, **change))


def test_a_table_without_codes_is_refused(tmp_path) -> None:
    root = kaggle(tmp_path, drop="MeSH")
    rows = [{k: v for k, v in REPORT.items() if k not in ("MeSH", "Problems")}]
    table(root / "indiana_reports.csv", rows)
    with pytest.raises(DataError, match="neither a column 'MeSH' nor 'Problems'"):
        read(root)


def test_a_report_listed_twice_is_refused(tmp_path) -> None:
    with pytest.raises(DataError, match=r"row 2 .*report '1' is there twice"):
        read(kaggle(tmp_path, {}, {}))


# --- R2Gen's annotation.json


def r2gen(root: Path, **splits: list[dict[str, object]]) -> Path:
    entry = {"id": "CXR1_IM-0001", "report": FINDINGS, "image_path": ["CXR1_IM-0001/0.png"]}
    content = {"train": [entry], "val": [], "test": []} | splits
    (root / "annotation.json").write_text(json.dumps(content), encoding="utf-8")
    png(root / "images" / "CXR1_IM-0001" / "0.png")
    return root


def entry(number: int, **changes: object) -> dict[str, object]:
    name = f"CXR{number}_IM-0001"
    return {"id": name, "report": FINDINGS, "image_path": [f"{name}/0.png"]} | changes


def test_the_r2gen_form_has_a_split_and_no_labels(tmp_path) -> None:
    loaded = read(r2gen(tmp_path, val=[entry(2)], test=[entry(3), entry(4, image_path=[])]))
    assert loaded.test_patients == {"CXR3", "CXR4"}
    assert [r.patient_id for r in loaded.dataset.records] == ["CXR1", "CXR2", "CXR3", "CXR4"]
    assert all(np.isnan(r.labels).all() for r in loaded.dataset.records)
    assert load_input(loaded.dataset.records[0].inputs["image"]).shape == (16, 16)
    assert loaded.dataset.records[0].inputs["text"] == FINDINGS
    assert set(loaded.dataset.records[3].inputs) == {"text"}


def test_a_third_key_spelled_differently_is_refused(tmp_path) -> None:
    r2gen(tmp_path)
    path = tmp_path / "annotation.json"
    for key in ("   ", "tests"):
        path.write_text(json.dumps({"train": [], "val": [], key: []}), encoding="utf-8")
        with pytest.raises(DataError, match=rf"keys 'train', 'val' and 'test'.*rename .*'{key}'"):
            read(tmp_path)


def test_a_report_in_two_splits_is_refused_and_named(tmp_path) -> None:
    with pytest.raises(DataError, match="report CXR1 is in the splits 'train' and 'test'"):
        read(r2gen(tmp_path, test=[entry(1)]))


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ([entry(2, report=3)], "val entry 1 needs a text 'id'"),
        ([entry(2, image_path="a.png")], "a list 'image_path'"),
        ([entry(2, image_path=[1])], "an image path is not a text"),
        ([entry(2, image_path=["../../a.png"])], "leads out of"),
        ([entry(2, id="2384")], "does not begin with CXR"),
        (["x"], "val entry 1 needs"),
        ({}, "'val' must be a list"),
    ],
)
def test_bad_entries_are_named(tmp_path, bad, problem) -> None:
    with pytest.raises(DataError, match=problem):
        read(r2gen(tmp_path, val=bad))


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff", b"[]"])
def test_a_file_that_is_no_such_json_is_refused(tmp_path, content) -> None:
    (tmp_path / "annotation.json").write_bytes(content)
    with pytest.raises(DataError, match=r"annotation\.json"):
        read(tmp_path)


# --- Which form


def test_a_folder_must_hold_one_form(tmp_path) -> None:
    with pytest.raises(DataError, match="holds no Open-I: it needs ecgen-radiology/"):
        read(tmp_path)
    folder(kaggle(tmp_path), xml(1))
    with pytest.raises(DataError, match=r"several forms \(XML, indiana_reports.csv\): keep one"):
        read(tmp_path)


def test_labels_are_chosen_by_name(tmp_path) -> None:
    root = folder(tmp_path, xml(1, majors=("Pneumonia",)))
    assert records(root, labels=("Edema", "Pneumonia"))[0].labels.tolist() == [0, 1]
    with pytest.raises(DataError, match="did you mean 'Pneumonia'"):
        read(root, labels=("pneumonia",))
