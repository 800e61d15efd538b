"""Looks through a whole ledger, or an export of one, for anything that a correct ledger lacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from privfin.errors import LedgerError
from privfin.privacy.ledger.anchors import anchors_of_home, check_anchor, read_anchor
from privfin.privacy.ledger.chain import LedgerHead, Row, check_link, head_message
from privfin.privacy.ledger.fingerprints import dataset_id, from_blob
from privfin.privacy.ledger.keys import SigningKey, read_fingerprint_key, signature_holds
from privfin.privacy.ledger.places import DATABASE, FINGERPRINT_KEY, SIGNING_KEY
from privfin.privacy.ledger.state import State
from privfin.privacy.ledger.store import Store

#: Another version of a numerical library may give a last digit that differs.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Finding:
    """Something wrong, and the number of the row where it is, None where that cannot be told."""

    seq: int | None
    problem: str


def verify_ledger(home: Path, anchors: Sequence[LedgerHead] = ()) -> list[Finding]:
    """Everything that is wrong with the ledger in ``home``; empty if nothing is.

    Checked are the file, every row's hash and signature and that it follows the one before, that
    it was legal, that no cap was exceeded when it was written, the stored fingerprints and places,
    the keys, the ledger's own anchor, and ``anchors``: heads from manifests, reports or exports.
    """
    if not (home / DATABASE).exists():
        lost = "; an anchor says that there was one" if anchors_of_home(home) else ""
        return [Finding(None, f"there is no ledger in {home}{lost}")]
    try:
        store = Store.open(home / DATABASE)
    except LedgerError as error:
        return [Finding(None, str(error))]
    try:
        return _verify_store(home, store, anchors)
    except LedgerError as error:
        return [Finding(None, str(error))]
    finally:
        store.close()


def _verify_store(home: Path, store: Store, anchors: Sequence[LedgerHead]) -> list[Finding]:
    found = [Finding(None, f"the file is damaged: {line}") for line in store.integrity_problems()]
    rows = store.rows()
    problems, state = verify_rows(rows, anchors)
    found += problems
    if not rows:
        return found

    def check(what: Callable[[], object]) -> None:
        try:
            what()
        except LedgerError as error:
            found.append(Finding(None, str(error)))

    def own_key() -> None:
        if SigningKey.read(home / SIGNING_KEY).public != state.public_key:
            raise LedgerError(f"{home / SIGNING_KEY} is not the key of this ledger")

    def own_anchor() -> None:
        last = rows[-1]
        head = LedgerHead(state.ledger_id, last.seq, last.hash, last.signature, state.public_key)
        check_anchor(read_anchor(state.ledger_id), head, store.hash_at)
        for anchor in anchors_of_home(home):
            if anchor.head.ledger_id != state.ledger_id:
                raise LedgerError(f"another ledger, {anchor.head.ledger_id}, was here before")

    def places() -> None:
        key = read_fingerprint_key(home / FINGERPRINT_KEY)
        stored = store.places()
        for name, (source, root) in stored.items():
            if dataset_id(key, source, root) != name or name not in state.datasets:
                raise LedgerError(f"the place of data set {name} was changed")
        # An export has no places and fingerprints: those from before a recovery may be gone.
        bound_since = {
            name for name, bound in state.datasets.items() if bound.seq > state.recovered_at
        }
        for name in bound_since - stored.keys():
            raise LedgerError(f"the place of data set {name} is missing")

    for one in (own_key, own_anchor, places):
        check(one)
    # Row numbers of the blobs: a changed one is named by the row that holds its digest.
    for row in rows:
        if row.kind == "bound":
            try:
                blob = store.fingerprints(str(row.content().get("fingerprints")))
                if blob is not None:
                    from_blob(blob)
                elif row.seq > state.recovered_at:
                    raise LedgerError("the fingerprints are missing")
            except LedgerError as error:
                found.append(Finding(row.seq, str(error)))
    return found


def verify_rows(
    rows: Sequence[Row], anchors: Sequence[LedgerHead] = ()
) -> tuple[list[Finding], State]:
    """What is wrong with ``rows`` by themselves and against ``anchors``, and their state.

    The state is of the rows before the first illegal one. The first row says under which key rows
    are signed: compare it with an anchor, or with a key known from elsewhere.
    """
    found: list[Finding] = []
    state = State()
    if not rows:
        return [Finding(None, "the ledger has no rows")], state
    try:
        ledger_id = str(rows[0].content().get("ledger"))
    except LedgerError as error:
        return [Finding(1, str(error))], state
    last: Row | None = None
    legal = True
    for row in rows:
        try:
            check_link(ledger_id, last, row)
        except LedgerError as error:
            found.append(Finding(row.seq, str(error)))
        if legal:
            try:
                state.apply(row)
                found += _over_cap(state, row)
            except LedgerError as error:
                found.append(Finding(row.seq, str(error)))
                legal = False
        message = head_message(ledger_id, row.seq, row.hash)
        if not signature_holds(state.public_key, row.signature, message):
            found.append(Finding(row.seq, f"row {row.seq}: its signature does not fit"))
        last = row
    hashes = {row.seq: row.hash for row in rows}
    found += [f for anchor in anchors for f in _against(anchor, ledger_id, state, hashes)]
    return found, state


def _over_cap(state: State, row: Row) -> list[Finding]:
    if row.kind not in ("reserved", "specified"):
        return []
    run = state.reserved(str(row.content()["run"]))
    found = []
    for name in run.populations:
        cap = state.populations[name].cap
        if cap is None or not cap.admits(cap.cost(state.spends(name)), tolerance=_TOLERANCE):
            found.append(Finding(row.seq, f"row {row.seq}: the cap of '{name}' was exceeded"))
    return found


def _against(
    head: LedgerHead, ledger_id: str, state: State, hashes: dict[int, str]
) -> list[Finding]:
    if head.ledger_id != ledger_id:
        return [Finding(None, f"a head is of another ledger, {head.ledger_id}")]
    if not head.holds() or head.public_key != state.key_at(head.seq):
        return [Finding(head.seq, f"the head of row {head.seq} is not signed by this ledger")]
    if head.seq not in hashes:
        return [Finding(head.seq, f"rows were lost: a head says row {head.seq}")]
    if hashes[head.seq] != head.hash:
        return [Finding(head.seq, f"row {head.seq} is not the one that a head saw")]
    return []
