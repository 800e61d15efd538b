"""What a run directory says, and what it must never hold."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant

from privfin.config import RunConfig
from privfin.federation.plan import declared_sites, make_plan
from privfin.federation.statement import claim, privacy_statement
from privfin.federation.training_run import public_notices

Runs = Callable[..., Any]
KINDS = ["dp", "inf", "reproducible", "json"]


def test_runs_are_complete(finished_runs: Runs) -> None:
    for kind in KINDS:
        run = finished_runs(kind)
        assert run.code == 0, run.err
        assert {p.name for p in run.path.iterdir()} == {
            ".lock",
            "checkpoints",
            "events.jsonl",
            "manifest.json",
            "metrics.json",
            "model.safetensors",
            "privacy.json",
        }


def test_the_statement_can_be_recomputed_from_itself(finished_runs: Runs) -> None:
    run = finished_runs("dp")
    statement = run.json("privacy.json")
    assert statement["claim"] == "dp"
    assert statement["unit"] == "patient"
    assert "add or remove" in statement["adjacency"]
    assert statement["target"] == {"epsilon": 8.0, "delta": "auto"}
    assert [s["site"] for s in statement["sites"]] == ["site-01", "site-02", "site-03"]
    for site in statement["sites"]:
        step = dp_event.PoissonSampledDpEvent(
            site["sampling_rate"], dp_event.GaussianDpEvent(site["noise_multiplier"])
        )
        accountant = PLDAccountant()
        accountant.compose(dp_event.SelfComposedDpEvent(step, site["steps"]))
        assert abs(accountant.get_epsilon(site["delta"]) - site["epsilon"]) <= 0.02
        assert site["epsilon"] <= 8.0
        assert site["delta"] < 1 / site["patients_declared"]
        assert site["sampling_rate"] == site["divisor"] / site["patients_declared"]
        assert site["steps"] == site["steps_planned"] == 4
        assert site["clip_norm"] == 1.0


def test_the_statement_lists_what_it_does_not_cover(finished_runs: Runs) -> None:
    for kind in KINDS:
        listed = " | ".join(finished_runs(kind).json("privacy.json")["not_covered"])
        for word in ("number of patients", "modalities", "held-out", "tuning", "overlap", "timing"):
            assert word in listed
        assert "fingerprints" in listed


def test_observers_are_told_the_truth_about_encryption(finished_runs: Runs) -> None:
    encrypted = finished_runs("dp").json("privacy.json")
    plain = finished_runs("json").json("privacy.json")
    assert "holds no key" in encrypted["observers"]["coordinator"]["sees"]
    assert "BFV" in encrypted["encryption"]["scheme"]
    assert "can read every update" in plain["observers"]["coordinator"]["sees"]
    assert plain["encryption"] == {
        "scheme": "none",
        "layout": None,
        "value_bits": 16,
        "log2_decryption_failure_below": None,
        "weaker": None,
    }
    assert "encryption is off" in finished_runs("json").err


def test_segments_add_up_to_the_model(finished_runs: Runs, tiny: Callable[..., RunConfig]) -> None:
    segments = finished_runs("dp").json("privacy.json")["segments"]
    plan = make_plan(tiny(), declared_sites(tiny()))
    assert sum(s["parameters"] for s in segments) == plan.parameters
    divisors = {s["segment"]: s["divisor"] for s in segments}
    assert divisors["encoder.image"] == divisors["encoder.text"] == 2
    assert divisors["imputer.image_to_text"] == 1
    assert divisors["head.image"] == 3


@pytest.mark.parametrize("kind", ["inf", "reproducible"])
def test_a_run_without_a_guarantee_says_so_everywhere(finished_runs: Runs, kind: str) -> None:
    run = finished_runs(kind)
    for name in ("manifest.json", "privacy.json", "metrics.json"):
        assert run.json(name)["claim"].startswith("NOT PRIVATE"), name
    assert run.out.count("NOT PRIVATE") >= 2  # before training and with the result
    assert "NOT PRIVATE" not in finished_runs("dp").out


def test_without_dp_epsilon_is_infinite_and_noise_is_zero(finished_runs: Runs) -> None:
    for site in finished_runs("inf").json("privacy.json")["sites"]:
        assert site["epsilon"] == "inf"
        assert site["noise_multiplier"] == 0.0
        assert site["clip_norm"] is None
        assert "without noise" in site["mechanism"]


def test_only_a_finite_epsilon_with_secret_noise_is_called_private(
    tiny: Callable[..., RunConfig],
) -> None:
    assert claim(tiny()) == "dp"
    assert claim(tiny(privacy__epsilon=1e6)) == "dp"
    assert "epsilon = inf" in claim(tiny(privacy__epsilon=math.inf))
    assert "test mode" in claim(tiny(privacy__reproducible=True))
    both = tiny(privacy__reproducible=True, privacy__epsilon=math.inf)
    assert claim(both).startswith("NOT PRIVATE")


def test_rounds_that_were_started_count_whether_finished_or_not(
    tiny: Callable[..., RunConfig],
) -> None:
    config = tiny()
    plan = make_plan(config, declared_sites(config))
    sites = privacy_statement(config, plan, {"site-01": 2, "site-02": 1})["sites"]
    assert [s["steps"] for s in sites] == [4, 2, 0]
    assert sites[0]["epsilon"] > sites[1]["epsilon"] > sites[2]["epsilon"] == 0.0


def test_metrics_hold_every_cell_and_say_how_they_were_made(finished_runs: Runs) -> None:
    metrics = finished_runs("dp").json("metrics.json")
    assert metrics["format"] == 2
    assert metrics["groups"] == {}  # the phantom has neither sex nor age
    assert metrics["rounds"] == 2
    assert "not covered" in metrics["noise"]
    assert set(metrics["cells"]) == {"both", "image only", "text only"}
    for cell in metrics["cells"].values():
        assert len(cell["labels"]) == 14
        for label in cell["labels"]:
            assert label["positives"] + label["negatives"] == cell["records"]
            for name in ("auroc", "auroc_low", "auprc", "auprc_high"):
                assert (label[name] is None) == (label["left_out"] is not None)
            assert 0 <= label["brier"] <= 1
            assert 0 <= label["ece"] <= 1


def test_the_model_is_the_mean_of_the_later_rounds(finished_runs: Runs) -> None:
    from privfin.models.segments import flatten
    from privfin.runs import load_run

    run = load_run(finished_runs("dp").path)
    saved = run.last_checkpoint()
    assert saved is not None
    assert saved.round == 2
    # average_from is a half: of two rounds only the second counts.
    assert np.array_equal(flatten(run.model()), saved.vector)


def test_events_tell_the_story_in_order(finished_runs: Runs) -> None:
    kinds = [e["event"] for e in finished_runs("dp").events()]
    assert kinds[0] == "created"
    assert kinds[-1] == "finished"
    assert kinds.count("round-started") == kinds.count("round-finished") == 2
    assert kinds.count("site-round-started") == 6


def _files(run: Any) -> dict[str, bytes]:
    return {
        str(p.relative_to(run.path)): p.read_bytes() for p in run.path.rglob("*") if p.is_file()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_is_anywhere_in_the_run_directory(finished_runs: Runs, kind: str) -> None:
    run = finished_runs(kind)
    # Three identities of two keys each; with encryption the key; with noise three streams a round
    # and site from the operating system.
    fewest = {"dp": 6 + 1 + 12, "inf": 6 + 1 + 6, "reproducible": 6 + 1, "json": 6 + 12}[kind]
    assert len(run.made_keys) >= fewest
    for name, content in _files(run).items():
        for key in run.made_keys:
            forms = (
                key,
                key.hex().encode(),
                base64.b64encode(key).rstrip(b"="),
                repr(key).encode(),
            )
            assert not any(form in content for form in forms), name


@pytest.mark.parametrize("kind", KINDS)
def test_no_patient_and_no_place_on_this_machine_is_in_the_run_directory(
    finished_runs: Runs, kind: str
) -> None:
    run = finished_runs(kind)
    banned = [b"phantom-0", str(Path.home()).encode() + b"/", str(run.path.parent).encode()]
    banned.append(str(Path(__file__).parents[2]).encode() + b"/")
    for name, content in _files(run).items():
        for word in banned:
            assert word not in content, (name, word)
        if not name.endswith(".safetensors"):
            assert not re.search(rb'"(/|[A-Z]:\\)[^"]*"', content), name


def test_the_search_for_patients_would_find_one(finished_runs: Runs) -> None:
    """Patients of the phantom are called phantom-000123; the data really has such names."""
    from privfin.data.phantom import generate_phantom

    assert next(iter(generate_phantom(20).patients())).startswith("phantom-0")
    assert b"phantom" in _files(finished_runs("dp"))["manifest.json"]


def test_notices_lose_the_names_of_what_was_skipped() -> None:
    given = [
        "left out 3 rows that are not X-rays",
        "skipped metadata.csv row 4: image /data/patient-7.png cannot be decoded",
        "skipped metadata.csv row 9: image /data/patient-8.png does not exist",
    ]
    assert public_notices(given) == [
        "left out 3 rows that are not X-rays",
        "skipped 2 records whose input could not be read",
    ]
