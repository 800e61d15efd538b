"""What left the sites, and who can read it, is said as the configuration has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from privfin.reporting.blocks_exchange import WireMessage
from privfin.reporting.collect.exchange import exchange_block
from privfin.reporting.evidence import Evidence

Of = Callable[[str], Evidence]


@pytest.mark.parametrize(
    ("kind", "words", "readable"),
    [
        ("dp", ["nobody alone", "pairwise masks", "full noise"], True),
        ("json", ["the coordinator can read every", "full noise"], True),
        ("ckks", ["coordinator together with any one site", "no masks"], True),
        ("shared", ["nobody alone", "only its share of the noise"], False),
        ("secure", ["nobody alone", "pairwise masks"], False),
        ("inf", ["no noise that protects"], True),
        ("reproducible", ["no noise that protects"], True),
    ],
)
def test_who_reads_single_updates(
    kind: str, words: list[str], readable: bool, evidence_of: Of
) -> None:
    evidence = evidence_of(kind)
    block = exchange_block(evidence)
    for word in words:
        assert word in block.single_updates.get()
    assert block.kind.value == evidence.manifest["config"]["crypto"]["encryption"]
    assert bool(block.readable_segments.get()) == readable
    if readable and kind != "json":
        assert ", ".join(block.readable_segments.get()) in block.single_updates.get()


def test_a_site_that_leaves_makes_more_readable(evidence_of: Of) -> None:
    """Three sites trained the imputers and the text encoder; after one left, two did."""
    evidence = evidence_of("dropped")
    found = exchange_block(evidence).readable_segments.get()
    expected = {"encoder.text", "imputer.image_to_text", "imputer.text_to_image"}
    assert set(found) == expected
    assert all(one["sites_training_it"] == 3 for one in evidence.privacy["segments"]
               if one["segment"] in expected)  # fmt: skip
    # The statement of the run says the same.
    for name in expected:
        assert name in evidence.privacy["observers"]["another site"]["sees"]


def test_failures_of_decryption_are_bounded_where_they_can_be(evidence_of: Of) -> None:
    assert exchange_block(evidence_of("dp")).log2_failure.get() == -40.0
    assert exchange_block(evidence_of("ckks")).log2_failure.status == "not_applicable"
    assert exchange_block(evidence_of("json")).log2_failure.status == "not_applicable"


def rows(evidence: Evidence) -> dict[str, WireMessage]:
    return {row.what.split(":")[0].split(" ")[0]: row
            for row in exchange_block(evidence).messages.get()}  # fmt: skip


def test_messages_are_those_of_the_configuration(evidence_of: Of) -> None:
    always = {"declaration", "update", "sum", "acknowledgements"}
    assert set(rows(evidence_of("json"))) == always
    for kind in ("dp", "ckks", "shared", "inf"):
        assert set(rows(evidence_of(kind))) == {*always, "key"}
    assert set(rows(evidence_of("secure"))) == {*always, "key", "metric-owners", "metrics"}
    evidence = evidence_of("dp")
    evidence.events.append({"event": "ledger-head", "site": "site-01"})
    assert "in" in rows(evidence)


def test_no_protection_is_claimed_that_is_not_there(evidence_of: Of) -> None:
    plain = rows(evidence_of("json"))
    assert plain["update"].readable_by == "the coordinator"
    assert "no encryption" in plain["update"].protection
    assert plain["sum"].protection.startswith("none")
    assert "coordinator" in plain["sum"].readable_by
    for kind, shows in (("dp", True), ("shared", False), ("secure", False), ("dropped", True)):
        assert ("single updates" in rows(evidence_of(kind))["sum"].readable_by) == shows
    ckks = rows(evidence_of("ckks"))
    assert "no masks" in ckks["update"].protection
    assert "with any site" in ckks["update"].readable_by
    assert "without noise" in rows(evidence_of("inf"))["update"].what
    assert "share of the noise" in rows(evidence_of("shared"))["update"].what
    assert "without noise" in rows(evidence_of("secure"))["metrics"].what


def test_bytes_of_all_processes_are_added_up(evidence_of: Of) -> None:
    """A process that goes on counts from 0 again, and secure metrics are an exchange apart."""

    def finished(up: int, down: int, event: str = "round-finished") -> dict[str, Any]:
        return {"event": event, "up": up, "down": down}

    events = [
        {"event": "created"}, finished(10, 1), finished(25, 2), {"event": "resumed"},
        {"event": "resumed"}, finished(7, 3), finished(9, 4), finished(100, 50, "metrics-finished"),
    ]  # fmt: skip
    block = exchange_block(replace(evidence_of("dp"), events=events))
    assert block.bytes_up.get() == 25 + 9 + 100
    assert block.bytes_down.get() == 2 + 4 + 50


def test_sizes_are_assessed_by_an_audit_that_looked(evidence_of: Of) -> None:
    evidence = evidence_of("ckks")
    assert exchange_block(evidence).sizes_tell_sites_apart.status == "not_assessed"
    for views, found in (
        ({}, None),
        ({"coordinator, encryption none": {"sizes_tell_sites_apart": True}}, None),
        ({"coordinator, encryption ckks": {"sizes_tell_sites_apart": False}}, False),
    ):
        audited = replace(evidence, audit={"views": views})
        assert exchange_block(audited).sizes_tell_sites_apart.value is found
