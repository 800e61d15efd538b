"""The threat table claims what the code does with this configuration, and says what remains."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from privfin.reporting.answers.answers import Answers
from privfin.reporting.blocks_exchange import Security, Threat
from privfin.reporting.collect.security import security_block
from privfin.reporting.evidence import Evidence

Of = Callable[[str], Evidence]


def block_of(evidence: Evidence, **answers: str) -> Security:
    return security_block(evidence, Answers({f"security.{k}": v for k, v in answers.items()}))


def threats(evidence: Evidence) -> dict[str, Threat]:
    return {row.attacker: row for row in block_of(evidence).threats.get()}


@pytest.mark.parametrize("kind", ["dp", "json", "ckks", "shared", "inf", "reproducible"])
def test_every_observer_of_the_statement_is_an_attacker(kind: str, evidence_of: Of) -> None:
    evidence = evidence_of(kind)
    found = threats(evidence)
    for name, stated in evidence.privacy["observers"].items():
        assert found[name].has == stated["sees"]
        odds = f"{100 * stated['best_accuracy']:.1f}"[:-1]
        promises = odds in found[name].remains
        assert promises == (kind not in ("inf", "reproducible")), found[name].remains
    for row in found.values():
        assert row.remains


@pytest.mark.parametrize("kind", ["inf", "reproducible"])
def test_noise_protects_nobody_who_is_not_promised_anything(kind: str, evidence_of: Of) -> None:
    found = threats(evidence_of(kind))
    assert found["outsider"].protection.startswith("none")
    for name in ("outsider", "another site", "coordinator with all other sites"):
        assert "nothing is promised" in found[name].remains
        assert "the noise of DP-SGD" not in found[name].protection


def test_without_encryption_none_is_claimed(evidence_of: Of) -> None:
    block = block_of(evidence_of("json"))
    assert block.keys.status == "not_applicable"
    assert "cannot check the sum" in block.authentication.get()
    text = block.model_dump_json()
    for word in ("BFV", "CKKS", "masks", "X25519", "encryption of updates"):
        assert word not in text, word
    assert (
        "updates and sums could be read"
        in threats(evidence_of("json"))["someone on the network"].remains
    )


def test_ckks_claims_no_masks(evidence_of: Of) -> None:
    evidence = evidence_of("ckks")
    assert "no masks" in threats(evidence)["coordinator with a site"].protection
    assert "pairwise masks" not in block_of(evidence).model_dump_json()


def test_all_other_sites_together_are_told_apart(evidence_of: Of) -> None:
    name = "coordinator with all other sites"
    assert "holds all the same" in threats(evidence_of("dp"))[name].remains
    assert "more than the guarantee allows" in threats(evidence_of("shared"))[name].remains


def test_a_ledger_is_a_target_where_there_is_one(evidence_of: Of) -> None:
    evidence = evidence_of("dp")
    assert not any("ledger" in name for name in threats(evidence))
    evidence.manifest["ledger"] = {"status": "counted"}
    (row,) = (row for name, row in threats(evidence).items() if "ledger" in name)
    assert "not tamper-proof" in row.remains


def test_what_people_do_is_theirs_to_say(evidence_of: Of) -> None:
    evidence = evidence_of("dp")
    open_block = block_of(evidence)
    assert open_block.raw_data.status == open_block.retention.status == "not_assessed"
    answered = block_of(evidence, raw_data="two radiologists", retention="ten years")
    assert answered.raw_data.value == "two radiologists"
    assert answered.raw_data.status == answered.retention.status == "declared"


def test_a_simulation_is_called_one(evidence_of: Of) -> None:
    """There is no other transport; whoever adds one has to change this block."""
    import privfin.federation.flower as flower

    assert "simulated" in block_of(evidence_of("dp")).transport.get()
    transports = [name for name in vars(flower) if name.startswith("run_")]
    assert transports == ["run_locally"]
