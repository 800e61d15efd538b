"""What a run states: nothing it does not keep, and no epsilon where nothing is private."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from safetensors import safe_open

from privfin.cli.summary import print_plan
from privfin.config import load_config
from privfin.crypto.ckks import ciphertext_bytes
from privfin.data.partition import refuse_shared
from privfin.errors import ConfigError, DataError, PlanError
from privfin.federation.plan import TrainingPlan, declared_sites, make_plan
from privfin.federation.statement import closed_segments, narrow_segments, privacy_statement
from privfin.federation.training_run import check_same_plan, plan_figures
from privfin.files import jsonable
from privfin.models.segments import initial_model
from privfin.runs import create_run


def planned(**options: Any) -> tuple[Any, TrainingPlan]:
    values = {"training__rounds": 2, "training__local_steps": 2, **options}
    config = load_config(None, [(k.replace("__", "."), v) for k, v in values.items()])
    return config, make_plan(config, declared_sites(config))


@pytest.mark.parametrize(
    ("pattern", "sites", "narrow"),
    [
        ("4:4:2", 10, ["imputer.image_to_text", "imputer.text_to_image"]),
        (
            "8:0:2",
            10,
            ["encoder.text", "imputer.image_to_text", "imputer.text_to_image"],
        ),
        ("0:0:1", 10, []),
    ],
)
def test_segments_that_the_sum_does_not_hide_are_named(
    pattern: str, sites: int, narrow: list[str]
) -> None:
    config, plan = planned(federation__modalities=pattern, federation__sites=sites)
    assert narrow_segments(plan) == narrow
    observers = privacy_statement(config, plan, {})["observers"]
    for name in narrow:
        assert name in observers["another site"]["sees"]
        assert name in observers["coordinator with a site"]["sees"]
    assert ("read off" in observers["another site"]["sees"]) == bool(narrow)


@pytest.mark.parametrize(
    ("options", "finite"),
    [
        ({}, True),
        ({"privacy__reproducible": True}, False),
        ({"privacy__epsilon": math.inf}, False),
    ],
)
def test_no_epsilon_is_stated_for_a_run_that_is_not_private(
    options: dict[str, Any], finite: bool
) -> None:
    config, plan = planned(**options)
    started = dict.fromkeys(plan.cohort, plan.rounds)
    statement = privacy_statement(config, plan, started)
    assert (statement["claim"] == "dp") == finite
    for site in statement["sites"]:
        assert math.isfinite(site["epsilon"]) == finite
        assert ("epsilon_simulated" in site) == config.privacy.reproducible


def test_a_resume_under_another_plan_is_refused(tmp_path: Path) -> None:
    """Other noise for the remaining steps would misstate the epsilon of the first ones."""
    _, plan = planned()
    figures = json.loads(json.dumps(jsonable(plan_figures(plan))))
    run = create_run(tmp_path / "run", {"plan": figures})
    check_same_plan(run, plan)
    run.manifest["plan"][3]["noise_multiplier"] *= 0.99
    with pytest.raises(ConfigError, match="site-04"):
        check_same_plan(run, plan)


def test_the_model_file_carries_the_claim(tmp_path: Path) -> None:
    config, plan = planned()
    run = create_run(tmp_path / "run", {"claim": "NOT PRIVATE: a test"})
    run.save_model(initial_model(config, len(plan.label_names)))
    with safe_open(run.path / "model.safetensors", "np") as stored:
        assert stored.metadata()["claim"] == "NOT PRIVATE: a test"


def mixed(**options: Any) -> tuple[Any, TrainingPlan]:
    """Two parts of made-up patients, dealt to ten sites."""
    parts = [{"name": n, "source": "phantom", "patients": 1250} for n in ("a", "b")]
    return planned(
        data__source="mix",
        data__part=parts,
        data__labels=["effusion"],
        federation__patients=2000,
        **options,
    )


@pytest.mark.parametrize(("declared", "status"), [(False, "unknown"), (True, "declared")])
def test_unless_people_are_apart_the_headline_adds_up_over_the_sites(
    declared: bool, status: str
) -> None:
    config, plan = mixed(federation__disjoint=declared)
    statement = privacy_statement(config, plan, dict.fromkeys(plan.cohort, plan.rounds))
    whole = statement["population"]
    assert whole["no_person_at_two_sites"] == status
    assert whole["epsilon_at_one_site"] == max(s["epsilon"] for s in statement["sites"])
    assert whole["epsilon_at_every_site"] > 1.5 * whole["epsilon_at_one_site"]
    expected = "epsilon_at_one_site" if declared else "epsilon_at_every_site"
    assert whole["epsilon"] == whole[expected]
    for observer in statement["observers"].values():
        assert observer["epsilon"] == whole["epsilon"]
    listed = {a["id"]: a["status"] for a in statement["assumptions"]}
    assert listed["one-site-a-patient"] == status


def test_patients_of_one_source_are_checked_to_be_apart() -> None:
    config, plan = planned()
    statement = privacy_statement(config, plan, dict.fromkeys(plan.cohort, plan.rounds))
    whole = statement["population"]
    assert whole["no_person_at_two_sites"] == "checked"
    assert whole["epsilon"] == whole["epsilon_at_one_site"] < whole["epsilon_at_every_site"]
    refuse_shared({"a": ["1", "2"], "b": ["3"]})
    with pytest.raises(DataError, match="'a' and 'b'"):
        refuse_shared({"a": ["1", "2"], "b": ["2"]})


def test_without_a_guarantee_every_observer_is_promised_nothing() -> None:
    for options in ({"privacy__reproducible": True}, {"privacy__epsilon": math.inf}):
        config, plan = planned(**options)
        statement = privacy_statement(config, plan, dict.fromkeys(plan.cohort, plan.rounds))
        assert statement["population"]["epsilon"] == math.inf
        for observer in statement["observers"].values():
            assert observer["epsilon"] == observer["gdp"]["mu"] == math.inf
            assert observer["best_accuracy"] == 1.0
            assert all(p["true_positive_rate"] == 1.0 for p in observer["trade_off"])


def test_shared_noise_is_stated_by_who_knows_which_shares() -> None:
    config, plan = planned(privacy__trust="shared", privacy__collusion=1)
    statement = privacy_statement(config, plan, dict.fromkeys(plan.cohort, plan.rounds))
    table = statement["colluding_sites"]
    assert [row["sites"] for row in table] == list(range(10))
    assert [row["is_promised"] for row in table] == [True, True, *[False] * 8]
    costs = [row["epsilon"] for row in table]
    assert costs == sorted(costs)
    assert costs[1] <= config.privacy.epsilon < costs[-1] == math.inf
    assert costs[1] == statement["population"]["epsilon"]
    # Who knows fewer shares is left with more noise.
    against = {name: o["epsilon"] for name, o in statement["observers"].items()}
    assert against["outsider"] == against["coordinator"] == costs[0] < costs[1]
    assert against["another site"] == against["coordinator with up to 1 sites"] == costs[1]
    for observer in statement["observers"].values():
        assert 0 < observer["gdp"]["mu"] < math.inf
        assert 0.01 < observer["trade_off"][1]["true_positive_rate"] < 1.0


def test_another_site_is_told_apart_when_every_share_counts() -> None:
    """With privacy.collusion = 0 a site that subtracts its own share breaks the promise."""
    config, plan = planned(privacy__trust="shared", privacy__collusion=0)
    statement = privacy_statement(config, plan, dict.fromkeys(plan.cohort, plan.rounds))
    against = {name: o["epsilon"] for name, o in statement["observers"].items()}
    assert set(against) == {"outsider", "coordinator", "another site"}
    promised = statement["population"]["epsilon"]
    assert against["outsider"] == promised <= config.privacy.epsilon < against["another site"]
    assert "less than was planned" in statement["observers"]["another site"]["sees"]
    assert statement["colluding_sites"][1]["epsilon"] == against["another site"]


@given(colluding=st.integers(0, 7), cohort=st.integers(8, 10))
def test_stated_noise_is_there_in_every_cohort(colluding: int, cohort: int) -> None:
    _, plan = planned(privacy__trust="shared", privacy__collusion=2)
    assert plan.shared is not None
    stated = plan.shared.event(1, colluding).variance
    assert stated <= (cohort - colluding) * plan.shared.share_variance(cohort)


def test_what_rounding_does_is_said_by_trust() -> None:
    for trust, words in (("local", "noise and sums are floating"), ("shared", "exact integers")):
        config, plan = planned(privacy__trust=trust)
        listed = privacy_statement(config, plan, {})["not_covered"]
        assert sum("rounding" in text for text in listed) == 1
        assert any(words in text for text in listed)


def test_a_person_at_several_sites_costs_more_with_shared_noise() -> None:
    found = []
    for declared in (True, False):
        config, plan = mixed(privacy__trust="shared", federation__disjoint=declared)
        statement = privacy_statement(config, plan, dict.fromkeys(plan.cohort, plan.rounds))
        whole = statement["population"]
        assert whole["epsilon"] == whole[f"epsilon_at_{'one' if declared else 'every'}_site"]
        found.append(whole["epsilon"])
    assert found[0] <= config.privacy.epsilon < found[1]


def test_ckks_says_what_it_gives_up() -> None:
    config, plan = planned(crypto__encryption="ckks")
    found = privacy_statement(config, plan, {})
    assert (
        found["encryption"]["scheme"].startswith("CKKS") and found["encryption"]["layout"] is None
    )
    assert "must not be shared" in found["encryption"]["weaker"]
    assert "can read every update" in found["observers"]["coordinator with a site"]["sees"]
    assert "IND-CPA^D" in found["observers"]["outsider"]["sees"]
    assert "holds no key" in found["observers"]["coordinator"]["sees"]
    masked = privacy_statement(*planned(), {})
    assert masked["encryption"]["weaker"] is None
    assert masked["encryption"]["log2_decryption_failure_below"] == -40
    assert "masks hide" in masked["observers"]["coordinator with a site"]["sees"]
    assert "IND-CPA^D" not in str(masked["observers"])


def test_ckks_is_refused_where_single_contributions_must_stay_secret() -> None:
    for reproducible in (False, True):
        with pytest.raises(ConfigError, match="'ckks', whose single contributions"):
            planned(
                crypto__encryption="ckks",
                privacy__trust="shared",
                privacy__reproducible=reproducible,
            )


def test_a_ckks_plan_that_could_wrap_is_refused() -> None:
    with pytest.raises(PlanError, match="update_bound of at most"):
        planned(crypto__encryption="ckks", crypto__update_bound=300.0)
    with pytest.raises(PlanError, match="hides nothing"):
        planned(crypto__encryption="ckks", federation__sites=1, federation__modalities="0:0:1")
    _, plan = planned(crypto__encryption="ckks", crypto__update_bound=200.0)
    assert plan.bytes_up == ciphertext_bytes(plan.parameters)


def test_parts_that_are_not_summed_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    config, plan = planned(crypto__min_owners=3)
    closed = ["imputer.image_to_text", "imputer.text_to_image"]
    assert sorted(closed_segments(plan)) == closed
    assert narrow_segments(plan) == []
    segments = {s["segment"]: s for s in privacy_statement(config, plan, {})["segments"]}
    assert [name for name, s in segments.items() if not s["is_summed"]] == closed
    print_plan(Console(width=80), config, plan)
    assert "train imputer.image_to_text" in capsys.readouterr().out.replace("\n", " ")
    _, plan = planned()
    assert closed_segments(plan) == []
