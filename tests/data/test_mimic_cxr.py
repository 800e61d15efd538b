"""MIMIC-CXR-JPG's layout, on tiny folders written here."""

import csv
import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from privfin.data import report_files
from privfin.data.mimic_cxr import read_mimic_cxr
from privfin.data.records import Record, load_input
from privfin.data.sources import LoadedData
from privfin.errors import DataError

# The order of the published columns, which is not CheXpert's.
LABELS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum",
    "Fracture", "Lung Lesion", "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other",
    "Pneumonia", "Pneumothorax", "Support Devices",
)  # fmt: skip
ONE, TWO = "10000032", "10000764"


def dicom(number: int) -> str:
    return "-".join([f"{number:08x}"] * 5)


#: (dicom number, patient, study, view, split)
IMAGES = (
    (5, ONE, "50414267", "AP", "train"),
    (2, ONE, "50414267", "PA", "train"),
    (3, ONE, "50414267", "PA", "train"),
    (1, ONE, "50414267", "LATERAL", "train"),
    (6, TWO, "57375967", "AP", "test"),
)
FINDINGS = {"50414267": "Clear lungs.", "57375967": "Large effusion."}
VALUES = {
    "50414267": {"Pneumonia": "1.0", "Edema": "0.0", "Fracture": "-1.0"},
    "57375967": {"Pleural Effusion": "1.0"},
}


def report(findings: str) -> str:
    text = f"\n FINDINGS:  {findings}\n" if findings else ""
    return f"  FINAL REPORT\n INDICATION:  Cough.\n{text}\n IMPRESSION:  Secretword.\n"


def table(path: Path, header: tuple[str, ...], rows: list[dict[str, str]], packed: bool) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, header, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    if packed:
        with gzip.open(f"{path}.gz", "wt", encoding="utf-8") as file:
            file.write(text.getvalue())
    else:
        path.write_text(text.getvalue(), encoding="utf-8")


def write(
    root: Path,
    images=IMAGES,
    *,
    packed: bool = False,
    zipped: bool = False,
    release: str = "2.0.0",
    labeler: str = "chexpert",
    values=VALUES,
    findings=FINDINGS,
    drop: tuple[str, str] = ("", ""),
) -> Path:
    def save(kind: str, header: tuple[str, ...], rows: list[dict[str, str]]) -> None:
        kept = tuple(c for c in header if (kind, c) != drop)
        table(root / f"mimic-cxr-{release}-{kind}.csv", kept, rows, packed)

    listed = [
        {"dicom_id": dicom(n), "subject_id": p, "study_id": s, "ViewPosition": v, "split": split}
        for n, p, s, v, split in images
    ]
    subjects = {s: p for _, p, s, _, _ in images}
    save("metadata", ("dicom_id", "subject_id", "study_id", "Rows", "ViewPosition"), listed)
    save("split", ("dicom_id", "study_id", "subject_id", "split"), listed)
    labelled = [
        {"subject_id": subjects[study], "study_id": study} | given
        for study, given in values.items()
    ]
    save(labeler, ("subject_id", "study_id", *LABELS), labelled)
    for number, patient, study, _, _ in images:
        path = root / f"files/p{patient[:2]}/p{patient}/s{study}/{dicom(number)}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((30, 20), 10 * number, dtype=np.uint8)).save(path)
    texts = {
        f"files/p{subjects[study][:2]}/p{subjects[study]}/s{study}.txt": report(text)
        for study, text in findings.items()
    }
    if zipped:
        with zipfile.ZipFile(root / "mimic-cxr-reports.zip", "w") as file:
            for name, text in texts.items():
                file.writestr(name, text)
    else:
        for name, text in texts.items():
            (root / name).write_text(text, encoding="utf-8")
    return root


def read(root: Path, **options) -> LoadedData:
    return read_mimic_cxr(root, image_size=16, **options)


def records(root: Path, **options) -> dict[str, Record]:
    return {r.record_id: r for r in read(root, **options).dataset.records}


def test_a_study_becomes_a_record(tmp_path) -> None:
    loaded = read(write(tmp_path))
    first, second = loaded.dataset.records
    assert (first.record_id, first.patient_id) == ("s50414267", ONE)
    assert load_input(first.inputs["text"]) == "Clear lungs."
    assert load_input(first.inputs["image"]).shape == (16, 16)
    assert second.patient_id == TWO
    assert loaded.test_patients == {TWO}


def test_labels_are_matched_by_name_and_blank_is_unknown(tmp_path) -> None:
    loaded = read(write(tmp_path))
    values = dict(zip(loaded.dataset.label_names, loaded.dataset.records[0].labels, strict=True))
    assert (values["Pneumonia"], values["Edema"]) == (1, 0)
    unknown = {name for name, value in values.items() if np.isnan(value)}
    assert unknown == set(LABELS) - {"Pneumonia", "Edema"}


