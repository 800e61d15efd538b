"""Page one: what was trained, what it cost of the budgets, and what left the sites."""

from __future__ import annotations

from privfin.reporting.blocks_privacy import PopulationBudget
from privfin.reporting.numbers import (
    at_least,
    at_most,
    data_size,
    delta_text,
    listed,
    number_of,
    significant,
)
from privfin.reporting.schema import Report
from privfin.reporting.summary.answer import Answer, Tone, answer, gap

_READERS: dict[str, tuple[Tone, str]] = {
    "bfv": (
        "plain",
        "The coordinator had no key, and masks hid the single update of a site unless all other "
        "sites work together with the coordinator",
    ),
    "ckks": (
        "bad",
        "WEAKER ENCRYPTION: CKKS has no masks, so the coordinator together with any 1 site could "
        "read single updates of every site",
    ),
    "none": (
        "bad",
        "NOT ENCRYPTED: the coordinator, 1 party, could read every single update of every site",
    ),
}


def trained(report: Report) -> Answer:
    """What was trained on whom, by which sites, and what for."""
    purpose, parties, data = report.purpose, report.parties, report.data
    sites = parties.sites.get() if parties.sites.is_known else ()
    people = (
        number_of(data.training_patients.get(), "patient")
        if data.training_patients.is_known
        else f"patients (how many is {gap(data.training_patients)})"
    )
    made_up = data.is_simulated.is_known and data.is_simulated.get()
    where = f"at {number_of(len(sites), 'site')}" if sites else "at sites that are not known"
    what = purpose.task.get() if purpose.task.is_known else f"a task that is {gap(purpose.task)}"
    rounds = report.mechanism.rounds
    how_long = f" in {number_of(rounds.get(), 'round')}" if rounds.is_known else ""
    first = f"A model for {what}, trained{how_long} on {people} {where}"
    if made_up:
        first += "; all of these patients are simulated"
    is_stated = purpose.intended_use.is_known
    use = (
        f"It is meant for: {purpose.intended_use.get().rstrip('.')}."
        if is_stated
        else "What it is to be used for, and for whom, nobody has stated."
    )
    left = _left(report)
    tone: Tone = "bad" if left else "plain" if is_stated else "open"
    return answer(
        tone, f"{first}.", use, left,
        fields=("/purpose/task", "/purpose/intended_use", "/parties/sites", "/parties/sites_left",
                "/data/training_patients", "/data/is_simulated", "/mechanism/rounds"),
        needs=(purpose.task, parties.sites, parties.sites_left, data.training_patients,
               data.is_simulated),
    )  # fmt: skip


def _left(report: Report) -> str:
    left = report.parties.sites_left
    if not left.is_known:
        return f"Whether a site dropped out is {gap(left)}."
    if not left.get():
        return ""
    names = listed([f"{one.site} (round {one.round})" for one in left.get()])
    return f"DROPPED OUT: {names}; later rounds went on without, and steps until then count."


def budget(report: Report) -> Answer:
    """How much of each population's budget is used."""
    ledger = report.ledger
    fields = ("/ledger/status", "/ledger/budgets", "/ledger/check")
    if not ledger.status.is_known:
        return answer("open", f"What was charged is {gap(ledger.status)}.", fields=fields)
    if ledger.status.get() == "simulated":
        return answer(
            "plain",
            "The patients are simulated: 0 was charged to budgets of real patients.",
            fields=fields,
        )
    if ledger.status.get() == "none":
        return answer(
            "bad",
            "NO LEDGER: 0 populations are counted. What the same patients were charged by other "
            "runs is not known, and nothing would refuse the next one.",
            fields=fields,
        )
    if not ledger.budgets.is_known:
        return answer("open", f"Where the budgets stand is {gap(ledger.budgets)}.", fields=fields)
    rows = ledger.budgets.get()
    over = [one for one in rows if one.is_over]
    words = [_population(one) for one in sorted(rows, key=lambda one: not one.is_over)]
    text = f"Epsilon used of each population, for one patient: {'; '.join(words)}."
    if over:
        text = f"OVER BUDGET in {len(over)} of {number_of(len(rows), 'population')}. {text}"
    checked = (
        "" if ledger.check.is_known else f"Whether the ledger is whole is {gap(ledger.check)}."
    )
    no_caps = any(one.cap_epsilon is None for one in rows)
    tone: Tone = "bad" if over else "open" if no_caps else "plain"
    return answer(tone, text, checked, fields=fields, needs=(ledger.check,))


