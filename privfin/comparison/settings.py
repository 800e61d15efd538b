"""Runs that differ only in their seed are one setting."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from privfin.comparison.finished import FinishedRun, show_value

_LONGEST_NAME = 40


@dataclass(frozen=True)
class Setting:
    """A configuration without its seed, and the runs that were made with it."""

    name: str
    runs: tuple[FinishedRun, ...]

    @property
    def is_private(self) -> bool:
        """Whether all its runs give a guarantee."""
        return all(run.is_private for run in self.runs)

    @property
    def seeds(self) -> list[int]:
        """Seeds of the runs."""
        return [run.seed for run in self.runs]


def group_settings(runs: Sequence[FinishedRun]) -> list[Setting]:
    """Settings in the order of their first run, each with its runs by seed."""
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        groups.setdefault(json.dumps(run.options, sort_keys=True), []).append(run)
    found = [tuple(sorted(group, key=lambda run: run.seed)) for group in groups.values()]
    keys = differing_options([group[0] for group in found])
    return [Setting(_name(group, keys), group) for group in found]


def differing_options(runs: Sequence[FinishedRun]) -> list[str]:
    """The options in which at least two of the runs differ; the seed is none of them."""
    keys = dict.fromkeys(key for run in runs for key in run.options)
    return [key for key in keys if len({_value(run, key) for run in runs}) > 1]


def differences(settings: Sequence[Setting]) -> dict[str, dict[str, list[str]]]:
    """Option -> value -> names of the settings that have it, for the options that differ."""
    firsts = [setting.runs[0] for setting in settings]
    found: dict[str, dict[str, list[str]]] = {}
    for key in differing_options(firsts):
        found[key] = {}
        for setting, run in zip(settings, firsts, strict=True):
            found[key].setdefault(show_value(run.options.get(key)), []).append(setting.name)
    return found


def _value(run: FinishedRun, key: str) -> str:
    return json.dumps(run.options.get(key), sort_keys=True)


def _name(group: tuple[FinishedRun, ...], keys: Sequence[str]) -> str:
    """The run's own name, or what tells the setting from the others."""
    first: FinishedRun = group[0]
    if len(group) == 1:
        return first.name
    options: list[tuple[str, Any]] = [(key.split(".")[-1], first.options.get(key)) for key in keys]
    name = ", ".join(f"{key} {show_value(value)}" for key, value in options)
    if name and len(name) <= _LONGEST_NAME:
        return name
    return f"{first.name} and {len(group) - 1} more"
