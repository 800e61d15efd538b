"""Files with public weights: only safetensors, and what they contain as one SHA-256."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from privfin.config import ModalityConfig
from privfin.errors import ConfigError

#: Files of a transformers folder that decide what it computes.
_MATTERS = (".safetensors", ".json", ".txt", ".model")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".tar")


def weights_digest(modality: ModalityConfig) -> str:
    """SHA-256 of the weights (and, for transformers, of configuration and tokenizer files).

    It depends on the content only: where the files lie differs between sites.

    Raises:
        ConfigError: they are not there, cannot be read, or are not safetensors.
    """
    digest = hashlib.sha256()
    for path in weight_files(modality):
        try:
            stat = path.stat()
            content = _file_digest(str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino)
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from error
        # A file given on its own may have any name; in a folder the name says what it is.
        name = path.name if modality.weights is None else ""
        digest.update(f"{name}\x1f{content}\x1e".encode())
    return digest.hexdigest()


def weight_files(modality: ModalityConfig) -> list[Path]:
    """The files that a frozen encoder is made of, in order. Raises as :func:`weights_digest`."""
    family, _, name = modality.encoder.partition(":")
    if family == "timm":
        if modality.weights is None:
            raise ConfigError("a timm encoder needs weights = FILE: nothing is downloaded")
        return [check_safetensors(modality.weights)]
    folder = check_folder(name)
    files = sorted(p for p in folder.iterdir() if p.is_file())
    if not any(p.suffix == ".safetensors" for p in files):
        pickled = [p for p in files if p.suffix in _PICKLED]
        if pickled:
            check_safetensors(pickled[0])
        raise ConfigError(f"{folder} holds no weights: model.safetensors is not there")
    return [p for p in files if p.suffix in _MATTERS]


def check_folder(name: str) -> Path:
    """The folder of a transformers encoder. A name that is no folder could be looked up elsewhere.

    Raises:
        ConfigError: it is not a folder, or holds no config.json.
    """
    folder = Path(name)
    if not folder.is_dir():
        raise ConfigError(
            f"transformers encoder: {folder} is not a folder; nothing is downloaded, so give a "
            "folder with config.json, model.safetensors and the tokenizer's files"
        )
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{folder} holds no config.json, which names the architecture")
    return folder


def check_safetensors(path: Path) -> Path:
    """The path, if it is a safetensors file. Raises ConfigError otherwise, before it is opened."""
    if path.suffix != ".safetensors":
        why = "is pickled, which can run any code" if path.suffix in _PICKLED else "is refused"
        raise ConfigError(
            f"weights {path}: a {path.suffix or 'nameless'} file {why}; only .safetensors files "
            "are read, so convert it first"
        )
    if not path.is_file():
        raise ConfigError(f"weights {path} do not exist; nothing is downloaded")
    return path


@lru_cache(maxsize=64)
def _file_digest(path: str, size: int, changed: int, inode: int) -> str:
    """SHA-256 of a file; size, time and inode make a changed file a new one."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
