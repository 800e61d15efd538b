"""The feature cache: the same bits, found by content, readable by nobody else, never trusted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from privfin.config import ModalityConfig
from privfin.data.records import Record
from privfin.errors import ConfigError
from privfin.models import frontends
from privfin.models.feature_cache import FeatureCache, default_cache, entry_key
from privfin.models.frontends import read_inputs

WIDTH = 6
KEYS = [entry_key([bytes([i])]) for i in range(40)]
Save = Callable[..., Path]


def feature(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=WIDTH).astype(np.float32)


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


def entries(cache: FeatureCache) -> list[Path]:
    return sorted(p for p in cache.folder.rglob("*") if p.is_file())


def test_what_was_put_comes_back_to_the_bit(cache):
    odd = np.array([0.0, -0.0, 1e-45, np.float32(1 / 3), 3e38, -1.0], dtype=np.float32)
    assert cache.get(KEYS[0], WIDTH) is None
    cache.put(KEYS[0], odd)
    assert cache.get(KEYS[0], WIDTH).tobytes() == odd.tobytes()
    assert cache.get(KEYS[1], WIDTH) is None
    assert (cache.hits, cache.misses) == (1, 2)


def test_only_the_owner_can_read_it(tmp_path):
    """Features are derived patient data, whatever the process' umask is."""
    before = os.umask(0)
    try:
        cache = FeatureCache(tmp_path / "cache")
        cache.put(KEYS[0], feature())
    finally:
        os.umask(before)
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    (entry,) = entries(cache)
    assert entry.stat().st_mode & 0o777 == 0o600
    assert entry.parent.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_open_to_others_is_closed(tmp_path):
    (tmp_path / "cache").mkdir(mode=0o755)
    FeatureCache(tmp_path / "cache")
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir()
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(ConfigError, match="belongs to another user"):
        FeatureCache(tmp_path / "cache")


def damage_bytes(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1 if content.endswith(b"\x00") else -2] ^= 1
    path.write_bytes(content)


def damage_one_number(path: Path) -> None:
    tensors = load_file(path)
    tensors["feature"][0] += 1
    save_file(tensors, path)


def of_another_key(path: Path) -> None:
    other = FeatureCache(path.parents[1].parent / "other")
    other.put(KEYS[1], feature(1))
    path.write_bytes(entries(other)[0].read_bytes())


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "a huge header": lambda path: path.write_bytes(b"\xff" * 100),
    "one bit": damage_bytes,
    "one number": damage_one_number,
    "another width": lambda path: save_file({"feature": feature()[:3]}, path),
    "another entry": of_another_key,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_entry_is_a_miss_and_never_believed(damage, cache):
    cache.put(KEYS[0], feature())
    damage(cache._path(KEYS[0]))
    assert cache.get(KEYS[0], WIDTH) is None


@settings(max_examples=40, deadline=None, derandomize=True)
@given(place=st.integers(0, 10**6), value=st.integers(0, 255))
def test_any_changed_byte_is_noticed(place, value, tmp_path_factory):
    cache = FeatureCache(tmp_path_factory.mktemp("bytes") / "cache")
    cache.put(KEYS[0], feature())
    path = cache._path(KEYS[0])
    content = bytearray(path.read_bytes())
    place %= len(content)
    content[place] = value
    path.write_bytes(content)
    found = cache.get(KEYS[0], WIDTH)
    assert found is None or found.tobytes() == feature().tobytes()


def test_beyond_the_limit_those_used_longest_ago_go(tmp_path):
    cache = FeatureCache(tmp_path / "cache")
    for age, key in enumerate(KEYS):
        cache.put(key, feature())
        os.utime(cache._path(key), (10**9 + age, 10**9 + age))
    assert cache.get(KEYS[0], WIDTH) is not None  # the oldest was used just now
    each = cache._path(KEYS[0]).stat().st_blocks * 512
    cache.limit = 10 * each
    cache.trim()
    kept = [key for key in KEYS if cache._path(key).exists()]
    assert kept == [KEYS[0], *KEYS[-9:]]


def test_it_stays_bounded_while_it_is_written(tmp_path):
    cache = FeatureCache(tmp_path / "cache", limit=20 * 4096)
    for i in range(200):
        cache.put(entry_key([b"many", bytes([i])]), feature(i))
    # A tenth of the limit is written between two looks at the folder.
    assert 0 < len(entries(cache)) <= 20 + 20


def test_a_disk_that_cannot_be_written_costs_the_cache_and_not_the_run(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = FeatureCache(tmp_path / "file" / "cache")
    cache.put(KEYS[0], feature())
    cache.put(KEYS[1], feature())
    assert "cannot write" in cache.remarks()[0]


def test_several_processes_at_once(tmp_path):
    script = (
        "import sys; import numpy as np; from pathlib import Path\n"
        "from privfin.models.feature_cache import FeatureCache, entry_key\n"
        "cache = FeatureCache(Path(sys.argv[1]), limit=40 * 4096)\n"
        "for turn in range(3):\n"
        "    for i in range(50):\n"
        "        value = np.full(8, i, dtype=np.float32)\n"
        "        found = cache.get(entry_key([bytes([i])]), 8)\n"
        "        assert found is None or (found == value).all()\n"
        "        cache.put(entry_key([bytes([i])]), value)\n"
        "assert not cache.problem, cache.problem\n"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "cache")]
    running = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(3)]  # noqa: S603
    for process in running:
        _, said = process.communicate()
        assert process.returncode == 0, said
    assert not list(tmp_path.rglob("*.tmp"))


