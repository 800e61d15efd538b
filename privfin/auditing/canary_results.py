"""What a canary audit found: figures alone, nothing of a canary and nothing of a patient."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from attacks.attempt import Attempt
from attacks.auc import auc
from attacks.bounds import Bound


@dataclass(frozen=True)
class CanaryResult:
    """One test of one training run.

    Attributes:
        kind: of canary, or ``all kinds``, or ``gradient``.
        level: what one coin decides about: ``record``, ``patient`` or ``site``.
        observer: ``outsider`` (black box: the final model) or ``training`` (white box: every noisy
            step).
        canaries: coins thrown.
        inside: how many came up "in".
        bound: the lower bound on epsilon with its ceiling; None where none is stated.
        claim: the epsilon that the run claims at ``bound.delta``; infinite where it claims none.
        claimed_mu: 1 / noise multiplier, the claim about one step; None for the black box.
        contradiction: the bound is above the claim: the claim, or the code, is wrong.
        note: what the figures rest on, or why there are none.
        attempt: scores beside coins, for AUC and curves; None where nothing was scored.
        confidence: of every limit.
    """

    kind: str
    level: str
    observer: str
    canaries: int
    inside: int
    bound: Bound | None
    claim: float
    claimed_mu: float | None
    contradiction: bool
    note: str
    confidence: float
    attempt: Attempt | None = field(repr=False, default=None)

    def to_dict(self) -> dict[str, Any]:
        """For ``audit.json``: no score of any single canary."""
        area = None
        if self.attempt is not None and 0 < self.attempt.members.sum() < self.attempt.members.size:
            found = auc(self.attempt.scores, self.attempt.members, confidence=self.confidence)
            area = {"area": found.area, "low": found.low, "high": found.high}
        bound = self.bound
        return {
            "kind": self.kind,
            "level": self.level,
            "observer": self.observer,
            "canaries": self.canaries,
            "inside": self.inside,
            "epsilon_bound": None if bound is None else bound.epsilon,
            "ceiling": None if bound is None else bound.ceiling,
            "delta": None if bound is None else bound.delta,
            "confidence": self.confidence,
            "mu_bound": None if bound is None else bound.mu,
            "claim": self.claim,
            "claimed_mu": self.claimed_mu,
            "contradiction": self.contradiction,
            "could_contradict": bound is not None and self.claim < bound.ceiling < math.inf,
            "auc": area,
            "note": self.note,
        }
