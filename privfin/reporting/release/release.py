"""A copy of a report that may travel, without what gives away few or exact numbers of patients.

``internal`` is the report itself. In ``public`` every number of patients or records is coarse, what
they could be calculated from is rounded or left out, and ``report.withheld`` says so in words.
Releasing a released report changes nothing, and an internal report cannot be had back from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from privfin.reporting.blocks_exchange import Exchange, Reproducibility
from privfin.reporting.blocks_people import Data, Parties, ReleaseClass, Risks
from privfin.reporting.facts import derived
from privfin.reporting.release.audit import release_audit
from privfin.reporting.release.coarse import (
    coarse_count,
    digits_up,
    with_coarse_decimals,
    without,
    without_counts,
)
from privfin.reporting.release.facts import Withheld, changed, withheld
from privfin.reporting.release.privacy import (
    release_accounting,
    release_guarantee,
    release_ledger,
    release_mechanism,
)
from privfin.reporting.release.utility import hidden_cells, release_comparison, release_utility
from privfin.reporting.schema import Report
from privfin.reporting.summary.page_one import summarise
from privfin.reporting.summary.risks import propose_risks

_COUNTS = (
    "numbers of patients and records are rounded to two digits, and 1 to 10 of them are shown as "
    "'1 to 10'"
)
_NAMES = (
    "names of sites are kept: who took part, with which modalities, is known to whoever gets this "
    "copy"
)
_FINGERPRINTS = (
    "fingerprints of the data are left out: they are plain hashes, so that whoever guesses the "
    "data can check the guess"
)
_FILES = (
    "hashes of the manifest, the metrics, the privacy statement and the configuration are left "
    "out: whoever tries numbers of patients, or guesses the data, would find what fits"
)
_BYTES = "numbers of bytes are rounded up to two digits"
_COMMANDS = "commands that name a number of patients are left out"
_TEXTS = "numbers of patients in texts are rounded as they are elsewhere"
_EXACT = "exact numbers of patients could be found from it"

#: Files whose content follows from what is public (configuration, model, times), the numbers of
#: patients and the data: the manifest holds the very fingerprints that are left out above.
GUESSABLE_FILES = ("manifest.json", "metrics.json", "privacy.json")

# Counts that small stand for much else in a text, such as a number of sites.
_SMALLEST_IN_TEXT = 11


def for_release(report: Report, release_class: ReleaseClass) -> Report:
    """A report of this release class, or the report itself where it is no finer than that.

    Summary and risks are worded again, so that no sentence has a number that its block has not.

    Args:
        report: whole; with a summary or without.
        release_class: ``internal`` or ``public``.
    """
    if release_class == "internal":
        return report
    about = report.report
    done = Withheld(about.withheld.get() if about.withheld.is_known else ())
    run_id = about.run_id.get() if about.run_id.is_known else ""
    exact = _exact_counts(report)
    utility = release_utility(report.utility, done)
    blocks = report.model_copy(
        update={
            "parties": _parties(report.parties, done),
            "data": _data(report.data, done),
            "guarantee": release_guarantee(report.guarantee, done),
            "mechanism": release_mechanism(report.mechanism, done),
            "accounting": release_accounting(report.accounting, done),
            "ledger": release_ledger(report.ledger, run_id, done),
            "audit": release_audit(report.audit, done),
            "exchange": _exchange(report.exchange, done),
            "utility": utility,
            "reproducibility": _reproducibility(report.reproducibility, exact, done),
            "comparison": release_comparison(
                report.comparison, hidden_cells(utility.cells), run_id, done
            ),
        }
    )
    found = done.note(blocks, _with_coarse_texts(blocks, exact), _TEXTS)
    found = found.model_copy(update={"risks": _risks(found, exact)})
    about = about.model_copy(
        update={
            "release_class": derived("public", about.release_class.source),
            "withheld": derived(done.lines, "release class"),
        }
    )
    found = found.model_copy(update={"report": about})
    return found.model_copy(update={"summary": summarise(found) if report.summary else ()})


def _parties(block: Parties, done: Withheld) -> Parties:
    sites = changed(
        block.sites,
        lambda rows: tuple(
            row.model_copy(update={"patients": coarse_count(row.patients)}) for row in rows
        ),
    )
    after = block.model_copy(update={"sites": sites})
    done.note(block, after, _COUNTS)
    return done.note(block, after, _NAMES)


def _data(block: Data, done: Withheld) -> Data:
    counts = block.model_copy(
        update={
            "training_patients": changed(block.training_patients, coarse_count),
            "held_out_patients": changed(block.held_out_patients, coarse_count),
            "notices": changed(block.notices, lambda rows: tuple(map(without_counts, rows))),
        }
    )
    done.note(block, counts, _COUNTS)
    after = counts.model_copy(
        update={"fingerprints": withheld(block.fingerprints, "whoever guesses the data can check")}
    )
    return done.note(counts, after, _FINGERPRINTS)


def _exchange(block: Exchange, done: Withheld) -> Exchange:
    def rounded(size: int) -> int:
        return int(digits_up(size))

    after = block.model_copy(
        update={
            "bytes_up": changed(block.bytes_up, rounded),
            "bytes_down": changed(block.bytes_down, rounded),
        }
    )
    return done.note(block, after, _BYTES)


def _reproducibility(block: Reproducibility, exact: set[int], done: Withheld) -> Reproducibility:
    hashes = block.model_copy(
        update={
            "config_sha256": withheld(block.config_sha256, _EXACT),
            "files": changed(
                block.files,
                lambda rows: tuple(row for row in rows if row.file not in GUESSABLE_FILES),
            ),
        }
    )
    done.note(block, hashes, _FILES)
    after = hashes.model_copy(
        update={
            "commands": changed(
                block.commands,
                lambda rows: tuple(row for row in rows if without(row, exact) == row),
            )
        }
    )
    return done.note(hashes, after, _COMMANDS)


def _risks(report: Report, exact: set[int]) -> Risks:
    """The risks, worded again from the released numbers; a person's estimates stay."""
    if not report.risks.risks.is_known:
        return report.risks
    proposed = propose_risks(report).risks
    again = {row.risk_id: row for row in proposed.get()} if proposed.is_known else {}
    rows = tuple(
        again[row.risk_id].model_copy(
            update={
                "severity": row.severity,
                "likelihood": row.likelihood,
                "decision": None if row.decision is None else without(row.decision, exact),
            }
        )
        if row.risk_id in again
        else row
        for row in report.risks.risks.get()
    )
    return report.risks.model_copy(
        update={"risks": report.risks.risks.model_copy(update={"value": rows})}
    )


