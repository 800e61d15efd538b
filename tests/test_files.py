"""Files are written whole or not at all, and hold nothing that runs when it is read."""

from __future__ import annotations

import ast
import errno
import json
import math
import os
from pathlib import Path

import pytest

import privfin
from privfin.errors import UserInputError
from privfin.files import clear_disk_errors, jsonable, write_bytes, write_json

SOURCES = sorted(Path(privfin.__file__).parent.rglob("*.py"))


class FullDisk:
    """An open file on a disk that has room for a few bytes more."""

    def __init__(self, stream) -> None:
        self._stream = stream

    def write(self, content: bytes) -> int:
        self._stream.write(content[:3])
        raise OSError(errno.ENOSPC, "No space left on device")

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    def __enter__(self):
        return self

    def __exit__(self, *details) -> None:
        self._stream.close()


def fail_at(monkeypatch: pytest.MonkeyPatch, place: str, number: int = errno.ENOSPC) -> None:
    """Let one of the system calls behind ``write_bytes`` fail."""

    def fail(*args, **options):
        raise OSError(number, os.strerror(number))

    if place == "write":
        opened = Path.open
        monkeypatch.setattr(Path, "open", lambda self, *a, **k: FullDisk(opened(self, *a, **k)))
    elif place == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, place, fail)


@pytest.mark.parametrize("place", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize("old", [None, b"the old content"])
def test_a_full_disk_leaves_everything_as_it_was(tmp_path, monkeypatch, place, old):
    """Neither half a checkpoint nor a lost one: the run goes on from the file that is there."""
    path = tmp_path / "file.bin"
    if old is not None:
        path.write_bytes(old)
    with monkeypatch.context() as patch:
        fail_at(patch, place)
        with pytest.raises(UserInputError, match="no space left") as caught:
            write_bytes(path, b"the new content")
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    if old is None:
        assert list(tmp_path.iterdir()) == []
    else:
        assert list(tmp_path.iterdir()) == [path]
        assert path.read_bytes() == old


def test_other_disk_errors_are_one_line_too(tmp_path, monkeypatch):
    with pytest.raises(UserInputError, match=r"cannot write .*No such file"):
        write_bytes(tmp_path / "absent" / "file", b"x")
    fail_at(monkeypatch, "replace", errno.EACCES)
    with pytest.raises(UserInputError, match=r"cannot write .*Permission denied"):
        write_bytes(tmp_path / "file", b"x")
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_the_old_file(tmp_path, monkeypatch):
    """Ctrl-C is not turned into a disk error, and leaves nothing half-written."""
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def interrupt(*args) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_new_content_is_on_disk_before_it_gets_the_name(tmp_path, monkeypatch):
    """Flushed first, renamed second: a power cut shows the old file or the new one."""
    order = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: order.append("fsync") or sync(fd))
    monkeypatch.setattr(
        Path, "replace", lambda self, to: order.append("replace") or replace(self, to)
    )
    write_bytes(tmp_path / "file", b"content")
    assert order == ["fsync", "replace"]
    assert (tmp_path / "file").read_bytes() == b"content"


def test_only_disk_errors_are_translated(tmp_path):
    with pytest.raises(ZeroDivisionError), clear_disk_errors(tmp_path):
        _ = 1 / 0


def test_json_is_plain_for_every_reader(tmp_path):
    content = {"a": math.inf, "b": -math.inf, "c": math.nan, "d": (1, 2.5, None, "é"), 3: True}
    path = tmp_path / "x.json"
    write_json(path, {**content, "path": Path("some") / "where"})

    def refuse(word: str) -> None:
        raise AssertionError(word)

    found = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert found == {
        "a": "inf",
        "b": "-inf",
        "c": None,
        "d": [1, 2.5, None, "é"],
        "3": True,
        "path": str(Path("some") / "where"),
    }
    assert jsonable(found) == found


# Nothing that is read can run


def dangerous(source: str) -> list[str]:
    """Uses of pickle and of its relatives, by name."""
    modules = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in modules]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module] if (node.module or "").split(".")[0] in modules else []
            if node.module == "torch":
                found += [f"torch.{a.name}" for a in node.names if a.name in ("load", "save")]
        elif isinstance(node, ast.Name) and node.id in ("eval", "exec", "__import__"):
            found.append(node.id)
        elif isinstance(node, ast.Attribute):
            called = ast.unparse(node)
            if called in ("torch.load", "torch.save", "torch.jit.load", "builtins.eval"):
                found.append(called)
        elif isinstance(node, ast.keyword) and ast.unparse(node) == "allow_pickle=True":
            found.append(node.arg)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: "/".join(p.parts[-2:]))
def test_no_source_file_reads_code_from_data(path):
    """A checkpoint or a message from somebody else is data: reading it must not execute it."""
    assert dangerous(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load(path)",
        "from torch import load",
        "eval(text)",
        "run = exec",
        "np.load(path, allow_pickle=True)",
        "import joblib.numpy_pickle",
    ],
)
def test_the_scan_finds_what_it_looks_for(source):
    assert dangerous(source)


def test_the_scan_sees_the_whole_package():
    assert len(SOURCES) > 40
    assert dangerous("model.eval()\nnp.load(p, allow_pickle=False)") == []
