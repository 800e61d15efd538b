"""A kept calibration saves time and never privacy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from privfin.privacy import calibration_cache
from privfin.privacy.calibration import calibrate_noise
from privfin.privacy.calibration_cache import remembered_noise

SETTING = (4.0, 1e-5, 0.1, 20)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRIVFIN_CACHE", str(tmp_path))
    return tmp_path / "calibration.json"


def no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: float) -> float:
        raise AssertionError("calibrated again")

    monkeypatch.setattr(calibration_cache, "calibrate_noise", refuse)


def test_a_second_plan_needs_no_search(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = remembered_noise(*SETTING)
    assert first == calibrate_noise(*SETTING)
    no_search(monkeypatch)
    assert remembered_noise(*SETTING) == first
    with pytest.raises(AssertionError, match="again"):
        remembered_noise(4.0, 1e-5, 0.1, 21)


@pytest.mark.parametrize("wrong", [0.0, 0.3, 1e9, "1.0", None, True, [], 5.0])
def test_a_file_that_was_changed_cannot_weaken_a_plan(file: Path, wrong: object) -> None:
    right = remembered_noise(*SETTING)
    (key,) = json.loads(file.read_text())
    file.write_text(json.dumps({key: wrong}))
    assert remembered_noise(*SETTING) == right
    assert json.loads(file.read_text()) == {key: right}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_replaced(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert remembered_noise(*SETTING) == calibrate_noise(*SETTING)
    assert len(json.loads(file.read_text())) == 1


def test_without_a_cache_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIVFIN_CACHE", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert remembered_noise(*SETTING) == calibrate_noise(*SETTING)
    assert list(tmp_path.iterdir()) == []
