"""What a report says of the mechanism follows from plan and events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from privfin.reporting.collect.mechanism import mechanism_block
from privfin.reporting.evidence import Evidence

Of = Callable[[str], Evidence]


@pytest.mark.parametrize("kind", ["dp", "shared", "fine-tuned", "dropped"])
def test_steps_are_those_that_the_events_count(kind: str, evidence_of: Of) -> None:
    evidence = evidence_of(kind)
    training = evidence.manifest["config"]["training"]
    a_round = 1 if kind == "shared" else training["local_steps"]
    rounds = Counter(e["site"] for e in evidence.events if e["event"] == "site-round-started")
    tuned = Counter(e["site"] for e in evidence.events if e["event"] == "site-fine-tuning-started")
    block = mechanism_block(evidence)
    for site in block.sites.get():
        expected = rounds[site.site] * a_round + tuned[site.site] * training["fine_tune_steps"]
        assert site.steps == expected <= site.steps_planned
    assert block.rounds.get() == max(rounds.values())
    assert block.fine_tuning.is_known == (kind == "fine-tuned")


def test_rounds_that_were_lost_count_and_are_named(evidence_of: Of) -> None:
    block = mechanism_block(evidence_of("dropped"))
    assert block.rounds.get() == 3
    assert block.rounds.note.startswith("2 of them")
    steps = {site.site: site.steps for site in block.sites.get()}
    assert steps["site-02"] < steps["site-01"]


def test_noise_is_described_as_it_was(evidence_of: Of) -> None:
    private = mechanism_block(evidence_of("dp"))
    assert "keyed by the operating system" in private.randomness.get()
    assert all(site.noise_multiplier and site.clip_norm for site in private.sites.get())
    test_mode = mechanism_block(evidence_of("reproducible")).randomness.get()
    assert test_mode.startswith("test mode: it can be computed")
    plain = mechanism_block(evidence_of("inf"))
    assert all(site.clip_norm is None for site in plain.sites.get())
    assert {site.mechanism for site in plain.sites.get()} == {"SGD without noise"}


def test_a_statement_without_a_source_of_noise_is_a_gap(evidence_of: Of) -> None:
    evidence = evidence_of("dp")
    assumptions = evidence.privacy["assumptions"]
    evidence.privacy["assumptions"] = [one for one in assumptions if one["id"] != "secret-noise"]
    assert mechanism_block(evidence).randomness.status == "not_assessed"
