"""Writes what is derived from the code: reference pages, a list and ``configs/quick.toml``.

    python docs/generate_reference.py

``docs/reference/configuration.md`` comes from the field descriptions in ``privfin/config.py``,
``docs/reference/command-line.md`` from the options of the command, ``configs/quick.toml``
spells out the built-in run, ``docs/reference/report.schema.json`` is the schema of a report, and
the list of what a privacy statement does not cover goes into ``README.md`` and
``docs/explanation/privacy.md``, between its markers. ``tests/docs`` fails when one of them is out
of date.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import click
import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from privfin.cli.app import app
from privfin.config import (
    DataConfig,
    FederationConfig,
    ModalityConfig,
    PartConfig,
    PrivacyConfig,
    RunConfig,
    SiteConfig,
)
from privfin.federation.plan import declared_sites, make_plan
from privfin.federation.statement import privacy_statement
from privfin.reporting.schema import report_schema

ROOT = Path(__file__).resolve().parent.parent
CONFIGURATION = ROOT / "docs/reference/configuration.md"
COMMAND_LINE = ROOT / "docs/reference/command-line.md"
QUICK = ROOT / "configs/quick.toml"
REPORT_SCHEMA = ROOT / "docs/reference/report.schema.json"
NOT_COVERED_IN = (ROOT / "README.md", ROOT / "docs/explanation/privacy.md")

_AGAIN = "This page is written by `docs/generate_reference.py`; change the code, not the page."
_SECTION_NOTES = {
    "modalities.NAME": (
        "One table a modality; NAME is a word of your choice. `image` and `text` exist without "
        "being written; a file or `--set` may change one of their options and keeps the others."
    ),
    "federation.site": (
        "Named sites, written as `[[federation.site]]`, one table a site. When there is one, "
        "`federation.sites`, `federation.modalities` and `federation.alpha` have no effect."
    ),
    "data.part": (
        "The sources of a mix, written as `[[data.part]]`, one table a source. Options that "
        "`[data]` has too are for this source alone."
    ),
    "data.manifest": 'Read when `data.source = "manifest"`.',
}


def pages() -> dict[Path, str]:
    """Every derived file with the text it should have."""
    return {
        CONFIGURATION: configuration_page(),
        COMMAND_LINE: command_line_page(),
        QUICK: quick_toml(),
        REPORT_SCHEMA: json.dumps(report_schema(), indent=1) + "\n",
        **{path: with_not_covered(path.read_text(encoding="utf-8")) for path in NOT_COVERED_IN},
    }


def with_not_covered(text: str) -> str:
    """``text`` with the list of a privacy statement between the two markers."""
    config = RunConfig(privacy=PrivacyConfig(epsilon=math.inf))
    statement = privacy_statement(config, make_plan(config, declared_sites(config)), {})
    begin, end = "<!-- not-covered -->", "<!-- /not-covered -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the page lacks the markers {begin} and {end}")
    lines = "\n".join(f"- {item}" for item in statement["not_covered"])
    return f"{before}{begin}\n\n{lines}\n\n{end}{after}"


def configuration_page() -> str:
    """The configuration reference."""
    lines = [
        "# Configuration",
        "",
        _AGAIN,
        "",
        "A run is configured by a TOML file, by `--set section.key=value`, or both; the command "
        "line wins. An unknown key is refused, with the nearest valid name. The configuration is "
        "public: it may be sent to every site, and is stored in the run directory, without "
        "`data.root`.",
        "",
        "Each table below is a TOML section. A default of *unset* means that the key is left out.",
    ]
    for name, model in _sections():
        lines += ["", f"## `[{name}]`", "", _summary(model)]
        if name in _SECTION_NOTES:
            lines += ["", _SECTION_NOTES[name]]
        lines += ["", "| key | type | default | valid | meaning |", "|---|---|---|---|---|"]
        for key, field in model.model_fields.items():
            if _is_section(key, field):
                continue
            cells = (
                f"`{key}`",
                _type_name(field.annotation),
                _shown_default(field),
                _limits(field),
                _sentence(field),
            )
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _summary(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0].replace("``", "`")


def _sections() -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in RunConfig.model_fields.items():
        if name == "modalities":
            yield "modalities.NAME", ModalityConfig
            continue
        model = field.annotation
        if not isinstance(model, type) or not issubclass(model, BaseModel):
            raise TypeError(f"section '{name}' is not a model")
        yield name, model
        if model is FederationConfig:
            yield "federation.site", SiteConfig
        if model is DataConfig:
            yield "data.part", PartConfig
        for key, inner in model.model_fields.items():
            if isinstance(inner.annotation, type) and issubclass(inner.annotation, BaseModel):
                yield f"{name}.{key}", inner.annotation


def _is_section(key: str, field: FieldInfo) -> bool:
    kind = field.annotation
    nested = isinstance(kind, type) and issubclass(kind, BaseModel)
    return nested or bool({SiteConfig, PartConfig} & set(get_args(kind)))


def _type_name(kind: Any) -> str:
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(f"`{value}`" for value in inside)
    if origin is tuple:
        return f"list of {_type_name(inside[0])}"
    if origin is dict:
        return "table"
    if origin is Union or type(kind).__name__ == "UnionType":
        known = [_type_name(each) for each in inside if each is not type(None)]
        return " or ".join(known)
    return {str: "text", int: "whole number", float: "number", bool: "true/false", Path: "path"}[
        kind
    ]


def _shown_default(field: FieldInfo) -> str:
    if field.is_required():
        return "*required*"
    value = field.get_default(call_default_factory=True)
    return "*unset*" if value is None else f"`{_toml(value)}`"


def _limits(field: FieldInfo) -> str:
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    found = []
    for rule in field.metadata:
        for name, word in words.items():
            if getattr(rule, name, None) is not None:
                found.append(f"{word} {getattr(rule, name)}")
        if getattr(rule, "pattern", None):
            found.append("a-z, 0-9 and `-`, at most 32 characters")
    return ", ".join(found)


def _sentence(field: FieldInfo) -> str:
    if not field.description:
        raise ValueError("every option needs a description")
    return field.description


def _toml(value: Any) -> str:
    """A TOML value."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        value = str(value)
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, float):
        return "inf" if math.isinf(value) else repr(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(each) for each in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
    raise TypeError(f"no TOML for {type(value).__name__}")


def quick_toml() -> str:
    """The built-in run as a file, with a comment a line."""
    config = RunConfig()
    lines = [
        "# The built-in run, spelled out: the same as giving no file at all.",
        "#",
        "#   privfin train configs/quick.toml --epsilon 8",
        "#",
        "# Copy this file to start a configuration of your own and delete what you do not change.",
        "# Written by docs/generate_reference.py from the defaults in privfin/config.py.",
    ]
    for section in type(config).model_fields:
        value = getattr(config, section)
        if isinstance(value, dict):
            for name, model in value.items():
                lines += _toml_section(f"{section}.{name}", model)
        else:
            lines += _toml_section(section, value)
    return "\n".join(lines) + "\n"


def _toml_section(name: str, model: BaseModel) -> Iterator[str]:
    rows, nested = [], []
    for key, field in type(model).model_fields.items():
        value = getattr(model, key)
        if isinstance(value, BaseModel):
            nested.append((f"{name}.{key}", value))
        elif value is None:
            example = "[...]" if "list" in _type_name(field.annotation) else '"..."'
            rows.append((f"# {key} = {example}", f"{_sentence(field)} (unset)"))
        else:
            rows.append((f"{key} = {_toml(value)}", _sentence(field)))
    width = min(30, max(len(code) for code, _ in rows))
    yield from ("", f"[{name}]")
    for code, comment in rows:
        yield f"{code:<{width}}  # {comment}"
    for inner, value in nested:
        yield from _toml_section(inner, value)


def command_line_page() -> str:
    """The command-line reference."""
    group = typer.main.get_command(app)
    if not isinstance(group, click.Group):
        raise TypeError("the command has no subcommands")
    lines = [
        "# Command line",
        "",
        _AGAIN,
        "",
        "`privfin --help` and `privfin COMMAND --help` say the same. What the exit codes mean is "
        "in [Exit codes](exit-codes.md). `PRIVFIN_DEBUG=1` in the environment shows a traceback "
        "where there would be one line.",
    ]
    for name, command in _commands(group):
        arguments = [p for p in command.params if isinstance(p, click.Argument)]
        usage = " ".join(
            f"{p.human_readable_name}" if p.required else f"[{p.human_readable_name}]"
            for p in arguments
        )
        lines += ["", f"## `privfin {name}`", "", (command.help or "").strip(), ""]
        lines += [f"    privfin {name} {usage} [OPTIONS]", ""]
        lines += ["| argument or option | value | meaning |", "|---|---|---|"]
        for parameter in command.params:
            text = str(getattr(parameter, "help", "") or "")
            if isinstance(parameter, click.Argument):
                shown, value = f"`{parameter.human_readable_name}`", parameter.type.name
            else:
                shown = f"`{'/'.join([parameter.opts[0], *parameter.secondary_opts])}`"
                is_flag = getattr(parameter, "is_flag", False)
                value = "" if is_flag else parameter.type.name
            lines.append(f"| {shown} | {value} | {text} |")
        examples = textwrap.dedent(command.epilog or "").split("Exit codes")[0]
        commands = [line.strip() for line in examples.splitlines() if "privfin " in line]
        lines += ["", "```bash", *commands, "```"]
    return "\n".join(lines) + "\n"


def _commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command with its name, those of a group as ``data list``."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def main() -> None:
    """Write every derived file."""
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
