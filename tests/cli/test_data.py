"""``privfin data list`` and ``privfin data check`` as a user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from privfin.data.catalogue import SOURCES

Call = Callable[..., Any]
HEADER = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,"
    "Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,"
    "Pleural Effusion,Pleural Other,Fracture,Support Devices"
)


def chexpert(root: Path, patients: int, broken: int = 0) -> Path:
    """CheXpert with as many studies, the first ``broken`` of them with a truncated image."""
    rows: dict[str, list[str]] = {"train": [HEADER], "valid": [HEADER]}
    noise = np.random.default_rng(0).integers(0, 256, (24, 24)).astype(np.uint8)
    for i in range(patients):
        split = "train" if i < patients - 2 else "valid"
        file = f"{split}/patient{i:05d}/study1/view1_frontal.jpg"
        rows[split].append(f"CheXpert-v1.0/{file},Female,50,Frontal,PA" + f",{i % 2}.0" * 14)
        (root / file).parent.mkdir(parents=True)
        Image.fromarray(noise).save(root / file)
        if i < broken:
            (root / file).write_bytes((root / file).read_bytes()[:300])
    for split, lines in rows.items():
        (root / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return root


def widest(text: str) -> int:
    return max(len(line) for line in text.splitlines())


def test_the_list_names_every_source(privfin: Call) -> None:
    said = privfin("data", "list")
    assert said.code == 0
    for card in SOURCES:
        assert f"{card.name}: {card.holds}" in said.out
        assert card.access in said.out
        assert all(file in said.out for file in card.files)
    assert widest(said.out) <= 80
    listed = json.loads(privfin("data", "list", "--json").out)
    assert [entry["name"] for entry in listed] == [card.name for card in SOURCES]
    assert set(listed[0]) == {"name", "holds", "files", "access"}


def test_a_usable_folder(privfin: Call, folder: Path) -> None:
    chexpert(folder, 6)
    said = privfin("data", "check", "chexpert", "--data-root", folder)
    assert said.code == 0, said.err
    assert said.err == ""
    assert widest(said.out) <= 80
    assert "not for publication" in " ".join(said.out.split())
    rows = [line.replace("│", " ").split() for line in said.out.splitlines()]
    assert ["patients", "6"] in rows
    assert ["test", "patients", "2"] in rows
    assert ["records", "(a", "study", "each)", "6"] in rows
    assert ["Edema", "6", "3", "0"] in rows
    assert ["files", "opened", "6"] in rows
    assert "Usable: yes" in said.out


def test_a_folder_with_broken_files_shows_twenty_and_counts_the_rest(
    privfin: Call, folder: Path
) -> None:
    chexpert(folder, 30, broken=23)
    said = privfin("data", "check", "chexpert", "--data-root", folder)
    assert said.code == 2
    flat = " ".join(said.out.split())
    shown = [i for i in range(30) if f"patient{i:05d}/study1" in flat.replace(" ", "")]
    assert shown == list(range(20))
    assert "Files that cannot be read: 23" in said.out
    assert "and 3 more" in said.out
    assert "Usable: NO" in said.out
    assert said.err.count("\n") == 1
    assert said.err.startswith("privfin: chexpert is not usable as it is: 23 files cannot be read")
    assert widest(said.out) <= 80


def test_json_names_every_file(privfin: Call, folder: Path) -> None:
    chexpert(folder, 30, broken=23)
    said = privfin("data", "check", "chexpert", "--data-root", folder, "--json")
    assert said.code == 2
    found = json.loads(said.out)
    assert found["usable"] is False
    assert len(found["unreadable"]) == found["unreadable_files"] == 23
    assert found["labels"]["Edema"] == {"known": 30, "positive": 15}
    assert "not for publication" in found["notice"]
    options = ["--json", "--set", "data.skip_bad=true"]
    again = privfin("data", "check", "chexpert", "--data-root", folder, *options)
    assert again.code == 0
    assert json.loads(again.out)["usable"] is True


def test_tables_only(privfin: Call, folder: Path) -> None:
    chexpert(folder, 6, broken=6)
    said = privfin("data", "check", "chexpert", "--data-root", folder, "--no-images")
    assert said.code == 0, said.err
    assert "none (--no-images)" in said.out


def test_a_configuration_file_can_be_checked(privfin: Call, hospitals: Call) -> None:
    config = hospitals(settings=[])
    said = privfin("data", "check", config, "--data-root", "data")
    assert said.code == 0, said.err
    assert "North General" in said.out
    assert "South General" in said.out


def test_nothing_is_written(privfin: Call, folder: Path) -> None:
    chexpert(folder, 6)
    before = sorted(folder.rglob("*"))
    privfin("data", "check", "chexpert", "--data-root", folder)
    assert sorted(folder.rglob("*")) == before


def test_text_from_files_cannot_steer_the_terminal(
    privfin: Call, hospitals: Call, folder: Path
) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        for row in rows[:10]:
            row["hospital"] = "\x1b[31mEvil\x07 [bold]place[/bold]"
        rows[0]["image"] = "images/\x1b]0;x.png"

    said = privfin("data", "check", hospitals(change), "--data-root", "data")
    assert "?[31mEvil? [bold]place[/bold]" in said.out
    for text in (said.out, said.err):
        assert not [c for c in text if not c.isprintable() and c != "\n"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["chexprt"], "'chexprt' is not a source; did you mean 'chexpert'?"),
        (["chexpert"], "chexpert needs a folder: give --data-root DIR"),
        (["mix"], "a mix is checked by its configuration file"),
        (["nowhere.toml"], "cannot read nowhere.toml"),
        (["openi", "--set", "data.veiws=all"], "did you mean 'views'?"),
        (["openi", "--set", "data"], "section.key=value"),
        (["phantom", "--set", 'data.labels=["Edema"]'], "data.labels"),
        (["manifest", "--data-root", "."], "data.labels is empty"),
        ([], "SOURCE"),
    ],
)
def test_bad_input_is_one_line(refused: Call, words: list[str], expected: str) -> None:
    assert expected in refused("data", "check", *words)


def test_an_empty_folder_is_not_usable(privfin: Call, folder: Path) -> None:
    for source in ("chexpert", "chexpert-plus", "padchest", "medmnist", "openi", "covid-cxr"):
        said = privfin("data", "check", source, "--data-root", folder)
        assert said.code == 2, source
        assert said.err.startswith(f"privfin: {source} is not usable as it is: "), said.err
        assert said.err.count("\n") == 1
        assert "Usable: NO" in said.out


def test_help_is_quick_to_import() -> None:
    # Help must not wait for torch; nor must a list of sources.
    code = (
        "import sys; from privfin.cli.app import run; run(['data', 'list']); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)  # noqa: S603
    assert done.returncode == 0
