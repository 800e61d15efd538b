"""Canary audits: the run's own federated training once more, with canaries in it.

One training serves two tests. The black-box test scores invented patients, each in or out by its
own coin, on the final model; its bound assumes nothing of the mechanism's shape. The white-box
test scores gradient canaries in every noisy step (``step_audit.py``).

The plan stays that of the run: sampling rates, noise and divisors are those of its declared
patients, whatever the coins are. No ledger is asked: the model is thrown away with its folder, and
only figures about canaries leave.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.random import SeedSequence

from attacks.canaries import seeds, throw
from privfin.auditing.canary_data import CanarySet, Level, make_canaries
from privfin.auditing.canary_results import CanaryResult
from privfin.auditing.canary_verdicts import black_box, white_box
from privfin.auditing.step_audit import StepAudit, most_directions, watched
from privfin.config import RunConfig
from privfin.errors import UserInputError
from privfin.federation.local import (
    Outcome,
    SilentObserver,
    SiteWork,
    StreamSource,
    site_work,
    train_locally,
)
from privfin.federation.local_training import SiteData
from privfin.federation.plan import TrainingPlan
from privfin.federation.prepare import PreparedData, Progress, silent
from privfin.federation.round_work import RoundWork
from privfin.federation.training_run import start_run
from privfin.models.multimodal import Batch
from privfin.models.segments import assign, initial_model
from privfin.privacy.dpsgd import DpSgd
from privfin.runs import Run

#: Coins of gradient canaries that are asked for in a run, over all sites and steps.
_STEP_COINS = 2000
_MOST_A_SITE = 64


def audit_canaries(
    run: Run,
    config: RunConfig,
    plan: TrainingPlan,
    data: PreparedData,
    *,
    canaries: int,
    confidence: float = 0.95,
    level: Level = "record",
    gradient_canaries: int | None = None,
    progress: Progress = silent,
    should_stop: Callable[[], bool] = lambda: False,
    step: type[DpSgd] = DpSgd,
    entropy: int | None = None,
) -> list[CanaryResult]:
    """Train the run's recipe once with canaries, and hold their scores against their coins.

    Args:
        run: finished; its model, which saw no canary, says what a canary looks like to a model
            without it.
        config, plan, data: of the run, with the data that it was trained on.
        canaries: invented patients to throw coins for, at least 1. With ``level = "site"`` a coin
            decides about all of a site's.
        confidence: of each bound, in (0, 1).
        level: what one coin decides about; see docs/explanation/canary-audits.md.
        gradient_canaries: a site has in every step; by default enough for 2,000 coins, as far as
            its parameters allow; 0 leaves the white-box test out.
        progress: told of each round.
        should_stop: asked before every round.
        step: the step under audit: ``DpSgd``, or a broken one that a test must find.
        entropy: fixes coins and directions, for tests.

    Returns:
        The black-box result over all kinds, one of each kind (with an AUC but no bound: that would
        be another test of the same coins), and the white-box result. Empty if ``should_stop`` ended
        the training.

    Raises:
        UserInputError: fewer than 1 canary is asked for, or held-out records do not suffice.
        SiteFailedError, ProtocolError: see :func:`train_locally`.
    """
    if canaries < 1:
        raise UserInputError("a canary audit needs at least 1 canary")
    for_coins, for_steps = seeds(2, entropy)
    chosen = make_canaries(config, plan, data, canaries, level)
    units = _units(chosen, level)
    coins = throw(int(units.max()) + 1, for_coins)
    audits = _step_audits(config, plan, for_steps, gradient_canaries)
    outcome = train_scratch(
        config,
        plan,
        chosen.put_into(data, coins[units]),
        progress,
        should_stop,
        partial(_audited_work, audits=audits, step=step),
    )
    if not outcome.is_complete:
        return []
    reference = run.model()
    reference.use_public(data.public)
    audited = initial_model(config, len(plan.label_names))
    audited.use_public(data.public)
    assign(audited, outcome.vector)
    scores = chosen.signals(audited) - chosen.signals(reference)
    results = black_box(plan, chosen, level, scores, coins, units, confidence)
    if gradient_canaries != 0:
        results.append(white_box(plan, list(audits.values()), confidence))
    return results


def _units(chosen: CanarySet, level: Level) -> npt.NDArray[np.int64]:
    """(canaries,) the number of the coin that decides about each."""
    if level != "site":
        return np.arange(len(chosen))
    return np.unique(np.array(chosen.sites), return_inverse=True)[1].astype(np.int64)


def train_scratch(
    config: RunConfig,
    plan: TrainingPlan,
    data: PreparedData,
    progress: Progress,
    should_stop: Callable[[], bool],
    work: SiteWork = site_work,
) -> Outcome:
    """The run's training in a private folder, which is gone when this returns or raises."""
    with tempfile.TemporaryDirectory(prefix="privfin-canaries-") as folder:
        scratch = start_run(Path(folder) / "run", config, plan, data)
        return train_locally(
            config,
            plan,
            data,
            scratch,
            observer=_Rounds(progress, config.training.rounds),
            should_stop=should_stop,
            gate=None,
            work=work,
        )


class _Rounds(SilentObserver):
    """Passes on how many rounds are done, and nothing else."""

    def __init__(self, progress: Progress, rounds: int) -> None:
        self._progress, self._rounds, self._done = progress, rounds, 0

    def round_finished(self, round_number: int, loss: float, up: int, down: int) -> None:
        """One more."""
        self._done += 1
        self._progress("training with canaries", self._done, self._rounds)


def _audited_work(
    config: RunConfig,
    plan: TrainingPlan,
    name: str,
    data: SiteData,
    streams: StreamSource,
    public: Batch | None,
    *,
    audits: dict[str, StepAudit],
    step: type[DpSgd],
) -> RoundWork:
    make_step = watched(step, audits[name]) if name in audits else step
    return site_work(config, plan, name, data, streams, public, make_step=make_step)


def _step_audits(
    config: RunConfig, plan: TrainingPlan, seed: SeedSequence, wanted: int | None
) -> dict[str, StepAudit]:
    """One a site; none without private steps of the sites' own."""
    if wanted == 0 or not config.privacy.is_private or plan.shared is not None:
        return {}
    steps = sum(plan.rounds * site.local_steps for site in plan.sites)
    each = min(_MOST_A_SITE, math.ceil(_STEP_COINS / steps)) if wanted is None else wanted
    found = {}
    for site, own in zip(plan.sites, seed.spawn(len(plan.sites)), strict=True):
        trained = int(plan.trained_mask(site.modalities, config.model.imputer).sum())
        count = min(each, most_directions(trained))
        found[site.name] = StepAudit(
            count, config.privacy.clip_norm, config.training.batch_size, own
        )
    return found
