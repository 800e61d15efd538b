"""What a check finds: numbers as a loop counts them, unreadable files, and what is wrong."""

import gzip
import math
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from privfin.config import load_config
from privfin.config.data import Source
from privfin.data.catalogue import SOURCES
from privfin.data.check import NAMED_FILES, DataCheck, LabelCount, check_source
from privfin.data.load import READERS, load_source
from privfin.data.tables import iterate_table, watch_tables
from privfin.errors import ConfigError

CHEXPERT_HEADER = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,"
    "Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,"
    "Pleural Effusion,Pleural Other,Fracture,Support Devices"
)


def chexpert(root: Path, patients: int = 6, broken: tuple[int, ...] = ()) -> Path:
    """Studies of patients 0, 1, ...; odd ones have edema; the last third is the test split."""
    lines = {"train": [CHEXPERT_HEADER], "valid": [CHEXPERT_HEADER]}
    noise = np.random.default_rng(0).integers(0, 256, (32, 32)).astype(np.uint8)
    for i in range(patients):
        split = "valid" if i >= 2 * patients / 3 else "train"
        file = f"{split}/patient{i:05d}/study1/view1_frontal.jpg"
        sex, age = ("Male", str(40 + i)) if i else ("Unknown", "")
        labels = ["", "", "1.0"] + [""] * 2 + [f"{i % 2}.0"] + [""] * 8
        lines[split].append(",".join([f"x/{file}", sex, age, "Frontal", "AP", *labels]))
        path = root / file
        path.parent.mkdir(parents=True)
        Image.fromarray(noise).save(path)
        if i in broken:
            path.write_bytes(path.read_bytes()[:400])
    for split, rows in lines.items():
        (root / f"{split}.csv").write_text("\n".join(rows) + "\n")
    return root


def check(source: str, root: Path | None, files: bool = True, **options) -> DataCheck:
    given = [(name.replace("__", "."), value) for name, value in options.items()]
    config = load_config(None, [("data.source", source), ("data.root", root), *given])
    return check_source(config, files=files)


