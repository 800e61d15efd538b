"""Runs beside each other: their own figures, and everything in which they differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from privfin.errors import UserInputError
from privfin.reporting.collect.comparison import comparison_block
from privfin.reporting.evidence import Evidence


def test_one_run_is_no_comparison(edited: Callable[..., Evidence]) -> None:
    assert comparison_block(edited()).runs.status == "not_applicable"


def test_the_reports_own_run_comes_first(edited: Callable[..., Evidence]) -> None:
    own, free = edited("dp", name="own"), edited("inf", name="free")
    fact = comparison_block(own, [free]).runs
    first, second = fact.get()
    assert (first.name, second.name) == ("own", "free")
    assert (first.claim, first.epsilon) == ("dp", own.privacy["population"]["epsilon"])
    assert second.claim.startswith("NOT PRIVATE")
    assert second.epsilon == float("inf")
    assert first.delta == own.privacy["population"]["delta"]
    assert first.run_id == own.manifest["run_id"]
    assert first.differences == {}
    assert second.differences == {"privacy.epsilon": "inf"}
    assert second.audit_verdict is None
    for one, row in ((own, first), (free, second)):
        for cell, interval in row.auroc.items():
            assert interval.value == one.metrics["cells"][cell]["macro_auroc"]
            assert interval.low == one.metrics["cells"][cell]["macro_auroc_low"]


def test_a_verdict_and_an_encryption_are_those_of_the_run(
    edited: Callable[..., Evidence],
) -> None:
    def off(manifest: dict[str, Any]) -> None:
        manifest["config"]["crypto"]["encryption"] = "none"

    other = edited("inf", name="b", manifest=off, audit={"format": 1, "verdict": "risk"})
    second = comparison_block(edited(name="a"), [other]).runs.get()[1]
    assert (second.audit_verdict, second.encryption) == ("risk", "none")
    assert second.differences["crypto.encryption"] == "none"


def test_other_held_out_patients_are_said(edited: Callable[..., Evidence]) -> None:
    def elsewhere(manifest: dict[str, Any]) -> None:
        manifest["data_sha256"]["held-out"] = "0"

    same = comparison_block(edited(name="a"), [edited("inf", name="b")]).runs
    other = comparison_block(edited(name="c"), [edited("inf", name="d", manifest=elsewhere)]).runs
    assert "held-out" not in same.note
    assert "measured on different held-out patients" in other.note


def test_what_cannot_be_compared_is_refused(edited: Callable[..., Evidence]) -> None:
    own = edited(name="a")
    with pytest.raises(UserInputError, match="are the same run"):
        comparison_block(own, [edited(name="b")])
    other = edited("inf", name="c", manifest=lambda m: m.update(label_names=["sick"]))
    with pytest.raises(UserInputError, match="have different labels"):
        comparison_block(own, [other])
