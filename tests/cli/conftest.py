"""The command line as a user meets it: in a folder of its own, with small data on disk."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from privfin.cli.app import run


@dataclass(frozen=True)
class Said:
    """What a command printed and the code it ended with."""

    code: int
    out: str
    err: str


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def privfin(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Runs the command line in this process."""

    def call(*words: Any) -> Said:
        capsys.readouterr()
        code = run([str(word) for word in words])
        printed = capsys.readouterr()
        return Said(code, printed.out, printed.err)

    return call


def snapshot(root: Path) -> dict[str, bytes | None]:
    return {
        str(p.relative_to(root)): p.read_bytes() if p.is_file() else None for p in root.rglob("*")
    }


@pytest.fixture
def refused(folder: Path, privfin: Callable[..., Said]) -> Callable[..., str]:
    """Runs a command that must be refused as bad input; gives the one line of the reason.

    Exactly one line on standard error, no traceback, exit code 2, nothing changed on disk.
    """

    def call(*words: Any) -> str:
        before = snapshot(folder)
        said = privfin(*words)
        assert said.code == 2, said
        assert said.err.startswith("privfin: "), said.err
        assert said.err.endswith("\n")
        assert said.err.count("\n") == 1, said.err
        for text in (said.err, said.out):
            assert "Traceback" not in text
            assert "internal error" not in text
        assert snapshot(folder) == before
        return said.err

    return call


Rows = list[dict[str, Any]]


def hospital_rows(patients: int = 60) -> Rows:
    """Records of two hospitals: north has images only, south has both; every third is sick."""
    return [
        {
            "patient_id": f"patient-{i:03d}",
            "image": f"images/{i:03d}.png",
            "text": f"the chest looks {'cloudy' if i % 3 == 0 else 'clear'} today" if i % 2 else "",
            "sick": int(i % 3 == 0),
            "hospital": "North General" if i % 2 == 0 else "South General",
            "split": "test" if i % 4 == 3 or i % 8 == 0 else "train",
        }
        for i in range(patients)
    ]


@pytest.fixture
def hospitals(folder: Path) -> Callable[..., Path]:
    """Writes a small data set and its configuration; gives the configuration's path."""

    def write(
        change: Callable[[Rows], None] = lambda rows: None,
        *,
        settings: Iterable[str] = (),
        split: bool = True,
    ) -> Path:
        rows = hospital_rows()
        root = folder / "data"
        (root / "images").mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(1)
        for i, row in enumerate(rows):
            pixels = rng.integers(0, 120 + 100 * row["sick"], (20, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "images" / f"{i:03d}.png")
        change(rows)
        with (root / "manifest.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        path = folder / "hospitals.toml"
        path.write_text(
            "\n".join(
                [
                    "[data]",
                    'source = "manifest"',
                    'labels = ["sick"]',
                    "image_size = 16",
                    "[data.manifest]",
                    'site = "hospital"',
                    'split = "split"' if split else "",
                    "[[federation.site]]",
                    'name = "south"',
                    'match = ["south"]',
                    "[[federation.site]]",
                    'name = "north"',
                    'match = ["*"]',
                    'modalities = ["image"]',
                    "[model]",
                    "width = 8",
                    "[model.fin]",
                    "layers = 1",
                    "[training]",
                    "rounds = 2",
                    "local_steps = 2",
                    "batch_size = 4",
                    "[evaluation]",
                    "bootstrap = 20",
                    *settings,
                ]
            )
        )
        return path

    return write
