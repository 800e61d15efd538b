"""Reads a configuration from TOML and options, with one clear line for what is wrong."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from privfin.config.model import ModalityConfig
from privfin.config.run import RunConfig, default_modalities
from privfin.errors import ConfigError, nearest


def load_config(path: Path | None, overrides: Sequence[tuple[str, Any]] = ()) -> RunConfig:
    """Read a TOML file (or the defaults) and apply ``section.key`` overrides.

    Raises:
        ConfigError: the file cannot be read, or a key or value is not valid; one line, with the
            nearest valid name where a name is unknown.
    """
    content: dict[str, Any] = {}
    if path is not None:
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not valid TOML: {error}") from error
    # An override changes one option of the built-in modalities; a file lists all that it uses.
    content.setdefault("modalities", {m: c.model_dump() for m, c in default_modalities().items()})
    for key, value in overrides:
        set_key(content, key, value)
    _complete_modalities(content)
    return parse_config(content, str(path) if path else "the options")


def parse_config(content: dict[str, Any], origin: str) -> RunConfig:
    """Check a configuration read from JSON or TOML. Raises ConfigError with one line."""
    try:
        return RunConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{origin}: {_first_problem(error, content)}") from None


def parse_override(text: str) -> tuple[str, Any]:
    """Split ``section.key=value``; the value is read as TOML, or as plain text if it is not.

    Raises:
        ConfigError: there is no ``=`` or no section.
    """
    key, sep, value = text.partition("=")
    key = key.strip()
    if not sep or "." not in key:
        raise ConfigError(f"--set '{text}' must look like section.key=value")
    try:
        return key, tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        return key, value.strip()


def set_key(content: dict[str, Any], key: str, value: Any) -> None:
    """Set ``section.key`` in nested dictionaries. Raises ConfigError if a part is no section."""
    *path, last = key.split(".")
    for part in path:
        content = content.setdefault(part, {})
        if not isinstance(content, dict):
            raise ConfigError(f"'{key}' cannot be set: '{part}' is not a section")
    content[last] = value


def _complete_modalities(content: dict[str, Any]) -> None:
    """Let a file or ``--set`` change one option of a built-in modality, keeping the others."""
    given = content.get("modalities")
    if not isinstance(given, dict):
        return
    for name, default in default_modalities().items():
        if isinstance(given.get(name), dict):
            given[name] = {**default.model_dump(), **given[name]}


def _first_problem(error: ValidationError, content: dict[str, Any]) -> str:
    """One plain line for the first thing that is wrong."""
    problems = error.errors(include_url=False)
    # A mistyped name comes first: it explains why a required option seems to be missing.
    unknown = (p for p in problems if p["type"] == "extra_forbidden")
    first = next(unknown, problems[0])
    location = [str(part) for part in first["loc"] if part not in ("float", "literal['auto']")]
    where = ".".join(location)
    if first["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        listed = ", ".join(sorted(known))
        hint = nearest(location[-1], known) or f" (known: {listed})"
        return f"unknown key '{where}'{hint}"
    message = str(first["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    shown = first.get("input")
    if isinstance(shown, str | int | float | bool) and first["type"] != "value_error":
        return f"{where} = {shown!r}: {message}"
    return f"{where}: {message}" if where else message


def _known_keys(path: Iterable[str]) -> set[str]:
    """Names that are valid inside a section; in a list of sections, those of one entry."""
    model: Any = RunConfig
    for part in path:
        if model is dict:  # modalities: any name, then the options of one
            model = ModalityConfig
        elif model is RunConfig and part == "modalities":
            model = dict
        elif not part.isdigit():
            kind = model.model_fields[part].annotation
            inside = (kind, *get_args(kind))
            model = next(k for k in inside if isinstance(k, type) and issubclass(k, BaseModel))
    return set() if model is dict else set(model.model_fields)
