"""What the rows of a ledger add up to, and which row may follow which.

:meth:`State.apply` takes one row after another and refuses one that no correct ledger writes. The
ledger itself uses it before it writes a row, and ``verify`` on what it finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from privfin.errors import LedgerError, PrivfinError
from privfin.privacy.composition import Spend
from privfin.privacy.ledger.chain import KINDS, Row
from privfin.privacy.ledger.spending import NOTHING, Cap, is_within, spend_from_list

RESERVATION_KINDS = ("train", "sweep", "audit")


@dataclass(frozen=True)
class Reservation:
    """What a run has reserved, and how far it got.

    Attributes:
        run_id: the run.
        kind: one of :data:`RESERVATION_KINDS`.
        state: "reserved", "started", "settled" or "abandoned".
        populations: whose patients it is charged to.
        datasets: ids of the bound data sets it reads.
        spend: what was reserved, exact once ``specified``.
        specified: whether the events were stated again after the data were read.
        started: the most that has been started so far, None before the first round.
        config_digest: digest of the run's configuration.
        delta: the run's own δ.
        seq: number of the row that made it.
    """

    run_id: str
    kind: str
    state: str
    populations: tuple[str, ...]
    datasets: tuple[str, ...]
    spend: Spend
    specified: bool
    started: Spend | None
    config_digest: str
    delta: float
    seq: int

    @property
    def open(self) -> bool:
        """Whether it may still go on."""
        return self.state in ("reserved", "started")

    @property
    def charged(self) -> Spend:
        """What counts: all that is reserved while open, what was started once settled."""
        if self.open:
            return self.spend
        if self.state == "abandoned" or self.started is None:
            return NOTHING
        return self.started


@dataclass
class BoundSet:
    """A data set that is bound: its name and the digests of its patients' fingerprints.

    ``seq`` is the last row that bound it.
    """

    dataset: str
    name: str
    population: str
    blobs: tuple[str, ...]
    seq: int


@dataclass
class Population:
    """People with one cap. ``raised`` counts how often the cap was raised."""

    name: str
    cap: Cap | None = None
    raised: int = 0
    refusals: int = 0


@dataclass
class State:
    """Everything that rows say up to some row.

    ``keys`` holds the public keys by the first row that each signs; ``recovered_at`` is the last
    row of a recovery, 0 without one.
    """

    ledger_id: str = ""
    name: str = ""
    public_key: str = ""
    populations: dict[str, Population] = field(default_factory=dict)
    datasets: dict[str, BoundSet] = field(default_factory=dict)
    reservations: dict[str, Reservation] = field(default_factory=dict)
    keys: dict[int, str] = field(default_factory=dict)
    recovered_at: int = 0

    def key_at(self, seq: int) -> str:
        """The public key that signs row ``seq``; a recovery may have changed it."""
        return next((self.keys[first] for first in sorted(self.keys, reverse=True)
                     if first <= seq), "")  # fmt: skip

    def apply(self, row: Row) -> None:
        """Take the next row.

        Raises:
            LedgerError: naming the row, which no correct ledger writes at this place.
        """
        try:
            body = row.content()
            if row.kind not in KINDS or (row.kind == "created") != (row.seq == 1):
                raise LedgerError(f"'{row.kind}' may not stand here")
            getattr(self, f"_{row.kind}")(row, body)
        except LedgerError as error:
            text = str(error).removeprefix(f"row {row.seq}: ")
            raise LedgerError(f"row {row.seq}: {text}") from error
        except (PrivfinError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise LedgerError(f"row {row.seq}: the body of '{row.kind}' is malformed") from error

    def spends(
        self, population: str, *, open_too: bool = True, without: str | None = None
    ) -> list[Spend]:
        """What counts against a population's cap."""
        return [
            r.charged
            for r in self.reservations.values()
            if population in r.populations and r.run_id != without and (open_too or not r.open)
        ]

    def spends_with(self, population: str, run_id: str, spend: Spend) -> list[Spend]:
        """What would count if a run cost ``spend``: in its own place, or last if it is new.

        Shares of delta go by the order of reservation, so that who checks later finds the same.
        """
        found = [
            spend if r.run_id == run_id else r.charged
            for r in self.reservations.values()
            if population in r.populations
        ]
        return found if run_id in self.reservations else [*found, spend]

    def reserved(self, run_id: str) -> Reservation:
        """The reservation of a run. LedgerError if there is none."""
        if run_id not in self.reservations:
            raise LedgerError(f"run {run_id} has reserved nothing")
        return self.reservations[run_id]

    def _created(self, row: Row, body: Mapping[str, Any]) -> None:
        self.ledger_id, self.name = str(body["ledger"]), str(body["name"])
        self.public_key = self.keys[row.seq] = str(body["public_key"])

    def _cap_set(self, row: Row, body: Mapping[str, Any]) -> None:
        cap = Cap.read(body["epsilon"], body["delta"])
        people = self._people(body["population"])
        if people.cap is not None and cap.above(people.cap):
            if not (body["officer"] and body["reason"]):
                raise LedgerError("a cap was raised without officer or reason")
            people.raised += 1
        people.cap = cap

    def _bound(self, row: Row, body: Mapping[str, Any]) -> None:
        dataset, name, population = body["dataset"], body["name"], body["population"]
        blob = str(body["fingerprints"])
        before = self.datasets.get(dataset)
        if before is not None and before.population != population:
            raise LedgerError("a data set changed its population")
        self._people(population)
        blobs = (*before.blobs, blob) if before else (blob,)
        self.datasets[dataset] = BoundSet(dataset, str(name), population, blobs, row.seq)

    def _override(self, row: Row, body: Mapping[str, Any]) -> None:
        if not (body["officer"] and body["reason"]):
            raise LedgerError("an override without officer or reason")

    def _reserved(self, row: Row, body: Mapping[str, Any]) -> None:
        run = body["run"]
        if run in self.reservations:
            raise LedgerError(f"run {run} was reserved twice")
        datasets = tuple(body["datasets"])
        populations = tuple(sorted({self.datasets[d].population for d in datasets}))
        if not datasets or body["kind"] not in RESERVATION_KINDS:
            raise LedgerError("a reservation without data, or of an unknown kind")
        for name in populations:
            if self._people(name).cap is None:
                raise LedgerError(f"population {name} has no cap")
        self.reservations[run] = Reservation(
            run_id=run,
            kind=body["kind"],
            state="reserved",
            populations=populations,
            datasets=datasets,
            spend=spend_from_list(body["spend"]),
            specified=False,
            started=None,
            config_digest=body["config"],
            delta=float(body["delta"]),
            seq=row.seq,
        )

    def _specified(self, row: Row, body: Mapping[str, Any]) -> None:
        run = self._in_state(body["run"], "reserved")
        if run.specified:
            raise LedgerError(f"run {run.run_id} was specified twice")
        self._put(replace(run, spend=spend_from_list(body["spend"]), specified=True))

    def _started(self, row: Row, body: Mapping[str, Any]) -> None:
        run = self._in_state(body["run"], "reserved", "started")
        spend = spend_from_list(body["spend"])
        if not is_within(spend, run.spend):
            raise LedgerError(f"run {run.run_id} would start more than it reserved")
        if run.started is not None and not is_within(run.started, spend):
            raise LedgerError(f"run {run.run_id} would start less than it had started")
        self._put(replace(run, state="started", started=spend))

    def _settled(self, row: Row, body: Mapping[str, Any]) -> None:
        run = self._in_state(body["run"], "reserved", "started")
        self._put(replace(run, state="settled"))

    def _abandoned(self, row: Row, body: Mapping[str, Any]) -> None:
        self._put(replace(self._in_state(body["run"], "reserved"), state="abandoned"))

    def _refused(self, row: Row, body: Mapping[str, Any]) -> None:
        for name in body["populations"]:
            self._people(name).refusals += 1

    def _recovered(self, row: Row, body: Mapping[str, Any]) -> None:
        if not (body["officer"] and body["reason"]):
            raise LedgerError("a recovery without officer or reason")
        self.public_key = self.keys[row.seq] = str(body["public_key"])
        self.recovered_at = row.seq
        if body["rows_lost"] != 0:
            # How far an open run got is lost as well: it counts in full and cannot go on.
            for run in [run for run in self.reservations.values() if run.open]:
                self._put(replace(run, state="settled", started=run.spend))
            # What was lost may have been spent: nothing goes on until an officer caps it anew.
            for people in self.populations.values():
                people.cap = None

    def _people(self, name: str) -> Population:
        return self.populations.setdefault(name, Population(name))

    def _in_state(self, run_id: str, *states: str) -> Reservation:
        run = self.reserved(run_id)
        if run.state not in states:
            raise LedgerError(f"run {run_id} is {run.state}")
        return run

    def _put(self, run: Reservation) -> None:
        self.reservations[run.run_id] = run
