"""What a report gives to check or repeat a run is true, and gives no noise away."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privfin.config import RunConfig, load_config, parse_override
from privfin.errors import UserInputError
from privfin.reporting.collect.commands import repeat_command
from privfin.reporting.collect.reproducibility import reproducibility_block
from privfin.reporting.evidence import Evidence, read_evidence

Of = Callable[[str], Evidence]
ALWAYS = {"manifest.json", "events.jsonl", "metrics.json", "privacy.json", "model.safetensors"}


@pytest.mark.parametrize("kind", ["dp", "fine-tuned"])
def test_hashes_are_those_of_the_files(kind: str, evidence_of: Of) -> None:
    evidence = evidence_of(kind)
    files = {one.file: one.sha256 for one in reproducibility_block(evidence).files.get()}
    local = {f"local/site-0{n}.safetensors" for n in (1, 2, 3)} if kind == "fine-tuned" else set()
    assert set(files) == ALWAYS | local
    for name, found in files.items():
        assert found == hashlib.sha256((evidence.run.path / name).read_bytes()).hexdigest()


def test_every_file_that_a_byte_changes_in_has_another_hash(
    report_run: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / "run"
    shutil.copytree(report_run("dp"), path)
    run_id = json.loads((path / "manifest.json").read_text())["run_id"]
    (path / "audit.json").write_text(json.dumps({"format": 1, "run_id": run_id, "suite": "quick"}))
    evidence = read_evidence(path)
    before = reproducibility_block(evidence)
    assert "privfin audit run --suite quick" in before.commands.get()
    hashes = {one.file: one.sha256 for one in before.files.get()}
    assert set(hashes) == {*ALWAYS, "audit.json"}
    for name in hashes:
        content = (path / name).read_bytes()
        (path / name).write_bytes(content + b" ")
        after = {one.file: one.sha256 for one in reproducibility_block(evidence).files.get()}
        assert {key for key in hashes if after[key] != hashes[key]} == {name}
        (path / name).write_bytes(content)


@pytest.mark.parametrize("kind", ["dp", "inf", "json", "ckks", "shared", "secure", "fine-tuned"])
def test_the_command_gives_the_same_configuration(kind: str, evidence_of: Of) -> None:
    evidence = evidence_of(kind)
    command, *checks = reproducibility_block(evidence).commands.get()
    words = shlex.split(command)
    assert words[:2] == ["privfin", "train"]
    given = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    again = load_config(None, [parse_override(text) for text in given])
    assert again.digest() == evidence.manifest["config_sha256"]
    assert any("report verify" in one for one in checks)
    assert str(evidence.run.path.parent) not in " ".join([command, *checks])


def test_options_of_every_kind_come_back(tiny: Callable[..., RunConfig]) -> None:
    """Numbers, words with quotes, lists, tables in lists, and options of one modality."""
    config = load_config(
        None,
        [
            ("federation.site", [{"name": "north", "match": ["it's \"N\""], "patients": 40},
                                 {"name": "south", "match": ["*"], "modalities": ["text"]}]),
            ("data.source", "manifest"), ("data.labels", ["sick", "worse"]),
            ("data.manifest.sex", "sex"), ("modalities.text.features", 64),
            ("evaluation.metrics", ["auroc"]), ("federation.alpha", float("inf")),
        ],
    )  # fmt: skip
    command = repeat_command(config)
    assert command is not None
    words = shlex.split(command)
    assert words[words.index("--data-root") + 1] == "DATA"
    given = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    assert load_config(None, [parse_override(t) for t in given]).digest() == config.digest()


def test_no_place_on_a_machine_and_no_seed_of_noise_is_in_it(
    evidence_of: Of, tiny: Callable[..., RunConfig]
) -> None:
    block = reproducibility_block(evidence_of("reproducible"))
    assert block.public_seed.status == "not_applicable"
    assert block.public_seed.value is None
    assert "NOT PRIVATE" in block.dp_randomness.get()
    assert not any("train" in one or "seed" in one for one in block.commands.get())
    frozen = tiny(
        modalities__image__encoder="timm:resnet18", modalities__image__weights="/secret/place"
    )
    assert repeat_command(frozen) is None
    assert reproducibility_block(evidence_of("dp")).public_seed.get() == 0


@pytest.mark.parametrize("kind", ["dp", "inf"])
def test_randomness_is_described_where_there_is_noise(kind: str, evidence_of: Of) -> None:
    fact = reproducibility_block(evidence_of(kind)).dp_randomness
    if kind == "inf":
        assert fact.status == "not_applicable"
    else:
        assert fact.get().startswith("no seed of noise or sampling is kept")


def test_a_changed_configuration_is_refused(
    report_run: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / "run"
    shutil.copytree(report_run("dp"), path)
    content: dict[str, Any] = json.loads((path / "manifest.json").read_text())
    content["config"]["training"]["proximal"] = 0.5
    (path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(UserInputError, match="does not have the digest"):
        reproducibility_block(read_evidence(path))


def test_public_weights_are_listed(evidence_of: Of) -> None:
    evidence = evidence_of("dp")
    assert reproducibility_block(evidence).encoder_weights.get() == {}
    evidence.manifest["weights_sha256"] = {"image": "ab" * 32}
    assert reproducibility_block(evidence).encoder_weights.get() == {"image": "ab" * 32}
    evidence.manifest["ledger"] = {"status": "counted"}
    assert any("budget verify" in c for c in reproducibility_block(evidence).commands.get())
