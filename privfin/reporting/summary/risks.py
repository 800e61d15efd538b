"""Feared events: what could happen to a patient, and what this report has on it.

The program proposes events, evidence and measures. How severe and how likely an event is, and
whether that is acceptable, a person decides: those three stay open here.
"""

from __future__ import annotations

from collections.abc import Sequence

from privfin.reporting.answers.answers import Answers
from privfin.reporting.blocks_people import Risk, Risks
from privfin.reporting.blocks_results import Interval, Inversion
from privfin.reporting.facts import derived
from privfin.reporting.numbers import at_most, delta_text, number_of, significant
from privfin.reporting.schema import Report
from privfin.reporting.summary.answer import gap
from privfin.reporting.summary.attacks import best_attack, ceiling, was_attacked
from privfin.reporting.summary.privacy import by_curve
from privfin.reporting.summary.run import left_sites

# What a site sends, before encryption; other views are kept from everybody.
_AS_SENT = "as sent"

SOURCE = "proposed by privfin from this report"
#: What :func:`propose_risks` proposes, in its order.
RISK_IDS = (
    "membership",
    "attribute",
    "reconstruction",
    "identity-linkage",
    "unwanted-change",
    "loss-of-keys",
)


def propose_risks(report: Report) -> Risks:
    """Six feared events with evidence in this report's numbers, for a person to judge.

    Args:
        report: with every block but summary and risks filled in.

    Returns:
        Rows whose severity, likelihood and decision are None.
    """
    makers = (_membership, _attribute, _reconstruction, _linkage, _unwanted_change, _keys)
    return Risks(risks=derived(tuple(make(report) for make in makers), SOURCE))


def with_decisions(risks: Risks, answers: Answers) -> Risks:
    """The risks with what people answered on severity, likelihood and acceptance.

    Raises:
        UserInputError: an answer is about a risk that is not there.
    """
    if not risks.risks.is_known:
        return risks
    rows = risks.risks.get()
    answers.check_risks([row.risk_id for row in rows])
    decided = []
    for row in rows:
        said = answers.risk(row.risk_id)
        decided.append(
            row.model_copy(
                update={
                    "severity": said.severity,
                    "likelihood": said.likelihood,
                    "decision": said.decision,
                }
            )
        )
    return Risks(risks=risks.risks.model_copy(update={"value": tuple(decided)}))


def _is_private(report: Report) -> bool:
    fact = report.guarantee.is_private
    return fact.is_known and fact.get()


def _noise(report: Report) -> str:
    """The measure that bounds everything that is learned from updates and the model."""
    if not _is_private(report):
        return "none: the run promises nothing"
    trust = report.mechanism.trust
    return f"differential privacy per patient ({trust.get() if trust.is_known else gap(trust)})"


def _membership(report: Report) -> Risk:
    if _is_private(report):
        curve = by_curve(report.guarantee)
        promise = f"Bets on one patient go {curve}." if curve else "No trade-off curve is known."
    else:
        promise = "Bets on one patient go from 50:50 to 100:0 in the worst case."
    tested = (
        f"{best_attack(report)} {ceiling(report)}"
        if was_attacked(report.audit)
        else "Not tested: 0 attacks were made."
    )
    return Risk(
        risk_id="membership",
        event="Somebody learns that a patient's records were used, and so that the patient was "
        "treated at a site or had an illness.",
        criterion="singling out",
        evidence=f"{promise} {tested}",
        fields=("/guarantee/observers", "/audit/attacks", "/audit/largest_ceiling"),
        measure=_noise(report),
        residual="The odds above; a patient may be more exposed than the average of all patients.",
    )


def _attribute(report: Report) -> Risk:
    rows = report.audit.attributes
    if rows.is_known and rows.get():
        parts = [
            f"{one.attribute}: with the model {_interval(one.with_model)}, without it "
            f"{_interval(one.without_model)}, difference {_interval(one.difference)}"
            for one in rows.get()
        ]
        evidence = f"Balanced accuracy of guessing: {'; '.join(parts)}."
    elif rows.is_known:
        evidence = "0 attributes were tried."
    else:
        evidence = f"Not tested: 0 attributes were tried ({gap(rows)})."
    return Risk(
        risk_id="attribute",
        event="Somebody who knows part of a patient's record infers another part of it, such as a "
        "finding or the sex.",
        criterion="inference",
        evidence=evidence,
        fields=("/audit/attributes", "/guarantee/observers"),
        measure=_noise(report),
        residual="What holds for a whole group of patients can be inferred for each of them, "
        "trained on or not: no guarantee for single patients prevents that.",
    )


def _interval(row: Interval) -> str:
    if row.value is None:
        return "(not shown)"
    if row.low is None or row.high is None:
        return f"{row.value:.2f}"
    return f"{row.value:.2f} ({row.low:.2f} to {row.high:.2f})"


