"""The kinds of messages of a run, for a table: docs/reference/messages.md, in fewer words."""

from __future__ import annotations

from privfin.config import RunConfig
from privfin.federation.statement import readable_segments
from privfin.reporting.blocks_exchange import WireMessage
from privfin.reporting.evidence import Evidence

_SIGNED = "Ed25519 signature of the site"


def wire_messages(evidence: Evidence) -> tuple[WireMessage, ...]:
    """Every kind of message that passes the coordinator with this run's configuration."""
    config = evidence.config
    is_encrypted = config.crypto.encryption != "none"
    found = [_declaration()]
    if is_encrypted:
        found.append(_key())
    narrow = readable_segments(evidence.plan, evidence.run.sites_left())
    found += [_update(config), _sum(config, bool(narrow)), _acknowledgement()]
    if config.evaluation.secure:
        found += _metrics(config)
    if any(event["event"] == "ledger-head" for event in evidence.events):
        found.append(_ledger_head())
    return tuple(found)


def _declaration() -> WireMessage:
    return WireMessage(
        what="declaration: a site's name, modalities and number of training patients",
        sender="each site",
        receiver="all",
        protection="none: public, noise and sampling rate depend on it",
        readable_by="everybody who has the run's files",
    )


def _key() -> WireMessage:
    return WireMessage(
        what="key: the public encryption key, and a sealed box with the secret key for each site",
        sender="the first site",
        receiver="coordinator, who passes each box on",
        protection=f"boxes: X25519 and ChaCha20-Poly1305; {_SIGNED}",
        readable_by="the public key by everybody, each box by one site",
    )


def _protection(config: RunConfig) -> str:
    return {
        "bfv": f"BFV encryption, pairwise masks; {_SIGNED}",
        "ckks": f"CKKS encryption, no masks; {_SIGNED}",
        "none": f"no encryption; {_SIGNED}",
    }[config.crypto.encryption]


def _readers(config: RunConfig) -> str:
    return {
        "bfv": "nobody; not even coordinator and site together, while another site holds out",
        "ckks": "the coordinator together with any site",
        "none": "the coordinator",
    }[config.crypto.encryption]


def _update(config: RunConfig) -> WireMessage:
    what = (
        "update: one joint step's clipped gradients as integers, with a share of the noise"
        if config.privacy.trust == "shared"
        else "update: what a round's steps changed in the model"
        + (", clipped and with noise" if config.privacy.is_private else ", without noise")
    )
    return WireMessage(
        what=what,
        sender="each site",
        receiver="coordinator",
        protection=_protection(config),
        readable_by=_readers(config),
    )


def _sum(config: RunConfig, is_narrow: bool) -> WireMessage:
    """``is_narrow``: whether one or two sites train a part, so that its sum hides nobody."""
    is_open = config.crypto.encryption == "none"
    readers = "all sites and the coordinator" if is_open else "all sites"
    return WireMessage(
        what="sum of the updates of all sites of a round",
        sender="coordinator",
        receiver="each site",
        protection="none: a site cannot check it"
        if is_open
        else "still encrypted; tags in it bind it to round, attempt, sites and place",
        readable_by=f"{readers}; parts that one or two sites train show single updates"
        if is_narrow
        else readers,
    )


def _acknowledgement() -> WireMessage:
    return WireMessage(
        what="acknowledgements without content, and which round, attempt and piece is meant",
        sender="each site",
        receiver="coordinator",
        protection=_SIGNED,
        readable_by="the coordinator",
    )


def _metrics(config: RunConfig) -> list[WireMessage]:
    protection, readers = _protection(config), _readers(config)
    return [
        WireMessage(
            what="metric-owners: for which cells and labels a site has held-out patients",
            sender="each site",
            receiver="coordinator",
            protection=protection,
            readable_by=f"{readers}; the sum by all sites",
        ),
        WireMessage(
            what="metrics: counts of held-out patients and records by score, without noise; zeros "
            "where fewer than three sites have any",
            sender="each site",
            receiver="coordinator",
            protection=protection,
            readable_by=f"{readers}; the sum by all sites",
        ),
    ]


def _ledger_head() -> WireMessage:
    return WireMessage(
        what="in each message: number, hash and signature of the last row of the site's ledger",
        sender="each site",
        receiver="coordinator, who keeps it",
        protection="signatures of the ledger and of the site",
        readable_by="everybody who has the run's files",
    )
