"""What an audit is asked to do, and what its suites do unless told otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from privfin.auditing.risk import Rule

Suite = Literal["quick", "full"]
Observer = Literal["all", "outsider", "site", "coordinator"]

#: What a suite does unless told otherwise.
QUICK_ATTACKS = ("loss", "modified-entropy", "calibrated-loss", "lira", "rmia")
FULL_ATTACKS = (
    *("loss", "entropy", "modified-entropy"),
    *("calibrated-loss", "lira", "lira-online", "lira-covariance"),
    *("rmia", "rmia-online", "stacked", "lira-modalities"),
)
SHADOWS = {"quick": 16, "full": 64}


@dataclass(frozen=True)
class AuditOptions:
    """What to do.

    Attributes:
        suite: ``quick`` takes the outsider's and the site's view with few shadow models; ``full``
            adds the coordinator's view, canaries, attributes and gradient inversion.
        attacks: of :data:`privfin.auditing.membership.ATTACKS`.
        shadows: number of shadow models; 0 leaves out the attacks that need them.
        observer: whose view, or all.
        confidence: of every interval, and of all bounds together, in (0.5, 1).
        rules: of ``--fail-on``.
    """

    suite: Suite
    attacks: tuple[str, ...]
    shadows: int
    observer: Observer = "all"
    confidence: float = 0.95
    rules: tuple[Rule, ...] = ()

    def looks_as(self, observer: str) -> bool:
        """Whether this observer's view is asked for."""
        return self.observer in ("all", observer)
