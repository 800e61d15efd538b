"""``privfin plan``: figures that the accountant confirms, in words, JSON and a picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privfin.privacy.accounting import SubsampledGaussianEvent, epsilon

Call = Callable[..., Any]
SMALL = ["--patients", "600", "--sites", "3", "--rounds", "3", "--local-steps", "2"]


def test_figures_are_those_of_the_accountant(privfin: Call) -> None:
    found = json.loads(privfin("plan", "--epsilon", "4", *SMALL, "--json").out)
    assert [s["patients"] for s in found["sites"]] == [200, 200, 200]
    for site in found["sites"]:
        event = SubsampledGaussianEvent(
            site["noise_multiplier"], site["sampling_rate"], site["steps"]
        )
        assert site["steps"] == 6
        assert site["epsilon"] == epsilon([event], site["delta"]) <= 4
        both = epsilon([event, event], site["delta"])
    assert found["epsilon_of_a_person_at"]["2"] == pytest.approx(both)
    own, *others = found["choices"]
    assert own["noise_multiplier"] == found["sites"][0]["noise_multiplier"]
    by_name = {one["what"]: one for one in others}
    # Less epsilon or more rounds need more noise; a larger batch has less noise beside its signal.
    assert by_name["epsilon x 0.5"]["noise_multiplier"] > own["noise_multiplier"]
    assert by_name["epsilon x 2"]["noise_multiplier"] < own["noise_multiplier"]
    assert by_name["rounds x 2"]["noise_to_signal"] > own["noise_to_signal"]
    assert by_name["batch x 2"]["noise_to_signal"] < own["noise_to_signal"]
    assert found["exchanges"] == 3


def test_shared_noise_is_planned_for_all_patients_together(privfin: Call) -> None:
    words = ["plan", "--epsilon", "4", *SMALL, "--trust", "shared", "--json"]
    found = json.loads(privfin(*words).out)
    assert found["exchanges"] == 6
    assert {s["sampling_rate"] for s in found["sites"]} == {64 / 600}
    assert found["shared"]["sites"] == 3
    assert found["epsilon_of_a_person_at"]["1"] <= 4 < found["epsilon_of_a_person_at"]["2"]


def test_precision_is_the_layout_and_leaves_out_what_it_has_no_room_for(privfin: Call) -> None:
    """A third fewer bytes with one option: the bits of a value follow."""
    words = ["plan", "--epsilon", "4", *SMALL, "--json"]
    wide, narrow = (
        json.loads(privfin(*words, "--precision", name).out) for name in ("2x20", "3x15")
    )
    assert narrow["bytes_a_site"] < wide["bytes_a_site"]
    refused = privfin(*words, "--precision", "4x10")
    assert refused.code == 2 and "crypto.layout" in refused.err


def test_ckks_says_that_it_is_weaker(privfin: Call) -> None:
    words = ["plan", "--epsilon", "4", *SMALL, "--set", "crypto.encryption=ckks"]
    said = privfin(*words)
    assert said.code == 0, said.err
    assert "Weaker: ckks has no masks" in said.out
    assert "must not be shared" in " ".join(said.out.split())
    assert json.loads(privfin(*words, "--json").out)["encryption"]["weaker"]


def test_the_tables_fit_and_the_plot_is_drawn(privfin: Call, folder: Path) -> None:
    said = privfin("plan", "--epsilon", "4", *SMALL, "--plot", "plan.svg")
    assert said.code == 0, said.err
    assert max(map(len, said.out.splitlines())) <= 80
    assert "A person who is a patient of 3 sites" in said.out
    drawn = (folder / "plan.svg").read_text()
    assert "batch 64" in drawn
    assert "epsilon of the whole run" in drawn
    assert "mathdefault" not in drawn


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--epsilon", "inf"], "finite"),
        (["--patients", "3"], "fewer than the 10 sites"),
        (["--delta", "0.5"], "too large"),
        (["--plot", "x.gif"], ".svg"),
        (["--trust", "joint"], "local"),
        (["--batch-size", "4000"], "fewer than the batch size"),
    ],
)
def test_what_cannot_be_planned_is_refused(refused: Call, words: list[str], reason: str) -> None:
    assert reason in refused("plan", *words)
