"""A model card in Markdown: what travels with the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from privfin.reporting.blocks_privacy import ObserverGuarantee
from privfin.reporting.blocks_results import AttackResult, CellResult, Interval
from privfin.reporting.facts import Fact
from privfin.reporting.front_matter import front_matter
from privfin.reporting.markdown import gap, inline, items, lines_of_code, table, words
from privfin.reporting.plain_text import short
from privfin.reporting.schema import Report

_TONES = {"plain": "", "good": " (checked)", "open": " (open)", "bad": " (look here first)"}
_FALSE_ALARMS = 0.01


def model_card(report: Report) -> str:
    """The model card: YAML front matter, then Markdown with the sentences of page one.

    Texts of people and files are escaped; figures are those of the report, in its release class.
    Upper bounds are rounded up, lower ones down.
    """
    parts = (
        ("", _opening(report)),
        ("Intended use", _use(report)),
        ("Privacy guarantee", _guarantee(report)),
        ("Attacks on the model", _audit(report)),
        ("Results", _results(report)),
        ("Not covered by the guarantee", _not_covered(report)),
        ("License", iter(["The report knows of no license: a person has to state one."])),
        ("How to verify", _verify(report)),
    )
    text = "\n\n".join(
        "\n\n".join([f"## {title}", *blocks] if title else blocks) for title, blocks in parts
    )
    return f"{front_matter(report)}\n{text}\n"


def _opening(report: Report) -> Iterator[str]:
    yield f"# Model of run {inline(report.report.run_name.value or 'unknown')}"
    for one in report.summary:
        yield f"**{inline(one.question)}**{_TONES[one.tone]} {inline(one.text)}"


def _use(report: Report) -> Iterator[str]:
    purpose = report.purpose
    yield items(
        f"{name}: {words(fact)}"
        for name, fact in (
            ("Task", purpose.task),
            ("Intended use", purpose.intended_use),
            ("Whose data", purpose.people),
            ("Not meant for", purpose.out_of_scope),
            ("Who gets the model", report.parties.recipients),
        )
    )
    labels = purpose.labels
    yield "Labels: " + inline(", ".join(labels.get()) if labels.is_known else gap(labels))


def _guarantee(report: Report) -> Iterator[str]:
    guarantee = report.guarantee
    yield inline(words(guarantee.statement))
    yield items(
        f"{name}: {words(fact)}"
        for name, fact in (
            ("Claim", guarantee.claim),
            ("Protected unit", guarantee.unit),
            ("Neighbouring data sets", guarantee.adjacency),
            ("What the headline is", guarantee.headline),
            ("Outputs that are covered", guarantee.outputs),
            ("Uses of the data that are covered", guarantee.accesses),
        )
    )
    if not guarantee.observers.is_known:
        yield inline(f"Guarantee against each observer: {gap(guarantee.observers)}")
        return
    yield table(
        (
            "observer",
            "what it sees",
            "epsilon",
            "delta",
            "right guesses from 50:50, at most",
            "members found at 1 % false alarms, at most",
        ),
        map(_observer, guarantee.observers.get()),
    )
    everywhere = guarantee.epsilon_at_every_site
    yield inline(
        "A person who is a patient of every site: "
        + (
            f"epsilon {short(everywhere.get(), 4, 'up')} at the delta of the table, composed over "
            f"the sites ({everywhere.status})"
            if everywhere.is_known
            else gap(everywhere)
        )
    )


def _observer(one: ObserverGuarantee) -> tuple[str, ...]:
    found = [p.true_positive_rate for p in one.trade_off if p.false_positive_rate == _FALSE_ALARMS]
    return (
        one.observer,
        one.sees,
        short(one.epsilon, 4, "up"),
        short(one.delta),
        f"{short(100 * one.best_accuracy, 3, 'up')} %",
        f"{short(100 * found[0], 3, 'up')} %" if found else "not stated",
    )


def _audit(report: Report) -> Iterator[str]:
    audit = report.audit
    if not audit.attacks.is_known:
        yield inline(f"Membership attacks: {gap(audit.attacks)}")
    else:
        yield inline(
            "Finding: "
            + words(audit.verdict)
            + ". An attack that finds nothing does not prove that there is nothing: a test of this "
            "size could have shown no more than the ceiling."
        )
        yield table(
            (
                "attack",
                "observer",
                "patients",
                "members / others",
                "AUC",
                "members found at 1 % false alarms",
                "epsilon at least",
                "ceiling: could have shown",
                "epsilon claimed",
            ),
            map(_attack, audit.attacks.get()),
        )
        confidence = audit.confidence
        yield inline(
            "Confidence of intervals and bounds: "
            + (f"{100 * confidence.get():g} %" if confidence.is_known else gap(confidence))
        )
    if audit.canaries.is_known:
        yield table(
            ("canaries", "observer", "how many", "epsilon at least", "ceiling", "epsilon claimed"),
            (
                (
                    f"{one.kind}, {one.level}",
                    one.observer,
                    str(one.canaries),
                    _lower(one.epsilon_bound),
                    _upper(one.epsilon_ceiling),
                    short(one.claim, 4, "up"),
                )
                for one in audit.canaries.get()
            ),
        )
    others: dict[str, Fact[Any]] = {
        "Canaries": audit.canaries,
        "Attribute inference": audit.attributes,
        "Gradient inversion": audit.inversion,
    }
    lines = [f"{name}: {gap(fact)}" for name, fact in others.items() if not fact.is_known]
    for name, fact in (
        ("Contradiction of the guarantee", audit.contradictions),
        ("Rule that was passed", audit.risks),
        ("Attack that was not made", audit.left_out),
    ):
        lines += [f"{name}: {line}" for line in fact.value or ()]
    if lines:
        yield items(lines)


def _attack(one: AttackResult) -> tuple[str, ...]:
    found = [row for row in one.tpr if row.target_fpr == _FALSE_ALARMS]
    return (
        one.attack,
        one.observer,
        one.stratum,
        f"{one.members} / {one.nonmembers}",
        _interval(one.auc),
        _percent(found[0].tpr) if found else "not stated",
        _lower(one.epsilon_bound),
        _upper(one.epsilon_ceiling),
        short(one.claim, 4, "up"),
    )


def _lower(bound: float | None) -> str:
    return "not stated" if bound is None else short(bound, 3, "down")


def _upper(bound: float | None) -> str:
    return "not stated" if bound is None else short(bound, 3, "up")


def _interval(one: Interval) -> str:
    if one.value is None:
        return "not stated"
    if one.low is None or one.high is None:
        return f"{one.value:.3f} (no interval)"
    return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"


def _percent(one: Interval) -> str:
    if one.value is None:
        return "not stated"
    if one.low is None or one.high is None:
        return f"{100 * one.value:.1f} % (no interval)"
    return f"{100 * one.value:.1f} % ({100 * one.low:.1f} to {100 * one.high:.1f} %)"


def _results(report: Report) -> Iterator[str]:
    utility = report.utility
    if not utility.cells.is_known:
        yield inline(f"Results: {gap(utility.cells)}")
        return
    cells = utility.cells.get()
    yield inline(f"Noise on these figures: {words(utility.noise)}")
    yield table(
        ("held-out records with", "records", "patients", "interval", "AUROC", "average precision",
         "calibration error", "Brier score"),
        map(_cell, cells),
    )  # fmt: skip
    if reasons := [f"{cell.cell}: {cell.withheld}" for cell in cells if cell.withheld]:
        yield items(reasons)
    if utility.groups.is_known:
        yield table(
            ("subgroup", "held-out records with", "patients", "AUROC"),
            (
                (f"{group.by}: {group.group}", cell.cell, str(cell.patients),
                 cell.withheld or _interval(cell.auroc))
                for group in utility.groups.get()
                for cell in group.cells
            ),
        )  # fmt: skip
    else:
        yield inline(f"Subgroups: {gap(utility.groups)}")
    cost = utility.cost_of_privacy
    if cost.is_known:
        yield table(
            ("cost of privacy, held-out records with", "AUROC, private", "AUROC, not private",
             "difference"),
            (
                (one.cell, f"{one.private:.3f}", f"{one.not_private:.3f}", f"{one.difference:+.3f}")
                for one in cost.get()
            ),
        )  # fmt: skip
    else:
        yield inline(f"Cost of privacy: {gap(cost)}")


def _cell(cell: CellResult) -> tuple[str, ...]:
    return (
        cell.cell,
        str(cell.records),
        str(cell.patients),
        f"{100 * cell.confidence:g} %",
        _interval(cell.auroc),
        _interval(cell.auprc),
        "not stated" if cell.ece is None else f"{cell.ece:.3f}",
        "not stated" if cell.brier is None else f"{cell.brier:.3f}",
    )


def _not_covered(report: Report) -> Iterator[str]:
    others = report.other_releases
    if others.not_covered.is_known:
        yield items(others.not_covered.get())
    else:
        yield inline(gap(others.not_covered))
    if others.releases.is_known:
        yield table(
            ("released without noise", "seen by"),
            ((one.what, one.seen_by) for one in others.releases.get()),
        )
    else:
        yield inline(f"Released without noise: {gap(others.releases)}")
    yield inline(f"Why that is acceptable: {words(others.justification)}")


def _verify(report: Report) -> Iterator[str]:
    about, proof = report.report, report.reproducibility
    yield items(
        f"{name}: {words(fact)}"
        for name, fact in (
            ("Report", about.report_id),
            ("Made", about.created),
            ("By", about.tool),
            ("Release class", about.release_class),
            ("Run", about.run_id),
            ("To be relied on until", about.valid_until),
        )
    )
    if about.withheld.value:
        yield "Withheld or made coarser:"
        yield items(about.withheld.value)
    if proof.commands.is_known:
        yield "Commands:"
        yield lines_of_code(proof.commands.get())
    else:
        yield inline(f"Commands: {gap(proof.commands)}")
    if proof.files.is_known:
        yield table(
            ("file of the run", "SHA-256"), ((one.file, one.sha256) for one in proof.files.get())
        )
    else:
        yield inline(f"Files of the run: {gap(proof.files)}")
