"""``privfin train`` and ``privfin predict`` when all is well."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Call = Callable[..., Any]
Options = Callable[..., list[str]]


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to read or make data fails."""
    from privfin.data import phantom
    from privfin.federation import prepare

    def fail(*args: Any, **options: Any) -> Any:
        raise AssertionError("data was touched")

    monkeypatch.setattr(prepare, "load_source", fail)
    monkeypatch.setattr(phantom, "generate_phantom", fail)


def test_dry_run_prints_the_plan_and_touches_no_data(
    no_data: None, privfin: Call, folder: Path, tiny_options: Options
) -> None:
    said = privfin("train", "--dry-run", *tiny_options())
    assert said.code == 0, said.err
    assert said.err == ""
    for word in ("site-01", "image+text", "epsilon 8", "2 rounds of 2 steps", "bytes a parameter"):
        assert word in said.out
    assert list(folder.iterdir()) == []


def test_dry_run_of_named_sites_needs_no_data_root(
    no_data: None, privfin: Call, hospitals: Call, folder: Path
) -> None:
    config = hospitals()
    text = config.read_text().replace("[[federation.site]]", "[[federation.site]]\npatients = 40")
    config.write_text(text)
    before = sorted(folder.rglob("*"))
    said = privfin("train", config, "--dry-run", "--json")
    assert said.code == 0, said.err
    plan = json.loads(said.out)
    assert [(s["name"], s["patients"]) for s in plan["sites"]] == [("south", 40), ("north", 40)]
    assert plan["sites"][0]["sampling_rate"] == 0.1
    assert plan["claim"] == "dp"
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "claim"),
    [
        (["--epsilon", "inf"], "NOT PRIVATE: trained without differential privacy"),
        (["--set", "privacy.reproducible=true"], "NOT PRIVATE: test mode"),
    ],
)
def test_dry_run_says_not_private(
    privfin: Call, tiny_options: Options, words: list[str], claim: str
) -> None:
    assert claim in privfin("train", "--dry-run", *tiny_options(), *words).out
    said = privfin("train", "--dry-run", "--json", *tiny_options(), *words)
    assert json.loads(said.out)["claim"].startswith(claim)


def test_output_without_a_terminal_is_plain_lines(finished_runs: Call) -> None:
    run = finished_runs("dp")
    assert run.code == 0, run.err
    assert run.err == ""
    assert "\x1b" not in run.out
    assert "\r" not in run.out
    rounds = re.findall(r"^round (\d)/2  held-out loss \d\.\d+  epsilon (\S+)", run.out, re.M)
    assert [number for number, _ in rounds] == ["1", "2"]
    assert 0 < float(rounds[0][1]) < float(rounds[1][1]) <= 8.0
    for word in (
        "both",
        "image only",
        "text only",
        "macro AUROC",
        "Sent:",
        "Next: privfin predict",
    ):
        assert word in run.out
    # Tables fit 80 columns; paths may be longer.
    assert max(len(x) for x in run.out.splitlines() if "privfin" not in x and "/" not in x) <= 80


def test_json_output_parses_and_progress_goes_to_standard_error(finished_runs: Call) -> None:
    run = finished_runs("json")
    assert run.code == 0, run.err
    content = json.loads(run.out)
    assert set(content["cells"]) == {"both", "image only", "text only"}
    assert content["privacy"] == run.json("privacy.json")
    assert content["claim"] == "dp"
    assert content["bytes"]["up"] > 0
    assert "round 2/2" in run.err


def test_bytes_of_a_resumed_run_are_added_up() -> None:
    from privfin.cli.train import _traffic

    events = [
        {"event": "round-finished", "up": 10, "down": 1},
        {"event": "round-finished", "up": 20, "down": 3},
        {"event": "resumed"},
        {"event": "resumed"},
        {"event": "round-finished", "up": 7, "down": 2},
    ]
    assert _traffic(events) == (27, 5)
    assert _traffic([]) == (0, 0)


def test_epsilon_is_never_shown_below_what_it_is() -> None:
    from privfin.cli.display import human_epsilon

    for value in (0.001, 1.0, 1.231, 7.991, 7.9999955, 8.0, 8.0000001, 123.456):
        assert float(human_epsilon(value)) >= value
        assert float(human_epsilon(value)) < value + 0.011
    assert human_epsilon(float("inf")) == "inf"


def test_a_hospital_trains_on_its_own_files(privfin: Call, hospitals: Call, folder: Path) -> None:
    config = hospitals(lambda rows: rows.append({**rows[4], "text": "a second study"}))
    root = folder / "data"  # a whole path, which must not get into the run
    said = privfin(
        "train", "--no-ledger", config, "--data-root", root, "--epsilon", "4", "--out", "run"
    )
    assert said.code == 0, said.err
    assert said.err == ""
    for cell in ("both", "image only", "text only"):
        assert cell in said.out
    privacy = json.loads((folder / "run" / "privacy.json").read_text())
    assert {s["site"]: tuple(s["modalities"]) for s in privacy["sites"]} == {
        "south": ("image", "text"),
        "north": ("image",),
    }
    assert all(s["epsilon"] <= 4 for s in privacy["sites"])
    kept = b"".join(p.read_bytes() for p in (folder / "run").rglob("*") if p.is_file())
    for word in (b"patient-003", b"North General", b"cloudy", str(folder).encode()):
        assert word not in kept
    scores = privfin("predict", "run", "--text", "the chest looks cloudy", "--json")
    assert set(json.loads(scores.out)["scores"]) == {"sick"}