def swap(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_list_of_sources_is_complete() -> None:
    assert [card.name for card in SOURCES] == list(get_args(Source))
    assert {card.name for card in SOURCES} == set(READERS)


def test_numbers_are_those_of_the_records(tmp_path) -> None:
    found = check("chexpert", chexpert(tmp_path))
    assert (found.patients, found.records, found.test_patients) == (6, 6, 2)
    assert found.modalities == {"image": 6, "text": 0}
    assert (found.sex_known, found.age_known) == (5, 5)
    assert (found.files, found.unreadable_files) == (6, 0)
    assert found.labels["Edema"] == LabelCount(known=6, positive=3)
    assert found.labels["Cardiomegaly"] == LabelCount(known=6, positive=6)
    assert found.labels["Fracture"] == LabelCount(known=0, positive=0)
    assert found.usable
    assert found.problems == ()


def test_numbers_agree_with_a_loop_over_a_made_up_source() -> None:
    config = load_config(None, [("data.patients", 60)])
    records = load_source(config).dataset.records
    found = check_source(config)
    assert found.patients == len({r.patient_id for r in records})
    assert found.records == len(records)
    for modality in ("image", "text"):
        assert found.modalities[modality] == sum(modality in r.inputs for r in records)
    for position, count in enumerate(found.labels.values()):
        values = [float(r.labels[position]) for r in records]
        assert count.known == sum(not math.isnan(v) for v in values)
        assert count.positive == sum(v == 1 for v in values)
    assert found.files == 0


def test_every_unreadable_file_is_named(tmp_path) -> None:
    root = chexpert(tmp_path, patients=9, broken=(0, 3, 8))
    (root / "train/patient00004/study1/view1_frontal.jpg").unlink()
    found = check("chexpert", root)
    assert (found.files, found.unreadable_files) == (9, 4)
    named = [p for p in range(9) if any(f"patient{p:05d}" in line for line in found.unreadable)]
    assert named == [0, 3, 4, 8]
    assert "train.csv row 4" in found.unreadable[1]
    assert "cannot be decoded" in found.unreadable[1]
    assert not found.usable
    assert found.problems == (
        "4 files cannot be read: get them again, or leave their records out with "
        "data.skip_bad = true",
    )


def test_unreadable_files_that_will_be_left_out_are_no_problem(tmp_path) -> None:
    root = chexpert(tmp_path, broken=(1,))
    found = check("chexpert", root, data__skip_bad=True)
    assert found.usable
    assert found.unreadable_files == 1
    assert any("1 records will be left out" in text for text in found.warnings)
    every = check("chexpert", chexpert(tmp_path / "all", 3, (0, 1, 2)), data__skip_bad=True)
    assert not every.usable
    assert "none of the 3 files can be read" in every.problems[0]


def test_files_of_a_manifest_are_opened_too(tmp_path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a", "b", "c"):
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "images" / f"{name}.png")
    (tmp_path / "images" / "b.png").write_bytes(b"no image")
    rows = [f"p{n},images/{n}.png,fine,{i % 2}" for i, n in enumerate("abc")]
    (tmp_path / "manifest.csv").write_text("\n".join(["patient_id,image,text,sick", *rows]))
    found = check("manifest", tmp_path, data__labels=["sick"])
    assert (found.files, found.unreadable_files) == (3, 1)
    assert "b.png" in found.unreadable[0]
    assert not found.usable
    allowed = check("manifest", tmp_path, data__labels=["sick"], data__skip_bad=True)
    assert (allowed.files, allowed.unreadable_files) == (3, 1)
    assert allowed.usable


def test_tables_alone_can_be_checked(tmp_path) -> None:
    found = check("chexpert", chexpert(tmp_path, broken=(0, 1)), files=False)
    assert found.files is None
    assert found.unreadable_files == 0
    assert found.usable


def test_a_broken_table_is_a_problem_and_a_wrong_option_is_refused(tmp_path) -> None:
    found = check("chexpert", tmp_path)
    assert found.problems[0].startswith(f"{tmp_path} has no train.csv")
    assert found.patients == 0
    assert not found.usable
    with pytest.raises(ConfigError, match="needs a folder"):
        check("chexpert", None)
    chexpert(tmp_path)
    swap(tmp_path / "valid.csv", "patient00005", "patient00001")
    found = check("chexpert", tmp_path)
    assert "patient 'patient00001' is in the official splits" in found.problems[0]


def test_a_split_without_training_or_test_patients_is_a_problem(tmp_path) -> None:
    chexpert(tmp_path)
    swap(tmp_path / "valid.csv", ",Frontal,AP,", ",Lateral,,")
    found = check("chexpert", tmp_path)
    assert found.test_patients == 0
    assert "no test patient" in found.problems[0]
    assert check("chexpert", tmp_path, data__split="random").usable
    swap(tmp_path / "train.csv", ",Frontal,AP,", ",Lateral,,")
    swap(tmp_path / "valid.csv", ",Lateral,,", ",Frontal,AP,")
    assert "no training patient" in check("chexpert", tmp_path).problems[0]


def test_one_patient_is_not_enough(tmp_path) -> None:
    root = chexpert(tmp_path, patients=3)
    (root / "valid.csv").unlink()
    lines = (root / "train.csv").read_text().splitlines()
    (root / "train.csv").write_text("\n".join(lines[:2]))
    assert "one patient is not enough" in check("chexpert", root).problems[0]


def test_labels_that_cannot_be_learned_are_said(tmp_path) -> None:
    warnings = check("chexpert", chexpert(tmp_path)).warnings
    assert any("'Fracture' is known in no record" in text for text in warnings)
    assert any("'Cardiomegaly' is 1 in every record" in text for text in warnings)
    assert not any("'Edema'" in text for text in warnings)


def test_a_mix_is_checked_by_its_file(tmp_path) -> None:
    chexpert(tmp_path / "data" / "stanford", broken=(2,))
    (tmp_path / "mix.toml").write_text(
        f"""
[data]
source = "mix"
root = "{tmp_path / "data"}"
[[data.part]]
name = "stanford"
source = "chexpert"
folder = "stanford"
[[data.part]]
name = "made-up"
source = "phantom"
patients = 40
"""
    )
    found = check_source(load_config(tmp_path / "mix.toml"))
    assert found.places == {"made-up": 40, "stanford": 6}
    assert found.patients == 46
    assert "patient00002" in found.unreadable[0]
    assert found.unreadable_files == 1
    assert not found.usable
    swap(tmp_path / "mix.toml", 'folder = "stanford"', 'folder = "stanford"\nskip_bad = true')
    assert check_source(load_config(tmp_path / "mix.toml")).usable


def test_progress_counts_up_to_the_end(tmp_path) -> None:
    config = load_config(None, [("data.source", "chexpert"), ("data.root", chexpert(tmp_path))])
    calls: list[tuple[str, int, int]] = []
    check_source(config, progress=lambda *call: calls.append(call))
    opening = [done for stage, done, total in calls if stage == "opening files" and total == 6]
    assert opening == list(range(7))


@pytest.mark.parametrize("packed", [False, True])
def test_reading_a_long_table_is_watched(tmp_path, packed) -> None:
    content = "a,b\n" + "1,2\n" * 50_000
    path = tmp_path / ("long.csv.gz" if packed else "long.csv")
    path.write_bytes(gzip.compress(content.encode()) if packed else content.encode())
    calls: list[tuple[str, int, int]] = []
    with watch_tables(lambda *call: calls.append(call)):
        assert sum(1 for _ in iterate_table(path, ("a",))) == 50_000
    done = [call[1] for call in calls]
    assert len(done) == 25
    assert done == sorted(done)
    assert {call[2] for call in calls} == {path.stat().st_size}
    assert 0 < done[0] <= done[-1] <= path.stat().st_size
    before = len(calls)
    list(iterate_table(path, ("a",)))
    assert len(calls) == before


def test_the_named_files_are_bounded(tmp_path, monkeypatch) -> None:
    import privfin.data.check as module

    assert NAMED_FILES >= 1000
    monkeypatch.setattr(module, "NAMED_FILES", 2)
    found = check("chexpert", chexpert(tmp_path, 9, (0, 1, 2, 3)))
    assert found.unreadable_files == 4
    assert len(found.unreadable) == 2
