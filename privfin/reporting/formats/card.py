"""A model card in Markdown: what travels with the model."""

from __future__ import annotations

from collections.abc import Iterator

from privfin.reporting.blocks_privacy import ObserverGuarantee
from privfin.reporting.formats.card_results import FALSE_ALARMS, attacks_section, results_section
from privfin.reporting.formats.front_matter import front_matter
from privfin.reporting.formats.markdown import gap, inline, items, lines_of_code, table, words
from privfin.reporting.numbers import at_most, delta_text, percent_at_most
from privfin.reporting.schema import Report

_TONES = {"plain": "", "good": " (checked)", "open": " (open)", "bad": " (look here first)"}


def model_card(report: Report) -> str:
    """The model card: YAML front matter, then Markdown with the sentences of page one.

    Texts of people and files are escaped; figures are those of the report, in its release class.
    Upper bounds are rounded up, lower ones down.
    """
    parts = (
        ("", _opening(report)),
        ("Intended use", _use(report)),
        ("Privacy guarantee", _guarantee(report)),
        ("Attacks on the model", attacks_section(report)),
        ("Results", results_section(report)),
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
            f"epsilon {at_most(everywhere.get())} at the delta of the table, composed over "
            f"the sites ({everywhere.status})"
            if everywhere.is_known
            else gap(everywhere)
        )
    )


def _observer(one: ObserverGuarantee) -> tuple[str, ...]:
    found = [p.true_positive_rate for p in one.trade_off if p.false_positive_rate == FALSE_ALARMS]
    return (
        one.observer,
        one.sees,
        at_most(one.epsilon),
        delta_text(one.delta),
        percent_at_most(one.best_accuracy),
        percent_at_most(found[0]) if found else "not stated",
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
