"""Sites are those that trained, and one that left is not forgotten."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from privfin.errors import UserInputError
from privfin.reporting.answers.answers import Answers
from privfin.reporting.collect.parties import parties_block
from privfin.reporting.evidence import Evidence, read_evidence


def test_sites_are_those_of_the_manifest(edited: Callable[..., Evidence]) -> None:
    evidence = edited()
    block = parties_block(evidence, Answers({}))
    assert [one.model_dump(mode="json") for one in block.sites.get()] == evidence.manifest["sites"]
    assert block.sites_left.get() == ()
    assert block.trust.get().startswith("local: ")


def test_a_site_that_dropped_out_is_listed(edited: Callable[..., Evidence]) -> None:
    evidence = edited()
    event = {"time": "t", "event": "site-left", "site": "site-02", "round": 2, "attempt": 1}
    with (evidence.run.path / "events.jsonl").open("a") as stream:
        stream.write(json.dumps(event) + "\n")
    block = parties_block(read_evidence(evidence.run.path), Answers({}))
    (left,) = block.sites_left.get()
    assert (left.site, left.round, left.attempt) == ("site-02", 2, 1)


@pytest.mark.parametrize("name", ["roles", "coordinator", "recipients"])
def test_roles_come_from_people(real: Evidence, name: str) -> None:
    assert getattr(parties_block(real, Answers({})), name).status == "not_assessed"
    said = getattr(parties_block(real, Answers({f"parties.{name}": "us"})), name)
    assert (said.status, said.value) == ("declared", "us")


def test_a_damaged_manifest_is_named(edited: Callable[..., Evidence]) -> None:
    evidence = edited(manifest=lambda m: m["sites"][0].pop("patients"))
    with pytest.raises(UserInputError, match=r"manifest\.json is damaged .*patients"):
        parties_block(evidence, Answers({}))
