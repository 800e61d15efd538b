"""``privfin compare`` as a user meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

PROGRAM = [sys.executable, "-c", "from privfin.cli import main; main()"]


@pytest.fixture
def runs(make_run: Any, folder: Path) -> list[str]:
    for seed in range(3):
        make_run(f"fin-{seed}", auroc=0.8 + seed / 100, training__seed=seed)
        make_run(f"zero-{seed}", auroc=0.7, training__seed=seed, model__imputer="zero")
    make_run("inf[red]", auroc=0.9, privacy__epsilon="inf")
    return sorted(path.name for path in folder.iterdir())


def test_the_terminal_shows_everything_in_80_columns(privfin: Any, runs: list[str]) -> None:
    said = privfin("compare", *runs)
    assert said.code == 0, said.err
    assert max(len(line) for line in said.out.splitlines()) <= 80
    for word in (
        "0.810",
        "± 0.010 sd",
        "model.imputer",
        "NOT PRIVATE",
        "inf[red]",
        "-0.110",
        "too few to conclude anything",
        "image only",
        "0.880 to 0.920",
    ):
        assert word in said.out, word


def test_one_cell_and_another_metric(privfin: Any, runs: list[str]) -> None:
    said = privfin("compare", *runs, "--cell", "image only", "--metric", "brier")
    assert said.code == 0, said.err
    assert "macro Brier score" in said.out
    assert "text only" not in said.out


def test_json_parses(privfin: Any, runs: list[str]) -> None:
    said = privfin("compare", *runs, "--json")
    content = json.loads(said.out)
    assert content["metric"] == "auroc"
    assert [len(s["runs"]) for s in content["settings"]] == [3, 1, 3]
    pair = next(p for p in content["paired"] if len(p["seeds"]) == 3)
    assert pair["p_value"] == pair["smallest_p"] == 0.25


def test_pictures_are_written(privfin: Any, runs: list[str], folder: Path) -> None:
    for name in ("a.png", "a.svg"):
        said = privfin("compare", *runs, "--plot", name, "--html", "a.html")
        assert said.code == 0, said.err
        assert f"Wrote {name}" in said.out
    with Image.open("a.png") as image:
        assert image.width > 600
    text = Path("a.svg").read_text()
    assert text.count("<svg") == 1
    assert "NOT PRIVATE" in text
    assert not list(folder.glob(".*.tmp"))


def test_refusals_are_one_line_and_write_nothing(refused: Any, runs: list[str]) -> None:
    assert "at least two" in refused("compare", runs[0])
    assert "same run" in refused("compare", runs[0], runs[0])
    assert "no run has a cell" in refused("compare", *runs, "--cell", "x", "--html", "x.html")
    assert "is not one of" in refused("compare", *runs, "--metric", "f1", "--plot", "x.png")
    assert "must end in .png or .svg" in refused("compare", *runs, "--plot", "x.pdf")
    assert "does not exist" in refused("compare", *runs, "--plot", "none/x.png")
    assert "does not exist" in refused("compare", *runs, "--html", "none/x.html")
    assert "not a run directory" in refused("compare", runs[0], "none")


def test_a_plot_needs_no_home_and_leaves_nothing_in_it(runs: list[str], folder: Path) -> None:
    home = folder / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(folder / "tmp")}
    (folder / "tmp").mkdir()
    for name in ("MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "DISPLAY"):
        environment.pop(name, None)
    home.chmod(0o500)
    done = subprocess.run(  # noqa: S603
        [*PROGRAM, "compare", *runs[:2], "--plot", "x.png"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list(home.iterdir()) == list((folder / "tmp").iterdir()) == []
