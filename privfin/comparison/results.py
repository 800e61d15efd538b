"""What a comparison finds: settings by cell, paired differences, and what to beware of."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from privfin.comparison.finished import METRICS, FinishedRun
from privfin.comparison.settings import Setting, differences, group_settings
from privfin.errors import UserInputError, nearest
from privfin.evaluation.paired import PairedResult, compare_pairs


@dataclass(frozen=True)
class Summary:
    """A setting's metric in a cell.

    Attributes:
        n: runs in which it is defined.
        mean: over these runs; NaN without one.
        sd: standard deviation over these runs (n - 1); NaN below two.
        low: lower end of the bootstrap interval over patients of a single run, else NaN.
        high: its upper end.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float

    @property
    def reach(self) -> tuple[float, float]:
        """The ends of an error bar: the interval of a single run, or one sd both ways."""
        if self.n > 1:
            return self.mean - self.sd, self.mean + self.sd
        return self.low, self.high


@dataclass(frozen=True)
class Pair:
    """The difference ``second - first`` in a cell over the seeds two settings share."""

    first: str
    second: str
    cell: str
    seeds: tuple[int, ...]
    result: PairedResult


@dataclass(frozen=True)
class Comparison:
    """Everything that is shown of runs side by side."""

    metric: str
    confidence: float
    cells: tuple[str, ...]
    settings: tuple[Setting, ...]
    summaries: dict[str, dict[str, Summary]]
    pairs: tuple[Pair, ...]
    differences: dict[str, dict[str, list[str]]]
    notices: tuple[str, ...]

    @property
    def metric_name(self) -> str:
        """The metric in words."""
        return METRICS[self.metric]

    def to_dict(self, folder: Path | None = None) -> dict[str, Any]:
        """Everything by name; NaN and infinities are still numbers.

        Paths of runs are as given, or relative to the ``folder`` that they are in.
        """
        return {
            "format": 1,
            "metric": self.metric,
            "confidence": self.confidence,
            "cells": list(self.cells),
            "settings": [
                {
                    "name": setting.name,
                    "claims": sorted({run.claim for run in setting.runs}),
                    "runs": [
                        {
                            **_run_entry(run, self.cells, self.metric),
                            "run": str(run.path.relative_to(folder) if folder else run.path),
                        }
                        for run in setting.runs
                    ],
                    "cells": {
                        cell: asdict(self.summaries[setting.name][cell]) for cell in self.cells
                    },
                }
                for setting in self.settings
            ],
            "differences": self.differences,
            "paired": [
                {
                    "first": pair.first,
                    "second": pair.second,
                    "cell": pair.cell,
                    "seeds": list(pair.seeds),
                    **asdict(pair.result),
                    "caution": pair.result.caution or None,
                }
                for pair in self.pairs
            ],
            "notices": list(self.notices),
        }


def compare_runs(
    runs: Sequence[FinishedRun],
    *,
    metric: str = "auroc",
    cell: str | None = None,
    pairs: Sequence[tuple[int, int]] | None = None,
) -> Comparison:
    """Put runs side by side.

    Args:
        runs: the runs, see :func:`~privfin.comparison.finished.load_finished`.
        metric: one of ``METRICS``.
        cell: the only cell to show; None shows all.
        pairs: positions of the settings to test in pairs; None tests each against the first.

    Raises:
        UserInputError: no such metric or cell.
    """
    if metric not in METRICS:
        known = ", ".join(METRICS)
        raise UserInputError(f"--metric '{metric}' is not one of {known}{nearest(metric, METRICS)}")
    every = tuple(dict.fromkeys(name for run in runs for name in run.cells))
    if not every:
        raise UserInputError(
            "none of these runs has a figure: too few sites had patients for a secure metric to be "
            "opened (see 'federated' in metrics.json)"
        )
    if cell is not None and cell not in every:
        shown = ", ".join(f"'{name}'" for name in every)
        raise UserInputError(f"no run has a cell '{cell}': there are {shown}{nearest(cell, every)}")
    settings = group_settings(runs)
    cells = every if cell is None else (cell,)
    chosen = [(0, i) for i in range(1, len(settings))] if pairs is None else pairs
    confidence = runs[0].confidence
    found: list[Pair] = []
    notices = comparison_notices(settings)
    for a, b in chosen:
        first, second = settings[a], settings[b]
        shared, why_not = shared_seeds(first, second)
        notices += why_not
        if not shared:
            continue
        for name in cells:
            pair = _compare(first, second, name, metric, shared, confidence)
            if pair.seeds:
                found.append(pair)
    if len(found) > 1:
        notices.append(
            f"{len(found)} differences are tested and p-values are not corrected for that: the "
            "smallest of many is small by chance"
        )
    return Comparison(
        metric,
        confidence,
        cells,
        tuple(settings),
        {s.name: {name: summarise(s, name, metric) for name in cells} for s in settings},
        tuple(found),
        differences(settings),
        tuple(dict.fromkeys(notices)),
    )


