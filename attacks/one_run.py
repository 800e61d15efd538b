"""Lower bounds on ε from many canaries in one training run.

Each canary is put into the training data by a fair coin of its own. The auditor sees the result and
guesses some of the coins. Both bounds hold whatever the run does with the canaries together: they
need independent coins, not independent scores.

The number of guesses must be fixed before the coins are seen; ``attacks.thresholds`` guesses from
scores and pays for a searched number. ``canaries`` is the number of ALL coins thrown, also of those
that no guess was made about.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import expit, ndtr, ndtri
from scipy.stats import binom

from attacks.gaussian import gaussian_epsilon
from attacks.limits import Bound, check_confidence, check_counts, check_delta

# At this ε, or μ, a wrong guess in 10^40 is certain enough to end every search.
_LARGEST = 100.0


def one_run_p_value(
    canaries: int, guesses: int, correct: int, epsilon: float, delta: float
) -> float:
    """The chance, at most, of so many correct guesses under (ε, δ)-DP.

    With B binomial over r guesses of success e^ε / (1 + e^ε) (Steinke, Nasr and Jagielski 2023,
    arXiv:2305.08846, theorem 5.2 and appendix D):

        Pr[B >= v] + 2 m δ max over i in 1..v of Pr[v > B >= v - i] / i

    The second term stands for the coins that a δ of each canary may give away. It counts all m
    canaries, since an attacker chooses which to guess after seeing the result.

    Args:
        canaries: m, at least ``guesses``.
        guesses: r, fixed in advance.
        correct: v, in [0, r].
        epsilon: at least 0.
        delta: in [0, 1).

    Returns:
        A p-value in [0, 1]; 1 where nothing was right.

    Raises:
        ValueError: when a value is out of range.
    """
    _check(canaries, guesses, correct)
    check_delta(delta)
    if not epsilon >= 0.0:
        raise ValueError(f"epsilon must be at least 0, got {epsilon}")
    if correct == 0:
        return 1.0
    chance = float(expit(epsilon))
    tail = float(binom.sf(correct - 1, guesses, chance))
    if delta == 0.0:
        return tail
    steps = np.arange(1, correct + 1)
    # Added from the top: no difference of two nearly equal tails.
    below = np.cumsum(binom.pmf(correct - steps, guesses, chance))
    return min(1.0, tail + 2.0 * canaries * delta * float(np.max(below / steps)))


def one_run_epsilon(
    canaries: int, guesses: int, correct: int, delta: float, confidence: float = 0.95
) -> Bound:
    """The largest ε that the p-value of ``one_run_p_value`` rejects.

    It assumes nothing of the mechanism's shape, and neither of the canaries' interplay. Its price
    is that on independent Gaussian canaries it stays far below the truth.

    Args:
        canaries: all coins thrown.
        guesses: how many were guessed, fixed in advance.
        correct: how many guesses were right.
        delta: in [0, 1).
        confidence: of the bound, in (0, 1).

    Returns:
        The bound; its ceiling is that of as many guesses, all right.

    Raises:
        ValueError: when a value is out of range.
    """
    _check(canaries, guesses, correct)
    check_delta(delta)
    error = check_confidence(confidence)

    def bound(right: int) -> float:
        return _last_rejected(
            lambda epsilon: one_run_p_value(canaries, guesses, right, epsilon, delta) < error
        )

    return Bound(bound(correct), bound(guesses), delta, confidence)


def fdp_epsilon(
    canaries: int, guesses: int, correct: int, delta: float, confidence: float = 0.95
) -> Bound:
    """The one-run bound for a mechanism with a Gaussian's trade-off curve.

    The recursion of Mahloujifar, Melis and Chaudhuri 2024 (arXiv:2410.22235) bounds the chance of
    v or more correct guesses by the whole trade-off curve instead of one point of it. The largest
    rejected μ gives ε(μ, δ).

    It is valid only if the mechanism is μ-GDP with ε(μ, δ) its ε at this δ, as for full-batch
    DP-SGD. For a sampled mechanism it may overstate ε.

    Args:
        canaries: all coins thrown.
        guesses: how many were guessed, fixed in advance.
        correct: how many guesses were right.
        delta: in (0, 1).
        confidence: of the bound, in (0, 1).

    Returns:
        The bound, with its μ; its ceiling is that of as many guesses, all right.

    Raises:
        ValueError: when a value is out of range.
    """
    _check(canaries, guesses, correct)
    check_delta(delta, positive=True)
    error = check_confidence(confidence)

    def bound(right: int) -> float:
        return _last_rejected(lambda mu: rejects_mu(canaries, guesses, right, mu, error))

    mu, best = bound(correct), bound(guesses)
    epsilon, ceiling = gaussian_epsilon(mu, delta), gaussian_epsilon(best, delta)
    return Bound(epsilon, ceiling, delta, confidence, mu)


def rejects_mu(canaries: int, guesses: int, correct: int, mu: float, error: float) -> bool:
    """Whether so many correct guesses are too many for a μ-GDP mechanism.

    With m canaries, r guesses, v correct: suppose that v or more are correct with probability
    ``error``. Then one canary's guess is right (wrong) on that event with probability at least
    error v / m (error (r - v) / m); for a count lowered one by one, i = v - 1 .. 0, the curve links
    the two:

        wrong' = max(wrong, Φ(Φ⁻¹(right) - μ)),  right += i / (r - i) (wrong' - wrong)

    A total above r / m, the chance that a canary is guessed at all, is a contradiction.
    """
    if correct == 0:
        return False
    right, wrong = error * correct / canaries, error * (guesses - correct) / canaries
    most = guesses / canaries
    for i in range(correct - 1, -1, -1):
        if right + wrong > most:
            return True
        linked = float(ndtr(ndtri(right) - mu))
        if linked <= wrong:
            return False  # neither changes any more
        right += i / (guesses - i) * (linked - wrong)
        wrong = linked
    return right + wrong > most


def _last_rejected(rejected: Callable[[float], bool]) -> float:
    """The end of the rejected values, from below: the value returned is itself rejected, or 0."""
    if not rejected(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while rejected(high):
        low, high = high, 2.0 * high
        if low > _LARGEST:
            return low
    while high - low > 1e-9:
        middle = 0.5 * (low + high)
        if rejected(middle):
            low = middle
        else:
            high = middle
    return low


def _check(canaries: int, guesses: int, correct: int) -> None:
    check_counts(canaries=canaries, guesses=guesses, correct=correct)
    if not correct <= guesses <= canaries:
        raise ValueError(
            "correct must be at most guesses, and guesses at most canaries, got "
            f"{correct}, {guesses}, {canaries}"
        )