@settings(deadline=None, derandomize=True)
@given(a=st.lists(st.binary(max_size=4)), b=st.lists(st.binary(max_size=4)))
def test_keys_differ_when_anything_differs(a, b):
    assert (entry_key(a) == entry_key(b)) == (a == b)


def test_where_it_lies_and_how_it_is_turned_off(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PRIVFIN_CACHE", raising=False)
    assert default_cache().folder == tmp_path / ".cache" / "privfin" / "features"
    monkeypatch.setenv("PRIVFIN_CACHE", str(tmp_path / "own"))
    assert default_cache().folder == tmp_path / "own" / "features"
    monkeypatch.setenv("PRIVFIN_CACHE", "")
    assert default_cache() is None
    assert not list(tmp_path.iterdir()), "nothing is made before there is something to keep"


# Together with an encoder


@dataclass(frozen=True)
class CountedFile:
    """An image in a file that counts how often it is decoded."""

    path: Path
    decoded: list[Path]

    def load(self) -> np.ndarray:
        self.decoded.append(self.path)
        return np.frombuffer(self.path.read_bytes(), dtype=np.uint8).reshape(16, 16)

    def content(self) -> bytes:
        return self.path.read_bytes()


@pytest.fixture(scope="module")
def modality(save_timm: Save, tmp_path_factory: pytest.TempPathFactory) -> ModalityConfig:
    path = save_timm(tmp_path_factory.mktemp("timm") / "weights.safetensors")
    return ModalityConfig(encoder="timm:test_resnet", kind="image", weights=path)


def files(folder: Path, count: int = 5) -> list[Path]:
    random = np.random.default_rng(0)
    for i in range(count):
        (folder / f"{i}.raw").write_bytes(random.integers(0, 256, 256, dtype=np.uint8).tobytes())
    return [folder / f"{i}.raw" for i in range(count)]


def encode(paths: list[Path], modality: ModalityConfig, cache: FeatureCache | None, side: int = 16):
    decoded: list[Path] = []
    labels = np.zeros(1, dtype=np.float32)
    records = [Record(p.name, p.name, {"m": CountedFile(p, decoded)}, labels) for p in paths]
    features, present = read_inputs(records, "m", modality, side, cache=cache)
    assert present.all()
    return features, len(decoded)


def test_a_second_run_decodes_nothing_and_gets_the_same_bits(cache, modality, tmp_path):
    paths = files(tmp_path)
    plain, _ = encode(paths, modality, None)
    first, decoded = encode(paths, modality, cache)
    assert decoded == len(paths)
    second, decoded = encode(paths, modality, cache)
    assert decoded == 0
    assert torch.equal(first, plain)
    assert torch.equal(second, plain)


def test_renamed_files_are_found_and_changed_ones_are_not(cache, modality, tmp_path):
    paths = files(tmp_path)
    plain, _ = encode(paths, modality, cache)
    renamed = [p.rename(p.with_name(f"new-{p.name}")) for p in paths]
    renamed[2].write_bytes(bytes(256))
    features, decoded = encode(renamed, modality, cache)
    assert decoded == 1
    assert torch.equal(features[[0, 1, 3, 4]], plain[[0, 1, 3, 4]])
    assert not torch.equal(features[2], plain[2])


def test_a_damaged_entry_is_computed_again_and_replaced(cache, modality, tmp_path):
    paths = files(tmp_path)
    plain, _ = encode(paths, modality, cache)
    for path in entries(cache):
        damage_one_number(path)
    again, decoded = encode(paths, modality, cache)
    assert decoded == len(paths)
    assert torch.equal(again, plain)
    assert encode(paths, modality, cache)[1] == 0


def test_other_weights_sizes_and_versions_find_nothing(
    cache, modality, save_timm, tmp_path, monkeypatch
):
    paths = files(tmp_path)
    encode(paths, modality, cache)
    moved = save_timm(tmp_path / "moved.safetensors")
    assert encode(paths, modality.model_copy(update={"weights": moved}), cache)[1] == 0
    other = save_timm(tmp_path / "other.safetensors", seed=1)
    assert encode(paths, modality.model_copy(update={"weights": other}), cache)[1] == len(paths)
    monkeypatch.setattr(frontends.metadata, "version", lambda name: "another")
    assert encode(paths, modality, cache)[1] == len(paths)


def test_only_frozen_encoders_use_it(cache):
    labels = np.zeros(1, dtype=np.float32)
    image = np.zeros((16, 16), dtype=np.uint8)
    for encoder in ("scattering", "cnn"):
        record = Record("a", "a", {"m": image}, labels)
        read_inputs([record], "m", ModalityConfig(encoder=encoder, kind="image"), 16, cache=cache)
    assert not cache.folder.exists()
