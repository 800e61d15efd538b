"""Blocks of a report about what left the sites, the code, keys and files, and repeating a run."""

from __future__ import annotations

from typing import Literal

from privfin.reporting.facts import Fact, Strict


class WireMessage(Strict):
    """A kind of message: who sends it to whom, what it holds, and how it is protected."""

    what: str
    sender: str
    receiver: str
    protection: str
    readable_by: str


class Exchange(Strict):
    """What left the sites.

    Attributes:
        encryption: scheme with its parameters.
        kind: ``bfv``, ``ckks`` or ``none``.
        single_updates: who could read a single site's update, in words.
        readable_segments: segments whose sum shows single updates to other sites.
        log2_failure: of a decryption.
        messages: rows.
        bytes_up: from all sites in all rounds.
        bytes_down: to all sites in all rounds.
        sizes_tell_sites_apart: whether sizes of messages differ between sites, if audited.
    """

    encryption: Fact[str]
    kind: Fact[Literal["bfv", "ckks", "none"]]
    single_updates: Fact[str]
    readable_segments: Fact[tuple[str, ...]]
    log2_failure: Fact[float]
    messages: Fact[tuple[WireMessage, ...]]
    bytes_up: Fact[int]
    bytes_down: Fact[int]
    sizes_tell_sites_apart: Fact[bool]


class Component(Strict):
    """A package that the run used, as its manifest records it."""

    name: str
    version: str


class Implementation(Strict):
    """The code.

    Attributes:
        components: Python and the packages.
        code_revision: of privfin.
        floating_point: what rounding does to the proof.
        side_channels: that are known.
        parameters: of the model.
    """

    components: Fact[tuple[Component, ...]]
    code_revision: Fact[str]
    floating_point: Fact[str]
    side_channels: Fact[tuple[str, ...]]
    parameters: Fact[int]


class Threat(Strict):
    """Somebody who attacks: what it has, what protects, and what remains."""

    attacker: str
    has: str
    protection: str
    remains: str


class Security(Strict):
    """How keys, wires and files are protected.

    Attributes:
        transport: one process (simulated), or between machines.
        keys: who holds which.
        authentication: of messages.
        raw_data: who can read it.
        retention: how long runs, models and ledgers are kept.
        threats: rows of the threat table: who, what it can do, what protects.
    """

    transport: Fact[str]
    keys: Fact[str]
    authentication: Fact[str]
    raw_data: Fact[str]
    retention: Fact[str]
    threats: Fact[tuple[Threat, ...]]


class FileHash(Strict):
    """A file of the run directory and its SHA-256."""

    file: str
    sha256: str


class Reproducibility(Strict):
    """What is needed to check or repeat the run.

    Attributes:
        config_sha256: of the configuration.
        files: of the run directory when this report was made.
        public_seed: of initial weights, splits and bootstrap; never of noise or sampling.
        dp_randomness: that no seed of noise or sampling exists to be reported.
        commands: that make and check it.
        encoder_weights: SHA-256 of frozen encoders' weights.
    """

    config_sha256: Fact[str]
    files: Fact[tuple[FileHash, ...]]
    public_seed: Fact[int]
    dp_randomness: Fact[str]
    commands: Fact[tuple[str, ...]]
    encoder_weights: Fact[dict[str, str]]
