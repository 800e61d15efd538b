"""After the last round every site takes some more steps from the final model, for itself alone.

The noise of the plan was calibrated for these steps too. A site writes down that it starts before
it takes one, and it starts once: steps that a crash interrupted are spent, and there is no budget
to take them again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from privfin.config import RunConfig
from privfin.evaluation.released import released
from privfin.federation.assessment import assess
from privfin.federation.local import TrainingObserver, stream_source
from privfin.federation.local_training import LocalTrainer
from privfin.federation.plan import TrainingPlan
from privfin.federation.prepare import PreparedData
from privfin.models.segments import Vector, assign, initial_model
from privfin.runs import Run


def fine_tune(
    config: RunConfig,
    plan: TrainingPlan,
    data: PreparedData,
    run: Run,
    final: Vector,
    *,
    observer: TrainingObserver,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Let every site that has not done so yet make its own model, ``local/SITE.safetensors``.

    Args:
        final: the parameters that all sites share at the end.

    Returns:
        Whether all sites are done; False if ``should_stop`` ended it between two sites.
    """
    started = run.fine_tunings()
    # Without DP there is no budget, and in test mode the same numbers come out again.
    counted = config.privacy.is_private and not config.privacy.reproducible
    waiting = [
        name
        for name in plan.cohort
        if not run.has_local_model(name) and not (counted and started.get(name, 0))
    ]
    model = initial_model(config, len(plan.label_names))
    model.use_public(data.public)
    for number, name in enumerate(waiting, start=1):
        if should_stop():
            return False
        streams = stream_source(config, name)
        trainer = LocalTrainer(config, plan.site(name), data.sites[name], streams, data.public)
        run.record("site-fine-tuning-started", site=name, steps=plan.fine_tune_steps)
        observer.fine_tuning_started(name, number, len(waiting))
        assign(model, final + trainer.fine_tune(final, plan.fine_tune_steps))
        run.save_local_model(name, model)
    return True


def fine_tuned_results(
    config: RunConfig, plan: TrainingPlan, data: PreparedData, run: Run
) -> dict[str, Any]:
    """Macro AUROC of the sites' own models on the held-out patients, by availability cell.

    Returns:
        ``steps``, the ``sites`` that have a model, those ``without`` one (their steps were
        interrupted), and by cell the mean, least and greatest macro AUROC over the models.
    """
    sites = [name for name in plan.cohort if run.has_local_model(name)]
    quick = config.evaluation.model_copy(update={"bootstrap": 0})
    scores: dict[str, list[float]] = {}
    for name in sites:
        model = run.local_model(name)
        model.use_public(data.public)
        results = assess(model, data.test, plan.label_names, quick, config.training.seed)
        for cell, result in released(results, config.evaluation.metrics).items():
            scores.setdefault(cell, []).append(result.macro_auroc)
    return {
        "steps": plan.fine_tune_steps,
        "sites": sites,
        "without": [name for name in plan.cohort if name not in sites],
        "cells": {cell: _summary(values) for cell, values in scores.items()},
    }


def _summary(values: Iterable[float]) -> dict[str, float] | None:
    """Mean, least and greatest; None where no label could be measured."""
    known = [v for v in values if not math.isnan(v)]
    if not known:
        return None
    return {"mean": sum(known) / len(known), "min": min(known), "max": max(known)}
