"""A lower bound on the μ of one noisy step, from many steps of a run: the white-box audit.

In each step a coin decides whether the canary takes part, and the step's noisy sum is projected on
the canary's clipped gradient g, known to the auditor (Nasr et al. 2023, arXiv:2302.07956). With
noise N(0, (σ C)²) and |g| = C, the score <noisy sum, g> / (σ C²) is N(coin / σ, 1) plus what the
other patients add, so the step is Gaussian with μ = 1 / σ at best. Every step is an observation of
its own: its noise and its coin are fresh, whatever the steps before it made of the model.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from attacks.limits import BoolArray, Bound, check_confidence, check_scores
from attacks.thresholds import score_bound
from attacks.two_rates import gdp_mus


def step_bound(
    scores: npt.ArrayLike,
    coins: npt.ArrayLike,
    *,
    delta: float,
    confidence: float = 0.95,
    threshold: float | None = None,
    seed: int = 0,
) -> Bound:
    """The bound by the GDP route on one step in which the canary takes part.

    Assumptions: the step is Gaussian (``attacks.two_rates.gdp_epsilon``); given the steps before
    it, a step's coin is a fair coin, or any other that the scores do not depend on but through the
    canary; one known direction and scale for all steps, so that scores are comparable. What other
    patients add should be subtracted where the auditor knows it: it can only blur the bound.

    Args:
        scores: (steps,) projections of each step's noisy sum on the canary's gradient, in a unit
            of the auditor's choice; higher means more likely that the canary took part.
        coins: (steps,) whether the canary took part.
        delta: in (0, 1), at which the ε of ONE step is stated.
        confidence: of the bound, in (0, 1).
        threshold: fixed before the scores were seen; with None it is chosen on one half of the
            steps and tested on the other.
        seed: of that split.

    Returns:
        The bound, with its ``mu``: a lower bound on the step's μ. One above 1 / σ contradicts a
        claimed noise multiplier σ.

    Raises:
        ValueError: when a value is out of range, or not exactly one coin belongs to each score.
    """
    return score_bound(
        scores,
        coins,
        route="gdp",
        choice="split" if threshold is None else "fixed",
        delta=delta,
        confidence=confidence,
        thresholds=None if threshold is None else [threshold],
        seed=seed,
    )


def step_ceiling_mu(
    coins: npt.ArrayLike, *, confidence: float = 0.95, threshold: float | None = None
) -> float:
    """The μ that :func:`step_bound` would have shown had no step been called wrongly.

    A claimed μ above it cannot be contradicted by so few steps.

    Args:
        coins: (steps,) whether the canary took part.
        confidence: in (0, 1).
        threshold: as for :func:`step_bound`; only whether there is one matters.

    Raises:
        ValueError: when a value is out of range.
    """
    labels: BoolArray = check_scores(np.zeros(np.shape(coins)), coins)[1]
    inside, outside = int(labels.sum()), int((~labels).sum())
    if threshold is None:  # the half that is tested is the larger one
        inside, outside = inside - inside // 2, outside - outside // 2
    return float(gdp_mus([0], inside, [0], outside, check_confidence(confidence) / 2)[0])
