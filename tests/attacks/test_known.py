"""Known mechanisms are what they say: their truth, and the rates of their draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from attacks.coverage import most_above
from attacks.known import gaussian_query, gaussian_steps, randomised_response


def test_sixteen_steps_are_the_worked_value() -> None:
    known = gaussian_steps(4.0, 16)
    assert known.epsilon == pytest.approx(4.377178, abs=1e-6)
    assert known.epsilon == pytest.approx(gaussian_query(1.0).epsilon)
    scores, members = known.draw(np.random.default_rng(1), 40000)
    # Five and more standard errors of means and deviations.
    assert scores[members].mean() - scores[~members].mean() == pytest.approx(1.0, abs=0.06)
    assert scores[~members].std() == pytest.approx(1.0, abs=0.03)


def test_randomised_response_tells_the_truth_as_often_as_it_says() -> None:
    scores, members = randomised_response(1.0).draw(np.random.default_rng(2), 40000)
    right = np.mean((scores > 0) == members)
    assert right == pytest.approx(math.e / (1 + math.e), abs=0.012)


def test_limit_is_the_binomial_quantile() -> None:
    most = most_above(200, 0.95, 17)
    assert most == 30
    assert binom.sf(most, 200, 0.05) <= 1e-6 / 17 < binom.sf(most - 1, 200, 0.05)


def test_out_of_range() -> None:
    for make in (lambda: randomised_response(-1.0), lambda: gaussian_query(math.nan),
                 lambda: gaussian_steps(0.0, 3), lambda: gaussian_steps(1.0, 0),
                 lambda: gaussian_query(1.0, 0.0)):  # fmt: skip
        with pytest.raises(ValueError, match="must be"):
            make()
