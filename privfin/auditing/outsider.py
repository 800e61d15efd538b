"""The outsider's view of a run: attacks on the final model, with and without shadow models."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from attacks.attempt import Attempt
from attacks.limits import FloatArray
from attacks.patients import owners
from privfin.auditing.dropped import dropped_attempts, with_every_modality
from privfin.auditing.imputer_attacks import error_attempts, retrieval_attempt
from privfin.auditing.membership import Answers, attempts, too_few
from privfin.auditing.patients import site_slices, strata, with_known_labels
from privfin.auditing.population import BoolArray, Population, SitePool
from privfin.auditing.shadow_modules import stacked_logits
from privfin.config import RunConfig
from privfin.errors import PlanError
from privfin.federation.prepare import PreparedData, Progress
from privfin.models.multimodal import Batch, MultimodalModel
from privfin.models.segments import assign, flatten, initial_model

# Strata with fewer patients on a side say nothing.
_FEWEST = 20


def outsider_view(
    config: RunConfig,
    data: PreparedData,
    population: Population,
    model: MultimodalModel,
    vectors: npt.NDArray[np.float32],
    coins: BoolArray,
    attacks: Sequence[str],
    left_out: list[str],
    *,
    next_stage: Callable[[str], None],
    progress: Progress,
) -> list[Attempt]:
    """Attack the final model.

    Args:
        config: of the run.
        data: of the run.
        population: members and held-out patients.
        model: the run's, in evaluation mode.
        vectors: (M, P) parameters of shadow models; M is 0 without any.
        coins: (M, patients) whom each shadow model was trained on.
        attacks: of :data:`privfin.auditing.membership.ATTACKS`.
        left_out: gets a line for every attack or stratum that says nothing, with the reason.
        next_stage: told before each part; raises to stop.
        progress: told what is being done.
    """
    queries, records = population.queries(), population.records
    next_stage("asking the models")
    own = initial_model(config, len(population.label_names))
    every = np.concatenate([flatten(model)[None], vectors])

    def ask(batch: Batch) -> FloatArray:
        return stacked_logits(own, every, batch, public=data.public).astype(np.float64)

    logits = ask(queries)
    owner = owners(records, len(queries))
    answers = Answers(
        queries.labels.numpy().astype(np.float64),
        logits[0],
        logits[1:],
        coins[:, owner],
        records,
        population.members,
    )
    whole, asked = answers, with_every_modality(queries, answers)
    kept = with_known_labels(population)
    answers = answers.of(kept)
    left_out += [f"{name}: too few shadow models" for name in attacks if too_few(answers, name)]
    parts = strata(population, config)
    found: list[Attempt] = []
    for number, (name, chosen) in enumerate(parts.items()):
        progress("membership attacks", number, len(parts))
        part = answers.of(chosen[kept])
        if min(part.members.sum(), (~part.members).sum()) >= _FEWEST:
            found += attempts(part, tuple(attacks), name)
        else:
            left_out.append(f"patients '{name}': fewer than {_FEWEST} on a side")
    if "lira-modalities" in attacks and not too_few(answers, "lira-modalities"):
        next_stage("dropping modalities")
        asked &= kept
        if min((whole.members & asked).sum(), (~whole.members & asked).sum()) >= _FEWEST:
            found += dropped_attempts(ask, queries, whole, asked, "both")
        else:
            left_out.append(
                f"lira-modalities: fewer than {_FEWEST} patients with every modality on a side"
            )
    models = _models(config, data, population, vectors)
    for pool, at in zip(population.sites, site_slices(population), strict=True):
        found += _imputer(model, pool, models, coins[:, at], left_out)
    return _joined(found)


def _imputer(
    model: MultimodalModel,
    pool: SitePool,
    shadows: Sequence[MultimodalModel],
    coins: BoolArray,
    left_out: list[str],
) -> list[Attempt]:
    """Imputer and retrieval attacks at a site that has pairs; none elsewhere."""
    present = list(pool.queries.present.values())
    if len(present) < 2 or not bool(torch.stack(present).all(dim=0).any()):
        return []
    try:
        return [
            *error_attempts(model, pool, shadows, coins if shadows else None),
            retrieval_attempt(model, pool),
        ]
    except PlanError as error:
        left_out.append(f"imputer attacks at {pool.name}: {error}")
        return []


def _models(
    config: RunConfig,
    data: PreparedData,
    population: Population,
    vectors: npt.NDArray[np.float32],
) -> list[MultimodalModel]:
    """Shadow models one by one, for attacks on what is inside them."""
    made = []
    for vector in vectors:
        model = initial_model(config, len(population.label_names))
        model.use_public(data.public)
        assign(model, vector)
        made.append(model.eval())
    return made


def _joined(found: Sequence[Attempt]) -> list[Attempt]:
    """Attempts of one attack at several sites as one attempt on all of their patients."""
    groups: dict[tuple[str, str, str], list[Attempt]] = {}
    for one in found:
        groups.setdefault((one.attack, one.observer, one.stratum), []).append(one)
    return [
        Attempt(
            *key,
            np.concatenate([one.scores for one in same]),
            np.concatenate([one.members for one in same]),
            same[0].note,
        )
        for key, same in groups.items()
    ]
