"""Command lines that make and check a run, without places on anybody's machine."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from privfin.config import RunConfig, load_config, parse_override
from privfin.errors import ConfigError
from privfin.reporting.evidence import Evidence


def repeat_command(config: RunConfig) -> str | None:
    """``privfin train`` with the options that differ from the built-in configuration.

    Where data lie is left as the word DATA. None where options alone do not give this
    configuration back, where weights lie in a folder, and in test mode, whose seed is that of the
    noise.
    """
    if config.privacy.reproducible or any(m.weights for m in config.modalities.values()):
        return None
    options = list(_options(load_config(None).without_paths(), config.without_paths()))
    try:
        again = load_config(None, [parse_override(text) for text in options])
    except ConfigError:
        return None
    if again.digest() != config.digest():
        return None
    words = ["privfin", "train", *(word for text in options for word in ("--set", text))]
    if config.data.source != "phantom":
        words += ["--data-root", "DATA"]
    return shlex.join([*words, "--out", "AGAIN"])


def check_commands(evidence: Evidence) -> tuple[str, ...]:
    """What checks a run and its report; run in the folder that holds the run directory."""
    name = shlex.quote(evidence.run.path.name)
    found = [f"privfin report verify REPORT --run {name}"]
    if evidence.audit is not None:
        found.append(f"privfin audit {name} --suite {shlex.quote(str(evidence.audit['suite']))}")
    if evidence.manifest.get("ledger", {}).get("status") == "counted":
        found.append(f"privfin budget verify --anchor {name}/manifest.json")
    return tuple(found)


def _options(before: Any, after: Any, prefix: str = "") -> Iterator[str]:
    """``section.key=value`` for every option that differs, the value as TOML."""
    for key, value in after.items():
        old = before.get(key) if isinstance(before, Mapping) else None
        if value == old:
            continue
        place = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _options(old, value, f"{place}.")
        elif value is not None:
            yield f"{place}={_toml(value)}"


def _toml(value: Any) -> str:
    """A value of a configuration in TOML, on one line."""
    if isinstance(value, Mapping):
        fields = (f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items() if v is not None)
        return "{" + ", ".join(fields) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return "inf" if value == "inf" else json.dumps(value)