def test_a_random_split_is_used_when_no_column_gives_one(privfin: Call, hospitals: Call) -> None:
    config = hospitals(split=False)
    said = privfin(
        "train", "--no-ledger", config, "--data-root", "data", "--rounds", "1", "--out", "run"
    )
    assert said.code == 0, said.err


def test_help_and_version(privfin: Call) -> None:
    assert "train" in privfin("--help").out
    assert privfin().code == 0
    assert "--epsilon" in privfin("train", "--help").out
    assert re.fullmatch(r"privfin \d+\.\d+\.\d+\n", privfin("--version").out)


def test_an_unexpected_error_is_one_line_without_a_traceback(
    privfin: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from privfin.federation import plan

    def fail(config: Any) -> Any:
        raise KeyError("surprise")

    monkeypatch.setattr(plan, "declared_sites", fail)
    said = privfin("train", "--dry-run")
    assert said.code == 1
    assert said.err.count("\n") == 1
    assert "internal error (KeyError)" in said.err
    monkeypatch.setenv("PRIVFIN_DEBUG", "1")
    with pytest.raises(KeyError):
        privfin("train", "--dry-run")


# --- predict --------------------------------------------------------------------------------


@pytest.fixture
def picture(folder: Path) -> Path:
    rng = np.random.default_rng(3)
    path = folder / "x.png"
    Image.fromarray(rng.integers(0, 255, (40, 30), dtype=np.uint8)).save(path)
    return path


@pytest.mark.parametrize("given", [("image",), ("text",), ("image", "text")])
def test_predict_with_what_is_there(
    privfin: Call, finished_runs: Call, picture: Path, given: tuple[str, ...]
) -> None:
    run = finished_runs("dp").path
    words = ["--image", picture] if "image" in given else []
    words += ["--text", "heart size is enlarged"] if "text" in given else []
    content = json.loads(privfin("predict", run, *words, "--json").out)
    assert content["claim"] == "dp"
    assert len(content["scores"]) == 14
    assert all(0 < score < 1 for score in content["scores"].values())
    said = privfin("predict", run, *words)
    assert said.code == 0
    assert "Cardiomegaly" in said.out
    assert "not a medical device" in said.out
    assert "NOT PRIVATE" not in said.out


def test_predict_uses_every_modality_it_is_given(
    privfin: Call, finished_runs: Call, picture: Path
) -> None:
    run = finished_runs("inf").path
    seen = {
        privfin("predict", run, *words, "--json").out
        for words in (
            ["--image", picture],
            ["--text", "heart size is enlarged"],
            ["--text", "the lungs are clear"],
            ["--image", picture, "--text", "heart size is enlarged"],
        )
    }
    assert len(seen) == 4


@pytest.mark.parametrize("kind", ["inf", "reproducible"])
def test_predict_says_not_private(privfin: Call, finished_runs: Call, kind: str) -> None:
    run = finished_runs(kind).path
    assert "NOT PRIVATE" in privfin("predict", run, "--text", "clear").out
    said = privfin("predict", run, "--text", "clear", "--json")
    assert json.loads(said.out)["claim"].startswith("NOT PRIVATE")


def test_predict_refuses_what_it_cannot_use(
    refused: Call, finished_runs: Call, folder: Path
) -> None:
    run = finished_runs("dp").path
    (folder / "bad.png").write_bytes(b"no picture")
    assert "give --image, --text or --value" in refused("predict", run)
    assert "does not exist" in refused("predict", run, "--image", "none.png")
    line = refused("predict", run, "--image", "bad.png")
    assert "cannot be decoded" in line
    assert "give another file" in line
    assert "--skip-bad" not in line  # predict has no such option
    assert "cannot be decoded" in refused("predict", run, "--image", ".")


def test_predict_refuses_a_run_that_has_not_finished(
    refused: Call, finished_runs: Call, folder: Path
) -> None:
    import shutil

    shutil.copytree(finished_runs("dp").path, folder / "run")
    (folder / "run" / "model.safetensors").unlink()
    assert "has not finished" in refused("predict", "run", "--text", "x")
    (folder / "run" / "model.safetensors").write_bytes(b"x")
    assert "cannot be read" in refused("predict", "run", "--text", "x")


def test_predict_refuses_a_modality_the_run_does_not_have(
    privfin: Call, refused: Call, folder: Path, picture: Path
) -> None:
    (folder / "text.toml").write_text(
        "[data]\npatients = 100\n[modalities.text]\nencoder = 'hashed-ngrams'\nkind = 'text'\n"
        "[federation]\nsites = 2\n[training]\nbatch_size = 8\nrounds = 1\nlocal_steps = 1\n"
        "[evaluation]\nbootstrap = 0\n"
    )
    assert privfin("train", "--no-ledger", "text.toml", "--out", "run").code == 0
    assert "without a modality of kind 'image'" in refused("predict", "run", "--image", picture)


def test_secure_metrics_are_shown_with_bounds_and_reasons(
    privfin: Call, folder: Path, tiny_options: Options
) -> None:
    options = tiny_options(
        federation__sites=4,
        federation__modalities="2:0:2",
        evaluation__secure="true",
        training__rounds=1,
    )
    said = privfin("train", *options, "--out", "run")
    assert said.code == 0, said.err
    assert "read as an encrypted sum" in said.out
    assert "±" in said.out
    flat = " ".join(said.out.split())
    assert "Not opened: both (fewer than 3 sites have any record)" in flat
    assert re.search(r"Not opened: image only: .+ \(fewer than 3 sites have positive", flat)
    as_json = privfin("train", *options, "--out", "other", "--json")
    content = json.loads(as_json.out)
    assert content["federated"]["not_opened"].keys() == {"both", "text only"}
    assert content["groups"] == {}
