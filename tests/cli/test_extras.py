"""What only some runs have is shown and is in the JSON: a chosen round, the sites' own models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Call = Callable[..., object]
Options = Callable[..., list[str]]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_chosen_round_and_fine_tuned_models_are_told(
    privfin: Call, tiny_options: Options, folder: Path, as_json: bool
) -> None:
    options = tiny_options(
        training__fine_tune_steps=2,
        evaluation__choose_round="validation",
        crypto__encryption="none",
    )
    said = privfin("train", *options, "--out", "run", *(["--json"] if as_json else []))
    assert said.code == 0, said.err
    shown = said.err if as_json else said.out
    assert "choosing one of 2 rounds on the validation patients" in shown
    assert "fine-tuning 3/3  site-03" in shown
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    if as_json:
        told = json.loads(said.out)
        assert told["chosen_round"] == metrics["chosen_round"]
        assert told["fine_tuned"] == metrics["fine_tuned"]
        return
    assert f"Round {metrics['chosen_round']['round']} was chosen" in said.out
    row = metrics["fine_tuned"]["cells"]["both"]
    for key in ("mean", "min", "max"):
        assert f"{row[key]:.3f}" in said.out


def test_a_plan_tells_of_fine_tuning_and_counts_its_steps(
    privfin: Call, tiny_options: Options
) -> None:
    options = tiny_options(training__fine_tune_steps=7)
    assert "Then 7 steps of fine-tuning" in privfin("train", "--dry-run", *options).out
    plan = json.loads(privfin("train", "--dry-run", "--json", *options).out)
    assert plan["fine_tune_steps"] == 7
    assert {site["steps"] for site in plan["sites"]} == {2 * 2 + 7}
