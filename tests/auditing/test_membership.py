"""Membership attacks of an outsider: planted leaks are found, null data are at chance."""

from __future__ import annotations

import numpy as np
import pytest

from privfin.auditing.membership import ATTACKS, Answers, attempts, too_few

MODELS, PATIENTS, LABELS = 24, 300, 4


def answers(leak: float, seed: int = 0, records: int = 1) -> Answers:
    """Models whose logits move by ``leak`` on records that they were trained on."""
    rng = np.random.default_rng(seed)
    rows = PATIENTS * records
    owner = np.repeat(np.arange(PATIENTS), records)
    labels = (rng.random((rows, LABELS)) < 0.5).astype(float)
    labels[rng.random((rows, LABELS)) < 0.1] = np.nan
    labels[:, 0] = 1.0
    coins = rng.random((MODELS + 1, PATIENTS)) < 0.6
    hard = rng.normal(0, 2, (rows, LABELS))
    sign = 2 * np.nan_to_num(labels) - 1
    noise = rng.normal(0, 0.3, (MODELS + 1, rows, LABELS))
    logits = sign * (hard + leak * coins[:, owner][..., None]) + noise
    groups = [np.flatnonzero(owner == p).tolist() for p in range(PATIENTS)]
    return Answers(labels, logits[0], logits[1:], coins[1:, owner], groups, coins[0])


def area(scores: np.ndarray, members: np.ndarray) -> float:
    inside, outside = scores[members], scores[~members]
    bigger = (inside[:, None] > outside).mean() + 0.5 * (inside[:, None] == outside).mean()
    return float(bigger)


@pytest.mark.parametrize("records", [1, 2])
def test_shadow_attacks_find_a_leak_that_the_loss_hides(records: int) -> None:
    """Records differ more than membership moves them: only calibrated attacks see it."""
    given = answers(0.5, records=records)
    found = {a.attack: area(a.scores, a.members) for a in attempts(given, ATTACKS, "all")}
    assert set(found) == set(ATTACKS) - {"lira-modalities"}  # asks the models again
    for name in ("lira", "lira-online", "rmia", "rmia-online", "calibrated-loss", "stacked"):
        assert found[name] > 0.8, name
        assert found[name] > found["loss"] + 0.1, name


def test_without_a_leak_every_attack_is_at_chance() -> None:
    found = attempts(answers(0.0, seed=3), ATTACKS, "all")
    inside = int(found[0].members.sum())
    sd = np.sqrt((PATIENTS + 1) / (12 * inside * (PATIENTS - inside)))
    for one in found:
        assert abs(area(one.scores, one.members) - 0.5) < 5.5 * sd, one.attack


def test_attacks_without_enough_shadows_are_left_out_and_named() -> None:
    given = answers(0.5)
    none = Answers(given.labels, given.target, given.shadows[:0], given.inside[:0],
                   given.patients, given.members)  # fmt: skip
    assert [a.attack for a in attempts(none, ATTACKS, "all")] == [
        "loss", "entropy", "modified-entropy",
    ]  # fmt: skip
    one_sided = Answers(given.labels, given.target, given.shadows,
                        np.ones_like(given.inside), given.patients, given.members)  # fmt: skip
    assert all(too_few(one_sided, name) for name in ("lira", "rmia", "stacked"))
    assert not too_few(one_sided, "loss")


def test_a_stratum_is_its_patients_alone() -> None:
    given = answers(0.5, records=2)
    chosen = np.arange(PATIENTS) % 3 == 0
    part = given.of(chosen)
    assert np.array_equal(part.members, given.members[chosen])
    for new, old in zip(part.patients, np.flatnonzero(chosen).tolist(), strict=True):
        assert np.array_equal(part.target[list(new)], given.target[list(given.patients[old])])
        assert np.array_equal(part.inside[:, list(new)], given.inside[:, list(given.patients[old])])


def test_an_unknown_attack_is_no_attack() -> None:
    with pytest.raises(KeyError):
        attempts(answers(0.5), ["magic"], "all")
