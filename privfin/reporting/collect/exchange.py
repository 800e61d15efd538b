"""The exchange: what left the sites, how it was protected, and who can read what."""

from __future__ import annotations

from privfin.federation.statement import readable_segments
from privfin.reporting.blocks_exchange import Exchange
from privfin.reporting.collect.guarantee import is_private
from privfin.reporting.collect.messages import wire_messages
from privfin.reporting.collect.reading import AUDIT, EVENTS, MANIFEST, PRIVACY, number
from privfin.reporting.evidence import Evidence
from privfin.reporting.facts import Fact, derived, measured, not_applicable, not_assessed


def exchange_block(evidence: Evidence) -> Exchange:
    """What left the sites."""
    readable = tuple(readable_segments(evidence.plan, evidence.run.sites_left()))
    return Exchange(
        encryption=measured(_encryption(evidence), f"{PRIVACY}: encryption"),
        kind=measured(evidence.config.crypto.encryption, f"{MANIFEST}: configuration"),
        single_updates=derived(_single_updates(evidence, readable), f"{MANIFEST} and {EVENTS}"),
        readable_segments=derived(
            readable,
            f"{MANIFEST}: plan, and the sites that left in {EVENTS}",
            "another site can read single updates of them off the sum",
        ),
        log2_failure=_log2_failure(evidence),
        messages=derived(wire_messages(evidence), "docs/reference/messages.md and configuration"),
        bytes_up=_traffic(evidence, "up"),
        bytes_down=_traffic(evidence, "down"),
        sizes_tell_sites_apart=_sizes(evidence),
    )


def _encryption(evidence: Evidence) -> str:
    stated = evidence.privacy["encryption"]
    parts = [str(stated["scheme"])]
    if stated.get("layout"):
        parts.append(f"layout {stated['layout']}")
    if stated.get("value_bits"):
        parts.append(f"{stated['value_bits']} bits a value")
    if stated.get("weaker"):
        parts.append(str(stated["weaker"]))
    return "; ".join(parts)


def _single_updates(evidence: Evidence, readable: tuple[str, ...]) -> str:
    config = evidence.config
    noise = "its site's full noise" if is_private(evidence) else "no noise that protects"
    if config.crypto.encryption == "none":
        return (
            "the coordinator can read every site's update, because encryption is off; each has "
            f"{noise}"
        )
    if config.crypto.encryption == "ckks":
        found = (
            "nobody alone, but the coordinator together with any one site can read every "
            "update: ckks has no masks"
        )
    elif config.privacy.trust == "shared":
        found = (
            "nobody alone, nor the coordinator together with sites, unless all other sites join "
            "it; a single site's contribution has only its share of the noise, so the guarantee "
            "rests on encryption and masks too"
        )
    else:
        found = (
            "nobody alone, nor the coordinator together with sites, unless all other sites join "
            "it: pairwise masks"
        )
    if readable:
        found += (
            f"; except for {', '.join(readable)}: only one or two sites train each, so another "
            f"site can read single updates of them off the sum; each has {noise}"
        )
    return found


def _log2_failure(evidence: Evidence) -> Fact[float]:
    stated = evidence.privacy["encryption"]["log2_decryption_failure_below"]
    if stated is not None:
        return measured(
            number(stated),
            f"{PRIVACY}: encryption",
            "over the whole run, less than this; a plan that could fail more often is refused",
        )
    if evidence.config.crypto.encryption == "none":
        return not_applicable("nothing is encrypted", MANIFEST)
    return not_applicable("ckks sums are approximate; there is no bound of this kind", MANIFEST)


def _traffic(evidence: Evidence, way: str) -> Fact[int]:
    """Bytes of all processes that went on with the run; each counts from 0."""
    done = current = 0
    for event in evidence.events:
        if event["event"] == "resumed":
            done, current = done + current, 0
        elif event["event"] == "round-finished":
            current = int(event[way])
        elif event["event"] == "metrics-finished":
            done += int(event[way])
    note = "the sites' last acknowledgements" if way == "up" else "names and numbers of tasks"
    return measured(
        done + current,
        EVENTS,
        f"without {note}, and without rounds that a stopped process did not finish",
    )


def _sizes(evidence: Evidence) -> Fact[bool]:
    if evidence.audit is None:
        return not_assessed("the run was not audited", AUDIT)
    kind = evidence.config.crypto.encryption
    view = evidence.audit.get("views", {}).get(f"coordinator, encryption {kind}")
    if view is None:
        return not_assessed("the audit did not look at the coordinator's view", AUDIT)
    return measured(bool(view["sizes_tell_sites_apart"]), f"{AUDIT}: views")
