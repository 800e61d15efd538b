"""Whether a ledger still goes on from the row that a report names."""

from __future__ import annotations

from pathlib import Path

from privfin.errors import LedgerError
from privfin.privacy.ledger import LedgerHead, verify_ledger
from privfin.privacy.ledger.anchors import anchors_of_home
from privfin.privacy.ledger.places import DATABASE
from privfin.privacy.ledger.store import Store
from privfin.reporting.sealing.checks import Check
from privfin.reporting.sealing.seal import Statement


def check_ledger(sealed: Statement, home: Path) -> list[Check]:
    """The signature of the report's ledger head; and if the ledger in ``home`` is the same one, or
    was, that nothing in it was changed, lost or replaced, with the head as its anchor.

    Args:
        sealed: the seal's statement.
        home: folder of this machine's ledger; there may be none.
    """
    found = sealed.predicate.ledger_head
    if found is None:
        return [Check("ledger head", None, "the report names none: no ledger counts this run")]
    try:
        head = LedgerHead.from_dict(found.model_dump())
    except LedgerError as error:
        return [Check("ledger head", False, str(error))]
    if not head.holds():
        return [Check("ledger head", False, "its signature does not fit")]
    words = f"row {head.seq} of ledger {head.ledger_id}, signed with its key {head.public_key}"
    of_head = Check("ledger head", True, words)
    return [of_head, *_ledger(head, home)]


def _ledger(head: LedgerHead, home: Path) -> list[Check]:
    try:
        other = _why_it_is_another(head, home)
    except LedgerError as error:
        return [Check("ledger", False, str(error))]
    if other:
        return [Check("ledger", None, other)]
    problems = [finding.problem for finding in verify_ledger(home, [head])]
    if problems:
        return [Check("ledger", False, problem) for problem in problems]
    return [Check("ledger", True, f"every row of {home} is whole and follows row {head.seq}")]


def _why_it_is_another(head: LedgerHead, home: Path) -> str | None:
    """Why the ledger in ``home`` was never that of ``head``; None if it is, or was there before.

    Raises:
        LedgerError: this cannot be told, because the ledger or an anchor is damaged.
    """
    if any(anchor.head.ledger_id == head.ledger_id for anchor in anchors_of_home(home)):
        return None
    elsewhere = "where the ledger is, use privfin budget verify with the report's JSON as --anchor"
    if not (home / DATABASE).exists():
        return f"there is no ledger in {home}: {elsewhere}"
    store = Store.open(home / DATABASE)
    try:
        rows = store.rows()
        ledger_id = str(rows[0].content().get("ledger")) if rows else ""
    finally:
        store.close()
    if ledger_id == head.ledger_id:
        return None
    return f"the ledger in {home} is another one: {elsewhere}"
