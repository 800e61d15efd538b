"""Canary audits through the real federated training: what they find, and what they leave alone."""

from __future__ import annotations

import json
import math
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.random import SeedSequence
from scipy.stats import kstest

from attacks.canaries import rare_phrase
from privfin.auditing import canaries as module
from privfin.auditing.canaries import audit_canaries
from privfin.auditing.canary_data import make_canaries
from privfin.auditing.canary_results import CanaryResult
from privfin.auditing.canary_verdicts import black_box
from privfin.errors import UserInputError
from privfin.federation.plan import make_plan
from privfin.federation.training_run import complete_run, start_run
from privfin.privacy.dpsgd import DpSgd

Makes = Callable[..., Any]
Audits = Callable[..., dict[str, CanaryResult]]
#: Noise and sampling are keyed by the seed here, so that no test fails by chance.
OPTIONS = {"crypto__encryption": "none", "privacy__reproducible": True}
#: A run that learns its patients by heart.
OVERFITTED = {
    "privacy__epsilon": "inf",
    "training__rounds": 2,
    "training__local_steps": 75,
    "training__learning_rate_without_privacy": 2.0,
}


@pytest.fixture(scope="module")
def finished(
    tiny: Makes, prepared: Makes, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[Any, ...]]:
    """A finished run with everything that an audit takes, each made once."""
    known: dict[str, tuple[Any, ...]] = {}

    def get(**options: Any) -> tuple[Any, ...]:
        config = tiny(**{**OPTIONS, **options})
        if config.digest() not in known:
            data = prepared(config)
            plan = make_plan(config, data.declarations)
            run = start_run(tmp_path_factory.mktemp("runs") / "run", config, plan, data)
            complete_run(run, config, data)
            known[config.digest()] = (run, config, plan, data)
        return known[config.digest()]

    return get


@pytest.fixture(scope="module")
def audit(finished: Makes) -> Audits:
    """Results by kind; ``given`` goes to ``audit_canaries``, ``options`` to the configuration."""

    def run_audit(given: dict[str, Any] | None = None, **options: Any) -> dict[str, CanaryResult]:
        asked = {"canaries": 24, "entropy": 5, **(given or {})}
        return {r.kind: r for r in audit_canaries(*finished(**options), **asked)}

    return run_audit


def _none_in(count: int, seed: SeedSequence) -> Any:
    return np.zeros(count, dtype=np.bool_)


