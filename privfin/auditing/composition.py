"""From the μ of one audited step to the ε of a whole run."""

from __future__ import annotations

from privfin.privacy.accounting import SubsampledGaussianEvent, epsilon

# Below it the accountant's arithmetic cannot tell a step from none.
_SMALLEST_MU = 1e-6


def composed_epsilon(mu: float, sampling_rate: float, steps: int, delta: float) -> float:
    """The ε at ``delta`` of steps that are each, when the patient takes part, ``mu``-GDP.

    A step of noise multiplier σ is Gaussian with μ = 1 / σ, so a lower bound on μ is an upper bound
    on the noise that was really added; the run's own accountant composes it (Poisson sampling,
    add/remove neighbours). ε grows with μ, so that a lower bound stays one, with its confidence.

    Assumptions: every step has the same noise; patients are drawn by Poisson sampling at this rate,
    and steps are independent given the model before them. The audit of single steps shows none of
    these. The accountant rounds ε up by less than 0.005, so compare with a claim of the same
    accountant.

    Args:
        mu: of one step with the patient in it, at least 0 and finite.
        sampling_rate: q in (0, 1].
        steps: at least 0.
        delta: 1e-12 <= δ < 1.

    Returns:
        ε, at least 0; 0 for ``mu`` 0.

    Raises:
        PlanError: when rate, steps or δ is out of range.
        ValueError: when ``mu`` is.
    """
    if not 0.0 <= mu < float("inf"):
        raise ValueError(f"mu must be at least 0 and finite, got {mu}")
    event = SubsampledGaussianEvent(1.0 / max(mu, _SMALLEST_MU), sampling_rate, steps)
    return epsilon([event] if mu >= _SMALLEST_MU else [], delta)
