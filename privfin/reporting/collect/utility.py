"""Block ``utility``: how well the model does, for whom, and what privacy costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from privfin.comparison.finished import short_names, show_value
from privfin.reporting.blocks_results import (
    CellResult,
    GroupResult,
    Interval,
    LabelResult,
    PrivacyCost,
    Utility,
)
from privfin.reporting.evidence import Evidence
from privfin.reporting.facts import Fact, derived, measured, not_applicable, not_assessed
from privfin.runs import option_differences

_METRICS = "metrics.json"
_NOT_OPENED = "not opened"
_NOTHING = Interval(value=None)
#: Options of a run without privacy that say nothing of the comparison.
_PRIVACY_OPTIONS = ("privacy.", "crypto.")


def utility_block(evidence: Evidence, others: Sequence[Evidence] = ()) -> Utility:
    """The block.

    Args:
        evidence: of the run.
        others: runs shown beside it; one without privacy on the same held-out data gives the cost.

    Raises:
        UserInputError: ``metrics.json`` is damaged.
    """
    with evidence.reading(_METRICS):
        return Utility(
            cells=_cells_fact(evidence),
            groups=_groups_fact(evidence),
            cost_of_privacy=_cost_fact(evidence, others),
            is_secure=measured("federated" in evidence.metrics, _METRICS),
            noise=measured(str(evidence.metrics["noise"]), _METRICS),
        )


def cell_entries(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What ``metrics.json`` says of each measured cell; of secure metrics, what the sums say."""
    return dict(metrics.get("federated", metrics)["cells"])


def cell_results(evidence: Evidence) -> tuple[CellResult, ...]:
    """A row a cell; a cell or label that may not be seen says why."""
    metrics = evidence.metrics
    missing = _withheld(evidence)
    if "federated" not in metrics:
        return tuple(_open_cell(name, one, missing) for name, one in metrics["cells"].items())
    secure = metrics["federated"]
    return (
        *(_secure_cell(name, one, missing) for name, one in secure["cells"].items()),
        *(_hidden_cell(name, why) for name, why in secure["not_opened"].items()),
    )


def _withheld(evidence: Evidence) -> str | None:
    """Which figures the configuration keeps back, in words."""
    allowed = evidence.config.evaluation.metrics
    hidden = [name for name in ("auroc", "auprc", "calibration", "brier") if name not in allowed]
    return f"evaluation.metrics leaves out {', '.join(hidden)}" if hidden else None


def _cells_fact(evidence: Evidence) -> Fact[tuple[CellResult, ...]]:
    rows = cell_results(evidence)
    if not cell_entries(evidence.metrics):
        why = "; ".join(dict.fromkeys(row.withheld or "" for row in rows))
        return not_assessed(why or "no held-out record fits a cell", _METRICS)
    return measured(rows, _METRICS)


def _open_cell(name: str, one: dict[str, Any], withheld: str | None) -> CellResult:
    return CellResult(
        cell=name,
        records=one["records"],
        patients=one["patients"],
        auroc=_interval(one, "macro_auroc"),
        auprc=_interval(one, "macro_auprc"),
        ece=one["macro_ece"],
        brier=one["macro_brier"],
        confidence=one["confidence"],
        labels=tuple(
            LabelResult(
                label=label["name"],
                positives=label["positives"],
                negatives=label["negatives"],
                auroc=_interval(label, "auroc"),
                auprc=_interval(label, "auprc"),
                ece=label["ece"],
                brier=label["brier"],
                left_out=label["left_out"],
            )
            for label in one["labels"]
        ),
        withheld=withheld,
    )


def _interval(one: dict[str, Any], name: str) -> Interval:
    return Interval(value=one[name], low=one[f"{name}_low"], high=one[f"{name}_high"])


def _secure_cell(name: str, one: dict[str, Any], withheld: str | None) -> CellResult:
    """From encrypted sums: ``low`` and ``high`` surely enclose the figure of the pooled scores."""
    macro = one["macro"]
    return CellResult(
        cell=name,
        records=one["records"],
        patients=one["patients"],
        auroc=_bounds(macro, "auroc"),
        auprc=_bounds(macro, "auprc"),
        ece=_bounds(macro, "ece").value,
        brier=_bounds(macro, "brier").value,
        confidence=1.0,
        labels=(
            *(
                LabelResult(
                    label=label["name"],
                    positives=label["positives"],
                    negatives=label["negatives"],
                    auroc=_bounds(label, "auroc"),
                    auprc=_bounds(label, "auprc"),
                    ece=_bounds(label, "ece").value,
                    brier=_bounds(label, "brier").value,
                    left_out=label["left_out"],
                )
                for label in one["labels"]
            ),
            *(_hidden_label(label, why) for label, why in one["not_opened"].items()),
        ),
        withheld=withheld,
    )


