"""A run with frozen encoders, from the command line to a prediction."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privfin.errors import ConfigError
from privfin.federation.public_weights import check_same_weights, with_weights
from privfin.runs import check_same_config, load_run

Privfin = Callable[..., Any]
Refused = Callable[..., str]


@pytest.fixture
def encoders(folder: Path, save_timm, save_bert, monkeypatch) -> list[str]:
    """Options that use encoders saved here; the cache lies in this folder too."""
    monkeypatch.setenv("PRIVFIN_CACHE", str(folder / "cache"))
    save_timm(folder / "image.safetensors")
    save_bert(folder / "bert")
    given = {
        "modalities.image.encoder": "timm:test_resnet",
        "modalities.image.weights": folder / "image.safetensors",
        "modalities.text.encoder": f"transformers:{folder / 'bert'}",
        "modalities.text.length": 16,
        "data.patients": 80,
        "training.batch_size": 8,
        "privacy.reproducible": "true",
    }
    return [word for key, value in given.items() for word in ("--set", f"{key}={value}")]


def test_a_run_with_frozen_encoders(
    encoders: list[str],
    folder: Path,
    privfin: Privfin,
    refused: Refused,
    tiny_options,
    save_timm,
    save_bert,
) -> None:
    """Trained once without and once with cached features: the same model, bound to its weights."""
    options = ["train", *tiny_options(), *encoders]
    first = privfin(*options, "--out", "first")
    assert first.code == 0, first.err
    assert "15 BatchNorm layers frozen" in first.out
    manifest = json.loads((folder / "first" / "manifest.json").read_text())
    assert any("15 BatchNorm layers frozen" in notice for notice in manifest["notices"])
    assert manifest["weights_sha256"].keys() == {"image", "text"}
    assert "timm" in manifest["versions"]
    privacy = json.loads((folder / "first" / "privacy.json").read_text())
    assert sum("taken to be public" in line for line in privacy["not_covered"]) == 2

    second = privfin(*options, "--out", "second")
    assert "features came from the cache" in second.out
    third = privfin(*options, "--no-cache", "--out", "third")
    assert "from the cache" not in third.out
    models = [(folder / name / "model.safetensors").read_bytes() for name in ("first", "second")]
    assert models[0] == models[1] == (folder / "third" / "model.safetensors").read_bytes()

    before = privfin("predict", "first", "--text", "the heart is large", "--json")
    assert before.code == 0, before.err
    (folder / "image.safetensors").rename(folder / "moved.safetensors")
    (folder / "bert").rename(folder / "moved")
    assert "image.safetensors do not exist" in refused("predict", "first", "--text", "x")
    places = ["--weights", "image=moved.safetensors", "--weights", "text=moved"]
    after = privfin("predict", "first", "--text", "the heart is large", "--json", *places)
    assert after.out == before.out
    assert "MODALITY=PATH" in refused("predict", "first", "--text", "x", "--weights", "image")
    assert "'sound'" in refused("predict", "first", "--text", "x", "--weights", "sound=a")

    other = save_timm(folder / "other.safetensors", seed=1)
    places[1] = f"image={other}"
    said = refused("predict", "first", "--text", "x", *places)
    assert "the weights of modality 'image' are not those" in said
    run = load_run(folder / "first")
    again = save_bert(folder / "again", seed=1)
    config = with_weights(
        run.config, {"image": folder / "moved.safetensors", "text": folder / "moved"}
    )
    assert config.digest() == run.config.digest()
    check_same_config(run, config)
    check_same_weights(run, config)
    with pytest.raises(ConfigError, match="modality 'text'"):
        check_same_weights(run, with_weights(config, {"text": again}))


def test_resuming_with_other_weights_is_refused(
    encoders: list[str], folder: Path, privfin: Privfin, refused: Refused, tiny_options, save_timm
) -> None:
    assert privfin("train", *tiny_options(), *encoders, "--out", "run").code == 0
    (folder / "run" / "model.safetensors").unlink()
    other = save_timm(folder / "other.safetensors", seed=1)
    change = ["--set", f"modalities.image.weights={other}"]
    said = refused("train", "--resume", "--out", "run", *change)
    assert "the weights of modality 'image' are not those" in said
    copy = save_timm(folder / "copy.safetensors")
    change = ["--set", f"modalities.image.weights={copy}"]
    assert privfin("train", "--resume", "--out", "run", *change).code == 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (["modalities.image.weights=nowhere.safetensors"], "nowhere.safetensors do not exist"),
        (["modalities.image.encoder=timm:resnet188"], "did you mean 'resnet18'"),
        (["modalities.text.encoder=transformers:nowhere"], "nowhere is not a folder"),
        (["modalities.text.encoder=transformers:"], "is not one of"),
    ],
)
def test_bad_encoders(
    change: list[str],
    expected: str,
    encoders: list[str],
    refused: Refused,
    tiny_options,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PRIVFIN_CACHE", "")  # a calibration may be kept before weights are read
    words = [word for option in change for word in ("--set", option)]
    said = refused("train", *tiny_options(), *encoders, *words)
    assert expected in said
