"""Kept shadow models: equal audits find them bit by bit, and nothing else does."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from privfin.auditing import shadow_cache, shadow_key
from privfin.auditing.population import SitePool
from privfin.auditing.shadow_cache import ShadowCache, cached_shadows
from privfin.auditing.shadow_key import audit_digest, group_key
from privfin.auditing.shadow_training import Shadows, StoppedError
from privfin.errors import PrivfinError
from privfin.federation.plan import make_plan

Makes = Callable[..., Any]
SMALL = {
    "data__patients": 100,
    "training__batch_size": 12,
    "training__rounds": 1,
    "training__local_steps": 1,
    "model__imputer": "mlp",
}


class Setting:
    """An audit's parts, to be changed one at a time."""

    def __init__(self, tiny: Makes, prepared: Makes, **options: Any) -> None:
        self.config = tiny(**{**SMALL, **options})
        data = prepared(self.config)
        self.declarations = data.declarations
        self.plan = make_plan(self.config, data.declarations)
        self.pools = [
            SitePool(
                name,
                own.batch,
                own.copies,
                own.patients,
                np.ones(len(own.patients), dtype=bool),
                own.batch,
                own.batch,
            )
            for name, own in data.sites.items()
        ]
        total = sum(len(pool.patients) for pool in self.pools)
        self.coins = np.random.default_rng(0).random((4, total)) < 0.7

    def key(self, **parts: Any) -> str:
        config, plan = parts.get("config", self.config), parts.get("plan", self.plan)
        pools = parts.get("pools", self.pools)
        audit = audit_digest(config, plan, pools, rounds=parts.get("rounds"))
        numbers = parts.get("numbers", range(4))
        return group_key(audit, parts.get("coins", self.coins), numbers, parts.get("keep", ()))

    def get(self, cache: ShadowCache, **parts: Any) -> Shadows:
        coins = parts.pop("coins", self.coins)
        parts.setdefault("processes", 1)
        return cached_shadows(self.config, self.plan, self.pools, coins, cache, group=2, **parts)


