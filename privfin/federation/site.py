"""A site's side of the round protocol: check the task, train, protect, sign.

A site trusts no task. It trains only the next round of its own plan, at most as often as planned,
for the cohort that its roster pins, and writes the spend down before it takes a step.

A round that lost a site is repeated among the others. Every attempt is a release of its own, with
patients, noise and masks of its own, counted like any other: the difference of two attempts, which
a coordinator with a colluding site could open, never shows an update without its noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from privfin.config import RunConfig
from privfin.crypto.envelope import sign_envelope
from privfin.crypto.keys import Roster, SiteIdentity
from privfin.crypto.pack import Packing
from privfin.errors import BudgetError, ProtocolError
from privfin.federation.global_model import GlobalModel
from privfin.federation.messages import Numbers, RunIdentity, Task
from privfin.federation.plan import TrainingPlan
from privfin.federation.protection import UpdateProtection
from privfin.federation.round_work import RoundWork
from privfin.privacy.policy import Policy

_LARGEST_ATTEMPT = 2**31


class Journal(Protocol):
    """Where a site writes down, durably, that it is about to spend."""

    def spent_rounds(self, site: str) -> int:
        """Rounds this site has started so far, in all attempts."""
        ...

    def start(self, site: str, round_number: int, attempt: int) -> None:
        """Write down that a round starts. Must be on disk when it returns."""
        ...


class Site:
    """One site of a run.

    Args:
        identity: the site's private keys.
        roster: all sites' pinned public keys.
        run: which run this is.
        config: the run's configuration.
        plan: the run's plan.
        state: the global model to start from.
        work: what this site computes in a round, and does with the sum.
        journal: where spending is written down before it happens.
        on_applied: called with the global model after each round's sum was applied.
        policy: this site's own policy, which it obeys whatever plan or task arrives; None where
            the data holder has no home.
        with_ledger: whether a ledger counts the run.
        ledger_head: gives the last row of that ledger, which every message then states.

    Raises:
        PolicyError: configuration or plan break a rule.
    """

    def __init__(
        self,
        *,
        identity: SiteIdentity,
        roster: Roster,
        run: RunIdentity,
        config: RunConfig,
        plan: TrainingPlan,
        state: GlobalModel,
        work: RoundWork,
        journal: Journal,
        on_applied: Callable[[GlobalModel], None] | None = None,
        policy: Policy | None = None,
        with_ledger: bool = False,
        ledger_head: Callable[[], str] = str,
    ) -> None:
        if policy is not None:
            policy.check(config, sites=len(roster), with_ledger=with_ledger)
            policy.check_plan(plan)
        self._policy = policy
        self.name = identity.name
        self._identity = identity
        self._roster = roster
        self._run = run
        self._plan = plan
        self._state = state
        self._work = work
        self._journal = journal
        self._on_applied = on_applied
        self._ledger_head = ledger_head
        self._reproducible = config.privacy.reproducible
        self._private = config.privacy.is_private
        self._protection = UpdateProtection(config.crypto, identity, roster, run)
        self._waiting_for: int | None = None
        self._attempt = 0
        self._cohort: tuple[str, ...] = ()
        self._pieces = Packing.named(config.crypto.layout).pieces(plan.values)
        self._codes: Numbers | None = None
        self._total: Numbers | None = None
        self._taken = 0
        self._is_halted = False

    def handle(self, task: Task) -> bytes:
        """Carry out a task; see :class:`privfin.federation.messages.TaskHandler`.

        Raises:
            ProtocolError: the task is out of order, or names another cohort than the roster's.
            BudgetError: the site has started as many rounds as its plan allows.
        """
        if self._is_halted:
            raise ProtocolError(self._halted())
        self._check_cohort(task)
        if task.kind == "make-key":
            key_parts = self._protection.make_key()
            return self._sign("key", task, key_parts, key_id="")
        if task.kind == "take-key":
            if len(task.parts) != 1:
                raise ProtocolError(f"site '{self.name}' expected one sealed key")
            self._protection.take_key(task.parts[0])
            return self._sign("key-taken", task, [])
        if task.kind == "update":
            return self._piece(task) if task.piece else self._update(task)
        if task.kind not in ("sum", "finish"):
            raise ProtocolError(f"site '{self.name}' was given an unknown task")
        if self._waiting_for is None or task.round != self._waiting_for:
            what = "told to finish" if task.kind == "finish" else "given the sum of"
            raise ProtocolError(f"site '{self.name}' was {what} round {task.round}")
        if task.kind == "sum":
            if not 0 <= task.piece < len(self._pieces) - 1:
                raise ProtocolError(f"site '{self.name}' was given piece {task.piece} of a sum")
            self._take(task, task.piece)
            return self._sign("sum-taken", task, [])
        self._apply(task)
        return self._sign("finished", task, [])

    def _check_cohort(self, task: Task) -> None:
        """Refuse any cohort but the roster; for rounds, any that is too small or not part of it.

        Raises:
            ProtocolError: it is.
            PolicyError: it is smaller than the site's policy allows.
        """
        everyone, cohort = tuple(self._roster), tuple(task.cohort)
        if self._policy is not None:
            self._policy.check_cohort(len(cohort))
        if task.kind in ("update", "sum", "finish"):
            # In the order of the roster, so that a cohort has one spelling.
            is_part = cohort == tuple(name for name in everyone if name in cohort)
            if is_part and self.name in cohort and len(cohort) >= self._plan.smallest_cohort:
                return
        elif cohort == everyone:
            return
        raise ProtocolError(
            f"site '{self.name}' was asked to join a cohort that is not its roster, or fewer than "
            f"{self._plan.smallest_cohort} of it"
        )

    def _update(self, task: Task) -> bytes:
        done = self._state.round if self._waiting_for is None else self._waiting_for
        is_repeated = task.round == self._waiting_for and task.attempt > self._attempt
        if task.round != done + 1 and not is_repeated:
            raise ProtocolError(
                f"site '{self.name}' has trained round {done} and was asked for round {task.round}"
            )
        if task.round > self._plan.rounds or not 0 < task.attempt < _LARGEST_ATTEMPT:
            raise ProtocolError(
                f"site '{self.name}' was asked for round {task.round}, attempt {task.attempt}: "
                f"its plan has {self._plan.rounds} rounds"
            )
        # Whatever can be refused is refused before budget is spent on it.
        self._protection.check_ready()
        if self._waiting_for is not None and not is_repeated:
            self._apply(task)
        self._spend(task)
        self._codes = self._work.codes(self._state.vector, task.round, tuple(task.cohort))
        self._waiting_for, self._attempt, self._cohort = (
            task.round,
            task.attempt,
            tuple(task.cohort),
        )
        self._taken = 0
        return self._piece(task)

    def _piece(self, task: Task) -> bytes:
        """One piece of the update of the attempt that this site is in."""
        asked = (task.round, task.attempt, tuple(task.cohort))
        if asked != (self._waiting_for, self._attempt, self._cohort) or self._codes is None:
            raise ProtocolError(f"site '{self.name}' was asked for a piece of another update")
        if not 0 <= task.piece < len(self._pieces):
            raise ProtocolError(f"site '{self.name}' was asked for piece {task.piece}")
        codes = self._codes[self._pieces[task.piece]]
        parts = self._protection.protect(codes, task.round, task.attempt, self._cohort, task.piece)
        if task.piece == len(self._pieces) - 1:
            self._codes = None  # all was sent
        return self._sign("update", task, parts)

    def _spend(self, task: Task) -> None:
        """Write the round down, or refuse it if the plan's noise does not cover it."""
        # With reproducible noise a repeated round releases the same numbers again.
        counted = self._private and not self._reproducible
        if counted and self._journal.spent_rounds(self.name) >= self._plan.rounds:
            raise BudgetError(
                f"site '{self.name}' has started {self._plan.rounds} rounds, which is all that "
                f"its noise was calibrated for: round {task.round} is refused"
            )
        self._journal.start(self.name, task.round, task.attempt)

    def _take(self, task: Task, piece: int) -> None:
        """Open a piece of the sum that this site waits for, in order."""
        if piece != self._taken:
            raise ProtocolError(
                f"site '{self.name}' was given piece {piece} of a sum, expected {self._taken}"
            )
        at, task_round = self._pieces[piece], self._waiting_for
        if task_round is None:
            raise AssertionError("only a site that waits for a sum takes one")
        if self._total is None:
            self._total = self._protection.empty_sum(self._plan.values)
        with self._no_second_try():
            self._total[at] = self._protection.reveal(
                list(task.parts),
                at.stop - at.start,
                task_round,
                self._attempt,
                self._cohort,
                piece,
            )
        self._taken += 1

    def _apply(self, task: Task) -> None:
        self._take(task, len(self._pieces) - 1)
        if self._total is None:
            raise AssertionError("a sum was taken")
        with self._no_second_try():
            self._state.apply(self._work.incoming(self._total, self._cohort))
        self._waiting_for, self._total, self._codes = None, None, None
        if self._on_applied is not None:
            self._on_applied(self._state)

    @contextmanager
    def _no_second_try(self) -> Iterator[None]:
        """Stop for good if a sum cannot be opened.

        Answers to chosen ciphertexts would give away the key bit by bit, so there is one answer, in
        one wording, and no second try.
        """
        try:
            yield
        except (ProtocolError, ValueError, RuntimeError) as error:
            self._is_halted = True
            raise ProtocolError(self._halted()) from error

    def _halted(self) -> str:
        return (
            f"site '{self.name}' has stopped for good: a sum that it was given is not that of "
            "the whole cohort (a contribution is missing, doubled or damaged)"
        )

    def _sign(self, kind: str, task: Task, parts: list[bytes], key_id: str | None = None) -> bytes:
        return sign_envelope(
            self._identity,
            self._roster,
            parts,
            kind=kind,
            run_id=self._run.run_id,
            round=task.round,
            attempt=task.attempt,
            piece=task.piece,
            key_id=self._protection.key_id if key_id is None else key_id,
            config_hash=self._run.config_digest,
            ledger_head=self._ledger_head(),
        )