def _bounds(figures: dict[str, Any], name: str) -> Interval:
    return Interval(**figures[name]) if name in figures else _NOTHING


def _hidden_label(label: str, why: str) -> LabelResult:
    return LabelResult(
        label=label,
        positives=_NOT_OPENED,
        negatives=_NOT_OPENED,
        auroc=_NOTHING,
        auprc=_NOTHING,
        ece=None,
        brier=None,
        left_out=f"{_NOT_OPENED}: {why}",
    )


def _hidden_cell(name: str, why: str) -> CellResult:
    return CellResult(
        cell=name,
        records=_NOT_OPENED,
        patients=_NOT_OPENED,
        auroc=_NOTHING,
        auprc=_NOTHING,
        ece=None,
        brier=None,
        confidence=1.0,
        withheld=f"{_NOT_OPENED}: {why}",
    )


def _groups_fact(evidence: Evidence) -> Fact[tuple[GroupResult, ...]]:
    groups = evidence.metrics["groups"]
    if not groups:
        return not_assessed(_why_no_groups(evidence), _METRICS)
    withheld = _withheld(evidence)
    rows = tuple(
        GroupResult(
            by=by,
            group=name,
            cells=tuple(_open_cell(c, one, withheld) for c, one in group["cells"].items()),
            left_out=group["left_out"],
        )
        for by, of_kind in groups.items()
        for name, group in of_kind.items()
    )
    return measured(rows, _METRICS)


def _why_no_groups(evidence: Evidence) -> str:
    if "federated" in evidence.metrics:
        return "figures by group are not measured through encrypted sums"
    if "groups" not in evidence.config.evaluation.metrics:
        return "evaluation.metrics leaves out groups"
    return "the held-out records state no sex, age or source by which they differ"


def _cost_fact(evidence: Evidence, others: Sequence[Evidence]) -> Fact[tuple[PrivacyCost, ...]]:
    """Rows against every run without privacy that was measured on the same records and labels."""
    source = "command line"
    if not evidence.config.privacy.is_private:
        return not_applicable("this run was itself trained without privacy", "manifest.json")
    if not others:
        return not_assessed("no run without privacy was given to compare with", source)
    names = short_names([one.run.path for one in (evidence, *others)])[1:]
    reasons, notes, rows = [], [], []
    for name, other in zip(names, others, strict=True):
        why = _unfit(evidence, other)
        if why:
            reasons.append(f"{name} {why}")
            continue
        rows += list(_costs(evidence, other, name))
        notes += _other_differences(evidence, other, name)
    if not rows:
        why = "; ".join(reasons) or "the runs share no cell with a macro AUROC"
        return not_assessed(f"no fitting run without privacy: {why}", source)
    return derived(tuple(rows), f"{_METRICS} of both runs", "; ".join(notes))


def _unfit(evidence: Evidence, other: Evidence) -> str:
    """Why a run says nothing of the cost of privacy; empty if it does."""
    if other.config.privacy.is_private:
        return "was trained with privacy too"
    if other.run.label_names != evidence.run.label_names:
        return "has other labels"
    held_out = [one.manifest["data_sha256"]["held-out"] for one in (evidence, other)]
    if held_out[0] != held_out[1]:
        return "was measured on other held-out patients or inputs"
    return ""


def _costs(evidence: Evidence, other: Evidence, name: str) -> Iterator[PrivacyCost]:
    theirs = {row.cell: row.auroc.value for row in cell_results(other)}
    for row in cell_results(evidence):
        own, free = row.auroc.value, theirs.get(row.cell)
        if own is not None and free is not None:
            yield PrivacyCost(
                cell=row.cell, private=own, not_private=free, difference=own - free, other_run=name
            )


def _other_differences(evidence: Evidence, other: Evidence, name: str) -> list[str]:
    """What else differs, so that the difference is not taken for that of privacy alone."""
    found = [
        f"{key} is {show_value(here)} here, {show_value(there)} there"
        for key, here, there in option_differences(evidence.config, other.config)
        if not key.startswith(_PRIVACY_OPTIONS)
    ]
    return [f"{name} also differs in: {', '.join(found)}"] if found else []
