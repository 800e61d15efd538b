"""The code is described by what the run recorded of it."""

from __future__ import annotations

from collections.abc import Callable

from safetensors.numpy import load_file

from privfin.reporting.collect.implementation import implementation_block
from privfin.reporting.evidence import Evidence

Of = Callable[[str], Evidence]


def test_versions_and_parameters_are_those_of_the_run(evidence_of: Of) -> None:
    evidence = evidence_of("dp")
    block = implementation_block(evidence)
    found = {one.name: one.version for one in block.components.get()}
    assert found == evidence.manifest["versions"]
    assert {"python", "torch", "opacus", "dp-accounting"} <= set(found)
    weights = load_file(evidence.run.path / "model.safetensors")
    assert block.parameters.get() == sum(tensor.size for tensor in weights.values())


def test_a_revision_that_nobody_knows_is_a_gap(evidence_of: Of) -> None:
    evidence = evidence_of("dp")
    evidence.manifest["code_revision"] = "unknown (not a git checkout)"
    assert implementation_block(evidence).code_revision.status == "not_assessed"
    evidence.manifest["code_revision"] = "3ee841d"
    assert implementation_block(evidence).code_revision.value == "3ee841d"


def test_rounding_and_side_channels_are_named(evidence_of: Of) -> None:
    for kind, word in (("dp", "noise and sums are floating point"), ("shared", "whole numbers")):
        assert word in implementation_block(evidence_of(kind)).floating_point.get()
    assert len(implementation_block(evidence_of("dp")).side_channels.get()) == 1
    timing, weaker = implementation_block(evidence_of("ckks")).side_channels.get()
    assert timing.startswith("timing")
    assert "depends on the key" in weaker


def test_what_the_statement_leaves_out_is_a_gap(evidence_of: Of) -> None:
    evidence = evidence_of("dp")
    evidence.privacy["not_covered"] = []
    evidence.privacy["assumptions"] = []
    block = implementation_block(evidence)
    assert block.side_channels.status == block.floating_point.status == "not_assessed"
