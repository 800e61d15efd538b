"""A machine-learning bill of materials: CycloneDX 1.6, as JSON values.

CycloneDX has no place for differential privacy, so those figures are properties whose names start
with ``privfin:``. Each has a second property with its status, and a gap says why it is one.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from privfin.reporting.blocks_exchange import Component
from privfin.reporting.blocks_results import CellResult, Interval
from privfin.reporting.facts import Fact
from privfin.reporting.formats.markdown import gap
from privfin.reporting.formats.plain_text import one_line
from privfin.reporting.numbers import at_most, delta_text, percent, percent_at_most
from privfin.reporting.schema import Report

_MODEL = "model"
_MODEL_FILE = "model.safetensors"
_FACTS = {
    "report": ("report_id", "release_class", "withheld", "run_id", "valid_until"),
    "guarantee": (
        "claim", "is_private", "statement", "unit", "adjacency", "epsilon", "delta", "headline",
        "no_person_at_two_sites", "epsilon_at_every_site", "outputs", "accesses",
    ),
    "mechanism": ("trust", "fine_tuning", "randomness", "rounds"),
    "accounting": ("accountant", "recomputed_epsilon", "second_accountant"),
    "ledger": ("status", "meaning", "check"),
    "tuning": ("trials", "is_counted", "chosen_by"),
    "audit": ("was_done", "verdict", "suite", "confidence", "largest_ceiling"),
    "exchange": ("encryption", "kind", "single_updates"),
    "reproducibility": ("config_sha256", "dp_randomness"),
}  # fmt: skip


def bill_of_materials(report: Report) -> dict[str, Any]:
    """The bill of materials: the model with its card, and the packages that made it.

    The same report gives the same bill; its serial number follows from the report's identifier.
    """
    components = report.implementation.components.value or ()
    packages = {package["bom-ref"]: package for package in map(_package, components)}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(
            uuid.NAMESPACE_URL, f"urn:privfin:report:{report.report.report_id.get()}"
        ).urn,
        "version": 1,
        "metadata": {
            "timestamp": report.report.created.get(),
            "tools": {"components": [_tool(report)]},
            "component": _model(report),
        },
        "components": list(packages.values()),
        "dependencies": [
            {"ref": _MODEL, "dependsOn": list(packages)},
            *({"ref": ref} for ref in packages),
        ],
    }


def _tool(report: Report) -> dict[str, Any]:
    name, _, version = one_line(report.report.tool.get()).partition(" ")
    tool = {"type": "application", "name": name}
    return {**tool, "version": version} if version else tool


def _model(report: Report) -> dict[str, Any]:
    run_id = report.report.run_id
    model: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": one_line(report.report.run_name.value or "unknown"),
    }
    if run_id.is_known:
        model["version"] = run_id.get()
    hashes = [
        {"alg": "SHA-256", "content": one.sha256}
        for one in report.reproducibility.files.value or ()
        if one.file == _MODEL_FILE
    ]
    if hashes:
        model["hashes"] = hashes
    model["modelCard"] = {
        "modelParameters": _parameters(report),
        "quantitativeAnalysis": {"performanceMetrics": [*_performance(report), *_attacks(report)]},
        "considerations": _considerations(report),
    }
    model["properties"] = list(_properties(report))
    return model


def _parameters(report: Report) -> dict[str, Any]:
    data, purpose = report.data, report.purpose
    is_simulated = bool(data.is_simulated.value)
    dataset: dict[str, Any] = {
        "type": "dataset",
        "name": one_line(data.source.value or "unknown"),
        "classification": "simulated data" if is_simulated else "health data of patients",
        "contents": {
            "properties": [
                {"name": f"privfin:data:{key}", "value": _words(getattr(data, key))}
                for key in ("is_simulated", "unit", "training_patients", "held_out_patients",
                            "period", "label_origin", "consent")
            ]
        },
    }  # fmt: skip
    if not is_simulated:
        dataset["sensitiveData"] = ["health data of patients"]
    modalities = sorted(
        {kind for one in report.parties.sites.value or () for kind in one.modalities}
    )
    segments = [one.segment for one in report.mechanism.segments.value or ()]
    parameters: dict[str, Any] = {
        "approach": {"type": "supervised"},
        "task": _words(purpose.task),
        "datasets": [dataset],
        "inputs": [{"format": one_line(kind)} for kind in modalities],
        "outputs": [{"format": f"label: {one_line(name)}"} for name in purpose.labels.value or ()],
    }
    if segments:
        parameters["modelArchitecture"] = "parts: " + ", ".join(segments)
    return parameters


def _performance(report: Report) -> Iterator[dict[str, Any]]:
    are_bounds = bool(report.utility.is_secure.value)
    for cell in report.utility.cells.value or ():
        yield from _cell(cell, f"held-out records with: {cell.cell}", are_bounds)
    for group in report.utility.groups.value or ():
        for cell in group.cells:
            place = f"held-out records with: {cell.cell}; {group.by}: {group.group}"
            yield from _cell(cell, place, are_bounds)


def _cell(cell: CellResult, place: str, are_bounds: bool) -> Iterator[dict[str, Any]]:
    """The metrics of a cell and its labels; bounds of encrypted sums are no confidence interval."""
    confidence = None if are_bounds else cell.confidence
    yield from _metric("macro AUROC", cell.auroc, place, confidence)
    yield from _metric("macro average precision", cell.auprc, place, confidence)
    for name, value in (
        ("macro expected calibration error", cell.ece),
        ("macro Brier score", cell.brier),
    ):
        yield from _metric(name, Interval(value=value), place, confidence)
    for label in cell.labels:
        yield from _metric("AUROC", label.auroc, f"{place}; label: {label.label}", confidence)
        yield from _metric(
            "average precision", label.auprc, f"{place}; label: {label.label}", confidence
        )


def _attacks(report: Report) -> Iterator[dict[str, Any]]:
    """What attacks found, as metrics: the larger, the more the model gives away."""
    confidence = report.audit.confidence.value
    for one in report.audit.attacks.value or ():
        place = f"{one.attack}; observer: {one.observer}; patients: {one.stratum}"
        yield from _metric("attack: AUC", one.auc, place, confidence)
        for row in one.tpr:
            name = f"attack: members found at {percent(row.target_fpr)} false alarms, as a share"
            yield from _metric(name, row.tpr, place, confidence)
        for name, bound in (
            ("attack: epsilon is at least", one.epsilon_bound),
            ("attack: largest epsilon that it could have shown", one.epsilon_ceiling),
        ):
            if bound is not None:
                yield {"type": name, "value": repr(bound), "slice": one_line(place)}


def _metric(
    name: str, figure: Interval, place: str, confidence: float | None
) -> Iterator[dict[str, Any]]:
    """A metric; none if its value was withheld.

    Its name says the confidence of its interval; without a confidence its ends are bounds, and the
    name holds them.
    """
    if figure.value is None:
        return
    metric: dict[str, Any] = {"type": name, "value": repr(figure.value), "slice": one_line(place)}
    if figure.low is not None and figure.high is not None:
        if confidence is None:
            metric["type"] += f", bounds {figure.low!r} to {figure.high!r}"
        else:
            metric["type"] += f", {percent(confidence)} interval"
            metric["confidenceInterval"] = {
                "lowerBound": repr(figure.low),
                "upperBound": repr(figure.high),
            }
    yield metric


def _considerations(report: Report) -> dict[str, Any]:
    purpose, others, cost = report.purpose, report.other_releases, report.utility.cost_of_privacy
    tradeoffs = [
        f"Held-out records with {one.cell}: macro AUROC {one.private:.3f} with privacy, "
        f"{one.not_private:.3f} without (run {one.other_run})"
        for one in cost.value or ()
    ]
    return {
        "users": [_words(report.parties.recipients)],
        "useCases": [_words(purpose.intended_use)],
        "technicalLimitations": [
            f"Not meant for: {_words(purpose.out_of_scope)}",
            *(
                f"Not covered by the guarantee: {one_line(text)}"
                for text in others.not_covered.value or ()
            ),
        ],
        "performanceTradeoffs": [one_line(text) for text in tradeoffs]
        or [f"Cost of privacy: {gap(cost)}" if not cost.is_known else "Cost of privacy: no rows"],
        "ethicalConsiderations": [
            {"name": one_line(f"{one.event} ({one.evidence})"),
             "mitigationStrategy": one_line(f"{one.measure}; what stays: {one.residual}")}
            for one in report.risks.risks.value or ()
        ],
    }  # fmt: skip


def _properties(report: Report) -> Iterator[dict[str, str]]:
    for block, fields in _FACTS.items():
        for field in fields:
            fact: Fact[Any] = getattr(getattr(report, block), field)
            yield {"name": f"privfin:{block}:{field}", "value": _words(fact)}
            yield {"name": f"privfin:{block}:{field}:status", "value": fact.status}
    for one in report.guarantee.observers.value or ():
        yield {
            "name": "privfin:guarantee:observer",
            "value": one_line(
                f"{one.observer} ({one.sees}): epsilon {at_most(one.epsilon)} at delta "
                f"{delta_text(one.delta)}; from 50:50 to at most "
                f"{percent_at_most(one.best_accuracy)} right guesses"
            ),
        }
    for assumption in report.accounting.assumptions.value or ():
        yield {
            "name": f"privfin:accounting:assumption:{one_line(assumption.assumption_id)}",
            "value": one_line(f"{assumption.status}: {assumption.text} ({assumption.by})"),
        }
    for name, digest in sorted((report.reproducibility.encoder_weights.value or {}).items()):
        yield {"name": f"privfin:encoder:{one_line(name)}:sha256", "value": one_line(digest)}


def _words(fact: Fact[Any]) -> str:
    """A fact's value as text, or its gap."""
    if not fact.is_known:
        return gap(fact)
    value = fact.get()
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, tuple):
        return one_line("; ".join(map(str, value)))
    return "inf" if value == float("inf") else json.dumps(value)


def _package(one: Component) -> dict[str, Any]:
    """A package. Python itself is a platform, and has no address in the index of packages."""
    name, version = one_line(one.name), one_line(one.version)
    kind, place = ("platform", "generic") if name == "python" else ("library", "pypi")
    plain = quote(name.lower().replace("_", "-"), safe="")
    address = f"pkg:{place}/{plain}@{quote(version, safe='')}"
    return {
        "type": kind, "bom-ref": address, "name": name, "version": version, "purl": address,
    }  # fmt: skip
