"""Reproducibility: the files and their hashes, public seeds, and commands."""

from __future__ import annotations

import hashlib
from pathlib import Path

from privfin.errors import UserInputError
from privfin.reporting.blocks_exchange import FileHash, Reproducibility
from privfin.reporting.collect.commands import check_commands, repeat_command
from privfin.reporting.collect.mechanism import randomness
from privfin.reporting.collect.reading import AUDIT, EVENTS, MANIFEST, METRICS, PRIVACY
from privfin.reporting.evidence import Evidence
from privfin.reporting.facts import Fact, derived, measured, not_applicable

#: The files of a run that a report rests on; the last is there if the run was audited.
EVIDENCE_FILES = (MANIFEST, EVENTS, METRICS, PRIVACY, "model.safetensors", AUDIT)


def reproducibility_block(evidence: Evidence) -> Reproducibility:
    """What is needed to check or repeat the run.

    Raises:
        UserInputError: a file cannot be read, or the configuration is not the one whose digest
            the manifest has.
    """
    return Reproducibility(
        config_sha256=_config_digest(evidence),
        files=measured(evidence_hashes(evidence.run.path), "the run's files"),
        public_seed=_public_seed(evidence),
        dp_randomness=_dp_randomness(evidence),
        commands=_commands(evidence),
        encoder_weights=_encoder_weights(evidence),
    )


def evidence_hashes(run: Path) -> tuple[FileHash, ...]:
    """SHA-256 of every file of a run directory that a report rests on.

    Raises:
        UserInputError: one cannot be read.
    """
    places = [run / name for name in EVIDENCE_FILES if (run / name).exists()]
    places += sorted((run / "local").glob("*.safetensors"))
    return tuple(
        FileHash(file=place.relative_to(run).as_posix(), sha256=_sha256(place)) for place in places
    )


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserInputError(f"cannot read {path}: {error.strerror}") from error


def _config_digest(evidence: Evidence) -> Fact[str]:
    stated = str(evidence.manifest["config_sha256"])
    if evidence.config.digest() != stated:
        raise UserInputError(
            f"{evidence.run.path / MANIFEST}: the configuration does not have the digest that is "
            "stated with it; the file was changed, or made by another version"
        )
    return measured(
        stated, f"{MANIFEST}: config_sha256", "calculated again when this report was made"
    )


def _public_seed(evidence: Evidence) -> Fact[int]:
    source = f"{MANIFEST}: public_seed"
    if evidence.config.privacy.reproducible:
        return not_applicable(
            "test mode: noise and sampling follow from the seed, and no such seed is in a report",
            source,
        )
    return measured(
        int(evidence.manifest["public_seed"]), source, "of initial weights, splits and bootstrap"
    )


def _dp_randomness(evidence: Evidence) -> Fact[str]:
    if evidence.config.privacy.reproducible:
        return derived(
            "test mode: noise and sampling can be calculated from the public seed, so the run is "
            "NOT PRIVATE",
            f"{MANIFEST}: configuration",
        )
    if not evidence.config.privacy.is_private:
        return not_applicable("there is no noise (epsilon = inf)", f"{MANIFEST}: configuration")
    found = randomness(evidence)
    if not found.is_known:
        return found
    return derived(
        f"no seed of noise or sampling is kept, so none can be reported: {found.value}",
        found.source,
    )


def _commands(evidence: Evidence) -> Fact[tuple[str, ...]]:
    again = repeat_command(evidence.config)
    checks = check_commands(evidence)
    source = f"{MANIFEST}: configuration"
    if again is None:
        return derived(
            checks, source, f"no single command repeats the run: its configuration is in {MANIFEST}"
        )
    return derived(
        (again, *checks),
        source,
        "noise and sampling are new each time, so the model will be another one",
    )


def _encoder_weights(evidence: Evidence) -> Fact[dict[str, str]]:
    found = dict(evidence.manifest.get("weights_sha256", {}))
    note = "" if found else "no encoder has public weights"
    return measured(found, f"{MANIFEST}: weights_sha256", note)
