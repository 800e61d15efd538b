"""What a guarantee means for somebody who bets on one patient: as odds, from 50:50.

**From a pair (epsilon, delta).** Somebody sees what was released and says whether one patient's
records were used; before that it is a fair coin. Let a be the chance of a false alarm, and b that
of missing the patient. Whatever the test, differential privacy bounds both kinds of error from both
sides (Wasserman and Zhou 2010; Kairouz, Oh and Viswanath 2015):

    1 - b <= e^epsilon a + delta        1 - a <= e^epsilon b + delta

Their sum is 2 - (a + b) <= e^epsilon (a + b) + 2 delta, so that

    a + b >= 2 (1 - delta) / (1 + e^epsilon)

and the chance of being wrong, (a + b) / 2, is at least (1 - delta) / (1 + e^epsilon). The chance of
being right is at most the rest:

    1 - (1 - delta) / (1 + e^epsilon) = (e^epsilon + delta) / (1 + e^epsilon)

The two lines cross at a = b, so the bound is met by the worst mechanism with this pair. With
delta = 0 it is :func:`privfin.privacy.tradeoff.certainty`, and with epsilon = 0 it is
(1 + delta) / 2.

**From the trade-off curve.** The same chance by the whole curve is
:func:`privfin.privacy.tradeoff.best_accuracy`, which a report has for every observer. It is never
above that of a pair on the curve.

Both are averages over all that could be released: a single outcome may tell more.
"""

from __future__ import annotations

import math

from privfin.reporting.numbers import DOWN, exactly, to_places

#: From this epsilon on the pair (epsilon, delta) alone promises little: 99.3:0.7 at best.
LITTLE_FROM = 5.0

# Below this chance of being wrong, digits say nothing to anybody.
_SMALLEST_SHOWN = 1e-12


def chance_of_error(epsilon: float, delta: float) -> float:
    """How often the best bet on one patient is wrong at least, from even odds.

    Args:
        epsilon: at least 0, or infinite.
        delta: in [0, 1].

    Returns:
        (1 - delta) / (1 + e^epsilon), in [0, 1/2]. Without the loss of digits that subtracting
        :func:`best_chance` from 1 has.

    Raises:
        ValueError: epsilon or delta is out of range.
    """
    if not epsilon >= 0.0 or not 0.0 <= delta <= 1.0:
        raise ValueError(f"no guarantee has epsilon {epsilon} and delta {delta}")
    shrunk = math.exp(-epsilon)
    return (1.0 - delta) * shrunk / (1.0 + shrunk)


def best_chance(epsilon: float, delta: float) -> float:
    """How often the best bet on one patient is right at most: (e^epsilon + delta)/(1 + e^epsilon).

    The arguments and errors are those of :func:`chance_of_error`.
    """
    return 1.0 - chance_of_error(epsilon, delta)


def odds_text(error: float) -> str:
    """Odds in percent, from 50:50, for somebody who is wrong at least this often.

    The chance of being wrong is rounded down, so that what is promised is never more than what
    holds: ``from 50:50 to at most 74:26``, ``from 50:50 to at most 99.97:0.03``.

    Args:
        error: chance of being wrong, in [0, 1/2]; 0 where nothing is promised.

    Returns:
        Whole percents where 10 or more are left, one decimal place down to 1, else one digit.

    Raises:
        ValueError: ``error`` is out of range.
    """
    if not 0.0 <= error <= 0.5:
        raise ValueError(f"a chance of being wrong of {error} is no bound on a best bet")
    if error == 0.0:
        return "from 50:50 to 100:0"
    if error < _SMALLEST_SHOWN:
        return "from 50:50 to all but certain"
    wrong = 100 * exactly(error)
    places = 0 if wrong >= 10 else 1 if wrong >= 1 else -wrong.adjusted()
    wrong = to_places(wrong, places, DOWN)
    if wrong == 50:
        return "from 50:50 to no more than 50:50"
    return f"from 50:50 to at most {100 - wrong:f}:{wrong:f}"


def odds_of_pair(epsilon: float, delta: float) -> str:
    """The odds that (epsilon, delta) alone allows; 100:0 only where epsilon is infinite."""
    error = chance_of_error(epsilon, delta)
    if error == 0.0 and not math.isinf(epsilon):
        return "from 50:50 to all but certain"  # e^-epsilon is too small for a number
    return odds_text(error)


def odds_of_curve(best_accuracy: float) -> str:
    """The odds that a whole trade-off curve allows.

    Args:
        best_accuracy: the curve's, in [1/2, 1]; 1 may be a number just below it.
    """
    if best_accuracy >= 1.0:
        return "from 50:50 to all but certain"
    return odds_text(float(1 - exactly(best_accuracy)))
