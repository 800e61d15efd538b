"""What sites say of their privacy ledgers in messages: checked, and kept with the run.

A head that others keep is an anchor that its owner cannot take back: a ledger that later lacks the
row, or holds another one there, is found out by ``privfin budget verify --anchor events.jsonl``.
"""

from __future__ import annotations

from privfin.errors import LedgerError, ProtocolError
from privfin.privacy.ledger import LedgerHead
from privfin.runs import Run


class LedgerHeads:
    """Keeps the heads of a run's messages in its events.

    Args:
        run: its manifest says which key signs the ledger.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._known: set[str] = set()

    def keep(self, site: str, text: str) -> None:
        """Keep what a message of ``site`` says, once.

        Raises:
            ProtocolError: it is no head, or not signed with the ledger's key.
        """
        if text in self._known:
            return
        block = self._run.manifest["ledger"]
        try:
            head = LedgerHead.from_text(text, block["head"]["public_key"])
        except (LedgerError, KeyError) as error:
            raise ProtocolError("what it says of its ledger cannot be read") from error
        if not head.holds() or head.ledger_id != block["head"]["ledger_id"]:
            raise ProtocolError("what it says of its ledger is not signed by the ledger's key")
        self._known.add(text)
        self._run.record("ledger-head", site=site, head=head.to_dict())
