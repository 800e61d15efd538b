"""What an audit found, as it is written to ``audit.json``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from attacks.guards import BlindResult
from attacks.measure import Measured
from privfin.auditing.canary_results import CanaryResult

FORMAT = 1


@dataclass(frozen=True)
class Claim:
    """What a run claims against an observer; epsilon is infinite where it claims nothing."""

    epsilon: float
    delta: float


@dataclass(frozen=True)
class AuditReport:
    """An audit of one run.

    Attributes:
        run_id: of the run.
        suite: ``quick`` or ``full``.
        confidence: of every interval and bound.
        shadows: number of shadow models.
        claims: by observer, as attacks name them.
        blind: how well a classifier without the model does: the guard that let the audit go on.
        measured: the membership attacks.
        canaries: canary tests.
        views: what was measured beside the attacks of a view, such as sizes of messages.
        attributes: attribute inference.
        inversion: gradient inversion.
        left_out: attacks that were not made, each with the reason.
        risks: rules of ``--fail-on`` that were passed.
        model_sha256: of the file of the model that was attacked.
    """

    run_id: str
    suite: str
    confidence: float
    shadows: int
    claims: dict[str, Claim]
    blind: BlindResult
    measured: Sequence[Measured] = field(repr=False)
    canaries: Sequence[CanaryResult] = ()
    views: dict[str, Any] = field(default_factory=dict)
    attributes: Sequence[dict[str, Any]] = ()
    inversion: dict[str, Any] | None = None
    left_out: Sequence[str] = ()
    risks: Sequence[str] = ()
    model_sha256: str = ""

    def claim(self, observer: str) -> Claim:
        """The claim against whoever an attack calls so."""
        return self.claims[observer]

    @property
    def contradictions(self) -> list[str]:
        """A line for every bound above its claim.

        Bounds of several attacks are several tests; :func:`attacks.measure.measure` was told how
        many, so that all of them hold together with the audit's confidence.
        """
        found = []
        for one in self.measured:
            at, claim = one.attempt, self.claim(one.attempt.observer)
            if one.bound is not None and one.bound.epsilon > claim.epsilon:
                found.append(
                    f"{at.attack} ({at.observer}) shows an epsilon of at least "
                    f"{one.bound.epsilon:.2f}, the claim is {claim.epsilon:.2f}"
                )
        found += [
            f"canaries ({c.kind}, {c.level}, {c.observer}) contradict the claim of {c.claim:.2f}"
            for c in self.canaries
            if c.contradiction
        ]
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values; nothing of any single patient."""
        return {
            "format": FORMAT,
            "run_id": self.run_id,
            "model_sha256": self.model_sha256,
            "suite": self.suite,
            "confidence": self.confidence,
            "shadows": self.shadows,
            "noise": "none: computed on training and held-out patients; not covered by "
            "differential privacy",
            "claims": {
                name: {"epsilon": c.epsilon, "delta": c.delta} for name, c in self.claims.items()
            },
            "blind_classifier": {
                "auc": self.blind.value,
                "low": self.blind.low,
                "classifier": self.blind.classifier,
            },
            "attacks": [
                {**one.to_dict(), "claim": self.claim(one.attempt.observer).epsilon}
                for one in self.measured
            ],
            "canaries": [c.to_dict() for c in self.canaries],
            "views": self.views,
            "attributes": list(self.attributes),
            "inversion": self.inversion,
            "left_out": list(self.left_out),
            "contradictions": self.contradictions,
            "risks": list(self.risks),
            "verdict": self.verdict,
        }

    @property
    def verdict(self) -> str:
        """``contradiction``, ``risk`` or ``none found``; never that a run is safe."""
        if self.contradictions:
            return "contradiction"
        return "risk" if self.risks else "none found"


def claims_of(privacy: dict[str, Any]) -> dict[str, Claim]:
    """Claims by observer, from a run's privacy statement.

    A run that is not private claims nothing.
    """
    private = privacy["claim"] == "dp"
    stated = {
        "outsider": "outsider",
        "site": "another site",
        "coordinator": "coordinator",
        # What would be seen without encryption is covered by the noise of every single site only.
        "coordinator, no encryption": "coordinator with a site",
    }
    # A single update of shared noise has one share of it: only the sum is claimed anything of.
    unclaimed = {"coordinator, no encryption"} if privacy["trust"].startswith("shared") else set()
    found = {}
    for name, said in stated.items():
        block = privacy["observers"].get(said) or privacy["observers"]["another site"]
        epsilon = float(block["epsilon"]) if private and name not in unclaimed else math.inf
        found[name] = Claim(epsilon, float(block["delta"]))
    return found