def _population(one: PopulationBudget) -> str:
    held = f" and {at_most(one.reserved)} held by open runs" if one.reserved else ""
    spent = f"{at_most(one.before)} before, {at_most(one.this_run)} by this run{held}"
    raised = f", cap raised {number_of(one.raised, 'time')}" if one.raised else ""
    runs = f"{number_of(one.runs, 'run')} counted, {one.refusals} refused{raised}"
    if one.cap_epsilon is None or one.cap_delta is None:
        return f"{one.population}: {spent}, and it has no cap ({runs})"
    return (
        f"{one.population}: {spent}, of a cap of {significant(one.cap_epsilon, 6)} at delta "
        f"{delta_text(one.cap_delta)}, which leaves {at_least(one.left)} ({runs})"
    )


def left_sites(report: Report) -> Answer:
    """What left the sites, how much of it, and who could read single updates."""
    exchange = report.exchange
    fields = ("/exchange/kind", "/exchange/bytes_up", "/exchange/bytes_down",
              "/exchange/single_updates", "/exchange/readable_segments",
              "/security/transport")  # fmt: skip
    up = data_size(exchange.bytes_up.get()) if exchange.bytes_up.is_known else "an unknown amount"
    down = (
        data_size(exchange.bytes_down.get()) if exchange.bytes_down.is_known else "an unknown one"
    )
    if not exchange.kind.is_known:
        how = f"How it was encrypted, and who could read it, is {gap(exchange.kind)}."
        return answer("open", f"{up} went out and {down} came back.", how, fields=fields)
    kind = exchange.kind.get()
    what = "updates in clear" if kind == "none" else f"{kind.upper()} ciphertexts of updates"
    transport = report.security.transport
    wire = f" ({transport.get()})" if transport.is_known else ""
    tone, readers = _READERS[kind]
    return answer(
        tone,
        f"{up} of {what} went from the sites to the coordinator, and {down} came back{wire}.",
        f"{readers}{_with_noise(report)}.",
        _readable(report),
        fields=fields,
        needs=(exchange.bytes_up, exchange.bytes_down, exchange.readable_segments),
    )


def _noise_is(report: Report, trust: str) -> bool:
    """Whether there is noise, added as ``local`` or ``shared`` trust does."""
    private, stated = report.guarantee.is_private, report.mechanism.trust
    return private.is_known and private.get() and stated.is_known and stated.get().startswith(trust)


def _with_noise(report: Report) -> str:
    """For updates that somebody could read: that each has its noise, where it has."""
    is_read = report.exchange.kind.get() != "bfv"
    return ", each with its full noise" if is_read and _noise_is(report, "local") else ""


def _readable(report: Report) -> str:
    """What sums show; with shared noise, that the promise rests on nobody seeing a part of one."""
    if _noise_is(report, "shared"):
        return "An update has only a share of the noise, so the promise also rests on this lock."
    segments = report.exchange.readable_segments
    if not segments.is_known:
        return (
            f"Whether sums show single updates is {gap(segments)}."
            if segments.status == "not_assessed"
            else ""
        )
    if not segments.get():
        return ""
    return (
        f"Too few sites train {listed(list(segments.get()))}: there the sum shows other sites "
        f"single updates ({number_of(len(segments.get()), 'part')} of the model)."
    )
