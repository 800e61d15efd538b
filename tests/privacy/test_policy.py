"""A site's policy: each rule refuses what breaks it, and no file means that nothing is allowed."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from privfin.config import RunConfig
from privfin.errors import PolicyError
from privfin.privacy.policy import Policy, load_policy, template, write_template


@dataclass(frozen=True)
class Part:
    name: str = "north"
    epsilon: float = 8.0
    delta: float = 1e-5


@dataclass(frozen=True)
class Plan:
    sites: tuple[Part, ...]


@pytest.fixture
def check(tiny: Callable[..., RunConfig]) -> Callable[..., None]:
    """Checks a configuration that every default rule allows, but for what is changed."""

    def run(
        policy: dict[str, Any], *, sites: int = 3, with_ledger: bool = True, **options: Any
    ) -> None:
        Policy.model_validate(policy).check(tiny(**options), sites=sites, with_ledger=with_ledger)

    return run


def test_the_limits_themselves_are_allowed(check: Callable[..., None]) -> None:
    check({}, privacy__epsilon=8.0, privacy__delta=1e-5)


@pytest.mark.parametrize(
    ("policy", "change", "rule", "value"),
    [
        ({}, {"privacy__epsilon": 8.001}, "largest_epsilon = 8", "8.001"),
        ({}, {"privacy__delta": 1.1e-5}, "largest_delta = 1e-05", "1.1e-05"),
        ({}, {"sites": 2}, "smallest_cohort = 3", "2 sites"),
        ({"trust": ["shared"]}, {}, "trust = shared", "'local'"),
        ({"masks_required": False}, {"crypto__encryption": "none"}, "encryption_required", "none"),
        ({"encryption_required": False}, {"crypto__encryption": "none"}, "masks_required", "no m"),
        ({}, {"crypto__encryption": "ckks"}, "masks_required", "ckks"),
        ({"metrics": ["loss", "auroc"]}, {}, "metrics = loss, auroc", "brier"),
        ({"metrics": []}, {"evaluation__metrics": ["loss"]}, "metrics = none", "loss"),
        ({"configurations": ["0" * 64]}, {}, "configurations", "is not listed"),
        ({}, {"privacy__epsilon": math.inf}, "allow_not_private", "epsilon = inf"),
        ({}, {"privacy__reproducible": True}, "allow_not_private", "test mode"),
        ({}, {"with_ledger": False}, "allow_without_ledger", "no ledger"),
    ],
)
def test_each_rule_refuses_what_breaks_it(
    check: Callable[..., None],
    policy: dict[str, Any],
    change: dict[str, Any],
    rule: str,
    value: str,
) -> None:
    with pytest.raises(PolicyError) as refused:
        check(policy, **change)
    assert rule in str(refused.value)
    assert value in str(refused.value)
    assert str(refused.value).count(";") == 0, "only the rule that is broken is named"
    assert refused.value.exit_code == 5


def test_rules_that_allow_let_pass(
    check: Callable[..., None], tiny: Callable[..., RunConfig]
) -> None:
    check({"allow_not_private": True}, privacy__epsilon=math.inf)
    check({"allow_not_private": True}, privacy__reproducible=True)
    check({"allow_without_ledger": True}, with_ledger=False)
    check({"encryption_required": False, "masks_required": False}, crypto__encryption="none")
    check({"masks_required": False}, crypto__encryption="ckks")
    check({"smallest_cohort": 2}, sites=2)
    check({"configurations": [tiny().digest()]})


def test_a_plan_is_held_to_the_limits_whatever_its_configuration_says() -> None:
    good = (Part("a"), Part("b"), Part("c"))
    Policy().check_plan(Plan(good))
    for bad, rule in [
        ((*good, Part("d", epsilon=8.01)), "largest_epsilon = 8: the plan has 8.01 for site 'd'"),
        ((*good, Part("d", epsilon=math.inf)), "allow_not_private"),
        ((*good, Part("d", epsilon=math.nan)), "allow_not_private"),
        ((*good, Part("d", delta=2e-5)), "largest_delta = 1e-05: the plan has 2e-05"),
        ((*good, Part("d", delta=math.nan)), "largest_delta"),
        (good[:2], "smallest_cohort = 3"),
    ]:
        with pytest.raises(PolicyError, match=rule):
            Policy().check_plan(Plan(bad))


def test_no_cap_may_pass_the_limits_in_total() -> None:
    Policy().check_cap(16.0, 1e-4)
    for cap, rule in [
        ((16.1, 1e-5), "largest_total_epsilon = 16: the cap is 16.1"),
        ((math.inf, 1e-5), "largest_total_epsilon"),
        ((math.nan, 1e-5), "largest_total_epsilon"),
        ((1.0, 1.1e-4), "largest_total_delta = 0.0001: the cap is 0.00011"),
    ]:
        with pytest.raises(PolicyError, match=rule):
            Policy().check_cap(*cap)


def test_the_template_says_the_defaults_with_a_comment_a_rule(tmp_path: Path) -> None:
    write_template(tmp_path / "policy.toml")
    assert load_policy(tmp_path) == Policy()
    assert set(tomllib.loads(template())) == set(Policy.model_fields)
    for field in Policy.model_fields.values():
        assert f"# {field.description}\n" in template()


def test_an_existing_policy_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("largest_epsilon = 1.0\n")
    with pytest.raises(PolicyError, match="exists"):
        write_template(path)
    assert path.read_text() == "largest_epsilon = 1.0\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"largest_epsilon = ", "is not valid TOML"),
        (b"\xff\xfe", "is not valid TOML"),
        (b"largest_epsilom = 3.0", "unknown key 'largest_epsilom'; did you mean 'largest_epsilon'"),
        (b"largest_epsilon = inf", "largest_epsilon: "),
        (b"largest_epsilon = nan", "largest_epsilon: "),
        (b"largest_delta = 0", "largest_delta: "),
        (b"trust = []", "trust: name at least one"),
        (b'metrics = ["accuracy"]', "metrics.0: "),
        (b'configurations = ["abc"]', "configurations.0: "),
        (b"[run]\nlargest_epsilon = 100", "unknown key 'run'"),
    ],
)
def test_a_policy_that_cannot_be_read_allows_nothing(
    tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / "policy.toml").write_bytes(content)
    with pytest.raises(PolicyError) as refused:
        load_policy(tmp_path)
    assert words in str(refused.value)
    assert "nothing is allowed" in str(refused.value)
    assert "\n" not in str(refused.value).strip()


def test_a_missing_policy_or_a_folder_in_its_place_allows_nothing(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="is missing"):
        load_policy(tmp_path)
    (tmp_path / "policy.toml").mkdir()
    with pytest.raises(PolicyError, match="cannot read"):
        load_policy(tmp_path)