def _reconstruction(report: Report) -> Risk:
    rows = report.audit.inversion
    if rows.is_known and rows.get():
        sent = [one for one in rows.get() if _AS_SENT in one.view] or list(rows.get())
        others = len(rows.get()) - len(sent)
        more = f"; {number_of(others, 'row')} on what nobody is sent" if others else ""
        tested = f"Likeness of what was rebuilt from updates: {_best_and_worst(sent)}{more}."
    else:
        why = gap(rows) if not rows.is_known else "0 views were tried"
        tested = f"Rebuilding records from updates was not tested ({why})."
    return Risk(
        risk_id="reconstruction",
        event="Somebody rebuilds an image or a text of a patient from a site's update or from the "
        "model.",
        criterion="inference",
        evidence=f"{tested} {left_sites(report).text}",
        fields=("/audit/inversion", "/exchange/single_updates", "/exchange/readable_segments"),
        measure=f"{_noise(report)}; encryption: {_scheme(report)}",
        residual="A site's own updates are known to it, and whoever holds the model can query it "
        "without limit.",
    )


def _best_and_worst(rows: Sequence[Inversion]) -> str:
    """The rows with most and least gain over guessing; in every measure, more is more alike."""
    ordered = sorted(rows, key=lambda one: (one.value - one.prior) / (abs(one.prior) or 1.0))
    best, worst = (
        f"{one.view}, {one.measure} {significant(one.value, 2)} "
        f"(guessed without any update {significant(one.prior, 2)})"
        for one in (ordered[-1], ordered[0])
    )
    if len(rows) == 1:
        return best
    return f"best of {number_of(len(rows), 'row')}: {best}; worst: {worst}"


def _scheme(report: Report) -> str:
    fact = report.exchange.encryption
    return fact.get() if fact.is_known else gap(fact)


def _linkage(report: Report) -> Risk:
    guarantee = report.guarantee
    status, everywhere = guarantee.no_person_at_two_sites, guarantee.epsilon_at_every_site
    known = status.get() if status.is_known else gap(status)
    sites = report.parties.sites
    number = number_of(len(sites.get()), "site") if sites.is_known else "an unknown number of sites"
    evidence = f"That no person is a patient of two of the {number}: {known}."
    if _is_private(report) and everywhere.is_known and guarantee.delta.is_known:
        evidence += (
            f" For a patient of every site epsilon is {at_most(everywhere.get())} at delta "
            f"{delta_text(guarantee.delta.get())}."
        )
    if report.ledger.budgets.is_known:
        runs = sum(row.runs for row in report.ledger.budgets.get())
        evidence += f" The ledger counts {number_of(runs, 'run')} of these populations."
    else:
        evidence += f" What other runs add for the same person: {gap(report.ledger.budgets)}."
    return Risk(
        risk_id="identity-linkage",
        event="Traces of one person at several sites, or in several runs, add up, and records of "
        "the person are linked.",
        criterion="linkability",
        evidence=evidence,
        fields=("/guarantee/no_person_at_two_sites", "/guarantee/epsilon_at_every_site",
                "/ledger/budgets", "/accounting/assumptions"),
        measure="patients count as whole persons at a site; a ledger adds up runs of a population",
        residual="A person under two names at one site counts as two, and nothing checks it.",
    )  # fmt: skip


def _unwanted_change(report: Report) -> Risk:
    parties, files = report.parties, report.reproducibility.files
    sites = parties.sites.get() if parties.sites.is_known else ()
    parts = [
        f"{len(sites)} sites could each send an update of their own making"
        if sites
        else f"which sites could send updates: {gap(parties.sites)}"
    ]
    left = parties.sites_left
    if left.is_known:
        parts.append(f"{len(left.get())} of them dropped out")
    parts.append(
        f"{number_of(len(files.get()), 'file')} of the run have their SHA-256 here"
        if files.is_known
        else f"hashes of the run's files: {gap(files)}"
    )
    authentication = report.security.authentication
    return Risk(
        risk_id="unwanted-change",
        event="Somebody changes the model or its figures: a site that sends false updates, or "
        "somebody who alters files.",
        criterion="other",
        evidence=f"{'; '.join(parts)}.",
        fields=("/parties/sites", "/parties/sites_left", "/security/authentication",
                "/reproducibility/files"),
        measure=authentication.get() if authentication.is_known else gap(authentication),
        residual="Nothing proves that a site trained honestly; without a signature, hashes find "
        "accidents, not forgery.",
    )  # fmt: skip


def _keys(report: Report) -> Risk:
    exchange, keys, sites = report.exchange, report.security.keys, report.parties.sites
    kind = exchange.kind.get() if exchange.kind.is_known else None
    number = number_of(len(sites.get()), "site") if sites.is_known else "all sites"
    if kind is None:
        evidence = f"How updates are encrypted: {gap(exchange.kind)}."
    elif kind == "none":
        evidence = "Updates are not encrypted: 0 keys protect them."
    else:
        evidence = f"The key that decrypts sums is shared by {number} ({_scheme(report)})."
    residual = {
        "bfv": "Who steals one site's key reads sums; masks still hide earlier single updates of "
        "other sites.",
        "ckks": "Who steals one site's key, and has the messages, reads every single update.",
        "none": "There is nothing to steal: who sees the messages reads every update.",
    }
    return Risk(
        risk_id="loss-of-keys",
        event="A key is lost or stolen: updates can be read, or runs and ledgers can be forged.",
        criterion="other",
        evidence=evidence,
        fields=("/security/keys", "/exchange/encryption", "/exchange/kind"),
        measure=keys.get() if keys.is_known else gap(keys),
        residual=residual.get(kind or "", "Not known without the encryption."),
    )
