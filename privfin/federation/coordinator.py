"""The coordinator: relays sealed keys, checks signatures and adds up ciphertexts.

It is trusted for availability only. It is built from public things alone (roster, run identity,
transport, sizes); it imports no model, no data and no privacy code. It holds no key, and what it is
sent is read and added up without native code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from privfin.config import Encryption
from privfin.crypto import ckks
from privfin.crypto.ciphertext_sum import CiphertextSum, public_key_id
from privfin.crypto.envelope import ExpectedHeader, open_envelope
from privfin.crypto.keys import Roster
from privfin.crypto.pack import Packing, chunks_for
from privfin.crypto.plain import PlainSum
from privfin.errors import ProtocolError
from privfin.federation.messages import RunIdentity, SiteFailedError, Task, Transport


@dataclass(frozen=True)
class SumPlan:
    """What the coordinator must know of an update: how long it is and how it is protected.

    ``smallest_cohort`` is the fewest sites that a round may go on with when others drop out.
    """

    encryption: Encryption
    layout: str
    values: int
    smallest_cohort: int


@dataclass(frozen=True)
class Traffic:
    """Bytes that crossed the coordinator, over all sites."""

    up: int
    down: int


@contextmanager
def _from_site(site: str) -> Iterator[None]:
    """Let a refusal of what a site sent name the site, whatever the message itself claims."""
    try:
        yield
    except ProtocolError as error:
        raise ProtocolError(f"refused what site '{site}' sent: {error}") from error


class Coordinator:
    """Runs key agreement and rounds over a transport.

    Args:
        identity: the run.
        roster: the sites with their pinned public keys.
        transport: how to reach them.
        plan: sizes of an update.
        on_ledger_head: called with a site's name and what its message says of its privacy ledger,
            for every message that says anything. May refuse it with ProtocolError.
        on_left: called with the site that a round goes on without, round and attempt.
    """

    def __init__(
        self,
        identity: RunIdentity,
        roster: Roster,
        transport: Transport,
        plan: SumPlan,
        *,
        on_ledger_head: Callable[[str, str], None] | None = None,
        on_left: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self._identity = identity
        self._roster = roster
        self._transport = transport
        self._plan = plan
        self._on_ledger_head = on_ledger_head
        self._on_left = on_left
        self._cohort = tuple(roster)
        self._packing = Packing.named(plan.layout)
        self._known_key: str | None = "" if plan.encryption == "none" else None
        self._pieces_of_a_sum = len(self._packing.pieces(plan.values))
        self._undelivered: list[tuple[bytes, ...]] = []
        self._up = 0
        self._down = 0

    @property
    def traffic(self) -> Traffic:
        """Bytes relayed so far."""
        return Traffic(self._up, self._down)

    def agree_on_key(self) -> None:
        """Let the first site of the roster make the encryption key and relay it, sealed.

        Raises:
            ProtocolError: a site ends up with another key.
        """
        if self._plan.encryption == "none":
            return
        maker, *others = self._cohort
        made = self._ask({maker: Task("make-key", 0, 0, self._cohort)}, "key", key_id=None)
        public_bytes, *boxes = made[maker] or (b"",)
        if len(boxes) != len(others):
            raise ProtocolError(f"site '{maker}' sealed {len(boxes)} keys for {len(others)} sites")
        with _from_site(maker):
            if self._plan.encryption == "ckks":
                self._known_key = ckks.public_key_id(public_bytes)
            else:
                self._known_key = public_key_id(public_bytes, self._packing)
        tasks = {
            site: Task("take-key", 0, 0, self._cohort, (box,))
            for site, box in zip(others, boxes, strict=True)
        }
        if tasks:
            self._ask(tasks, "key-taken", key_id=self._known_key)

    def run_rounds(self, first: int, last: int, start_round: Callable[[int], int | None]) -> int:
        """Run rounds ``first`` to ``last`` and deliver every sum.

        A round that loses a site is repeated among the others if the plan allows it; its sum is
        never finished, so nobody can read it. What was started is spent, so the run then ends one
        round earlier.

        Args:
            first, last: round numbers, from 1.
            start_round: called before each attempt at a round; gives the attempt number, or None
                to stop before this round.

        Returns:
            The last round that was completed.

        Raises:
            SiteFailedError: a site failed and the round may not go on without it.
        """
        last_piece: tuple[bytes, ...] = ()
        done = first - 1
        attempt = 0
        while done < last:
            next_attempt = start_round(done + 1)
            if next_attempt is None:
                break
            try:
                self._deliver(done, attempt)
                task = Task("update", done + 1, next_attempt, self._cohort, last_piece)
                *self._undelivered, last_piece = self._sum_of(task)
            except SiteFailedError as error:
                self._leave_out(error, done + 1, next_attempt)
                last -= 1
            else:
                done += 1
                attempt = next_attempt
        if last_piece:
            self._deliver(done, attempt)
            finish = Task("finish", done, attempt, self._cohort, last_piece)
            self._ask(dict.fromkeys(self._cohort, finish), "finished", self._key_id())
        return done

    def sum_metrics(self, round_number: int, attempt: int, owner_values: int) -> None:
        """Add up which sites have patients, then their counts, and deliver both sums.

        The whole cohort takes part or nothing is measured: counts have no noise, so the sums over
        two cohorts would show the difference.

        Args:
            round_number: the rounds behind the model that is measured.
            attempt: from 1.
            owner_values: numbers in the first message; in the second there are ``plan.values``.

        Raises:
            SiteFailedError: a site failed.
            ProtocolError: a message was refused.
        """
        asked = Task("metric-owners", round_number, attempt, self._cohort)
        owners = self._sum_of_piece(asked, owner_values)
        counted = Task("metrics", round_number, attempt, self._cohort, owners)
        sums = self._sum_of_piece(counted, self._plan.values)
        last = Task("metrics-sum", round_number, attempt, self._cohort, sums)
        self._ask(dict.fromkeys(self._cohort, last), "metrics-taken", self._key_id())

    def _deliver(self, done: int, attempt: int) -> None:
        """Send all pieces of the last sum but the last one, which comes with the next task.

        Each is sent once: when a site fails on one, the others have taken it all the same.
        """
        while self._undelivered:
            number = self._pieces_of_a_sum - 1 - len(self._undelivered)
            piece = Task("sum", done, attempt, self._cohort, self._undelivered.pop(0), number)
            self._ask(dict.fromkeys(self._cohort, piece), "sum-taken", self._key_id())

    def _sum_of(self, task: Task) -> list[tuple[bytes, ...]]:
        """The sum of one attempt at a round, piece by piece."""
        pieces = []
        for number, values in enumerate(self._packing.pieces(self._plan.values)):
            # The sum of the round before comes with the first request only.
            request = replace(task, piece=number, parts=() if number else task.parts)
            pieces.append(self._sum_of_piece(request, values.stop - values.start))
        return pieces

    def _sum_of_piece(self, task: Task, values: int) -> tuple[bytes, ...]:
        """The sum of what every site answers to a task: ``values`` numbers."""
        total = self._new_sum(values)
        for site in task.cohort:
            # One site at a time, so that memory holds one message and one sum.
            update = self._ask({site: task}, task.kind, self._key_id())[site]
            with _from_site(site):
                total.add(list(update))
        return tuple(total.result())

    def _leave_out(self, error: SiteFailedError, number: int, attempt: int) -> None:
        """Go on without the site that failed, or raise ``error``."""
        rest = tuple(site for site in self._cohort if site != error.site)
        smallest = self._plan.smallest_cohort
        lost_one = len(rest) == len(self._cohort) - 1
        if error.is_refusal or len(rest) < smallest or not lost_one:
            raise error
        self._cohort = rest
        if self._on_left is not None:
            self._on_left(error.site, number, attempt)

    def _key_id(self) -> str:
        if self._known_key is None:
            raise ProtocolError("rounds cannot start before the sites agree on a key")
        return self._known_key

    def _new_sum(self, values: int) -> CiphertextSum | ckks.CkksSum | PlainSum:
        if self._plan.encryption == "none":
            return PlainSum(values)
        if self._plan.encryption == "ckks":
            return ckks.CkksSum(ckks.chunks_for(values))
        return CiphertextSum(self._packing, chunks_for(self._packing.masked_slots(values)))

    def _ask(
        self, tasks: dict[str, Task], kind: str, key_id: str | None
    ) -> dict[str, tuple[bytes, ...]]:
        """Send tasks and open the replies; ``key_id`` None takes the maker's own."""
        self._down += sum(len(part) for task in tasks.values() for part in task.parts)
        replies = self._transport.exchange(tasks)
        self._up += sum(len(reply) for reply in replies.values())
        opened = {}
        for site, task in tasks.items():
            expected = ExpectedHeader(
                kind=kind,
                run_id=self._identity.run_id,
                round=task.round,
                attempt=task.attempt,
                senders=(site,),
                key_id=key_id or "",
                config_hash=self._identity.config_digest,
                piece=task.piece,
            )
            with _from_site(site):
                envelope = open_envelope(replies[site], self._roster, expected)
                if envelope.header.ledger_head and self._on_ledger_head is not None:
                    self._on_ledger_head(site, envelope.header.ledger_head)
                opened[site] = envelope.parts
        return opened
