"""Finished runs as a comparison needs them, and which of them cannot be compared."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from privfin.errors import UserInputError
from privfin.runs import METRICS_FORMAT, load_run

#: The metrics of a cell that runs can be compared by, with the words for people.
METRICS = {
    "auroc": "macro AUROC",
    "auprc": "macro AUPRC",
    "ece": "macro ECE",
    "brier": "macro Brier score",
}
_PRIVACY_FORMATS = (1, 2)
_SEED = "training.seed"


@dataclass(frozen=True)
class Figure:
    """One metric of one run in one cell; NaN where it is not known.

    Attributes:
        value: the figure.
        low: lower end of its bootstrap interval.
        high: upper end of its bootstrap interval.
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class FinishedRun:
    """What a comparison needs of a finished run.

    Attributes:
        path: its directory.
        name: the shortest end of the path that no other run has.
        run_id: its random identifier.
        claim: ``dp``, or why it is not private.
        epsilon: the largest epsilon spent at a site.
        seed: the public seed.
        options: the configuration, ``section.key`` -> value, without the seed.
        labels: names of the labels.
        held_out: SHA-256 of the held-out data.
        confidence: level of the intervals.
        cells: ``metrics.json``'s entry of each availability cell.
        versions: of packages and code.
    """

    path: Path
    name: str
    run_id: str
    claim: str
    epsilon: float
    seed: int
    options: dict[str, Any]
    labels: tuple[str, ...]
    held_out: str
    confidence: float
    cells: dict[str, dict[str, Any]]
    versions: dict[str, str]

    @property
    def is_private(self) -> bool:
        """Whether the run gives a guarantee."""
        return self.claim == "dp"

    def figure(self, cell: str, metric: str) -> Figure:
        """A metric (one of ``METRICS``) in a cell."""
        entry = self.cells.get(cell, {})
        ends = (entry.get(f"macro_{metric}{end}") for end in ("", "_low", "_high"))
        return Figure(*(math.nan if end is None else float(end) for end in ends))


def load_finished(paths: Sequence[Path], at_least: int = 2) -> list[FinishedRun]:
    """Open runs that are to be compared, ``at_least`` so many.

    Raises:
        UserInputError: too few, one that has not finished, the same run twice, or runs
            with different labels.
    """
    if len(paths) < at_least:
        raise UserInputError("nothing to compare with: name at least two runs")
    runs = [_load(path, name) for path, name in zip(paths, short_names(paths), strict=True)]
    first = runs[0]
    seen: dict[str, FinishedRun] = {}
    for run in runs:
        if run.run_id in seen:
            raise UserInputError(f"{seen[run.run_id].path} and {run.path} are the same run")
        seen[run.run_id] = run
        if run.labels != first.labels:
            odd = [
                x
                for x in (*first.labels, *run.labels)
                if (x in first.labels) is not (x in run.labels)
            ]
            what = f"'{odd[0]}' is in one only" if odd else "their order differs"
            raise UserInputError(
                f"{first.path} and {run.path} have different labels ({what}), so their metrics "
                "are not about the same thing"
            )
    return runs


def short_names(paths: Sequence[Path]) -> list[str]:
    """For each path its shortest end that tells it from the others."""
    parts = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len({*parts}):
            break
    return names


def flatten_options(content: dict[str, Any]) -> dict[str, Any]:
    """A configuration as ``section.key`` -> value; the order of modalities is an option too."""
    flat = dict(_flat(content))
    flat["modalities"] = list(content.get("modalities", {}))
    return flat


def _flat(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):  # an empty table sets nothing
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def show_value(value: Any) -> str:
    """An option's value for people, in one line."""
    if value is None:
        return "unset"
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, ensure_ascii=False)


def _headline(privacy: dict[str, Any]) -> float:
    """Epsilon of any patient; format 1 knew only that of each site."""
    if privacy.get("format", 1) == 1:
        return max(float(site["epsilon"]) for site in privacy["sites"])
    return float(privacy["population"]["epsilon"])


def _load(path: Path, name: str) -> FinishedRun:
    run = load_run(path)
    if not run.is_finished:
        raise UserInputError(
            f"{path} has not finished: go on with privfin train --resume --out {path}"
        )
    metrics, privacy = run.metrics, run.privacy
    if metrics.get("format") not in range(1, METRICS_FORMAT + 1):
        raise UserInputError(
            f"{path / 'metrics.json'} has format {metrics.get('format')}, expected at most "
            f"{METRICS_FORMAT}"
        )
    if privacy.get("format", 1) not in _PRIVACY_FORMATS:
        raise UserInputError(
            f"{path / 'privacy.json'} has format {privacy['format']}, expected at most "
            f"{_PRIVACY_FORMATS[-1]}"
        )
    options = flatten_options(run.config.model_dump(mode="json"))
    seed = options.pop(_SEED)
    try:
        return FinishedRun(
            path=path,
            name=name,
            run_id=run.run_id,
            claim=str(metrics["claim"]),
            epsilon=_headline(privacy),
            seed=int(seed),
            options=options,
            labels=run.label_names,
            held_out=str(run.manifest["data_sha256"]["held-out"]),
            confidence=run.config.evaluation.confidence,
            cells=dict(metrics["cells"]),
            versions={**run.manifest["versions"], "code": run.manifest["code_revision"]},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserInputError(f"{path} has a damaged metrics, privacy or manifest file") from error
