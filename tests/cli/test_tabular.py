"""Runs with tabular modalities, from the files to a score: three modalities are no special case,
and a fourth is one more entry in the configuration."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from privfin.cli.app import run

Call = Any
THREE = """
[data]
source = "manifest"
labels = ["sick"]
image_size = 16
[data.manifest]
sex = "sex"
age = "age"
[modalities.image]
encoder = "scattering"
kind = "image"
[modalities.text]
encoder = "hashed-ngrams"
kind = "text"
features = 32
[modalities.tabular]
encoder = "values"
kind = "tabular"
ranges = { age = [0, 100], sex = [0, 1], temperature = [34, 43] }
[federation]
sites = 4
modalities = "image=1, text+tabular=1, image+text+tabular=2"
[model]
width = 8
[training]
rounds = 2
local_steps = 2
batch_size = 4
[evaluation]
bootstrap = 20
smallest_group = 2
"""
FOUR = THREE.replace("image+text+tabular=2", "image+text+tabular+labs=2")
FOUR += """
[modalities.labs]
encoder = "values"
kind = "tabular"
ranges = { leukocytes = [0, 40], "pO2 (%)" = [50, 100] }
"""
NAMES = {3: ("image", "text", "tabular"), 4: ("image", "text", "tabular", "labs")}


def write_data(root: Path, patients: int = 64) -> None:
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    with (root / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        values = ["age", "sex", "temperature", "leukocytes", "pO2 (%)"]
        writer.writerow(["patient_id", "image", "text", *values, "sick"])
        for i in range(patients):
            sick = i % 2
            pixels = rng.integers(0, 120 + 100 * sick, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "images" / f"{i}.png")
            cells = [20 + i, "MF"[i % 2], 37 + 2 * sick, 5 + 9 * sick, 98 - 20 * sick]
            if i % 4 == 2:
                cells[:3] = ["", "", ""]  # this patient lacks the modality
            if i % 16 == 4:
                cells[2] = ""  # a missing entry of a modality that is there
            text = "cloudy lung" if sick else "clear lung"
            writer.writerow([f"p{i}", f"images/{i}.png", text, *cells, sick])


@dataclass(frozen=True)
class Trained:
    path: Path
    out: str
    modalities: tuple[str, ...]

    def json(self, name: str) -> Any:
        return json.loads((self.path / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=[3, 4])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    root = tmp_path_factory.mktemp("tabular")
    write_data(root / "data")
    config = root / "run.toml"
    config.write_text({3: THREE, 4: FOUR}[request.param], encoding="utf-8")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        words = ["train", "--no-ledger", config, "--data-root", root / "data", "--epsilon", "4"]
        code = run([str(word) for word in [*words, "--out", root / "run"]])
    assert code == 0, err.getvalue()
    return Trained(root / "run", out.getvalue(), NAMES[request.param])


def first_column(table: str) -> list[str]:
    """The names in a printed table's first column, put together again where they were folded."""
    found: list[str] = []
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.split("│")[1:-1]]
        if cells and cells[1]:
            found.append(cells[0])
        elif cells:
            found[-1] += f" {cells[0]}"
    return found


def test_every_availability_cell_is_measured(trained: Trained) -> None:
    cells = trained.json("metrics.json")["cells"]
    names = trained.modalities
    expected = ["all"] + [
        f"{' + '.join(group)} only"
        for size in range(len(names) - 1, 0, -1)
        for group in combinations(names, size)
    ]
    assert list(cells) == expected
    assert len(cells) == 2 ** len(names) - 1
    assert cells["tabular only"]["records"] < cells["image only"]["records"]
    tables = trained.out[trained.out.index("Held-out patients") : trained.out.index("Sent:")]
    assert max(map(len, tables.splitlines())) <= 80
    assert first_column(tables[: tables.index("Macro AUROC by group")]) == expected
    groups = tables[tables.index("Macro AUROC by group") : tables.index("Privacy of")]
    for word in ("all", "image", "text", "tabular", "sex", "age"):
        assert word in groups
    assert '--image X.png --text "..." --value age=...' in trained.out


def test_every_segment_is_trained_by_the_sites_that_hold_its_modalities(trained: Trained) -> None:
    statement = trained.json("privacy.json")
    held = [set(site["modalities"]) for site in statement["sites"]]
    segments = {s["segment"]: s for s in statement["segments"]}
    for name in trained.modalities:
        owners = sum(name in site for site in held)
        assert segments[f"encoder.{name}"]["sites_training_it"] == owners
        assert segments[f"head.{name}"]["sites_training_it"] == 4  # real or imputed
    pairs = {
        f"imputer.{a}_to_{b}": sum({a, b} <= site for site in held)
        for a in trained.modalities
        for b in trained.modalities
        if a != b
    }
    found = {n: s["sites_training_it"] for n, s in segments.items() if n.startswith("imputer.")}
    assert found == pairs
    assert segments["encoder.tabular"]["parameters"] == (2 * 3 + 1) * 8


def predict(trained: Trained, *words: str) -> dict[str, Any]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(["predict", str(trained.path), *words, "--json"])
    assert code == 0, err.getvalue()
    return dict(json.loads(out.getvalue()))


def test_one_two_or_all_inputs_are_scored(trained: Trained) -> None:
    given = {
        "image": ["--image", str(trained.path.parent / "data" / "images" / "3.png")],
        "text": ["--text", "cloudy lung"],
        "tabular": ["--value", "age=63", "--value", "sex=F"],
        "labs": ["--value", "pO2 (%)=71.5"],
    }
    scores = set()
    for size in range(1, len(trained.modalities) + 1):
        for group in combinations(trained.modalities, size):
            content = predict(trained, *(word for name in group for word in given[name]))
            assert content["notes"] == []
            scores.add(content["scores"]["sick"])
    assert all(0 < score < 1 for score in scores)
    assert len(scores) == 2 ** len(trained.modalities) - 1  # each input counts


def test_a_value_out_of_range_is_cut_off_and_said(trained: Trained) -> None:
    at_the_end = predict(trained, "--value", "age=100")
    beyond = predict(trained, "--value", "age=140")
    assert beyond["scores"] == at_the_end["scores"]
    assert beyond["notes"] == ["age = 140 is outside the range of tabular, 0 to 100: read as 100"]
    below = predict(trained, "--value", "temperature=20", "--value", "age=50")
    assert below["notes"] == [
        "temperature = 20 is outside the range of tabular, 34 to 43: read as 34"
    ]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert run(["predict", str(trained.path), "--value", "age=140"]) == 0
    assert "Note: age = 140 is outside the range" in out.getvalue()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--value", "agge=63"], "no column 'agge'; did you mean 'age'?"),
        (["--value", "hospital=1"], "(known: age, "),
        (["--value", "age"], "must look like column=number"),
        (["--value", "age=63", "--value", "age=64"], "gives 'age' twice"),
        (["--value", "age=old"], "column 'age' is 'old'; a value is a number or blank"),
        (["--value", "age="], "nothing to score"),
        ([], "nothing to score: give --image, --text or --value"),
    ],
)
def test_values_that_cannot_be_used_are_refused(
    trained: Trained, refused: Call, words: list[str], says: str
) -> None:
    assert says in refused("predict", trained.path, *words)


def test_a_run_without_a_table_refuses_values(refused: Call, finished_runs: Call) -> None:
    line = refused("predict", finished_runs("dp").path, "--value", "age=63")
    assert "trained without a modality of kind 'tabular'" in line
