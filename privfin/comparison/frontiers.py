"""A sweep's settings as lines of a frontier, and which of them are tested in pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from privfin.comparison.finished import FinishedRun
from privfin.comparison.plots import FrontierLine
from privfin.comparison.results import Comparison
from privfin.comparison.settings import group_settings


def frontier_lines(comparison: Comparison, cell: str) -> list[FrontierLine]:
    """One line an imputer: its figure in a cell at every epsilon."""
    lines: dict[str, FrontierLine] = {}
    for setting in comparison.settings:
        options = setting.runs[0].options
        name, epsilon = str(options["model.imputer"]), float(options["privacy.epsilon"])
        line = lines.setdefault(name, FrontierLine(name, {}, None))
        summary = comparison.summaries[setting.name][cell]
        if math.isfinite(epsilon):
            line.private[epsilon] = summary
        else:
            lines[name] = FrontierLine(name, line.private, summary)
    return list(lines.values())


def same_epsilon_pairs(runs: Sequence[FinishedRun]) -> list[tuple[int, int]]:
    """Positions of settings to test: at each epsilon, every imputer against the first one."""
    first: dict[str, int] = {}
    pairs = []
    for at, setting in enumerate(group_settings(runs)):
        epsilon = str(setting.runs[0].options["privacy.epsilon"])
        if first.setdefault(epsilon, at) != at:
            pairs.append((first[epsilon], at))
    return pairs
