"""Security: transport, keys and messages, and who could attack with what.

The rows follow ``docs/explanation/threat-model.md``. What a row calls protection is enforced by
code; what is left to people is an answer of theirs, or open.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from privfin.federation.statement import readable_segments
from privfin.reporting.answers.answers import Answers
from privfin.reporting.blocks_exchange import Security, Threat
from privfin.reporting.collect.guarantee import is_private
from privfin.reporting.collect.reading import MANIFEST, PRIVACY, number, percent_up
from privfin.reporting.evidence import Evidence
from privfin.reporting.facts import Fact, derived, not_applicable

_CODE = "privfin's code"


def security_block(evidence: Evidence, answers: Answers) -> Security:
    """How keys, wires and files are protected, and what that leaves."""
    return Security(
        transport=derived(
            "one process on one machine: a simulated federation, whose sites are kept apart by "
            "code only; no message crossed a network",
            f"{_CODE}: the only transport there is",
        ),
        keys=_keys(evidence),
        authentication=derived(_authentication(evidence), f"{_CODE} and {MANIFEST}"),
        raw_data=answers.text("security.raw_data"),
        retention=answers.text("security.retention"),
        threats=derived(_threats(evidence), f"{PRIVACY}, {MANIFEST} and {_CODE}"),
    )


def _keys(evidence: Evidence) -> Fact[str]:
    kind = evidence.config.crypto.encryption
    if kind == "none":
        return not_applicable("updates are not encrypted", f"{MANIFEST}: configuration")
    return derived(
        "made for this run by the first site and sealed for each other site (X25519, "
        "ChaCha20-Poly1305); every site has the same decryption key, the coordinator has the "
        "public one only; none is written to a file",
        f"{_CODE} and {MANIFEST}",
    )


def _authentication(evidence: Evidence) -> str:
    found = (
        "every message of a site has an Ed25519 signature over run, configuration, list of sites, "
        "round, attempt and content"
    )
    if evidence.config.crypto.encryption == "none":
        return f"{found}; what the coordinator sends has none, so sites cannot check the sum"
    return (
        f"{found}; what the coordinator sends has none: tags inside the ciphertexts bind the sum "
        "to round, attempt, sites and place"
    )


def _threats(evidence: Evidence) -> tuple[Threat, ...]:
    stated: Mapping[str, Mapping[str, Any]] = evidence.privacy["observers"]
    return (
        *(_observer(evidence, name, one) for name, one in stated.items()),
        _all_other_sites(evidence),
        _network(evidence),
        _dishonest_site(evidence),
        _dishonest_coordinator(evidence),
        _reader_of_files(evidence),
        *_ledger(evidence),
    )


def _readable(evidence: Evidence) -> list[str]:
    return readable_segments(evidence.plan, evidence.run.sites_left())


def _observer(evidence: Evidence, name: str, stated: Mapping[str, Any]) -> Threat:
    return Threat(
        attacker=name,
        has=str(stated["sees"]),
        protection=_protection(evidence, name),
        remains=_odds(evidence, stated),
    )


def _odds(evidence: Evidence, stated: Mapping[str, Any]) -> str:
    if not is_private(evidence):
        return "no bound: nothing is promised"
    return (
        "who starts at 50:50 about whether a patient took part is right at most "
        f"{percent_up(number(stated['best_accuracy']))} of the time"
    )


def _protection(evidence: Evidence, observer: str) -> str:
    kind = evidence.config.crypto.encryption
    has_noise = is_private(evidence)
    noise = "the noise of DP-SGD" if has_noise else "none against what the model tells"
    if observer == "outsider":
        return noise
    if observer == "another site":
        hides = "the sum hides single updates" if not _readable(evidence) else (
            "the sum hides single updates, except in parts that one or two sites train"
        )  # fmt: skip
        return f"{noise}; {hides}"
    if observer == "coordinator":
        return {
            "bfv": f"BFV encryption and masks; {noise}",
            "ckks": f"CKKS encryption; {noise}",
            "none": noise,
        }[kind]
    return {
        "bfv": f"pairwise masks; {noise}",
        "ckks": f"no masks; {noise}",
        "none": noise,
    }[kind]


def _all_other_sites(evidence: Evidence) -> Threat:
    shared = evidence.config.privacy.trust == "shared"
    if not is_private(evidence):
        protection, remains = "none", "no bound: nothing is promised"
    elif shared:
        protection = "the site's own share of the noise"
        remains = (
            "more than the guarantee allows: it holds for up to "
            f"{evidence.config.privacy.collusion} colluding sites"
        )
    else:
        protection = "the site's own noise, which nobody else knows"
        remains = "that site's updates with their noise; its epsilon holds all the same"
    return Threat(
        attacker="coordinator with all other sites",
        has="every key but one site's own, and every sum",
        protection=protection,
        remains=remains,
    )


def _network(evidence: Evidence) -> Threat:
    is_open = evidence.config.crypto.encryption == "none"
    return Threat(
        attacker="someone on the network",
        has="nothing in this run, which was one process; between machines every message",
        protection="signatures of the sites"
        + ("" if is_open else " and encryption of updates and sums"),
        remains=("updates and sums could be read; " if is_open else "")
        + "sizes and times; messages could be held back",
    )


def _dishonest_site(evidence: Evidence) -> Threat:
    shared = evidence.config.privacy.trust == "shared"
    return Threat(
        attacker="a site that deviates from the program",
        has="its own part of every sum",
        protection="none: nothing proves to others that a site trains as it should",
        remains="it can spoil the model"
        + (
            "; it can leave out its share of the noise, which the plan allows for "
            f"{evidence.config.privacy.collusion} sites"
            if shared
            else ""
        ),
    )


def _dishonest_coordinator(evidence: Evidence) -> Threat:
    is_open = evidence.config.crypto.encryption == "none"
    return Threat(
        attacker="a coordinator that deviates from the program",
        has="the public key and every message",
        protection="none: sites cannot check an open sum"
        if is_open
        else "a sum of another round, attempt or set of sites is refused",
        remains="it can stop the run and spoil the model",
    )


def _reader_of_files(evidence: Evidence) -> Threat:
    readable = _readable(evidence)
    tells = "exact counts and fingerprints of data, and figures on held-out patients without noise"
    if readable:
        tells += (
            f"; differences of checkpoints can show single (noisy) updates of {', '.join(readable)}"
        )
    return Threat(
        attacker="who gets the run directory",
        has="models of all rounds, events, metrics and statements",
        protection="keys, noise, single updates and patients' records are never written",
        remains=tells,
    )


def _ledger(evidence: Evidence) -> tuple[Threat, ...]:
    if evidence.manifest.get("ledger", {}).get("status") != "counted":
        return ()
    return (
        Threat(
            attacker="who can write to the ledger's files",
            has="every row, and the key that signs them",
            protection="chained and signed rows, and heads of the ledger in this run's files",
            remains="changes show against heads that others keep; whoever holds all of them too "
            "can change the past: tamper-evident, not tamper-proof",
        ),
    )