def summarise(setting: Setting, cell: str, metric: str) -> Summary:
    """Mean and spread of a metric over a setting's runs."""
    figures = [run.figure(cell, metric) for run in setting.runs]
    values = [figure.value for figure in figures if not math.isnan(figure.value)]
    if not values:
        return Summary(0, math.nan, math.nan, math.nan, math.nan)
    if len(values) > 1:
        return Summary(
            len(values), statistics.fmean(values), statistics.stdev(values), math.nan, math.nan
        )
    only = next(figure for figure in figures if not math.isnan(figure.value))
    return Summary(1, only.value, math.nan, only.low, only.high)


def shared_seeds(first: Setting, second: Setting) -> tuple[list[int], list[str]]:
    """Seeds at which both settings were measured on the same patients, and why others are not.

    Two runs of one setting with one seed have no partner of their own, so nothing is paired then.
    """
    for setting in (first, second):
        if len(set(setting.seeds)) < len(setting.seeds):
            return [], [f"two runs of '{setting.name}' have the same seed, so it is not paired"]
    ours = {run.seed: run for run in first.runs}
    theirs = {run.seed: run for run in second.runs}
    both = sorted(ours.keys() & theirs.keys())
    same = [seed for seed in both if ours[seed].held_out == theirs[seed].held_out]
    notices = []
    if len(same) < len(both):
        seeds = ", ".join(str(seed) for seed in both if seed not in same)
        notices.append(
            f"'{first.name}' and '{second.name}' were measured on different held-out patients or "
            f"inputs at seed {seeds}: not paired there"
        )
    elif not both:
        notices.append(f"'{first.name}' and '{second.name}' share no seed, so they are not paired")
    return same, notices


def _compare(
    first: Setting,
    second: Setting,
    cell: str,
    metric: str,
    seeds: Sequence[int],
    confidence: float,
) -> Pair:
    columns = []
    for setting in (first, second):
        by_seed = {run.seed: run.figure(cell, metric).value for run in setting.runs}
        columns.append([by_seed[seed] for seed in seeds])
    kept = [i for i in range(len(seeds)) if not any(math.isnan(column[i]) for column in columns)]
    before, after = ([column[i] for i in kept] for column in columns)
    result = compare_pairs(before, after, confidence)
    return Pair(first.name, second.name, cell, tuple(seeds[i] for i in kept), result)


def comparison_notices(settings: Sequence[Setting]) -> list[str]:
    """What a reader of the table must know."""
    found = []
    runs = [run for setting in settings for run in setting.runs]
    for setting in settings:
        if len({run.held_out for run in setting.runs}) > 1:
            found.append(
                "held-out patients differ from seed to seed, so that the sd holds the choice of "
                "test patients too"
            )
    singles = [setting.runs[0].held_out for setting in settings if len(setting.runs) == 1]
    if len(set(singles)) > 1:
        found.append(
            "single runs were measured on different held-out patients or inputs: their figures "
            "are not about the same test set"
        )
    if len({run.confidence for run in runs}) > 1:
        found.append("the runs' intervals are at different levels (evaluation.confidence)")
    for name in sorted({key for run in runs for key in run.versions}):
        if len({run.versions.get(name) for run in runs}) > 1:
            found.append(
                "the runs were made with different "
                + ("revisions of the code" if name == "code" else f"versions of {name}")
            )
    return found


def _run_entry(run: FinishedRun, cells: Sequence[str], metric: str) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "claim": run.claim,
        "epsilon": run.epsilon,
        "seed": run.seed,
        "held_out_sha256": run.held_out,
        "cells": {cell: asdict(run.figure(cell, metric)) for cell in cells},
    }
