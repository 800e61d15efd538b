"""Shadow models are trained as the run: one that gets the run's streams is the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attacks.errors import AuditRefusedError
from attacks.guards import check_same_recipe
from privfin.auditing.population import SitePool
from privfin.auditing.shadow_modules import stacked_logits
from privfin.auditing.shadow_training import (
    ShadowStreams,
    StoppedError,
    recipe,
    train_shadows,
)
from privfin.federation.local import stream_source, train_locally
from privfin.federation.plan import make_plan
from privfin.federation.prepare import prepare
from privfin.federation.training_run import start_run
from privfin.models.segments import assign, flatten, initial_model
from privfin.randomness import RandomStream

Makes = Callable[..., Any]
SMALL = {
    "privacy__reproducible": True,
    "data__patients": 140,
    "training__batch_size": 12,
    "federation__smallest_cohort": 3,
}
RECIPES: dict[str, dict[str, Any]] = {
    "fin": {},
    "fin with momentum and FedProx": {"training__momentum": 0.5, "training__proximal": 0.1},
    "several records and copies": {"training__augmentations": 3, "training__local_steps": 1},
    "pfin, uncertainty, adam": {
        "model__imputer": "pfin",
        "training__aggregation": "uncertainty",
        "training__server__optimizer": "adam",
        "training__server__learning_rate": 0.05,
    },
    "retrieval": {
        "model__imputer": "retrieval",
        "model__retrieval__source": "phantom",
        "model__retrieval__records": 40,
    },
    "fin-any by size": {"model__imputer": "fin-any", "training__aggregation": "size"},
    "late": {"model__imputer": "late"},
    "none with dropout": {"model__imputer": "none"},
    "zero, trained encoders": {
        "model__imputer": "zero",
        "modalities__image__encoder": "cnn",
        "modalities__text__encoder": "transformer",
    },
    "ckks": {"crypto__encryption": "ckks", "model__imputer": "mlp"},
    "without privacy": {"privacy__epsilon": "inf", "training__momentum": 0.5},
    "shared": {"privacy__trust": "shared", "model__imputer": "linear"},
    "shared retrieval": {
        "privacy__trust": "shared",
        "model__imputer": "retrieval",
        "model__retrieval__source": "phantom",
        "model__retrieval__records": 40,
    },
}


def pools_of(data: Any) -> list[SitePool]:
    """Every site's own training patients, as pools."""
    return [
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


def everyone(pools: list[SitePool], models: int = 1) -> Any:
    return np.ones((models, sum(len(pool.patients) for pool in pools)), dtype=bool)


def numbered(seed: int) -> ShadowStreams:
    """Reproducible streams of each model."""
    return lambda model, site: (
        lambda purpose, number: RandomStream.reproducible(seed, model, site, purpose, number)
    )


@pytest.mark.parametrize("name", RECIPES)
def test_a_shadow_with_the_runs_streams_and_patients_is_the_run(
    name: str, tiny: Makes, prepared: Makes, tmp_path: Path
) -> None:
    config = tiny(**{**SMALL, "crypto__encryption": "none", **RECIPES[name]})
    # Prepared data are shared by configurations that differ in the imputer: no public records.
    data = prepare(config) if "retrieval" in name else prepared(config)
    plan = make_plan(config, data.declarations)
    run = start_run(tmp_path / "run", config, plan, data)
    real = train_locally(config, plan, data, run).vector
    pools = pools_of(data)
    shadows = train_shadows(
        config,
        plan,
        pools,
        everyone(pools),
        public=data.public,
        keep=range(1, config.training.rounds + 1),
        streams=lambda model, site: stream_source(config, site),
    )
    moved = np.abs(real - initial_vector(config, plan))
    difference = np.abs(shadows.final[0] - real)
    # A sum that lies at a boundary of the rounding may go to the next level.
    step = 2.0 * config.crypto.update_bound / 2 ** (config.crypto.value_bits - 1)
    assert moved.max() > 100 * 1e-5
    assert np.median(difference) <= 2e-6
    assert np.mean(difference > 1e-5) < 0.02
    assert difference.max() <= 3 * step
    assert shadows.after.shape == (1, config.training.rounds, real.size)


def initial_vector(config: Any, plan: Any) -> Any:
    return flatten(initial_model(config, len(plan.label_names)))


def test_models_at_once_are_the_models_one_by_one(tiny: Makes, prepared: Makes) -> None:
    config = tiny(**SMALL)
    data = prepared(config)
    plan = make_plan(config, data.declarations)
    pools = pools_of(data)
    coins = np.random.default_rng(0).random((3, everyone(pools).shape[1])) < 0.6
    together = train_shadows(config, plan, pools, coins, keep=[1], streams=numbered(5))
    # A level of the quantiser, over the two sites that share a segment.
    step = config.crypto.update_bound / 2 ** (config.crypto.value_bits - 1)
    for at in range(3):
        alone = train_shadows(
            config, plan, pools, coins[[at]], numbers=[at], keep=[1], streams=numbered(5)
        )
        difference = np.abs(together.final[at] - alone.final[0])
        assert np.mean(difference > 1e-6) < 0.02
        assert difference.max() <= 3 * step
        assert np.abs(together.after[at] - alone.after[0]).max() <= 3 * step
    assert np.abs(together.final[0] - together.final[1]).max() > 100 * step


def test_patients_whose_coin_is_0_are_never_read(tiny: Makes, prepared: Makes) -> None:
    """Rows of the patients that no model trains on are made infinite: no number may change."""
    config = tiny(**SMALL)
    data = prepared(config)
    plan = make_plan(config, data.declarations)
    pools = pools_of(data)
    coins = np.random.default_rng(1).random((1, everyone(pools).shape[1])) < 0.5
    clean = train_shadows(config, plan, pools, coins, streams=numbered(1))
    spoilt = []
    first = 0
    for pool in pools:
        inputs = {m: x.clone() for m, x in pool.batch.inputs.items()}
        for patient, positions in enumerate(pool.patients):
            if not coins[0, first + patient]:
                for x in inputs.values():
                    x[positions] = float("inf")
        first += len(pool.patients)
        batch = replace(pool.batch, inputs=inputs)
        spoilt.append(replace(pool, batch=batch))
    same = train_shadows(config, plan, spoilt, coins, streams=numbered(1))
    assert np.array_equal(clean.final, same.final)


def test_without_privacy_an_empty_batch_takes_no_step(
    tiny: Makes, prepared: Makes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model without any patient keeps its first weights, also with momentum."""
    config = tiny(**SMALL, privacy__epsilon="inf", training__momentum=0.9)
    data = prepared(config)
    plan = make_plan(config, data.declarations)
    pools = pools_of(data)
    coins = everyone(pools, 2)
    coins[1] = False
    shadows = train_shadows(config, plan, pools, coins, streams=numbered(2))
    first = initial_vector(config, plan)
    assert np.array_equal(shadows.final[1], first)
    assert not np.array_equal(shadows.final[0], first)


def test_fresh_noise_for_every_model_and_training(tiny: Makes, prepared: Makes) -> None:
    config = tiny(**{**SMALL, "privacy__reproducible": False, "training__rounds": 1})
    data = prepared(config)
    plan = make_plan(config, data.declarations)
    pools = pools_of(data)
    one = train_shadows(config, plan, pools, everyone(pools, 2)).final
    two = train_shadows(config, plan, pools, everyone(pools, 2)).final
    moved = [one[0], one[1], two[0], two[1]]
    for at in range(4):
        for other in range(at):
            assert np.mean(moved[at] != moved[other]) > 0.9


def test_logits_of_a_stack_are_those_of_each_model(tiny: Makes) -> None:
    config = tiny(
        **SMALL,
        model__imputer="retrieval",
        model__retrieval__source="phantom",
        model__retrieval__records=40,
    )
    data = prepare(config)
    plan = make_plan(config, data.declarations)
    first = initial_vector(config, plan)
    rng = np.random.default_rng(0)
    vectors = (first + 0.1 * rng.standard_normal((3, first.size))).astype(np.float32)
    model = initial_model(config, len(plan.label_names))
    batch = data.test.batch.only(frozenset({"image"}))
    found = stacked_logits(model, vectors, batch, public=data.public)
    for vector, answers in zip(vectors, found, strict=True):
        assign(model, vector)
        with torch.no_grad():
            assert answers == pytest.approx(model(batch).numpy(), abs=2e-5)


def test_what_cannot_be_trained_alike_is_refused(tiny: Makes, prepared: Makes) -> None:
    config = tiny(**SMALL)
    data = prepared(config)
    plan = make_plan(config, data.declarations)
    pools = pools_of(data)
    chosen = tiny(**SMALL, evaluation__choose_round="validation")
    with pytest.raises(AuditRefusedError, match="validation patients"):
        train_shadows(chosen, plan, pools, everyone(pools))
    with pytest.raises(AuditRefusedError, match="every site"):
        train_shadows(config, plan, pools[:2], everyone(pools[:2]))
    with pytest.raises(ValueError, match="coins"):
        train_shadows(config, plan, pools, everyone(pools)[:, 1:])


def test_training_stops_between_rounds_and_tells_how_far_it_is(
    tiny: Makes, prepared: Makes
) -> None:
    config = tiny(**SMALL)
    data = prepared(config)
    plan = make_plan(config, data.declarations)
    pools = pools_of(data)
    told: list[tuple[int, int]] = []
    with pytest.raises(StoppedError):
        train_shadows(
            config,
            plan,
            pools,
            everyone(pools),
            progress=lambda stage, done, total: told.append((done, total)),
            should_stop=lambda: len(told) > 1,
        )
    assert told == [(0, 2), (1, 2)]


def test_a_recipe_tells_what_differs(tiny: Makes, prepared: Makes) -> None:
    config = tiny(**SMALL)
    data = prepared(config)
    plan = make_plan(config, data.declarations)
    check_same_recipe(recipe(config, plan), recipe(tiny(**SMALL), plan))
    other = tiny(**SMALL, privacy__clip_norm=0.5)
    with pytest.raises(AuditRefusedError, match="privacy"):
        check_same_recipe(recipe(config, plan), recipe(other, plan))
    with pytest.raises(AuditRefusedError, match="rounds"):
        check_same_recipe(recipe(config, plan), recipe(config, plan, rounds=1))
