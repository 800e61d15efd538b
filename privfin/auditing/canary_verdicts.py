"""From the scores and coins of canaries to results: the two tests and what they may say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from attacks.attempt import Attempt
from attacks.bounds import Bound, guess_bound
from attacks.steps import step_bound, step_ceiling_mu
from privfin.auditing.canary_data import CanarySet, Level
from privfin.auditing.canary_results import CanaryResult
from privfin.auditing.composition import composed_epsilon
from privfin.auditing.step_audit import THRESHOLD, StepAudit
from privfin.federation.plan import SitePlan, TrainingPlan

#: Guesses on each side, as shares of all canaries: chosen before any score is seen.
_SHARES = (1 / 20, 1 / 8, 1 / 4, 1 / 2)


def guesses_for(total: int, level: Level) -> list[tuple[int, int]]:
    """How many of ``total`` coins to guess in and out: pairs to choose from, fixed in advance.

    No pair where there is a single coin of a single patient.
    """
    if level == "site":  # so few coins that all of them must be guessed
        return [((total + 1) // 2, total // 2)]
    counts = sorted({max(1, int(share * total)) for share in _SHARES})
    return [(count, count) for count in counts if 2 * count <= total]


def black_box(
    plan: TrainingPlan,
    chosen: CanarySet,
    level: Level,
    scores: npt.NDArray[np.float64],
    coins: npt.NDArray[np.bool_],
    units: npt.NDArray[np.int64],
    confidence: float,
) -> list[CanaryResult]:
    """All kinds together with their bound, and every kind by itself.

    Args:
        plan: of the run.
        chosen: the canaries.
        level: what one coin decided about.
        scores: (canaries,) higher means more likely in.
        coins: (coins,) True for in.
        units: (canaries,) the coin that decided about each.
        confidence: of the bound, in (0, 1).
    """
    # A patient-level guarantee says nothing of all of a site's patients at once.
    claim = math.inf if level == "site" else max(site.epsilon for site in plan.sites)
    delta = max(site.delta for site in plan.sites)
    if level == "site":
        each = np.array([scores[units == unit].mean() for unit in range(coins.size)])
        note = (
            "one coin a site: the run's guarantee is for a patient and makes no claim here; the "
            "ceiling is what so few coins can show"
        )
    else:
        each = _on_one_scale(scores, chosen.kinds)
        note = "scores of the final model less those of the run's; no assumption on the mechanism"
    total = coins.size
    pairs = guesses_for(total, level)
    bound = None
    if pairs:
        bound = guess_bound(
            each, coins, route="one_run", choice="bonferroni", guesses=pairs,
            delta=delta, confidence=confidence,
        )  # fmt: skip

    def result(
        kind: str, within: npt.NDArray[np.bool_], said: str, own: Bound | None
    ) -> CanaryResult:
        return CanaryResult(
            kind=kind,
            level=level,
            observer="outsider",
            canaries=int(within.sum()),
            inside=int(coins[within].sum()),
            bound=own,
            claim=claim,
            claimed_mu=None,
            contradiction=own is not None and own.epsilon > claim,
            note=said,
            confidence=confidence,
            attempt=Attempt("canaries", "outsider", kind, each[within], coins[within], said),
        )

    results = [result("all kinds", np.ones(total, dtype=np.bool_), note, bound)]
    if level == "site":
        return results
    kinds = np.array(chosen.kinds)
    for kind in dict.fromkeys(chosen.kinds):
        said = "no bound of its own: the one over all kinds counts these coins"
        results.append(result(kind, kinds == kind, said, None))
    return results


def white_box(plan: TrainingPlan, audits: Iterable[StepAudit], confidence: float) -> CanaryResult:
    """All sites' steps together: a bound on the mu of the step with the least noise.

    Where sites differ in their noise, a mixture of their steps tells no more than the step of the
    site with the least, whose trade-off curve lies below all others: so that is the claim.

    Args:
        plan: of the run.
        audits: of its sites; none where no site takes a noisy step of its own.
        confidence: of the bound, in (0, 1).
    """
    watching = list(audits)
    loudest = max(plan.sites, key=_claimed_mu)
    if not watching:
        private = math.isfinite(loudest.epsilon)
        why = (
            "with privacy.trust = 'shared' no site takes a noisy step of its own"
            if private
            else "training adds no noise"
        )
        return CanaryResult(
            kind="gradient",
            level="record",
            observer="training",
            canaries=0,
            inside=0,
            bound=None,
            claim=loudest.epsilon,
            claimed_mu=None,
            contradiction=False,
            note=f"not done: {why}",
            confidence=confidence,
        )
    scores = np.concatenate([audit.scores for audit in watching])
    coins = np.concatenate([audit.coins for audit in watching])
    found = step_bound(
        scores, coins, delta=loudest.delta, confidence=confidence, threshold=THRESHOLD
    )
    mu = found.mu or 0.0
    most = step_ceiling_mu(coins, confidence=confidence, threshold=THRESHOLD)
    epsilon, ceiling = (
        composed_epsilon(one, loudest.sampling_rate, loudest.steps, loudest.delta)
        for one in (mu, most)
    )
    claimed = _claimed_mu(loudest)
    note = (
        "each step assumed Gaussian; epsilon is that of all the run's steps with the bound on mu, "
        "at the site with the least noise"
    )
    return CanaryResult(
        kind="gradient",
        level="record",
        observer="training",
        canaries=coins.size,
        inside=int(coins.sum()),
        bound=Bound(epsilon, ceiling, loudest.delta, confidence, mu),
        claim=loudest.epsilon,
        claimed_mu=claimed,
        contradiction=mu > claimed,
        note=note,
        confidence=confidence,
        attempt=Attempt("gradient canaries", "training", "steps", scores, coins, note),
    )


def _on_one_scale(scores: npt.NDArray[np.float64], kinds: Sequence[str]) -> npt.NDArray[np.float64]:
    """Scores (canaries,) less the median of their kind, over its median distance from it.

    Kinds differ in how far they move. This reads no coin, so that a guess stays a guess.
    """
    found = scores.copy()
    named = np.array(kinds)
    for kind in dict.fromkeys(kinds):
        own = scores[named == kind]
        away = own - np.median(own)
        found[named == kind] = away / (float(np.median(np.abs(away))) or 1.0)
    return found


def _claimed_mu(site: SitePlan) -> float:
    return 1.0 / site.noise_multiplier if site.noise_multiplier > 0 else math.inf