def test_canaries_that_are_out_leave_training_bit_equal(
    audit: Audits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The audited model is the run's own to the last bit; one canary in, and it is not."""
    monkeypatch.setattr(module, "throw", _none_in)
    out = audit({"gradient_canaries": 0})
    assert not out["all kinds"].inside
    for result in out.values():
        assert result.attempt is not None
        assert not result.attempt.scores.any()

    monkeypatch.setattr(module, "throw", lambda count, seed: np.arange(count) == 0)
    one = audit({"gradient_canaries": 0})["all kinds"]
    assert one.inside == 1
    assert one.attempt is not None
    assert one.attempt.scores.any()


def test_an_overfitted_run_gives_its_canaries_away(audit: Audits) -> None:
    found = audit({"canaries": 120}, **OVERFITTED)
    everything, wrong = found["all kinds"], found["mislabelled"]
    assert everything.canaries == 120
    assert everything.bound is not None
    assert 0.2 < everything.bound.epsilon <= everything.bound.ceiling
    assert wrong.to_dict()["auc"]["area"] > 0.8
    assert math.isinf(everything.claim)
    assert not everything.contradiction
    assert found["gradient"].bound is None
    assert "no noise" in found["gradient"].note


@pytest.mark.parametrize("way", ["known", "mixed up", "constant"])
def test_black_box_verdict(finished: Makes, way: str) -> None:
    """Scores that give every coin away contradict epsilon 1; with coins mixed up they say nothing.

    The kinds differ in scale and place, which tells nothing of a coin.
    """
    _, config, plan, data = finished(privacy__epsilon=1.0)
    chosen = make_canaries(config, plan, data, 120, "record")
    generator = np.random.default_rng(3)
    coins = generator.integers(2, size=120).astype(np.bool_)
    place = np.array([100.0 * len(kind) for kind in chosen.kinds])
    scores = place + (coins + 0.1 * generator.standard_normal(120)) * place
    if way == "mixed up":
        coins = generator.permutation(coins)
    if way == "constant":
        scores = place
    found = black_box(plan, chosen, "record", scores, coins, np.arange(120), 0.95)
    first, *others = found
    assert first.bound is not None
    assert first.contradiction is (way == "known")
    assert (first.bound.epsilon > 2.0) is (way == "known")
    assert first.bound.epsilon <= first.bound.ceiling
    # A kind by itself would be another test of the same coins.
    assert all(other.bound is None and not other.contradiction for other in others)
    assert sum(other.canaries for other in others) == first.canaries == 120


@pytest.mark.parametrize("level", ["record", "patient"])
def test_bounds_of_a_private_run_stay_below_its_claim(audit: Audits, level: str) -> None:
    found = audit({"level": level}, privacy__epsilon=1.0)
    for result in found.values():
        assert not result.contradiction
        assert result.level == (level if result.kind != "gradient" else "record")
    box = found["all kinds"]
    assert box.bound is not None
    assert box.bound.epsilon <= box.claim <= 1.0
    white = found["gradient"]
    assert white.bound is not None
    assert white.bound.mu is not None
    assert white.claimed_mu is not None
    assert 0.0 < white.bound.mu <= white.claimed_mu
    assert white.bound.epsilon <= white.claim < white.bound.ceiling


def test_step_scores_are_coin_plus_the_noise_of_the_plan(audit: Audits, finished: Makes) -> None:
    """Through sites of all modalities, FedProx and momentum: N(coin, sigma^2) in units of C."""
    options = {"training__proximal": 0.9, "training__momentum": 0.5, "privacy__clip_norm": 0.3}
    attempt = audit(None, **options)["gradient"].attempt
    assert attempt is not None
    sigma = finished(**options)[2].sites[0].noise_multiplier
    left = (attempt.scores - attempt.members) / sigma
    assert left.size > 500
    assert kstest(left, "norm").pvalue > 1e-4
    assert 0.9 < left.std() < 1.1


def _scaled(noise: float, clip: float = 1.0) -> type[DpSgd]:
    """A step with ``noise`` times the noise and ``clip`` times the clipping norm of its claim."""

    class Broken(DpSgd):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self._optimizer.noise_multiplier *= noise / clip
            self._optimizer.max_grad_norm *= clip

    return Broken


@pytest.mark.parametrize(
    ("noise", "clip", "broken"),
    [(1.0, 1.0, False), (0.0, 1.0, True), (0.5, 1.0, True), (1.0, 1e6, True), (1.0, 2.0, True)],
    ids=["sound", "no noise", "half noise", "no clipping", "clipped to twice the norm"],
)
def test_a_broken_step_contradicts_its_claim(
    audit: Audits, noise: float, clip: float, broken: bool
) -> None:
    found = audit({"step": _scaled(noise, clip), "canaries": 3})["gradient"]
    assert found.contradiction is broken
    assert found.bound is not None
    assert (found.bound.epsilon > found.claim) is broken
    assert found.to_dict()["could_contradict"]


def test_the_folder_is_private_and_gone_in_the_end(
    finished: Makes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = finished()
    seen = []

    def look(stage: str, done: int, total: int) -> None:
        (folder,) = tmp_path.iterdir()
        seen.append((stat.S_IMODE(folder.stat().st_mode), done, total))

    audit_canaries(*made, canaries=3, progress=look)
    assert seen == [(0o700, 1, 2), (0o700, 2, 2)]
    assert not list(tmp_path.iterdir())

    def fail(stage: str, done: int, total: int) -> None:
        raise RuntimeError("stopped by the test")

    with pytest.raises(Exception, match="stopped by the test"):
        audit_canaries(*made, canaries=3, progress=fail)
    assert not list(tmp_path.iterdir())
    assert audit_canaries(*made, canaries=3, should_stop=lambda: True) == []
    assert not list(tmp_path.iterdir())


def test_results_hold_nothing_of_canaries_and_patients(audit: Audits, finished: Makes) -> None:
    results = list(audit().values())
    said = json.dumps([r.to_dict() for r in results]) + repr(results)
    words = {word for number in range(80) for word in rare_phrase(number, 16)[:-1].split()}
    patients = set(finished()[3].patient_ids)
    assert patients
    assert not [word for word in words | patients if f"{word}" in said]
    assert "canary-" not in said
    assert "scores=" not in said


def test_a_site_has_one_coin_and_no_claim(audit: Audits) -> None:
    found = audit({"level": "site", "gradient_canaries": 0})
    assert list(found) == ["all kinds"]
    result = found["all kinds"]
    assert result.canaries == 3
    assert math.isinf(result.claim)
    assert not result.contradiction
    assert result.bound is not None
    assert result.bound.ceiling == 0.0  # three right guesses of coins are no evidence at 95 %


def test_shared_noise_has_no_white_box_and_encryption_changes_nothing(audit: Audits) -> None:
    found = audit(
        {"canaries": 8},
        privacy__trust="shared",
        federation__sites=4,
        federation__modalities="1:1:2",
        training__batch_size=40,
        crypto__encryption="bfv",
    )
    assert found["gradient"].bound is None
    assert "shared" in found["gradient"].note
    assert found["all kinds"].bound is not None
    assert not found["all kinds"].contradiction


def test_canaries_go_to_sites_that_can_hold_them(finished: Makes) -> None:
    _, config, plan, data = finished(training__augmentations=2)
    chosen = make_canaries(config, plan, data, 60, "patient")
    assert chosen.records == 3
    assert set(chosen.kinds) == {"mislabelled", "outlier image", "rare phrase"}
    for kind, site in zip(chosen.kinds, chosen.sites, strict=True):
        wanted = {"outlier image": "image", "rare phrase": "text"}.get(kind)
        assert wanted is None or wanted in plan.site(site).modalities
    inside = np.arange(60) % 2 == 0
    filled = chosen.put_into(data, inside)
    for name, own in filled.sites.items():
        added = sum(inside[i] for i in range(60) if chosen.sites[i] == name)
        before = data.sites[name]
        assert len(own.patients) == len(before.patients) + added
        assert own.patients[: len(before.patients)] == before.patients
        assert len(own.batch) == len(before.batch) + added * 3 * before.copies
        assert all(len(records) == 3 for records in own.patients[len(before.patients) :])
        assert own.batch.labels[: len(before.batch)].equal(before.batch.labels)
    assert filled.test is data.test
    assert chosen.put_into(data, np.zeros(60, dtype=bool)).sites == data.sites


def test_no_held_out_record_is_turned_round_twice(finished: Makes) -> None:
    _, config, plan, data = finished()
    chosen = make_canaries(config, plan, data, 90, "record")
    rows = [
        np.concatenate([chosen.batch.inputs[m][i].reshape(-1).numpy() for m in chosen.batch.inputs])
        for i, kind in enumerate(chosen.kinds)
        if kind == "mislabelled"
    ]
    assert len(rows) > 20
    assert len({row.tobytes() for row in rows}) == len(rows)


def test_at_least_one_canary(finished: Makes) -> None:
    with pytest.raises(UserInputError, match="at least 1"):
        audit_canaries(*finished(), canaries=0)
