"""The run directory: what a run is, what happened in it, and what it made.

``manifest.json`` (configuration, versions, fingerprints, public seeds), ``events.jsonl`` (appended
only, flushed to disk before a round takes a step), ``checkpoints/``, ``model.safetensors``,
``metrics.json`` and ``privacy.json``. Keys, noise seeds, updates and patients' data never go in.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from privfin.config import RunConfig, parse_config
from privfin.errors import ConfigError, DataError, UserInputError
from privfin.files import clear_disk_errors, write_bytes, write_json
from privfin.models.multimodal import MultimodalModel
from privfin.models.segments import initial_model

FORMAT = 1
#: Of metrics.json: 2 added intervals of every figure, calibration and groups.
METRICS_FORMAT = 2
#: Says that the line before it was cut short when the machine stopped.
_CUT = "line-cut-short"
_PACKAGES = (
    "privfin",
    "torch",
    "opacus",
    "dp-accounting",
    "flwr",
    "tenseal",
    "cryptography",
    "numpy",
    "scikit-learn",
    "safetensors",
)
#: Extras that frozen encoders need.
_OPTIONAL_PACKAGES = ("timm", "torchvision", "transformers", "tokenizers")


@dataclass(frozen=True)
class Checkpoint:
    """The state after a round: enough to go on with exactly the same rounds.

    ``momentum`` and ``second_moment`` belong to the server's optimiser; empty if it has none.
    """

    round: int
    vector: npt.NDArray[np.float32]
    total: npt.NDArray[np.float64]
    count: int
    momentum: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    second_moment: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


class Run:
    """A run directory that exists. Use :func:`create_run` or :func:`load_run` to get one."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest

    @cached_property
    def config(self) -> RunConfig:
        """The configuration of the run, without the data root (give it again to resume)."""
        return parse_config(self.manifest["config"], str(self.path / "manifest.json"))

    @property
    def run_id(self) -> str:
        """Random identifier of the run."""
        return str(self.manifest["run_id"])

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels, in the order of the model's outputs."""
        return tuple(self.manifest["label_names"])

    @property
    def is_finished(self) -> bool:
        """Whether the final model is there."""
        return (self.path / "model.safetensors").exists()

    @property
    def metrics(self) -> dict[str, Any]:
        """The results of the final model (``metrics.json``)."""
        return self._read("metrics.json")

    @property
    def privacy(self) -> dict[str, Any]:
        """The privacy statement (``privacy.json``)."""
        return self._read("privacy.json")

    def _read(self, name: str) -> dict[str, Any]:
        path = self.path / name
        if not path.exists():
            raise UserInputError(f"{path} is not there: the run has not finished, use --resume")
        return _read_json(path)

    def events(self) -> list[dict[str, Any]]:
        """Everything that happened, oldest first.

        Raises:
            DataError: the file cannot be read, or a line other than a cut one is no event.
        """
        path = self.path / "events.jsonl"
        try:
            lines = path.read_bytes().splitlines() if path.exists() else []
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        found: list[dict[str, Any]] = []
        # The machine may have stopped in the middle of a line: the last one, or one before which
        # `record` left its mark. What a cut line announced had not begun yet.
        may_be_cut = True
        for number, line in reversed(list(enumerate(lines, start=1))):
            try:
                event = json.loads(line)
            except (ValueError, RecursionError) as error:
                if not may_be_cut:
                    raise DataError(f"{path} line {number} is not valid JSON") from error
                event = {"event": "unreadable"}
            else:
                if not isinstance(event, dict) or "event" not in event:
                    raise DataError(f"{path} line {number} names no event")
                may_be_cut = event["event"] == _CUT
            found.append(event)
        return found[::-1]

    def record(self, event: str, **details: Any) -> None:
        """Append an event and flush it to disk."""
        path = self.path / "events.jsonl"
        line = json.dumps({"time": now(), "event": event, **details}, allow_nan=False)
        with clear_disk_errors(path), path.open("a+b") as stream:
            if stream.tell() and not _ends_with_newline(stream):
                line = "\n" + json.dumps({"time": now(), "event": _CUT}) + "\n" + line
            stream.write(line.encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

    def spent_rounds(self) -> dict[str, int]:
        """By site, how many rounds it started, in all attempts and whether finished or not."""
        counts: dict[str, int] = {}
        for event in self.events():
            if event["event"] == "site-round-started":
                counts[event["site"]] = counts.get(event["site"], 0) + 1
        return counts

    def fine_tunings(self) -> dict[str, int]:
        """By site, how often it started to fine-tune, whether it finished or not."""
        counts: dict[str, int] = {}
        for event in self.events():
            if event["event"] == "site-fine-tuning-started":
                counts[event["site"]] = counts.get(event["site"], 0) + 1
        return counts

    def sites_left(self) -> list[dict[str, Any]]:
        """Sites that dropped out: each with the round and attempt that it was lost in."""
        return [
            {key: e[key] for key in ("site", "round", "attempt")}
            for e in self.events()
            if e["event"] == "site-left"
        ]

    def attempts(self, round_number: int | None = None) -> int:
        """How often a round (or any round) was started: started means spent."""
        return sum(
            e["event"] == "round-started" and round_number in (None, e["round"])
            for e in self.events()
        )

    def save_checkpoint(self, state: Checkpoint) -> None:
        """Write the state after a round."""
        folder = self.path / "checkpoints"
        with clear_disk_errors(folder):
            folder.mkdir(exist_ok=True)
        tensors: dict[str, npt.NDArray[Any]] = {
            "vector": state.vector,
            "total": state.total,
            "momentum": state.momentum,
            "second_moment": state.second_moment,
            "round": np.array([state.round]),
            "count": np.array([state.count]),
        }
        write_bytes(folder / f"round-{state.round:06d}.safetensors", save_tensors(tensors))

    def last_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint, or None before the first round."""
        found = self._checkpoint_files()
        return _read_checkpoint(found[-1]) if found else None

    def checkpoints(self) -> Iterator[Checkpoint]:
        """The checkpoints of all rounds, oldest first."""
        return map(_read_checkpoint, self._checkpoint_files())

    def _checkpoint_files(self) -> list[Path]:
        return sorted((self.path / "checkpoints").glob("round-*.safetensors"))

    def save_model(self, model: MultimodalModel) -> None:
        """Write the final model."""
        self._write_model(self.path / "model.safetensors", model)

    def save_local_model(self, site: str, model: MultimodalModel) -> None:
        """Write the model that a site fine-tuned for itself. In a real federation it stays there;
        a simulation in one process keeps all of them in ``local/``."""
        folder = self.path / "local"
        with clear_disk_errors(folder):
            folder.mkdir(exist_ok=True)
        self._write_model(folder / f"{site}.safetensors", model)

    def has_local_model(self, site: str) -> bool:
        """Whether a site's fine-tuned model is there."""
        return (self.path / "local" / f"{site}.safetensors").exists()

    def _write_model(self, path: Path, model: MultimodalModel) -> None:
        state = model.state_dict()
        tensors: dict[str, npt.NDArray[Any]] = {k: p.detach().numpy() for k, p in state.items()}
        write_bytes(path, save_tensors(tensors, metadata={"claim": str(self.manifest["claim"])}))

    def model(self) -> MultimodalModel:
        """The final model, in evaluation mode.

        Raises:
            UserInputError: the run has not finished, or the file does not fit its configuration.
        """
        path = self.path / "model.safetensors"
        if not path.exists():
            raise UserInputError(f"{path} is not there: the run has not finished, use --resume")
        return self._read_model(path)

    def model_sha256(self) -> str:
        """SHA-256 of the final model's file, which must be there."""
        return hashlib.sha256((self.path / "model.safetensors").read_bytes()).hexdigest()

    def local_model(self, site: str) -> MultimodalModel:
        """The model that a site fine-tuned for itself, in evaluation mode. Raises as `model`."""
        path = self.path / "local" / f"{site}.safetensors"
        if not path.exists():
            raise UserInputError(f"{path} is not there: the site has not fine-tuned a model")
        return self._read_model(path)

    def _read_model(self, path: Path) -> MultimodalModel:
        import torch

        model = initial_model(self.config, len(self.label_names))
        tensors = {k: torch.from_numpy(v.copy()) for k, v in _read_tensors(path).items()}
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise UserInputError(f"{path} does not fit the run's configuration") from error
        model.eval()
        return model

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second process from working on the same run.

        Raises:
            UserInputError: another process holds the run.
        """
        with lock_folder(self.path):
            yield


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep a second process from working in the same folder.

    Raises:
        UserInputError: another process holds it.
    """
    path = folder / ".lock"
    with clear_disk_errors(path):
        stream = path.open("w")
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserInputError(f"another process is working on {folder}") from error
        yield


def create_run(path: Path, manifest: dict[str, Any]) -> Run:
    """Make a new run directory.

    Raises:
        UserInputError: the path exists, or cannot be written.
    """
    if path.exists():
        raise UserInputError(
            f"{path} exists: choose another --out, or continue that run with --resume"
        )
    with clear_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir()
    content = {"format": FORMAT, "created": now(), **manifest}
    write_json(path / "manifest.json", content)
    return Run(path, content)


def load_run(path: str | Path) -> Run:
    """Open a run directory.

    Raises:
        UserInputError: it is not a run directory, or of a newer format.
    """
    folder = Path(path)
    file = folder / "manifest.json"
    if not file.is_file():
        raise UserInputError(f"{folder} is not a run directory: it has no manifest.json")
    manifest = _read_json(file)
    if manifest.get("format") != FORMAT:
        raise UserInputError(f"{folder} has format {manifest.get('format')}, expected {FORMAT}")
    return Run(folder, manifest)


def check_same_config(run: Run, config: RunConfig) -> None:
    """Refuse to resume with another configuration.

    Raises:
        ConfigError: naming the first option that differs.
    """
    for key, old, new in option_differences(run.config, config):
        raise ConfigError(
            f"the configuration changed since {run.path} was started: {key} was {old}, is now "
            f"{new}; resume with the same options, or start a new run"
        )


def option_differences(before: RunConfig, after: RunConfig) -> Iterator[tuple[str, Any, Any]]:
    """Each option that differs, with both values. Where data and weights lie is not compared."""
    old, new = before.without_paths(), after.without_paths()
    for content in (old, new):
        # Parameters are laid out in the order of the modalities, which dictionaries ignore.
        content["modalities"]["order"] = list(content["modalities"])
    yield from _differences(old, new)


def _differences(old: Any, new: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{prefix}.{key}".lstrip("."))
    elif old != new:
        yield prefix, old, new


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results and guarantees depend on."""
    found = {"python": sys.version.split()[0]}
    for name in _PACKAGES:
        found[name] = metadata.version(name)
    for name in _OPTIONAL_PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def code_revision() -> str:
    """The git revision of the code when it runs from a checkout, else ``unknown``."""
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return "unknown (not a git checkout)"
    try:
        result = subprocess.run(  # noqa: S603
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown (git did not answer)"
    return result.stdout.strip()


def now() -> str:
    """The present time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserInputError(f"{path} cannot be read as JSON") from error
    if not isinstance(content, dict):
        raise UserInputError(f"{path} is not a JSON object")
    return content


def _read_tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        return dict(load_tensors(path.read_bytes()))
    except (OSError, SafetensorError, struct.error) as error:
        raise UserInputError(f"{path} cannot be read as safetensors") from error


def _read_checkpoint(path: Path) -> Checkpoint:
    tensors = _read_tensors(path)
    try:
        done, count = int(tensors["round"][0]), int(tensors["count"][0])
        # Checkpoints from before there were server optimisers have no state of one.
        momentum = tensors.get("momentum", np.zeros(0))
        second_moment = tensors.get("second_moment", np.zeros(0))
        vector, total = tensors["vector"], tensors["total"]
    except (KeyError, IndexError) as error:
        raise UserInputError(f"{path} is not a checkpoint of a run") from error
    return Checkpoint(done, vector, total, count, momentum, second_moment)


def _ends_with_newline(stream: Any) -> bool:
    stream.seek(-1, os.SEEK_END)
    return bool(stream.read(1) == b"\n")
