"""Odds from 50:50: the closed form against other derivations, and its rounding."""

from __future__ import annotations

import math
from decimal import Decimal, getcontext
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from privfin.privacy.tradeoff import PrivacyProfile, best_accuracy, certainty, gaussian_profile
from privfin.reporting.summary.odds import (
    best_chance,
    chance_of_error,
    odds_of_curve,
    odds_of_pair,
    odds_text,
)

EPSILONS = (0.1, 1.0, 3.0, 8.0, 20.0)
DELTAS = (0.0, 1e-6, 1e-5, 0.01)
PAIRS = list(product(EPSILONS, DELTAS))


def _exact(epsilon: float, delta: float) -> Decimal:
    """(e^epsilon + delta) / (1 + e^epsilon) with fifty digits."""
    getcontext().prec = 50
    grown = Decimal(repr(epsilon)).exp()
    return (grown + Decimal(repr(delta))) / (1 + grown)


def _parts(text: str) -> tuple[Decimal, Decimal]:
    right, _, wrong = text.rsplit(" ", 1)[1].partition(":")
    return Decimal(right), Decimal(wrong)


@pytest.mark.parametrize(("epsilon", "delta"), PAIRS)
def test_closed_form_is_the_optimum_over_all_tests(epsilon: float, delta: float) -> None:
    # Smallest false alarm a plus miss b within the region that the definition allows.
    grown = math.exp(epsilon)
    region = linprog(
        c=[1.0, 1.0],
        A_ub=[[-grown, -1.0], [-1.0, -grown]],
        b_ub=[delta - 1.0, delta - 1.0],
        bounds=[(0, 1), (0, 1)],
    )
    assert best_chance(epsilon, delta) == pytest.approx(1.0 - region.fun / 2.0, abs=1e-9)


@pytest.mark.parametrize(("epsilon", "delta"), PAIRS)
def test_a_mechanism_with_this_pair_reaches_it(epsilon: float, delta: float) -> None:
    # Tells the truth for certain with chance delta, else by randomised response.
    keep = (1 - delta) / (1 + math.exp(-epsilon))
    without = np.array([delta, keep, 1 - delta - keep, 0.0])
    other = without[::-1]
    excess = np.maximum(without - math.exp(epsilon) * other, 0.0).sum()
    assert excess <= delta + 1e-12  # the mechanism has this pair
    accuracy = 0.5 * (1 + 0.5 * np.abs(without - other).sum())
    assert best_chance(epsilon, delta) == pytest.approx(accuracy, abs=1e-12)


@pytest.mark.parametrize(("epsilon", "delta"), PAIRS)
def test_text_never_promises_more_than_holds_and_little_less(epsilon: float, delta: float) -> None:
    right, wrong = _parts(odds_of_pair(epsilon, delta))
    exact = 100 * _exact(epsilon, delta)
    assert right + wrong == 100
    assert right >= exact
    one_step = Decimal(1).scaleb(wrong.as_tuple().exponent)  # type: ignore[arg-type]
    assert right - exact <= one_step


@pytest.mark.parametrize(
    ("epsilon", "text"),
    [
        (0.1, "from 50:50 to at most 53:47"),
        (1.0, "from 50:50 to at most 74:26"),
        (3.0, "from 50:50 to at most 95.3:4.7"),
        (8.0, "from 50:50 to at most 99.97:0.03"),
        (20.0, "from 50:50 to at most 99.9999998:0.0000002"),
    ],
)
def test_odds_of_known_epsilons(epsilon: float, text: str) -> None:
    assert odds_of_pair(epsilon, 1e-6) == text


@given(st.floats(0, 2000), st.floats(0, 1))
def test_certainty_is_said_of_no_finite_epsilon(epsilon: float, delta: float) -> None:
    text = odds_of_pair(epsilon, delta)
    assert "100:0" not in text
    assert text.startswith("from 50:50 to ")


def test_nothing_promised_is_certainty() -> None:
    assert odds_of_pair(math.inf, 1e-5) == "from 50:50 to 100:0"
    assert odds_of_pair(0.0, 0.0) == "from 50:50 to no more than 50:50"
    assert "all but certain" in odds_of_pair(40.0, 1e-5)
    assert "all but certain" in odds_of_curve(1.0)


@given(st.floats(0, 30), st.floats(0, 30), st.floats(0, 1), st.floats(0, 1))
def test_more_epsilon_or_delta_is_never_better_odds(
    one: float, two: float, first: float, second: float
) -> None:
    low = chance_of_error(min(one, two), min(first, second))
    high = chance_of_error(max(one, two), max(first, second))
    assert high <= low


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_without_delta_it_is_certainty_of_the_trade_off_module(epsilon: float) -> None:
    assert best_chance(epsilon, 0.0) == pytest.approx(certainty(epsilon), abs=1e-15)


@pytest.mark.parametrize("mu", [0.3, 1.0, 1.7, 3.0])
def test_the_curve_never_promises_less_than_a_pair_on_it(mu: float) -> None:
    epsilons = np.linspace(0.0, 20.0, 401)
    deltas = gaussian_profile(mu, epsilons)
    by_curve = best_accuracy(PrivacyProfile(epsilons, deltas, 1e-12))
    for epsilon, delta in zip(epsilons[::40], deltas[::40], strict=True):
        assert by_curve <= best_chance(float(epsilon), float(delta)) + 1e-12
    right, _ = _parts(odds_of_curve(by_curve))
    assert right / 100 >= Decimal(by_curve) - Decimal("1e-12")


@pytest.mark.parametrize(("epsilon", "delta"), [(-1, 0), (math.nan, 0), (1, -0.1), (1, 1.1)])
def test_what_is_no_guarantee_is_refused(epsilon: float, delta: float) -> None:
    with pytest.raises(ValueError, match="no guarantee"):
        chance_of_error(epsilon, delta)


@pytest.mark.parametrize("error", [-0.1, 0.51, math.nan])
def test_what_is_no_bound_is_refused(error: float) -> None:
    with pytest.raises(ValueError, match="no bound"):
        odds_text(error)
