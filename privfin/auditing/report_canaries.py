"""Canary reports: invented texts trained on by coin, and looked for in other patients' imputations.

The run's recipe is trained once more with them, in a folder that is removed. A coin decides about a
patient, who keeps the image and gets the canary's report, or is no patient of that training.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

import torch

from attacks.imputers import canary_bound
from attacks.limits import check_confidence
from privfin.auditing.canaries import train_scratch
from privfin.auditing.canary_results import CanaryResult
from privfin.auditing.imputer_attacks import canary_attempt, plant_reports
from privfin.auditing.report import Claim
from privfin.config import RunConfig
from privfin.errors import PlanError
from privfin.federation.plan import TrainingPlan
from privfin.federation.prepare import PreparedData, Progress, silent
from privfin.models.segments import assign, initial_model

#: Canary reports at most, and the share of a site's paired patients that may become canaries.
MOST_CANARIES = 100
_SHARE = 0.5


def audit_reports(
    config: RunConfig,
    plan: TrainingPlan,
    data: PreparedData,
    *,
    claim: Claim,
    confidence: float,
    progress: Progress = silent,
    should_stop: Callable[[], bool] = lambda: False,
) -> CanaryResult | None:
    """Plant canary reports at the site with the most pairs, train, and listen.

    Args:
        config, plan, data: of the run, with the data that it was trained on.
        claim: what the run claims against an outsider.
        confidence: of the bound, in (0, 1).
        progress: told of each round.
        should_stop: asked before every round.

    Returns:
        The result, or None if ``should_stop`` ended the training.

    Raises:
        PlanError: the data have no texts, no site has pairs enough, or the model imputes no text.
    """
    check_confidence(confidence)
    site, pairs = _most_pairs(data)
    count = min(MOST_CANARIES, int(_SHARE * pairs))
    canaries = plant_reports(config, data, site, count, secrets.randbits(63))
    outcome = train_scratch(config, plan, canaries.data, progress, should_stop)
    if not outcome.is_complete:
        return None
    model = initial_model(config, len(plan.label_names))
    model.use_public(data.public)
    assign(model, outcome.vector)
    attempt = canary_attempt(model.eval(), canaries, data.test.batch)
    bound = canary_bound(attempt, delta=claim.delta, confidence=confidence)
    return CanaryResult(
        kind="report text",
        level="patient",
        observer="outsider",
        canaries=count,
        inside=int(canaries.inside.sum()),
        bound=bound,
        claim=claim.epsilon,
        claimed_mu=None,
        contradiction=bound.epsilon > claim.epsilon,
        note="invented reports looked for in what the model imputes for held-out patients",
        confidence=confidence,
        attempt=attempt,
    )


def _most_pairs(data: PreparedData) -> tuple[str, int]:
    """The site with the most patients of whom every record has every modality, and how many."""
    found: Mapping[str, int] = {name: _pairs(data, name) for name in data.sites}
    site = max(found, key=lambda name: found[name])
    if "text" not in data.sites[site].batch.inputs:
        raise PlanError("there are no reports to plant canaries in")
    if int(_SHARE * found[site]) < 5:
        raise PlanError(f"site '{site}' has the most paired patients, {found[site]}: too few")
    return site, found[site]


def _pairs(data: PreparedData, name: str) -> int:
    own = data.sites[name]
    whole = torch.stack(list(own.batch.present.values())).all(dim=0).numpy()
    return sum(all(whole[r * own.copies] for r in records) for records in own.patients)
