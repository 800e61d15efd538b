"""Shadow models are trained as the run: one that gets the run's streams is the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attacks.errors import AuditRefusedError
from attacks.guards import check_same_recipe
from privfin.auditing import shadow_site
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
from privfin.models.segments import assign, initial_model
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
    from privfin.models.segments import flatten

    return flatten(initial_model(config, len(plan.label_names)))
