"""Bad input: one line that says what is wrong, exit code 2, and nothing changed on disk."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Refused = Callable[..., str]
Hospitals = Callable[..., Path]
Options = Callable[..., list[str]]

# Three quarters of 6,000 patients over ten sites make 450 each.
SIZES = ["train", "--set", "data.patients=6000", "--set", "data.test_fraction=0.25"]
SIZES += ["--set", "federation.sites=10", "--set", "crypto.value_bits=16"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "--epsilom", "8"], "--epsilon"),
        (["train", "--epsilon"], "requires an argument"),
        (["train", "--epsilon", "abc"], "'abc' is not a valid float"),
        (["train", "--epsilon", "0"], "privacy.epsilon = 0.0"),
        (["train", "--epsilon", "-1"], "privacy.epsilon = -1.0"),
        (["train", "--epsilon", "nan"], "privacy.epsilon"),
        (["train", "--epsilon=-inf"], "privacy.epsilon"),
        (["train", "--delta", "x"], "--delta 'x'"),
        (["train", "--delta", "nan"], "delta"),
        (["train", "--delta", "0"], "delta"),
        (["train", "--delta", "1"], "delta"),
        ([*SIZES, "--delta", "0.01"], "delta 0.01 is too large for 450 patients"),
        ([*SIZES, "--dry-run", "--delta", "0.01"], "must stay below 1/450"),
        (["train", "--rounds", "0"], "training.rounds = 0"),
        (["train", "--rounds", "1.5"], "not a valid integer"),
        (["train", "--sites", "0"], "federation.sites = 0"),
        ([*SIZES, "--sites", "17"], "cannot sum 17 sites of 16-bit values"),
        (["train", "--sites", "1", "--modalities", "0:0:1"], "hides nothing"),
        (["train", "--sites", "2"], "needs at least 3 sites"),
        (["train", "--modalities", "4-4-2"], "not of the form a:b:c"),
        (["train", "--imputer", "magic"], "model.imputer = 'magic'"),
        (["train", "--encryption", "rot13"], "crypto.encryption = 'rot13'"),
        (["train", "--set", "training.round=3"], "did you mean 'rounds'?"),
        (["train", "--set", "trainin.rounds=3"], "did you mean 'training'?"),
        (["train", "--set", "rounds=3"], "section.key=value"),
        (["train", "--set", "training.rounds"], "section.key=value"),
        (["train", "--set", "training.rounds.x=1"], "training.rounds"),
        ([*SIZES, "--set", "training.batch_size=700"], "fewer"),
        (["train", "--set", "data.image_size=128", "--rounds", "1"], "image size"),
        (["train", "nowhere.toml"], "cannot read nowhere.toml: No such file"),
        (["train", "."], "cannot read"),
        (
            ["train", "--no-ledger", "--set", "data.source=manifest", "--data-root", "empty"],
            "data.labels is empty",
        ),
        (["train", "--set", "data.source=covid-cxr"], "--data-root"),
        (["train", "--set", "data.source=covid-cxr", "--dry-run"], "patients = N"),
        (
            ["train", "--no-ledger", "--set", "data.source=covid-cxr", "--data-root", "empty"],
            "metadata.csv",
        ),
        (["train", "--resume"], "--resume needs --out"),
        (["train", "--resume", "--out", "nowhere"], "not a run directory"),
        (["train", "--resume", "--out", "empty"], "not a run directory"),
        (["train", "--resume", "--dry-run", "--out", "empty"], "do not go together"),
        (["train", "--out", "empty"], "empty exists"),
        (["train", "a.toml", "b.toml"], "unexpected extra argument"),
        (["tarin"], "No such command 'tarin'"),
        (["predict"], "Missing argument"),
        (["predict", "nowhere", "--text", "x"], "not a run directory"),
    ],
)
def test_bad_options(refused: Refused, folder: Path, words: list[str], expected: str) -> None:
    (folder / "empty").mkdir()
    assert expected in refused(*words)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[training]\nround = 3\n", "unknown key 'training.round'; did you mean 'rounds'?"),
        ("[trianing]\nrounds = 3\n", "did you mean 'training'?"),
        ("[modalities.image]\nencodr = 'cnn'\n", "did you mean 'encoder'?"),
        ("[[federation.site]]\nnam = 'a'\nmatch = ['*']\n", "did you mean 'name'?"),
        ("[training]\nrounds = 'many'\n", "training.rounds = 'many'"),
        ("[privacy]\nepsilon = nan\n", "privacy.epsilon"),
        ("[training\nrounds = 3\n", "is not valid TOML"),
        ("[model]\nwidth = 9\n", "must divide width"),
        ("\x00", "is not valid TOML"),
    ],
)
def test_bad_configuration_files(refused: Refused, folder: Path, text: str, expected: str) -> None:
    path = folder / "my.toml"
    path.write_text(text)
    line = refused("train", path)
    assert expected in line
    assert "my.toml" in line


def test_a_configuration_that_is_not_text(refused: Refused, folder: Path) -> None:
    (folder / "my.toml").write_bytes(b"\xff\xfe\x00")
    assert "not valid TOML" in refused("train", "my.toml")


def test_sites_option_beside_named_sites(refused: Refused, hospitals: Hospitals) -> None:
    config = hospitals()
    assert "--sites has no effect" in refused("train", config, "--sites", "3")


# --- data -----------------------------------------------------------------------------------


def _set(row: int, **cells: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda rows: rows[row].update(cells)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_set(4, sick="yes"), ["row 5", "'sick' is 'yes'", "0, 1 or blank"]),
        (_set(4, sick="2"), ["row 5", "'sick' is '2'"]),
        (_set(4, sick="-1"), ["'sick' is '-1'"]),
        (_set(4, patient_id=""), ["row 5", "'patient_id' is blank"]),
        (_set(4, image="images/none.png"), ["row 5", "none.png", "does not exist"]),
        (_set(4, image="../outside.png"), ["row 5", "leads out of"]),
        (_set(4, image="/etc/passwd"), ["absolute path"]),
        (_set(4, split="dev"), ["'split' is 'dev'"]),
        (_set(4, patient_id="patient-003"), ["patient 'patient-003' is in both splits"]),
        (lambda rows: [r.pop("sick") for r in rows], ["no column 'sick'"]),
        (lambda rows: [r.update(split="train") for r in rows], ["both 'train' and 'test'"]),
        (lambda rows: [r.update(hospital="North") for r in rows], ["'south'", "0 patients"]),
        (
            lambda rows: [r.update(hospital="North") for r in rows[13:]],
            ["'south'", "fewer than one batch of 4"],
        ),
        (
            lambda rows: [r.update(sick="") for r in rows if r["split"] == "test"],
            ["no held-out patient"],
        ),
    ],
)
def test_bad_manifests(
    refused: Refused, hospitals: Hospitals, change: Any, expected: list[str]
) -> None:
    config = hospitals(change)
    line = refused("train", "--no-ledger", config, "--data-root", "data", "--out", "run")
    for word in expected:
        assert word in line


def test_a_manifest_that_is_not_there(refused: Refused, hospitals: Hospitals, folder: Path) -> None:
    config = hospitals()
    (folder / "data" / "manifest.csv").unlink()
    assert "manifest.csv does not exist" in refused(
        "train", "--no-ledger", config, "--data-root", "data"
    )
    assert "--data-root" in refused("train", config)
    assert "does not exist" in refused("train", "--no-ledger", config, "--data-root", "elsewhere")


def test_an_image_that_cannot_be_decoded_is_named(
    refused: Refused, hospitals: Hospitals, folder: Path
) -> None:
    config = hospitals()
    (folder / "data" / "images" / "007.png").write_bytes(b"not a picture")
    line = refused("train", "--no-ledger", config, "--data-root", "data", "--out", "run")
    assert "007.png cannot be decoded" in line
    assert "row 8" in line
    assert "--skip-bad" in line


def test_skip_bad_leaves_the_image_out_and_says_so(
    privfin: Callable[..., Any], hospitals: Hospitals, folder: Path
) -> None:
    config = hospitals()
    (folder / "data" / "images" / "007.png").write_bytes(b"not a picture")
    words = ["train", "--no-ledger", config, "--data-root", "data", "--skip-bad", "--rounds", "1"]
    said = privfin(*words, "--out", "run")
    assert said.code == 0, said.err
    assert "note: skipped manifest.csv row 8" in said.out
    assert "007.png" in said.out
    # The terminal names the file for whoever has the data; the run directory does not.
    kept = b"".join(p.read_bytes() for p in (folder / "run").rglob("*") if p.is_file())
    assert b"007.png" not in kept
    assert b"patient-0" not in kept
    assert str(folder).encode() not in kept
    manifest = json.loads((folder / "run" / "manifest.json").read_text())
    assert manifest["notices"] == ["skipped 1 records whose input could not be read"]


def test_covid_folder_without_its_images(refused: Refused, folder: Path) -> None:
    root = folder / "covid"
    root.mkdir()
    rows = "".join(f"{i},PA,X-ray,Rome,a{i}.png,notes,COVID-19\n" for i in range(40))
    (root / "metadata.csv").write_text(
        f"patientid,view,modality,location,filename,clinical_notes,finding\n{rows}"
    )
    words = [
        "train",
        "--no-ledger",
        "--set",
        "data.source=covid-cxr",
        "--data-root",
        "covid",
        "--sites",
        "3",
    ]
    line = refused(*words, "--set", "training.batch_size=8")
    assert re.search(r"metadata\.csv row \d+ .*a\d+\.png", line)
    assert "does not exist" in line


# --- resume ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def stopped_once(
    tmp_path_factory: pytest.TempPathFactory, tiny_options: Options
) -> tuple[Path, int, str]:
    """A run that stopped after its first round of two, the exit code and what was said."""
    from privfin.cli.app import run
    from privfin.federation import training_run

    real = training_run.train_locally

    def stop(*args: Any, **options: Any) -> Any:
        asked = iter([False, True])
        return real(*args, **{**options, "should_stop": lambda: next(asked)})

    path = tmp_path_factory.mktemp("stopped") / "run"
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said):
        patch.setattr(training_run, "train_locally", stop)
        code = run(["train", *tiny_options(), "--out", str(path)])
    return path, code, said.getvalue()


@pytest.fixture
def stopped(folder: Path, stopped_once: tuple[Path, int, str]) -> Path:
    """A copy of the stopped run."""
    shutil.copytree(stopped_once[0], folder / "run")
    return folder / "run"


def test_a_stopped_run_says_how_to_go_on(stopped_once: tuple[Path, int, str]) -> None:
    path, code, said = stopped_once
    assert code == 130
    assert said == f"privfin: stopped; go on with: privfin train --resume --out {path}\n"


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["--epsilon", "3"], "privacy.epsilon was 8.0, is now 3.0"),
        (["--rounds", "9"], "training.rounds was 2, is now 9"),
        (["--encryption", "none"], "crypto.encryption was bfv, is now none"),
        (["--set", "model.width=16"], "model.width was 8, is now 16"),
        (["--set", "modalities.text.features=64"], "modalities.text.features was 512, is now 64"),
        (["--skip-bad"], "data.skip_bad was False, is now True"),
        (["--set", "privacy.reproducible=true"], "privacy.reproducible was False"),
    ],
)
def test_resume_names_the_option_that_changed(
    refused: Refused, stopped: Path, words: list[str], option: str
) -> None:
    assert option in refused("train", "--resume", "--out", "run", *words)


def test_resume_with_another_configuration_file(
    refused: Refused, stopped: Path, folder: Path, tiny_options: Options
) -> None:
    (folder / "other.toml").write_text("[federation]\nalpha = 123.5\n")
    line = refused("train", "other.toml", *tiny_options(), "--resume", "--out", "run")
    assert "federation.alpha was" in line
    assert "is now 123.5" in line


def test_resume_with_a_key_that_does_not_exist(refused: Refused, stopped: Path) -> None:
    line = refused("train", "--resume", "--out", "run", "--set", "training.round=2")
    assert "did you mean 'rounds'?" in line
    assert "unknown key 'x'" in refused("train", "--resume", "--out", "run", "--set", "x.y=2")


def test_resume_with_the_same_options_goes_on(
    privfin: Callable[..., Any], refused: Refused, stopped: Path, tiny_options: Options
) -> None:
    said = privfin("train", *tiny_options(), "--epsilon", "8", "--resume", "--out", "run")
    assert said.code == 0, said.err
    assert "round 2/2" in said.out
    assert "round 1/2" not in said.out
    assert "has finished" in refused("train", "--resume", "--out", "run")
    assert "exists" in refused("train", *tiny_options(), "--out", "run")


def test_resume_of_a_damaged_run(refused: Refused, stopped: Path) -> None:
    (stopped / "manifest.json").write_text("{")
    assert "cannot be read as JSON" in refused("train", "--resume", "--out", "run")
    (stopped / "manifest.json").write_text('{"format": 99}')
    assert "format 99" in refused("train", "--resume", "--out", "run")


def test_resume_with_a_damaged_checkpoint(refused: Refused, stopped: Path) -> None:
    (stopped / "checkpoints" / "round-000001.safetensors").write_bytes(b"damaged")
    line = refused("train", "--resume", "--out", "run")
    assert "round-000001.safetensors cannot be read" in line


def test_resume_while_another_process_works_on_the_run(refused: Refused, stopped: Path) -> None:
    from privfin.runs import load_run

    with load_run(stopped).lock():
        line = refused("train", "--resume", "--out", "run")
    assert "another process" in line


def test_resume_on_other_data(refused: Refused, hospitals: Hospitals, privfin: Any) -> None:
    config = hospitals()
    from privfin.federation import training_run

    with pytest.MonkeyPatch.context() as patch:
        real = training_run.train_locally
        patch.setattr(
            training_run,
            "train_locally",
            lambda *a, **o: real(*a, **{**o, "should_stop": lambda: True}),
        )
        assert (
            privfin("train", "--no-ledger", config, "--data-root", "data", "--out", "run").code
            == 130
        )
    hospitals(_set(3, sick=0))
    line = refused("train", "--resume", "--out", "run", "--data-root", "data")
    assert "the records of 'held-out'" in line
    assert "--data-root" in refused("train", "--resume", "--out", "run")
    hospitals()
    again = privfin("train", "--resume", "--out", "run", "--set", "data.root=data")
    assert again.code == 0, again.err


# --- a full disk ----------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 3, 5, 8, 14])
def test_a_full_disk_ends_in_one_line_and_the_run_goes_on_later(
    folder: Path,
    privfin: Callable[..., Any],
    tiny_options: Options,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
) -> None:
    sync = os.fsync
    count = 0

    def full(number: int) -> None:
        nonlocal count
        count += 1
        if count > after:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(number)

    options = tiny_options(privacy__reproducible="true")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        said = privfin("train", *options, "--out", "run")
    assert said.code == 2, said
    assert said.err.count("\n") == 1
    assert "no space left on the disk" in said.err
    assert "Traceback" not in said.err + said.out
    assert not list(folder.rglob("*.tmp"))
    assert not (folder / "run" / "model.safetensors").exists()
    if after == 0:  # not even the manifest: nothing is left behind that looks like a run
        assert not (folder / "run").exists()
        return
    again = privfin("train", "--resume", "--out", "run")
    assert again.code == 0, again.err


def test_a_folder_that_cannot_be_written(
    refused: Refused, folder: Path, tiny_options: Options
) -> None:
    (folder / "file").write_text("x")
    line = refused("train", *tiny_options(), "--out", "file/run")
    assert "cannot write" in line


def test_out_can_be_made_in_folders_that_do_not_exist_yet(
    privfin: Callable[..., Any], folder: Path, tiny_options: Options
) -> None:
    said = privfin("train", *tiny_options(), "--rounds", "1", "--out", "a/b/run")
    assert said.code == 0, said.err
    assert (folder / "a" / "b" / "run" / "model.safetensors").exists()
