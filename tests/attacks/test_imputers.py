"""Attacks on imputers: a memorised pair is found, nothing is found in nothing, closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from attacks.attempt import Attempt
from attacks.auc import auc
from attacks.imputers import canary_bound, echoes, error_attempts, error_signal

RECORDS, MODELS, WIDTH = 400, 17, 6


def signals(memory: float) -> tuple[np.ndarray, np.ndarray]:
    """(models, records, 2) signals of imputers that move ``memory`` of the way for members."""
    rng = np.random.default_rng(0)
    coins = rng.random((MODELS, RECORDS)) < 0.5
    real = rng.normal(size=(MODELS, 2, RECORDS, WIDTH))
    guess = rng.normal(size=real.shape)
    share = memory * coins[:, np.newaxis, :, np.newaxis]
    found = error_signal(share * real + (1 - share) * guess, real)
    return np.moveaxis(found, 1, -1), coins


def test_a_memorised_pair_is_found_and_none_in_nothing() -> None:
    for memory in (0.7, 0.0):
        found, coins = signals(memory)
        attempts = error_attempts(
            found[0], np.arange(RECORDS), coins[0], shadows=found[1:], inside=coins[1:]
        )
        assert [a.attack for a in attempts] == ["imputer-error", "imputer-error-lira"]
        for attempt in attempts:
            assert attempt.stratum == "both"
            area = auc(attempt.scores, attempt.members).area
            # Standard error at chance 0.029.
            assert area > 0.9 if memory else abs(area - 0.5) < 5 * 0.029


def test_closed_forms() -> None:
    assert error_signal([[3.0, 4.0]], [[0.0, 0.0]])[0] == -np.log(25.0)
    assert np.isfinite(error_signal([[1.0]], [[1.0]])).all()
    rng = np.random.default_rng(0)
    imputed, canaries = rng.normal(size=(9, 4)), rng.normal(size=(5, 4))
    cosines = np.sort(cosine_similarity(canaries, imputed), axis=1)
    assert np.allclose(echoes(imputed, canaries), cosines[:, -1])
    assert np.allclose(echoes(imputed, canaries, 3), cosines[:, -3:].mean(axis=1))
    assert echoes(np.zeros((2, 3)), np.ones((1, 3))).tolist() == [0.0]


def test_echoes_give_a_bound_only_where_there_are_any() -> None:
    rng = np.random.default_rng(1)
    canaries, coins = rng.normal(size=(200, 16)), rng.random(200) < 0.5
    imputed = rng.normal(size=(100, 16))
    quiet = Attempt("c", "outsider", "both", echoes(imputed, canaries), coins)
    assert canary_bound(quiet, delta=1e-5, confidence=1 - 1e-6).epsilon == 0.0
    imputed = np.concatenate([imputed, canaries[coins] + 0.1 * rng.normal(size=(coins.sum(), 16))])
    loud = Attempt("c", "outsider", "both", echoes(imputed, canaries), coins)
    found = canary_bound(loud, delta=1e-5)
    assert 1.0 < found.epsilon <= found.ceiling
    with pytest.raises(ValueError, match="at least 5"):
        canary_bound(Attempt("c", "o", "s", np.zeros(2), np.array([0, 1])), delta=0.0)
