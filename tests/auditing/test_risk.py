"""Rules of --fail-on, and the two verdicts that are kept apart."""

from __future__ import annotations

import math

import numpy as np
import pytest

from attacks.attempt import Attempt
from attacks.guards import BlindResult
from attacks.measure import Measured, measure
from privfin.auditing.report import AuditReport, Claim, claims_of
from privfin.auditing.risk import passed, read_rule
from privfin.errors import UserInputError


def perfect(patients: int = 400, attack: str = "loss") -> Measured:
    members = np.arange(patients) % 2 == 0
    return measure(Attempt(attack, "outsider", "all", members * 1.0, members), delta=1e-5)


def report(measured: list[Measured], claim: float, risks: list[str]) -> AuditReport:
    blind = BlindResult(0.5, 0.45, "a random forest")
    claims = {"outsider": Claim(claim, 1e-5)}
    return AuditReport("run", "quick", 0.95, 0, claims, blind, measured, risks=risks)


@pytest.mark.parametrize(
    ("text", "what", "rate", "limit"),
    [
        ("bound>claim", "bound", None, None),
        ("bound > 3", "bound", None, 3.0),
        ("AUC>0.6", "auc", None, 0.6),
        ("tpr@0.1%>0.01", "tpr", 0.001, 0.01),
        ("tpr@1%>.5", "tpr", 0.01, 0.5),
    ],
)
def test_rules_are_read(text: str, what: str, rate: float | None, limit: float | None) -> None:
    rule = read_rule(text)
    assert (rule.what, rule.rate, rule.limit) == (what, rate, limit)
    assert rule.is_contradiction == (limit is None)


@pytest.mark.parametrize(
    "text",
    ["", "auc", "auc>claim", "tpr>0.1", "tpr@2%>0.1", "auc<0.6", "bound>-1", "os>1", "auc>x"],
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(UserInputError, match="--fail-on"):
        read_rule(text)


def test_a_rule_is_passed_above_its_limit_only() -> None:
    one = perfect()
    assert one.bound is not None
    assert passed([read_rule("auc>0.99")], [one, perfect(attack="lira")])[0].startswith(
        "auc>0.99: passed by 2 of 2 attacks"
    )
    assert passed([read_rule("auc>1.0")], [one]) == []
    assert len(passed([read_rule("tpr@0.01%>0.5"), read_rule("bound>1")], [one])) == 2
    assert passed([read_rule(f"bound>{math.ceil(one.bound.ceiling)}")], [one]) == []


def test_contradiction_and_risk_are_two_things() -> None:
    one = perfect()
    assert one.bound is not None
    below, above = one.bound.epsilon - 0.1, one.bound.epsilon + 0.1
    assert report([one], below, []).verdict == "contradiction"
    assert report([one], below, ["auc>0.6: ..."]).verdict == "contradiction"
    assert report([one], above, ["auc>0.6: ..."]).verdict == "risk"
    assert report([one], above, []).verdict == "none found"
    assert report([one], math.inf, []).contradictions == []


def test_a_run_that_is_not_private_claims_nothing() -> None:
    stated = {"epsilon": 8.0, "delta": 1e-5}
    observers = dict.fromkeys(
        ("outsider", "another site", "coordinator", "coordinator with a site"), stated
    )
    private = claims_of({"claim": "dp", "observers": observers, "trust": "local: ..."})
    assert {c.epsilon for c in private.values()} == {8.0}
    open_run = claims_of({"claim": "NOT PRIVATE", "observers": observers, "trust": "local"})
    assert {c.epsilon for c in open_run.values()} == {math.inf}


def test_shared_noise_claims_nothing_of_single_updates() -> None:
    """One share of the noise is in each: leaking without encryption is no contradiction."""
    observers = {
        key: {"epsilon": 8.0, "delta": 1e-05} for key in ("outsider", "another site", "coordinator")
    }
    found = claims_of({"claim": "dp", "observers": observers, "trust": "shared: the noise ..."})
    assert found["coordinator, no encryption"].epsilon == math.inf
    assert found["coordinator"].epsilon == found["outsider"].epsilon == 8.0


def test_more_tests_make_every_bound_smaller() -> None:
    """Bonferroni over attacks: ten bounds that hold together are each below one by itself."""
    members = np.arange(400) % 2 == 0
    attempt = Attempt("loss", "outsider", "all", members * 1.0, members)
    alone = measure(attempt, delta=1e-5).bound
    together = measure(attempt, delta=1e-5, tests=10).bound
    assert alone is not None
    assert together is not None
    assert together.epsilon < alone.epsilon
    assert measure(attempt, delta=1e-5, tests=0).bound is None