@pytest.mark.parametrize(("policy", "value"), [("unknown", np.nan), ("zero", 0), ("one", 1)])
def test_uncertain_labels_follow_the_policy(tmp_path, policy, value) -> None:
    labels = records(write(tmp_path), labels=("Fracture",), uncertain=policy)["s50414267"].labels
    assert np.array_equal(labels, [value], equal_nan=True)


def test_one_frontal_image_stands_for_a_study(tmp_path) -> None:
    loaded = read(write(tmp_path))
    path = loaded.dataset.records[0].inputs["image"].path
    assert path.name == f"{dicom(2)}.jpg"  # PA before AP, then the first by dicom id
    assert path.parts[-5:-1] == ("files", "p10", f"p{ONE}", "s50414267")
    assert "left out 1 images that are not frontal" in loaded.dataset.notices
    left = "left out 2 further frontal images of studies with several"
    assert left in loaded.dataset.notices


def test_all_views_are_records_of_one_patient(tmp_path) -> None:
    found = records(write(tmp_path), views="all")
    assert list(found)[:4] == [f"s50414267/{dicom(n)}" for n in (1, 2, 3, 5)]
    assert {r.patient_id for r in list(found.values())[:4]} == {ONE}
    assert {load_input(r.inputs["text"]) for r in list(found.values())[:4]} == {"Clear lungs."}


def test_packed_and_plain_forms_say_the_same(tmp_path) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
    plain = read(write(tmp_path / "a"))
    packed = read(write(tmp_path / "b", packed=True, zipped=True, release="2.1.0"))
    assert plain.dataset.fingerprint() == packed.dataset.fingerprint()
    assert plain.dataset.notices == packed.dataset.notices
    assert plain.test_patients == packed.test_patients
    # A changed report changes the fingerprint, although it stays in its file.
    other = read(write(tmp_path / "c", findings=FINDINGS | {"50414267": "Opacity."}))
    assert other.dataset.fingerprint() != plain.dataset.fingerprint()


def test_reports_without_findings_leave_no_text(tmp_path) -> None:
    loaded = read(write(tmp_path, findings={"50414267": ""}))
    assert [set(r.inputs) for r in loaded.dataset.records] == [{"image"}, {"image"}]
    assert loaded.dataset.notices[-2:] == (
        "1 studies have no report: their records have no text",
        "1 reports lack the sections asked for: their records have no text",
    )


def test_the_sections_asked_for_are_read(tmp_path) -> None:
    found = records(write(tmp_path), sections=("indication", "findings"))
    assert load_input(found["s57375967"].inputs["text"]) == "Cough.\nLarge effusion."


def test_studies_without_a_frontal_image_keep_their_text(tmp_path) -> None:
    images = (*IMAGES, (7, ONE, "59999999", "LL", "train"), (8, ONE, "58888888", "LL", "train"))
    root = write(tmp_path, images, findings=FINDINGS | {"59999999": "Effusion."})
    found = records(root)
    assert set(found["s59999999"].inputs) == {"text"}
    assert "s58888888" not in found
    notices = read(root).dataset.notices
    assert "left out 1 studies without text and without a frontal image" in notices
    assert "2 studies are not in the table of labels: their labels are unknown" in notices
    assert np.isnan(found["s59999999"].labels).all()


def test_validation_patients_are_trained_on_and_counted(tmp_path) -> None:
    images = (*IMAGES, (7, "10009999", "59999999", "PA", "validate"))
    loaded = read(write(tmp_path, images))
    assert loaded.test_patients == {TWO}
    notice = "1 patients of the official split 'validate' are trained on"
    assert notice in loaded.dataset.notices


@pytest.mark.parametrize("other", ["test", "validate"])
def test_a_patient_in_two_official_splits_is_refused_and_named(tmp_path, other) -> None:
    root = write(tmp_path, (*IMAGES, (9, ONE, "59999999", "PA", other)))
    with pytest.raises(DataError, match=rf"row 6 .*patient p{ONE} .*'train' and '{other}'"):
        read(root)


def test_without_a_split_table_test_patients_are_drawn(tmp_path) -> None:
    (write(tmp_path) / "mimic-cxr-2.0.0-split.csv").unlink()
    loaded = read(tmp_path)
    assert loaded.test_patients is None
    assert any("no official split" in notice for notice in loaded.dataset.notices)


def test_negbio_stands_in_for_chexpert(tmp_path) -> None:
    loaded = read(write(tmp_path, labeler="negbio"))
    assert "labels are those of negbio" in loaded.dataset.notices
    write(tmp_path, values=VALUES | {"50414267": {"Pneumonia": "0.0"}})
    both = read(tmp_path)
    assert "labels are those of chexpert" in both.dataset.notices
    assert both.dataset.records[0].labels[both.dataset.label_names.index("Pneumonia")] == 0


