"""Features of fixed front ends, kept on disk so that a second run need not compute them again.

They are derived patient data. They stay on this machine, in a folder that only its owner can
read, and nothing of them is sent or put into a run directory. An entry is found by the *content*
of its input and everything that its value depends on, so a renamed file is found and a changed
one is not. Entries hold their own checksum: one that is damaged counts as not there.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from privfin.errors import ConfigError
from privfin.files import cache_folder

#: Bytes on disk that the cache may take: 2 GB, about 170,000 features of 2,048 numbers.
LIMIT = 2 * 10**9
#: Changes when entries of before must not be used any more.
_FORMAT = b"privfin-features-1"


class FeatureCache:
    """A folder of features, one small safetensors file each.

    Several processes may use it at once: entries are written under a name of their own and
    renamed, and one that disappears is a miss. Beyond ``limit`` bytes those used longest ago go.

    Raises:
        ConfigError: the folder belongs to somebody else.
    """

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self.folder = folder
        self.limit = limit
        self.hits = self.misses = 0
        #: Why nothing is written any more (a full disk, say), or nothing.
        self.problem = ""
        self._written = 0
        if folder.exists():
            self._close_to_others()

    def get(self, key: str, width: int) -> npt.NDArray[np.float32] | None:
        """The feature (``width``,) under a key, or None if there is no sound one."""
        path = self._path(key)
        feature = _read(path, key, width)
        if feature is None:
            self.misses += 1
            return None
        self.hits += 1
        with suppress(OSError):
            os.utime(path)  # used now, so not the first to go
        return feature

    def put(self, key: str, feature: npt.NDArray[np.float32]) -> None:
        """Keep a feature (width,). Where it cannot be written the run goes on without."""
        if self.problem:
            return
        values = np.ascontiguousarray(feature, dtype=np.float32)
        content = save_tensors({"feature": values, "sum": _checksum(key, values)})
        path = self._path(key)
        temporary = path.with_name(f".{key[:8]}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
        try:
            if not path.parent.is_dir():
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._close_to_others()
                path.parent.mkdir(mode=0o700, exist_ok=True)
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write(content)
                temporary.replace(path)
            finally:
                with suppress(FileNotFoundError):
                    temporary.unlink()
        except OSError as error:
            self.problem = f"features are not kept: cannot write {self.folder} ({error.strerror})"
            return
        self._written += len(content)
        if self._written > self.limit // 10:
            self.trim()

    def remarks(self) -> list[str]:
        """What a user should know of it after a run."""
        found = f"{self.hits} features came from the cache {self.folder}" if self.hits else ""
        return [line for line in (found, self.problem) if line]

    def trim(self) -> None:
        """Delete the entries used longest ago until the rest fits the limit."""
        self._written = 0
        found: list[tuple[int, int, Path]] = []
        for path in self.folder.glob("*/*"):
            with suppress(OSError):
                stat = path.stat()
                found.append((stat.st_mtime_ns, stat.st_blocks * 512, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.limit:
                return
            with suppress(OSError):
                path.unlink()
            total -= size

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _close_to_others(self) -> None:
        stat = self.folder.stat()
        if stat.st_uid != os.getuid():
            raise ConfigError(
                f"the feature cache {self.folder} belongs to another user: set PRIVFIN_CACHE to a "
                "folder of your own, or to nothing to keep no features"
            )
        if stat.st_mode & 0o077:
            self.folder.chmod(0o700)


def default_cache() -> FeatureCache | None:
    """The cache in ``PRIVFIN_CACHE``, else in ``~/.cache/privfin``; None if that is set to "".

    The features lie in its subfolder ``features``.
    """
    base = cache_folder()
    return None if base is None else FeatureCache(base / "features")


def entry_key(parts: Sequence[bytes]) -> str:
    """SHA-256 over what a feature depends on; parts cannot run into each other."""
    digest = hashlib.sha256(_FORMAT)
    for part in parts:
        digest.update(struct.pack("<Q", len(part)))
        digest.update(part)
    return digest.hexdigest()


def _checksum(key: str, feature: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    return np.frombuffer(hashlib.sha256(key.encode() + feature.tobytes()).digest(), dtype=np.uint8)


def _read(path: Path, key: str, width: int) -> npt.NDArray[np.float32] | None:
    try:
        tensors = load_tensors(path.read_bytes())
        feature, kept = tensors["feature"], tensors["sum"]
    except (OSError, SafetensorError, KeyError, struct.error, ValueError):
        return None
    if feature.shape != (width,) or feature.dtype != np.float32:
        return None
    return feature if np.array_equal(kept, _checksum(key, feature)) else None