def _exact_counts(report: Report) -> set[int]:
    """Exact numbers of patients and records that the report has, where a text may repeat them."""
    counts = [
        fact.get()
        for fact in (report.data.training_patients, report.data.held_out_patients)
        if fact.is_known
    ]
    whole = [count for count in counts if isinstance(count, int)]
    if len(whole) > 1:
        counts.append(sum(whole))
    if report.parties.sites.is_known:
        counts += [row.patients for row in report.parties.sites.get()]
    if report.utility.cells.is_known:
        for cell in report.utility.cells.get():
            counts += [cell.records, cell.patients]
    if report.audit.attacks.is_known:
        for attack in report.audit.attacks.get():
            counts += [attack.members, attack.nonmembers]
    return {count for count in counts if isinstance(count, int) and count >= _SMALLEST_IN_TEXT}


def _with_coarse_texts(report: Report, exact: set[int]) -> Report:
    """Without exact numbers of patients in what people wrote, in notes, statement and threats."""

    def text(words: str) -> str:
        return without(words, exact)

    threats = changed(
        report.security.threats,
        lambda rows: tuple(
            row.model_copy(update={"remains": with_coarse_decimals(text(row.remains))})
            for row in rows
        ),
    )
    found = report.model_copy(
        update={
            "guarantee": report.guarantee.model_copy(
                update={"statement": changed(report.guarantee.statement, text)}
            ),
            "security": report.security.model_copy(update={"threats": threats}),
        }
    )
    return Report.model_validate(_coarse_facts(found.model_dump(), text))


def _coarse_facts(value: Any, text: Callable[[str], str]) -> Any:
    """The content with ``text`` applied to the notes of facts, and to all that people declared."""
    if isinstance(value, dict):
        is_declared = value.get("status") == "declared"
        return {
            key: _everywhere(one, text)
            if "status" in value and (key == "note" or (key == "value" and is_declared))
            else _coarse_facts(one, text)
            for key, one in value.items()
        }
    if isinstance(value, list | tuple):
        return tuple(_coarse_facts(one, text) for one in value)
    return value


def _everywhere(value: Any, text: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {key: _everywhere(one, text) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_everywhere(one, text) for one in value)
    return value