@pytest.mark.parametrize(
    ("kind", "column"),
    [("metadata", "ViewPosition"), ("metadata", "dicom_id"), ("split", "split"),
     ("chexpert", "Pneumonia"), ("chexpert", "study_id")],
)  # fmt: skip
def test_missing_columns_are_named(tmp_path, kind, column) -> None:
    root = write(tmp_path, drop=(kind, column))
    with pytest.raises(DataError, match=rf"mimic-cxr-2\.0\.0-{kind}\.csv has no column '{column}'"):
        read(root)


def test_a_label_that_is_not_read_need_not_be_there(tmp_path) -> None:
    root = write(tmp_path, drop=("chexpert", "Fracture"))
    assert records(root, labels=("Pneumonia",))["s50414267"].labels.tolist() == [1]


@pytest.mark.parametrize("kind", ["metadata", "chexpert"])
def test_missing_tables_are_named(tmp_path, kind) -> None:
    (write(tmp_path) / f"mimic-cxr-2.0.0-{kind}.csv").unlink()
    with pytest.raises(DataError, match=rf"mimic-cxr-2\.0\.0-{kind}\.csv does not exist"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        ((9, "../../32", "59999999", "PA", "train"), "'subject_id' is '../../32': not 8 digits"),
        ((9, ONE, "5", "PA", "train"), "'study_id' is '5': not 8 digits"),
        ((9, TWO, "50414267", "PA", "test"), f"study s50414267 belongs to patient p{TWO}"),
        ((9, "10009999", "59999999", "PA", "held"), "'split' is 'held'; use train"),
    ],
)
def test_bad_rows_are_named(tmp_path, image, problem) -> None:
    root = write(tmp_path)
    number, patient, study, view, split = image
    for kind, cells in (
        ("metadata", (dicom(number), patient, study, "", view)),
        ("split", (dicom(number), study, patient, split)),
    ):
        with (root / f"mimic-cxr-2.0.0-{kind}.csv").open("a", encoding="utf-8") as file:
            file.write(",".join(cells) + "\n")
    with pytest.raises(DataError, match=rf"row 6 .*{problem}"):
        read(root)


def test_a_dicom_id_that_is_a_path_is_refused(tmp_path) -> None:
    with (write(tmp_path) / "mimic-cxr-2.0.0-metadata.csv").open("a", encoding="utf-8") as file:
        file.write(f"../../x,{ONE},50414267,,PA\n")
    with pytest.raises(DataError, match=r"row 6 .*'dicom_id' is '\.\./\.\./x'"):
        read(tmp_path)


@pytest.mark.parametrize("value", ["2", "yes", "-0.5"])
def test_other_label_values_are_refused(tmp_path, value) -> None:
    root = write(tmp_path, values=VALUES | {"57375967": {"Edema": value}})
    with pytest.raises(DataError, match=rf"row 2 .*column 'Edema' is '{value}'"):
        read(root)


def test_a_study_labelled_for_another_patient_is_refused(tmp_path) -> None:
    path = write(tmp_path) / "mimic-cxr-2.0.0-chexpert.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(TWO, ONE), encoding="utf-8")
    with pytest.raises(DataError, match=rf"study s57375967 belongs to patient p{ONE} here"):
        read(tmp_path)


def test_an_image_that_is_not_there_is_named_when_it_is_asked_for(tmp_path) -> None:
    record = records(write(tmp_path))["s57375967"]
    record.inputs["image"].path.unlink()
    with pytest.raises(DataError, match=f"study s57375967 of patient p{TWO}: image .* not exist"):
        load_input(record.inputs["image"])


def test_damaged_reports_are_named(tmp_path, monkeypatch) -> None:
    write(tmp_path, zipped=True)
    path = tmp_path / "mimic-cxr-reports.zip"
    whole = path.read_bytes()
    path.write_bytes(whole[:40])
    with pytest.raises(DataError, match=r"mimic-cxr-reports\.zip cannot be opened"):
        read(tmp_path)
    path.write_bytes(whole.replace(b"Clear lungs", b"Other lungs"))  # the checksum is wrong
    with pytest.raises(DataError, match=r"s50414267\.txt cannot be read .*CRC"):
        read(tmp_path)
    path.write_bytes(whole)
    monkeypatch.setattr(report_files, "LARGEST_REPORT", 10)
    with pytest.raises(DataError, match=r"s50414267\.txt is larger than 10 bytes"):
        read(tmp_path)


def test_reports_are_not_kept_in_memory(tmp_path) -> None:
    record = records(write(tmp_path))["s50414267"]
    path = tmp_path / f"files/p10/p{ONE}/s50414267.txt"
    path.write_text(report("Changed."), encoding="utf-8")
    assert load_input(record.inputs["text"]) == "Changed."
    path.write_text(report(""), encoding="utf-8")
    with pytest.raises(DataError, match="has no findings any more"):
        load_input(record.inputs["text"])
