"""A site obeys its own policy, whatever configuration, plan or cohort the launcher hands it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from privfin.errors import PolicyError
from privfin.federation.messages import Task
from privfin.federation.site import Site
from privfin.privacy.policy import Policy

OPEN = {"allow_not_private": True, "allow_without_ledger": True, "largest_epsilon": 8.0}


class NoWork:
    def codes(self, *_: Any) -> None:
        raise AssertionError("the site trained")

    incoming = codes


def site(one: Any, plan: Any = None, **rules: Any) -> Site:
    name = "site-01"
    return Site(
        identity=one.identities[name],
        roster=one.roster,
        run=one.run,
        config=one.config,
        plan=plan or one.plan,
        state=one.states[name],
        work=NoWork(),  # type: ignore[arg-type]
        journal=one.journal,
        policy=Policy(**{**OPEN, **rules}),
        with_ledger=False,
    )


def test_what_the_policy_allows_is_done(federation: Callable[..., Any]) -> None:
    one = federation(crypto__encryption="none")
    made = site(one, encryption_required=False, masks_required=False)
    with pytest.raises(AssertionError, match="trained"):
        made.handle(one.task("update", 1))


@pytest.mark.parametrize(
    "rules",
    [
        {"allow_not_private": False},
        {"allow_without_ledger": False},
        {"largest_epsilon": 7.0},
        {"smallest_cohort": 4},
        {"trust": ("shared",)},
        {"metrics": ("loss",)},
        {"configurations": ("0" * 64,)},
        {"largest_delta": 1e-9},
    ],
    ids=lambda rules: next(iter(rules)),
)
def test_every_broken_rule_is_refused(
    federation: Callable[..., Any], rules: dict[str, Any]
) -> None:
    with pytest.raises(PolicyError, match=next(iter(rules))):
        site(federation(), **rules)


@pytest.mark.parametrize("rule", ["encryption_required", "masks_required"])
def test_readable_updates_are_refused(federation: Callable[..., Any], rule: str) -> None:
    others = {"encryption_required": False, "masks_required": False}
    with pytest.raises(PolicyError, match=rule):
        site(federation(crypto__encryption="none"), **{**others, rule: True})


def test_a_plan_that_spends_more_than_its_configuration_says_is_refused(
    federation: Callable[..., Any],
) -> None:
    one = federation()
    first, *rest = one.plan.sites
    plan = replace(one.plan, sites=(replace(first, epsilon=8.5), *rest))
    with pytest.raises(PolicyError, match=r"the plan has 8\.5"):
        site(one, plan)


def test_a_cohort_that_is_too_small_is_refused_before_anything_is_spent(
    federation: Callable[..., Any],
) -> None:
    one = federation(crypto__encryption="none")
    made = site(one, encryption_required=False, masks_required=False, smallest_cohort=3)
    for kind in ("update", "make-key", "finish"):
        with pytest.raises(PolicyError, match="smallest_cohort = 3: there are 2 sites"):
            made.handle(Task(kind, 1, 1, one.cohort[:2]))  # type: ignore[arg-type]
    assert one.journal.started == []
