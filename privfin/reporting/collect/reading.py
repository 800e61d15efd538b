"""What several blocks read from a run's files."""

from __future__ import annotations

import math

from privfin.federation.statement import steps_taken
from privfin.reporting.evidence import Evidence

MANIFEST = "manifest.json"
PRIVACY = "privacy.json"
EVENTS = "events.jsonl"
METRICS = "metrics.json"
AUDIT = "audit.json"


def number(value: object) -> float:
    """A number as the run's files hold it; infinity is the text ``inf``.

    Raises:
        ValueError, TypeError: it is no number.
    """
    if value == "inf":
        return math.inf
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def counted_steps(evidence: Evidence) -> dict[str, int]:
    """By site, the steps that count: of every round and fine-tuning that ``events.jsonl`` says was
    started, finished or not."""
    run = evidence.run
    return steps_taken(evidence.plan, run.spent_rounds(), run.fine_tunings())


def rounded_up(value: float, digits: int = 4) -> str:
    """A number for reading, never below the true one; ``inf`` stays that."""
    if not math.isfinite(value):
        return "inf"
    scale = 10**digits
    return f"{math.ceil(value * scale - 1e-9) / scale:.{digits}f}".rstrip("0").rstrip(".")


def percent_up(share: float) -> str:
    """A share in percent with one decimal, never below the true one."""
    return f"{rounded_up(100.0 * share, 1)} %"
