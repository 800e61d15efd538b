"""Every imputer from the command line: it trains, is stated, and predicts; blank texts are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from privfin.config import ImputerKind

TINY = [
    "--set=data.patients=200",
    "--set=federation.sites=3",
    "--set=federation.modalities=1:1:1",
    "--set=training.batch_size=16",
    "--set=training.rounds=1",
    "--set=training.local_steps=2",
    "--set=model.width=8",
    "--set=evaluation.bootstrap=5",
]
Call = Callable[..., Any]


@pytest.mark.parametrize("kind", get_args(ImputerKind))
def test_it_trains_under_privacy_and_scores_one_study(privfin: Call, folder: Path, kind: str):
    public = ["--set=model.retrieval.source=phantom"] if kind == "retrieval" else []
    said = privfin("train", *TINY, "--imputer", kind, *public, "--epsilon", "8", "--out", "run")
    assert said.code == 0, said.err
    statement = json.loads((folder / "run" / "privacy.json").read_text())
    assert statement["claim"] == "dp"
    assert all(0 < site["epsilon"] <= 8 for site in statement["sites"])
    assert any("public records" in text for text in statement["not_covered"]) == bool(public)
    content = json.loads(privfin("predict", "run", "--text", "The heart is large.", "--json").out)
    assert len(content["scores"]) == 14
    # Only P-FIN states how sure it is of the image that it imputed.
    assert set(content["uncertainty"]) == ({"image"} if kind == "pfin" else set())
    if kind == "pfin":
        said = privfin("predict", "run", "--text", "The heart is large.")
        assert "image was imputed with a variance of" in said.out
        blank = privfin("predict", "run", "--text", "  ")
        assert (blank.code, "nothing to score" in blank.err) == (2, True)


@pytest.mark.parametrize("how", ["size", "uncertainty"])
def test_sites_can_be_weighted(privfin: Call, folder: Path, how: str):
    words = ["--imputer", "pfin", "--aggregation", how, "--epsilon", "8"]
    assert privfin("train", *TINY, *words, "--out", "run").code == 0
    statement = json.loads((folder / "run" / "privacy.json").read_text())
    assert ("sent encrypted" in statement["aggregation"]) == (how == "uncertainty")


def test_weights_by_certainty_need_an_imputer_that_states_it(refused: Call):
    said = refused("train", "--aggregation", "uncertainty", "--out", "run")
    assert "needs imputer = 'pfin'" in said


def test_retrieval_needs_a_public_set(refused: Call):
    assert "model.retrieval.source" in refused("train", "--imputer", "retrieval", "--out", "run")
