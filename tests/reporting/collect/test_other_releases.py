"""Everything that was computed without noise is listed, and who sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from privfin.reporting.answers.answers import Answers
from privfin.reporting.collect.other_releases import other_releases_block
from privfin.reporting.evidence import Evidence

NONE = Answers({})


def _listed(evidence: Evidence) -> str:
    rows = other_releases_block(evidence, NONE).releases.get()
    assert all(row.what and row.seen_by for row in rows)
    return "\n".join(row.what for row in rows)


def test_the_statements_own_list_is_kept_whole(edited: Callable[..., Evidence]) -> None:
    evidence = edited()
    block = other_releases_block(evidence, NONE)
    assert list(block.not_covered.get()) == evidence.privacy["not_covered"]


def test_what_every_run_releases(edited: Callable[..., Evidence]) -> None:
    listed = _listed(edited())
    for words in ("patients and modalities", "SHA-256", "AUROC", "Brier", "after every round"):
        assert words in listed
    for words in ("attacks", "group", "sums over all sites", "validation", "own models"):
        assert words not in listed


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"groups": {"sex": {}, "age": {}}}, "the same by group (sex, age)"),
        ({"federated": {"cells": {}, "not_opened": {}}}, "sums over all sites"),
        ({"chosen_round": {}}, "validation patients"),
        ({"fine_tuned": {}}, "sites' own models"),
    ],
)
def test_what_only_some_runs_release(
    edited: Callable[..., Evidence], metrics: dict[str, Any], words: str
) -> None:
    assert words in _listed(edited(metrics=lambda m: m.update(metrics)))


def test_an_audit_is_a_release_too(edited: Callable[..., Evidence]) -> None:
    assert "success of attacks" in _listed(edited(audit={"format": 1}))


def test_figures_that_are_kept_back_are_not_listed(edited: Callable[..., Evidence]) -> None:
    def only_brier(manifest: dict[str, Any]) -> None:
        manifest["config"]["evaluation"]["metrics"] = ["brier"]

    listed = _listed(edited(manifest=only_brier))
    assert "with Brier score" in listed
    assert "AUROC" not in listed
    assert "after every round" not in listed


def test_a_person_has_to_find_it_acceptable(
    real: Evidence, edited: Callable[..., Evidence]
) -> None:
    assert other_releases_block(real, NONE).justification.status == "not_assessed"
    assert other_releases_block(edited(), NONE).justification.status == "not_applicable"
    said = other_releases_block(real, Answers({"other_releases.justification": "few see it"}))
    assert said.justification.status == "declared"
