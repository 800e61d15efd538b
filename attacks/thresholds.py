"""From scores to a bound on ε: how the threshold is chosen, and what the choice costs.

The maximum of a bound over thresholds that were tried on the same scores is no bound. Three choices
are:

- ``fixed``: one threshold (or number of guesses), from somewhere else than these scores.
- ``bonferroni``: the best of several, each at a smaller error, so that all hold together.
- ``split``: chosen on one random half of the scores, tested on the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from attacks.gaussian import gaussian_epsilon
from attacks.limits import (
    BoolArray,
    Bound,
    FloatArray,
    IntArray,
    check_confidence,
    check_delta,
    check_scores,
)
from attacks.one_run import fdp_epsilon, one_run_epsilon
from attacks.two_rates import gdp_mus, two_rate_epsilons

Choice = Literal["fixed", "bonferroni", "split"]


def score_bound(
    scores: npt.ArrayLike,
    members: npt.ArrayLike,
    *,
    route: Literal["two_rate", "gdp"],
    choice: Choice,
    delta: float,
    confidence: float = 0.95,
    thresholds: Sequence[float] | None = None,
    seed: int = 0,
) -> Bound:
    """``two_rate_epsilon`` or ``gdp_epsilon`` of scores, with the threshold's choice paid for.

    A record is called a member if its score is at least the threshold.

    - ``fixed`` needs exactly one threshold.
    - ``bonferroni`` with k thresholds, chosen elsewhere, uses 2 k limits and gives each 1 / (2 k)
      of the error. Without thresholds it searches every score: as the thresholds with at most k
      false positives share one limit of their rate (the limit fails for any of them only if it
      fails at the one threshold whose rate equals it), one limit for each count that is not
      trivial, n in all for n records, covers every threshold there is.
    - ``split`` takes the threshold that is best on one half of the members and of the non-members,
      drawn with ``seed``, and tests it on the other. It needs no thresholds.

    Assumptions: those of the route, in ``attacks.two_rates``.

    Args:
        scores: (n,) finite; higher means more likely a member.
        members: (n,) of False and True, or 0 and 1.
        route: which bound.
        choice: how the threshold is chosen.
        delta: in [0, 1); above 0 for ``gdp``.
        confidence: of the bound, in (0, 1).
        thresholds: as ``choice`` needs.
        seed: of the split.

    Returns:
        The bound. Its ceiling is that of this choice without any error.

    Raises:
        ValueError: when a value is out of range or does not fit ``choice``.
    """
    found, labels = check_scores(scores, members)
    check_delta(delta, positive=route == "gdp")
    error = check_confidence(confidence)
    given = None if thresholds is None else np.asarray(thresholds, dtype=np.float64)
    if given is not None and (given.ndim != 1 or np.isnan(given).any()):
        raise ValueError("thresholds must be a list of numbers")
    # In order of score, so that the split does not depend on the order of the rows.
    inside, outside = np.sort(found[labels]), np.sort(found[~labels])
    if choice == "fixed":
        if given is None or given.size != 1:
            raise ValueError("choice 'fixed' needs exactly one threshold")
        limit_error = error / 2
    elif choice == "bonferroni":
        if given is not None and given.size == 0:
            raise ValueError("choice 'bonferroni' needs at least one threshold, or none given")
        limit_error = error / max(2, found.size) if given is None else error / (2 * given.size)
        given = np.unique(found) if given is None else given
    elif choice == "split":
        if given is not None:
            raise ValueError("choice 'split' finds its own threshold")
        rng, limit_error = np.random.default_rng(seed), error / 2
        (known, inside), (unknown, outside) = _halves(inside, rng), _halves(outside, rng)
        given = _best_threshold(known, unknown, route, delta, limit_error)
    else:
        raise ValueError(f"choice must be fixed, bonferroni or split, got {choice!r}")
    values = _values(inside, outside, given, route, delta, limit_error)
    # The best is searched among thresholds whose limits all hold together.
    best, most = float(values[:-1].max(initial=0.0)), float(values[-1])
    if route == "two_rate":
        return Bound(best, most, delta, confidence)
    epsilon, ceiling = gaussian_epsilon(best, delta), gaussian_epsilon(most, delta)
    return Bound(epsilon, ceiling, delta, confidence, best)


def guess_bound(
    scores: npt.ArrayLike,
    members: npt.ArrayLike,
    *,
    route: Literal["one_run", "fdp"],
    choice: Choice,
    guesses: Sequence[tuple[int, int]],
    delta: float,
    confidence: float = 0.95,
    seed: int = 0,
) -> Bound:
    """``one_run_epsilon`` or ``fdp_epsilon`` of scores: the highest are guessed in, the lowest out.

    - ``fixed`` needs one pair of numbers of guesses.
    - ``bonferroni`` takes the best of k pairs, each at 1 / k of the error.
    - ``split`` takes the pair with most right guesses on a random half of the rows and tests it on
      the other half. Pairs must add up to one total: with δ > 0 the bounds hold for a number of
      guesses that does not depend on the run. All canaries still count as coins thrown. The halves
      are drawn by row, so that, alone among the choices, this one depends on the order of the rows,
      which must not depend on the coins.

    A block of ties that a cut would divide is not guessed, and its guesses count as wrong: whatever
    way it were divided, at least as many would be right.

    Args:
        scores: (m,) finite; one for each canary, higher means more likely in.
        members: (m,) whose coins came up "in", each thrown on its own.
        route: which bound.
        choice: how the number of guesses is chosen.
        guesses: pairs (how many in, how many out), together at most m, or m / 2 for ``split``.
        delta: in [0, 1); above 0 for ``fdp``.
        confidence: of the bound, in (0, 1).
        seed: of the split.

    Returns:
        The bound. Its ceiling is the largest of the pairs', all guesses being right.

    Raises:
        ValueError: when a value is out of range or does not fit ``choice``.
    """
    found, labels = check_scores(scores, members)
    error = check_confidence(confidence)
    if choice not in ("fixed", "bonferroni", "split"):
        raise ValueError(f"choice must be fixed, bonferroni or split, got {choice!r}")
    if not guesses or (choice == "fixed" and len(guesses) != 1):
        wanted = "exactly one pair" if choice == "fixed" else "at least one pair"
        raise ValueError(f"choice {choice!r} needs {wanted} of guesses")
    bound = {"one_run": one_run_epsilon, "fdp": fdp_epsilon}.get(route)
    if bound is None:
        raise ValueError(f"route must be one_run or fdp, got {route!r}")
    canaries, tried = found.size, list(guesses)
    fits = canaries // 2 if choice == "split" else canaries
    for count_in, count_out in tried:
        if min(count_in, count_out) < 0 or count_in + count_out > fits:
            raise ValueError(f"{count_in} + {count_out} guesses do not fit {fits} canaries")
    if choice == "split":
        if len({sum(pair) for pair in tried}) > 1:
            raise ValueError("choice 'split' needs pairs of guesses of one total")
        order = np.random.default_rng(seed).permutation(canaries)
        first, second = order[: canaries // 2], order[canaries // 2 :]
        right = [correct_guesses(found[first], labels[first], *pair) for pair in tried]
        tried = [tried[int(np.argmax(right))]]
        found, labels = found[second], labels[second]
    each = 1.0 - error / len(tried)
    results = []
    for count_in, count_out in tried:
        right_now = correct_guesses(found, labels, count_in, count_out)
        results.append(bound(canaries, count_in + count_out, right_now, delta, each))
    best = max(results, key=lambda result: result.epsilon)
    ceiling = max(result.ceiling for result in results)
    return Bound(best.epsilon, ceiling, delta, confidence, best.mu)


def correct_guesses(scores: FloatArray, members: BoolArray, count_in: int, count_out: int) -> int:
    """How many of the guesses are right, those in a divided block of ties being wrong."""
    return _right_above(scores, members, count_in) + _right_above(-scores, ~members, count_out)


def _right_above(scores: FloatArray, right: BoolArray, count: int) -> int:
    if count == 0:
        return 0
    falling = np.sort(scores)[::-1]
    lowest = falling[count - 1]
    divided = count < scores.size and falling[count] == lowest
    called = scores > lowest if divided else scores >= lowest
    return int(np.sum(right & called))


def _halves(ordered: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    order = rng.permutation(ordered.size)
    return ordered[order[: ordered.size // 2]], ordered[order[ordered.size // 2 :]]


def _counts(
    inside: FloatArray, outside: FloatArray, thresholds: FloatArray
) -> tuple[IntArray, IntArray]:
    """Missed members and false alarms at each threshold."""
    fn = np.searchsorted(np.sort(inside), thresholds, side="left")
    fp = outside.size - np.searchsorted(np.sort(outside), thresholds, side="left")
    return fn, fp


def _values(
    inside: FloatArray,
    outside: FloatArray,
    thresholds: FloatArray,
    route: str,
    delta: float,
    limit_error: float,
) -> FloatArray:
    """(k + 1,) ε, or μ, at each threshold; the last is that of a test without error."""
    fn, fp = (np.append(counts, 0) for counts in _counts(inside, outside, thresholds))
    if route == "two_rate":
        return two_rate_epsilons(fn, inside.size, fp, outside.size, delta, limit_error)
    if route == "gdp":
        return gdp_mus(fn, inside.size, fp, outside.size, limit_error)
    raise ValueError(f"route must be two_rate or gdp, got {route!r}")


def _best_threshold(
    inside: FloatArray, outside: FloatArray, route: str, delta: float, limit_error: float
) -> FloatArray:
    """(1,) the threshold of the largest value; among equals, the one that tells most apart."""
    tried = np.unique(np.concatenate((inside, outside)))
    if tried.size == 0:
        return np.array([np.inf])
    values = _values(inside, outside, tried, route, delta, limit_error)[:-1]
    fn, fp = _counts(inside, outside, tried)
    apart = -fn / max(1, inside.size) - fp / max(1, outside.size)
    return tried[np.lexsort((apart, values))[-1:]]
