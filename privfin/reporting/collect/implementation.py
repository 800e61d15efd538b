"""The implementation: versions, and what is known to be imperfect in it."""

from __future__ import annotations

from privfin.federation.statement import SIDE_CHANNELS
from privfin.reporting.blocks_exchange import Component, Implementation
from privfin.reporting.collect.reading import MANIFEST, PRIVACY
from privfin.reporting.evidence import Evidence
from privfin.reporting.facts import Fact, derived, measured, not_assessed


def implementation_block(evidence: Evidence) -> Implementation:
    """The code that made the run, as its files record it."""
    versions = evidence.manifest["versions"]
    return Implementation(
        components=measured(
            tuple(Component(name=name, version=str(one)) for name, one in versions.items()),
            f"{MANIFEST}: versions",
            "versions when the run was started",
        ),
        code_revision=_revision(evidence),
        floating_point=_floating_point(evidence),
        side_channels=_side_channels(evidence),
        parameters=derived(
            sum(int(one["parameters"]) for one in evidence.privacy["segments"]),
            f"{PRIVACY}: segments",
            "trained ones; frozen encoders are not counted",
        ),
    )


def _revision(evidence: Evidence) -> Fact[str]:
    found = str(evidence.manifest["code_revision"])
    if found.startswith("unknown"):
        return not_assessed(f"the code's revision is {found}", MANIFEST)
    return measured(found, f"{MANIFEST}: code_revision")


def _floating_point(evidence: Evidence) -> Fact[str]:
    source = f"{PRIVACY}: assumptions"
    for one in evidence.privacy["assumptions"]:
        if one["id"] == "real-numbers":
            return measured(f"{one['text']} ({one['status']}: {one['by']})", source)
    return not_assessed(f"{PRIVACY} does not say what rounding does", source)


def _side_channels(evidence: Evidence) -> Fact[tuple[str, ...]]:
    stated = evidence.privacy
    found = [text for text in stated["not_covered"] if text == SIDE_CHANNELS]
    if not found:
        return not_assessed(f"{PRIVACY} names no side channels", f"{PRIVACY}: not_covered")
    if stated["encryption"]["weaker"]:
        found.append(str(stated["encryption"]["weaker"]))
    return measured(tuple(found), f"{PRIVACY}: not_covered and encryption")
