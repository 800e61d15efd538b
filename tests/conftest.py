"""Small runs that the tests of the federation and of the command line share."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from privfin.config import RunConfig
    from privfin.federation.prepare import PreparedData


def pytest_configure() -> None:
    """Tests leave no features behind, whatever data they read, and touch nobody's ledger."""
    os.environ["PRIVFIN_CACHE"] = ""
    folder = Path(tempfile.mkdtemp(prefix="privfin-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["PRIVFIN_HOME"] = str(folder / "home")
    os.environ["PRIVFIN_ANCHORS"] = str(folder / "anchors")


TINY: dict[str, Any] = {
    "data.patients": 200,
    "federation.sites": 3,
    "federation.modalities": "1:1:1",
    "training.batch_size": 16,
    "training.rounds": 2,
    "training.local_steps": 2,
    "model.width": 8,
    "model.fin.layers": 1,
    "evaluation.bootstrap": 20,
    # What tests calculate with is fixed here, so that better defaults do not break them.
    "modalities.text.features": 512,
    "training.learning_rate": 1.0,
    "training.average_from": 0.5,
    "privacy.epsilon": 8.0,
    "privacy.clip_norm": 1.0,
    "crypto.layout": "2x20",
    "crypto.value_bits": 16,
    "crypto.update_bound": 2.0,
}


#: A residual network of 0.4 million parameters with BatchNorm, which timm has for tests.
TINY_TIMM = "test_resnet"
WORDS = ["the", "heart", "is", "large", "small", "lung", "##s", "clear", "no", "effusion", "."]


@dataclass(frozen=True)
class FinishedRun:
    """A run made by the command line, with everything it printed."""

    path: Path
    code: int
    out: str
    err: str
    made_keys: tuple[bytes, ...]

    def json(self, name: str) -> dict[str, Any]:
        return dict(json.loads((self.path / name).read_text()))

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.path / "events.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def tiny() -> Callable[..., RunConfig]:
    """Makes a configuration that trains in a second; ``a__b=1`` sets the option ``a.b``."""
    from privfin.config import load_config

    def make(**options: Any) -> RunConfig:
        given = {name.replace("__", "."): value for name, value in options.items()}
        return load_config(None, list({**TINY, **given}.items()))

    return make


@pytest.fixture(scope="session")
def tiny_options() -> Callable[..., list[str]]:
    """The same configuration as options of the command line."""

    def make(**options: Any) -> list[str]:
        given = {name.replace("__", "."): value for name, value in options.items()}
        return [
            word for key, value in {**TINY, **given}.items() for word in ("--set", f"{key}={value}")
        ]

    return make


@pytest.fixture(scope="session")
def prepared() -> Callable[[RunConfig], PreparedData]:
    """Prepares data once for all configurations that need the same."""
    import torch

    from privfin.federation.prepare import prepare

    torch.set_num_threads(1)
    known: dict[str, PreparedData] = {}

    def get(config: RunConfig) -> PreparedData:
        content = config.model_dump(mode="json")
        sections = ("data", "modalities", "missingness", "federation")
        others = (
            config.training.seed,
            config.training.augmentations,
            config.evaluation.choose_round,
            config.evaluation.secure,
        )
        key = json.dumps([*(content[name] for name in sections), *others])
        if key not in known:
            known[key] = prepare(config)
        return known[key]

    return get


@contextlib.contextmanager
def _recorded_keys() -> Iterator[list[bytes]]:
    """Every secret that a run makes: noise keys, identities, encryption keys, pair secrets."""

    from privfin.crypto.bfv import BfvKey
    from privfin.crypto.keys import SiteIdentity

    made: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        urandom, identity, key = os.urandom, SiteIdentity.generate, BfvKey.generate

        def random_bytes(size: int) -> bytes:
            drawn = urandom(size)
            if size >= 16:
                made.append(drawn)
            return drawn

        def new_identity(name: str) -> SiteIdentity:
            one = identity(name)
            secret = one.secret_bytes()
            made.extend([secret[-64:-32], secret[-32:]])
            return one

        def new_key(packing: Any) -> BfvKey:
            one = key(packing)
            # The secret key is the last section; a stretch from its middle is enough to find it.
            made.append(one.secret_bytes()[-4096:-4032])
            return one

        patch.setattr(os, "urandom", random_bytes)
        patch.setattr(SiteIdentity, "generate", new_identity)
        patch.setattr(BfvKey, "generate", new_key)
        yield made


@pytest.fixture(scope="session")
def finished_runs(
    tmp_path_factory: pytest.TempPathFactory, tiny_options: Callable[..., list[str]]
) -> Callable[..., FinishedRun]:
    """Runs of ``privfin train`` that ended, each made once a session: ``finished_runs("dp")``."""
    from privfin.cli.app import run

    kinds = {
        "dp": [],
        "inf": ["--epsilon", "inf"],
        "reproducible": ["--set", "privacy.reproducible=true"],
        "json": ["--json", "--encryption", "none"],
    }
    known: dict[str, FinishedRun] = {}

    def get(kind: str) -> FinishedRun:
        if kind not in known:
            path = tmp_path_factory.mktemp("runs") / kind
            out, err = io.StringIO(), io.StringIO()
            with (
                _recorded_keys() as made,
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
            ):
                code = run(["train", *tiny_options(), *kinds[kind], "--out", str(path)])
            known[kind] = FinishedRun(
                path, code, out.getvalue(), err.getvalue(), tuple(dict.fromkeys(made))
            )
        return known[kind]

    return get


@pytest.fixture
def make_run(tmp_path: Path, tiny: Callable[..., RunConfig]) -> Callable[..., Path]:
    """Writes a finished run: ``make_run("a", auroc=0.7, held_out="x", training__seed=1)``."""

    def make(
        name: str,
        *,
        auroc: float | None = 0.7,
        held_out: str | None = None,
        labels: tuple[str, ...] = ("sick", "worse"),
        finished: bool = True,
        metrics_format: int = 2,
        **options: Any,
    ) -> Path:
        config = tiny(**options)
        private = config.privacy.is_private
        claim = "dp" if private else "NOT PRIVATE: trained without differential privacy"
        path = tmp_path / name
        path.mkdir(parents=True)
        seed = config.training.seed
        manifest = {
            "format": 1,
            "run_id": hashlib.sha256(str(path).encode()).hexdigest()[:32],
            "claim": claim,
            "config": config.model_dump(mode="json"),
            "label_names": list(labels),
            "data_sha256": {"held-out": held_out or f"seed {seed}"},
            "versions": {"python": "3"},
            "code_revision": "x",
        }
        cell = {
            f"macro_{metric}{end}": None if auroc is None else round(auroc + shift, 6)
            for metric in ("auroc", "auprc", "ece", "brier")
            for end, shift in (("", 0.0), ("_low", -0.02), ("_high", 0.02))
        }
        metrics = {
            "format": metrics_format,
            "claim": claim,
            "cells": dict.fromkeys(("both", "image only", "text only"), cell),
        }
        privacy = {"sites": [{"epsilon": config.privacy.epsilon if private else "inf"}]}
        for file, content in (
            ("manifest.json", manifest),
            ("metrics.json", metrics),
            ("privacy.json", privacy),
        ):
            (path / file).write_text(json.dumps(content))
        if finished:
            (path / "model.safetensors").write_bytes(b"")
        return path

    return make


@pytest.fixture(scope="session")
def save_timm() -> Callable[..., Path]:
    """Saves random weights of ``TINY_TIMM``, with a classifier and with running statistics."""
    import torch
    from safetensors.torch import save_file

    from privfin.models.public_libraries import import_library

    def save(path: Path, seed: int = 0) -> Path:
        timm = import_library("timm")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = timm.create_model(TINY_TIMM, pretrained=False, num_classes=5)
            for module in network.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.running_mean.normal_(0, 0.1)
                    module.running_var.uniform_(0.5, 1.5)
        save_file(network.state_dict(), path)
        return path

    return save


@pytest.fixture(scope="session")
def save_bert() -> Callable[..., Path]:
    """Saves a BERT of two small layers with random weights and a vocabulary made by hand."""
    import torch

    from privfin.models.public_libraries import import_library

    def save(folder: Path, seed: int = 0) -> Path:
        transformers = import_library("transformers")
        folder.mkdir(parents=True)
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
        (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
        (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
        settings = transformers.BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=16,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            transformers.BertModel(settings).save_pretrained(folder)
        return folder

    return save