@pytest.fixture
def setting(tiny: Makes, prepared: Makes) -> Setting:
    return Setting(tiny, prepared)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The coins of every group that is really trained."""
    seen: list[Any] = []
    original = shadow_cache.train_shadows

    def counted(*args: Any, **options: Any) -> Shadows:
        seen.append(args[3])
        return original(*args, **options)

    monkeypatch.setattr(shadow_cache, "train_shadows", counted)
    return seen


def test_an_equal_audit_is_read_bit_by_bit_and_trains_nothing(
    setting: Setting, tmp_path: Path, trainings: list[Any]
) -> None:
    cache = ShadowCache(tmp_path / "shadows")
    first = setting.get(cache, keep=[1])
    assert len(trainings) == 2
    assert first.final.shape == (4, setting.plan.parameters)
    assert first.after.shape == (4, 1, setting.plan.parameters)
    again = setting.get(cache, keep=[1])
    assert len(trainings) == 2
    assert again.final.tobytes() == first.final.tobytes()
    assert again.after.tobytes() == first.after.tobytes()
    assert again.rounds == (1,)
    # Without reproducible streams a second training could not give the same bits.
    assert not np.array_equal(first.final, setting.get(ShadowCache(tmp_path / "new")).final)


def test_everything_that_makes_a_model_is_in_its_name(
    setting: Setting, tiny: Makes, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = setting.key()
    assert setting.key() == key
    assert setting.key(plan=make_plan(setting.config, setting.declarations)) == key
    options: dict[str, Any] = {
        "training__seed": 1,
        "training__imputation_weight": 0.2,
        "model__imputer": "linear",
        "training__rounds": 2,
        "training__learning_rate": 2.0,
        "privacy__epsilon": 3.0,
        "privacy__clip_norm": 0.5,
        "privacy__reproducible": True,
        "training__average_from": 0.9,
        "training__server__optimizer": "momentum",
        "crypto__update_bound": 1.0,
    }
    changed = {}
    for name, value in options.items():
        config = tiny(**{**SMALL, name: value})
        changed[name] = setting.key(config=config, plan=make_plan(config, setting.declarations))
    noisier = [replace(site, noise_multiplier=2.0) for site in setting.plan.sites]
    changed["noise"] = setting.key(plan=replace(setting.plan, sites=tuple(noisier)))
    changed["rounds done"] = setting.key(rounds=0)
    coins = setting.coins.copy()
    coins[3, -1] ^= True
    changed["a coin"] = setting.key(coins=coins)
    changed["models"] = setting.key(numbers=range(1, 5))
    changed["kept rounds"] = setting.key(keep=[1])
    for name, pools in _other_pools(setting.pools).items():
        changed[name] = setting.key(pools=pools)
    original = shadow_key.initial_model

    def moved(config: Any, labels: int) -> Any:
        model = original(config, labels)
        next(model.parameters()).data[0, 0] += 1e-6
        return model

    with monkeypatch.context() as patch:
        patch.setattr(shadow_key, "initial_model", moved)
        changed["a first weight"] = setting.key()
    with monkeypatch.context() as patch:
        patch.setattr(shadow_key, "_code_digest", lambda: "other code")
        changed["code"] = setting.key()
    assert key not in changed.values()
    assert len(set(changed.values())) == len(changed)


def _other_pools(pools: list[SitePool]) -> dict[str, list[SitePool]]:
    """Pools that differ in one thing, where both modalities are held."""
    pool = pools[2]
    batch = pool.batch
    labels = batch.labels.clone()
    labels[0, 0] = 1 - labels[0, 0].nan_to_num()
    image = batch.inputs["image"].clone()
    image[1, 3] += 1e-4
    absent = batch.present["text"].clone()
    absent[0] = ~absent[0]
    order = np.arange(len(batch))
    order[[0, 1]] = [1, 0]
    made = {
        "a label": replace(pool, batch=replace(batch, labels=labels)),
        "a pixel": replace(pool, batch=replace(batch, inputs={**batch.inputs, "image": image})),
        "presence": replace(pool, batch=replace(batch, present={**batch.present, "text": absent})),
        "row order": replace(pool, batch=batch.rows(torch.from_numpy(order))),
        "patient order": replace(pool, patients=[*pool.patients[1:], pool.patients[0]]),
        "site": replace(pool, name="another"),
    }
    return {name: [*pools[:2], other] for name, other in made.items()}


def test_an_interrupted_audit_goes_on_with_the_next_group(
    setting: Setting, tmp_path: Path, trainings: list[Any]
) -> None:
    cache = ShadowCache(tmp_path)
    with pytest.raises(StoppedError):
        setting.get(cache, should_stop=lambda: len(trainings) == 2)
    kept = sorted(tmp_path.iterdir())
    assert len(kept) == 1
    content = kept[0].read_bytes()
    trainings.clear()
    told: list[tuple[int, int]] = []
    setting.get(cache, progress=lambda stage, done, total: told.append((done, total)))
    assert len(trainings) == 1
    assert np.array_equal(trainings[0], setting.coins[2:])
    assert kept[0].read_bytes() == content
    assert told[-1] == (4, 4)
    assert told == sorted(told)


@pytest.mark.parametrize("harm", ["a bit", "cut", "empty", "another group's"])
def test_a_damaged_file_is_trained_again(
    harm: str, setting: Setting, tmp_path: Path, trainings: list[Any]
) -> None:
    cache = ShadowCache(tmp_path)
    first = setting.get(cache, coins=setting.coins[:2])
    path = next(iter(tmp_path.iterdir()))
    content = bytearray(path.read_bytes())
    if harm == "a bit":
        content[-40] ^= 1
    elif harm == "cut":
        del content[-100:]
    elif harm == "empty":
        content.clear()
    else:
        setting.get(cache, coins=setting.coins[2:])
        other = next(p for p in tmp_path.iterdir() if p != path)
        content[:] = other.read_bytes()
        other.unlink()
    path.write_bytes(bytes(content))
    trainings.clear()
    again = setting.get(cache, coins=setting.coins[:2])
    assert len(trainings) == 1
    assert again.final.shape == first.final.shape
    setting.get(cache, coins=setting.coins[:2])
    assert len(trainings) == 1


def test_files_are_for_their_owner_alone(setting: Setting, tmp_path: Path) -> None:
    folder = tmp_path / "shadows"
    previous = os.umask(0)
    try:
        setting.get(ShadowCache(folder), coins=setting.coins[:2])
    finally:
        os.umask(previous)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600]


def test_processes_make_what_one_would(tiny: Makes, prepared: Makes, tmp_path: Path) -> None:
    setting = Setting(tiny, prepared, privacy__reproducible=True)
    told: list[tuple[int, int]] = []
    one = setting.get(ShadowCache(tmp_path / "one"))
    two = setting.get(
        ShadowCache(tmp_path / "two"),
        processes=2,
        progress=lambda stage, done, total: told.append((done, total)),
    )
    assert np.array_equal(one.final, two.final)
    assert told[-1] == (4, 4)
    assert told == sorted(told)


def test_a_process_that_fails_or_dies_ends_the_audit_with_one_line(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*args: Any, **options: Any) -> Shadows:
        raise PrivfinError("training of a shadow model diverged")

    def die(*args: Any, **options: Any) -> Shadows:
        os._exit(9)

    for broken, line in ((diverge, "diverged"), (die, "ended early")):
        monkeypatch.setattr(shadow_cache, "train_shadows", broken)
        with pytest.raises(PrivfinError, match=line):
            setting.get(ShadowCache(tmp_path), processes=2)
    assert not list(tmp_path.iterdir())


def test_processes_stop_when_they_are_told_to(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait_for_it(*args: Any, should_stop: Callable[[], bool], **options: Any) -> Shadows:
        while not should_stop():
            time.sleep(0.01)
        raise StoppedError

    monkeypatch.setattr(shadow_cache, "train_shadows", wait_for_it)
    asked = iter([False, False])
    with pytest.raises(StoppedError):
        setting.get(ShadowCache(tmp_path), processes=2, should_stop=lambda: next(asked, True))
