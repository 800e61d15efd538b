"""Which public weights a run uses: bound to it by content, because paths differ between sites."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from privfin.config import RunConfig, parse_config
from privfin.errors import ConfigError
from privfin.models.frozen import is_frozen
from privfin.models.weights import weights_digest
from privfin.runs import Run


def encoder_digests(config: RunConfig) -> dict[str, str]:
    """By modality with a frozen encoder, the SHA-256 of its weights.

    Raises:
        ConfigError: weights are not there or not safetensors.
    """
    return {m: weights_digest(c) for m, c in config.modalities.items() if is_frozen(c)}


def check_same_weights(run: Run, config: RunConfig) -> None:
    """Refuse to go on, or to predict, with other weights than a run was started with.

    Raises:
        ConfigError: naming the modality whose weights differ.
    """
    before, after = run.manifest.get("weights_sha256", {}), encoder_digests(config)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            raise ConfigError(
                f"the weights of modality '{name}' are not those that {run.path} was started "
                "with: give the same files"
            )


def with_weights(config: RunConfig, paths: Mapping[str, Path]) -> RunConfig:
    """The configuration with frozen encoders' files at other places.

    Args:
        config: a run's configuration.
        paths: modality -> file (timm) or folder (transformers).

    Raises:
        ConfigError: a modality is not there or has no frozen encoder.
    """
    content = config.model_dump(mode="json")
    for name, path in paths.items():
        modality = config.modalities.get(name)
        if modality is None or not is_frozen(modality):
            raise ConfigError(f"'{name}' is not a modality with a frozen encoder")
        if modality.encoder.startswith("timm:"):
            content["modalities"][name]["weights"] = str(path)
        else:
            content["modalities"][name]["encoder"] = f"transformers:{path}"
    return parse_config(content, "the options")
