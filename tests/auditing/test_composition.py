"""An audited step's μ becomes a run's ε by the accountant that states the claim."""

from __future__ import annotations

import pytest

from attacks.bounds import gaussian_epsilon
from privfin.auditing.composition import composed_epsilon
from privfin.errors import PlanError
from privfin.privacy.accounting import SubsampledGaussianEvent, epsilon

DELTA = 1e-5


@pytest.mark.parametrize(("mu", "steps"), [(0.25, 16), (1.0, 1), (0.5, 9)])
def test_full_participation_has_a_closed_form(mu: float, steps: int) -> None:
    exact = gaussian_epsilon(mu * steps**0.5, DELTA)
    assert exact <= composed_epsilon(mu, 1.0, steps, DELTA) < exact + 0.005


def test_the_true_noise_gives_the_claim_and_less_noise_more() -> None:
    claim = epsilon([SubsampledGaussianEvent(1.25, 0.1, 50)], DELTA)
    assert composed_epsilon(1 / 1.25, 0.1, 50, DELTA) == claim
    assert composed_epsilon(0.9, 0.1, 50, DELTA) > claim > composed_epsilon(0.7, 0.1, 50, DELTA)


def test_no_mu_no_epsilon() -> None:
    assert composed_epsilon(0.0, 0.1, 50, DELTA) == 0.0
    assert composed_epsilon(1e-9, 0.1, 50, DELTA) == 0.0


def test_out_of_range() -> None:
    for mu in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="mu"):
            composed_epsilon(mu, 0.1, 5, DELTA)
    for rate, steps, delta in ((0.0, 5, DELTA), (0.1, -1, DELTA), (0.1, 5, 2.0)):
        with pytest.raises(PlanError):
            composed_epsilon(0.5, rate, steps, delta)
        with pytest.raises(PlanError):
            composed_epsilon(0.0, rate, steps, delta)
