"""The YAML head of a model card, as model hubs read it, and the report's figures below it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import yaml

from privfin.reporting.blocks_results import AttackResult, CellResult, Interval
from privfin.reporting.facts import Fact
from privfin.reporting.formats.plain_text import one_line
from privfin.reporting.numbers import percent
from privfin.reporting.schema import Report

#: Of a cell's figures: field, the hub's name of the metric, name for people.
_METRICS = (
    ("auroc", "roc_auc", "macro AUROC"),
    ("auprc", "average_precision", "macro average precision"),
    ("ece", "expected_calibration_error", "macro expected calibration error"),
    ("brier", "brier_score", "macro Brier score"),
)


def front_matter(report: Report) -> str:
    """The head with its fences.

    There is no license, pipeline tag or data set address: the report knows none, and a hub's
    pipelines do not run a model of several modalities.
    """
    head: dict[str, Any] = {"library_name": "privfin", "tags": _tags(report)}
    results = _results(report)
    if results:
        head["metrics"] = [kind for _, kind, _ in _METRICS]
        name = one_line(report.report.run_name.value or "unknown")
        head["model-index"] = [{"name": name, "results": results}]
    head["privfin"] = _own(report)
    text = yaml.safe_dump(_clean(head), sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{text}---\n"


def _tags(report: Report) -> list[str]:
    tags = ["privfin", "federated-learning", "medical"]
    tags.append("differential-privacy" if report.guarantee.is_private.value else "not-private")
    if report.exchange.kind.value in ("bfv", "ckks"):
        tags.append("homomorphic-encryption")
    modalities = {name for site in report.parties.sites.value or () for name in site.modalities}
    if len(modalities) > 1:
        tags.append("multimodal")
    if report.data.is_simulated.value:
        tags.append("simulated-data")
    return tags


def _results(report: Report) -> list[dict[str, Any]]:
    """A result for each cell that has figures."""
    source = one_line(report.data.source.value or "unknown")
    return [
        {
            "task": {"type": "multi-label-classification", "name": f"cell: {cell.cell}"},
            "dataset": {
                "type": source,
                "name": f"{source}, held-out patients, cell: {cell.cell}",
                "split": "held-out",
            },
            "metrics": metrics,
        }
        for cell in report.utility.cells.value or ()
        if (metrics := _metrics(cell, are_bounds=bool(report.utility.is_secure.value)))
    ]


def _metrics(cell: CellResult, are_bounds: bool) -> list[dict[str, Any]]:
    kind = "bounds" if are_bounds else f"{percent(cell.confidence)} interval"
    found: list[dict[str, Any]] = []
    for field, metric, name in _METRICS:
        figure = getattr(cell, field)
        value = figure.value if isinstance(figure, Interval) else figure
        if value is None:
            continue
        if isinstance(figure, Interval) and figure.low is not None and figure.high is not None:
            name += f", {kind} {figure.low:.4f} to {figure.high:.4f}"
        found.append({"type": metric, "value": value, "name": name})
    return found


def _own(report: Report) -> dict[str, Any]:
    """The figures that a hub has no key for; ``gaps`` says why a value is missing."""
    about, guarantee, audit = report.report, report.guarantee, report.audit
    gaps: dict[str, str] = {}

    def value(pointer: str, fact: Fact[Any]) -> Any:
        if fact.is_known:
            return _plain(fact.get())
        gaps[pointer] = f"{fact.status}: {fact.note}"
        return None

    own: dict[str, Any] = {"schema_version": report.schema_version}
    for key in ("report_id", "created", "tool", "run_id", "release_class", "withheld"):
        own[key] = value(f"/report/{key}", getattr(about, key))
    own["is_simulated"] = value("/data/is_simulated", report.data.is_simulated)
    own["guarantee"] = {
        key: value(f"/guarantee/{key}", getattr(guarantee, key))
        for key in (
            "claim", "is_private", "statement", "unit", "adjacency", "epsilon", "delta",
            "headline", "epsilon_at_every_site", "outputs", "accesses", "observers",
        )
    }  # fmt: skip
    own["audit"] = {
        key: value(f"/audit/{key}", getattr(audit, key))
        for key in ("was_done", "verdict", "suite", "confidence", "largest_ceiling")
    }
    best = value("/audit/best_attack", audit.best_attack)
    if best is not None and audit.attacks.is_known:
        own["audit"]["best_attack"] = _attack(audit.attacks.get()[best])
    cells = value("/utility/cells", report.utility.cells) or []
    own["results"] = [{k: v for k, v in cell.items() if k != "labels"} for cell in cells]
    own["not_covered"] = value("/other_releases/not_covered", report.other_releases.not_covered)
    own["gaps"] = gaps
    return own


def _attack(attack: AttackResult) -> dict[str, Any]:
    """An attack without the points of its curve."""
    return {key: _plain(one) for key, one in attack.model_dump(exclude={"curve"}).items()}


def _plain(value: Any) -> Any:
    """The value as JSON would have it."""
    if hasattr(value, "model_dump"):
        return _plain(value.model_dump())
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and math.isinf(value):
        return "inf"
    return value


def _clean(value: Any) -> Any:
    """The value with every text on one line: no line of YAML can look like its end."""
    if isinstance(value, Mapping):
        return {one_line(key): _clean(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_clean(one) for one in value]
    return one_line(value) if isinstance(value, str) else value
