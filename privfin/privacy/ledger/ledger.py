"""The ledger of a data holder: who may still be charged what, decided before data are read."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from privfin.errors import BudgetError, LedgerError, UserInputError
from privfin.privacy.composition import Spend
from privfin.privacy.ledger.book import LedgerBook, check_name, check_text
from privfin.privacy.ledger.datasets import DatasetKey
from privfin.privacy.ledger.fingerprints import (
    Fingerprints,
    dataset_id,
    fingerprints,
    from_blob,
    share_in,
    to_blob,
)
from privfin.privacy.ledger.spending import Cap, fitting_epsilon, spend_to_list
from privfin.privacy.ledger.state import RESERVATION_KINDS, BoundSet, Reservation
from privfin.privacy.ledger.status import PopulationStatus, RunSpend, population_status, run_spends

_RUN = re.compile(r"[!-~]{1,200}")


@dataclass(frozen=True)
class Binding:
    """A data set that belongs to a population. ``dataset`` is its keyed id."""

    dataset: str
    name: str
    population: str


@dataclass(frozen=True)
class DataSet:
    """A data set to be bound: where it lies, its name for people, and all its patients.

    Identifiers are kept only as keyed fingerprints.
    """

    key: DatasetKey
    name: str
    patient_ids: Collection[str]


class Ledger(LedgerBook):
    """An open ledger. Make one with :meth:`create` or :meth:`open`; use it as a context manager."""

    def status(self) -> list[PopulationStatus]:
        """Cap, spent, reserved, left, runs, refusals and data sets of every population."""
        self._refresh()
        places = self._store.places()
        names = sorted(self._state.populations)
        return [population_status(self._state, name, places) for name in names]

    def runs(self) -> list[RunSpend]:
        """Every run that has reserved, and what it is charged, in the order of reservation."""
        self._refresh()
        return run_spends(self._state, {row.seq: row.time for row in self._store.rows()})

    def needs_reason(self, population: str, cap: Cap) -> bool:
        """Whether :meth:`set_cap` to ``cap`` needs a reason: a raise, or anew after a recovery."""
        self._refresh()
        before = self._state.populations.get(population)
        if before is None:
            return False
        if before.cap is None:
            return bool(self._state.reservations)
        return cap.above(before.cap)

    def reservation(self, run_id: str) -> Reservation | None:
        """What a run has reserved, None if nothing."""
        self._refresh()
        return self._state.reservations.get(run_id)

    def set_cap(
        self, population: str, epsilon: Decimal, delta: Decimal, *, officer: str, reason: str
    ) -> None:
        """Set the most that a population's patients may be charged.

        Raises:
            UserInputError: a value out of range, no officer, or a raise without a reason.
        """
        check_name(population, "a population")
        cap = Cap(epsilon, delta)
        officer = check_text(officer, "the officer's name")
        with self._writing():
            if self.needs_reason(population, cap):
                check_text(reason, "the reason for a higher cap")
            body = {
                "population": population,
                "epsilon": str(cap.epsilon),
                "delta": str(cap.delta),
                "officer": officer,
                "reason": check_text(reason, "the reason", empty=True),
            }
            self._append("cap_set", body)

    def bind(
        self,
        parts: Sequence[DataSet],
        population: str,
        *,
        officer: str,
        different_people_reason: str | None = None,
        largest_overlap: float = 0.01,
    ) -> list[Binding]:
        """Say whose data some data sets hold: all of them or, on an error, none.

        A data set that is bound again with more patients gets these added.

        Args:
            parts: the data sets.
            population: whose patients they are.
            officer: who says so.
            different_people_reason: why equal identifiers are other people, if they are.
            largest_overlap: share of a data set's patients that another population may have.

        Raises:
            BudgetError: too many belong to another population, or one is bound to another one.
            DataError: identifiers that name nobody.
        """
        check_name(population, "a population")
        for part in parts:
            check_name(part.name, "a data set")
        officer = check_text(officer, "the officer's name")
        found = [fingerprints(self._fingerprint_key, part.patient_ids) for part in parts]
        with self._writing():
            for part, prints in zip(parts, found, strict=True):
                self._bind_one(
                    part, population, prints, officer, different_people_reason, largest_overlap
                )
        bound = [self.binding_of(part.key) for part in parts]
        return [binding for binding in bound if binding is not None]

    def _bind_one(
        self,
        part: DataSet,
        population: str,
        prints: Fingerprints,
        officer: str,
        reason: str | None,
        largest_overlap: float,
    ) -> None:
        key = dataset_id(self._fingerprint_key, part.key.source, part.key.root)
        before = self._state.datasets.get(key)
        if before is not None and before.population != population:
            raise BudgetError(
                f"this data set is bound to population '{before.population}' as "
                f"'{before.name}' and stays there"
            )
        known = None
        if before is not None and not self._lost(before):
            known = self._prints(before)
        if known is not None:
            prints = np.union1d(prints, known)
        if known is not None and len(known) >= len(prints):
            return
        self._check_overlap(part.name, population, prints, officer, reason, largest_overlap)
        self._store.add_place(key, part.key.source, part.key.root)
        body = {
            "dataset": key,
            "name": before.name if before else part.name,
            "population": population,
            "officer": officer,
            "fingerprints": self._store.add_fingerprints(to_blob(prints)),
        }
        self._append("bound", body)

    def binding_of(self, key: DatasetKey) -> Binding | None:
        """What a data set is bound to, None if to nothing."""
        self._refresh()
        found = self._state.datasets.get(dataset_id(self._fingerprint_key, key.source, key.root))
        return None if found is None else _binding(found)

    def check_patients(self, binding: Binding, patient_ids: Iterable[str]) -> None:
        """Refuse patients that were not in the data set when it was bound.

        Raises:
            BudgetError: there are such patients.
        """
        self._refresh()
        known = self._prints(self._state.datasets[binding.dataset])
        new = ~np.isin(fingerprints(self._fingerprint_key, patient_ids), known)
        if new.any():
            raise BudgetError(
                f"{int(new.sum())} patients of '{binding.name}' were not there when it was bound: "
                f"run privfin budget bind again, with --population '{binding.population}'"
            )

    def reserve(
        self,
        run_id: str,
        bindings: Sequence[Binding],
        spend: Spend,
        *,
        kind: str,
        config_digest: str,
        delta: float,
    ) -> Reservation:
        """Reserve what a run may cost, before any of its data are read.

        Where the events are not known yet, reserve an :class:`EnvelopeEvent` with δ = 0 and
        :meth:`specify` the events before the first :meth:`start`: nothing is released in between.

        Raises:
            BudgetError: over a cap, or no cap; says what would fit. The refusal is recorded.
            LedgerError: the run has a reservation already.
        """
        if kind not in RESERVATION_KINDS or not bindings or not _RUN.fullmatch(run_id):
            raise UserInputError(f"'{run_id}' cannot reserve for '{kind}'")
        datasets = sorted({binding.dataset for binding in bindings})
        names = sorted({binding.population for binding in bindings})
        body: dict[str, object] = {
            "run": run_id,
            "kind": kind,
            "datasets": datasets,
            "spend": spend_to_list(spend),
            "config": config_digest,
            "delta": repr(float(delta)),
        }
        # Decide once outside the lock: inside it, the figures are then remembered.
        self._refresh()
        self._over(names, spend, run_id)
        with self._writing():
            if run_id in self._state.reservations:
                raise LedgerError(f"run {run_id} has reserved already")
            over = self._over(names, spend, run_id)
            if not over:
                self._append("reserved", body)
        if over:
            self._refuse(run_id, kind, over, spend, delta)
        return self._state.reserved(run_id)

    def specify(self, reservation: Reservation, spend: Spend) -> Reservation:
        """Put exact events in the place of an envelope, once the data were read.

        Raises:
            BudgetError: over a cap; the refusal is recorded and the reservation stays as it was.
        """
        run = reservation.run_id
        with self._writing():
            names = self._state.reserved(run).populations
            over = self._over(names, spend, run)
            if not over:
                self._append("specified", {"run": run, "spend": spend_to_list(spend)})
        if over:
            self._refuse(run, reservation.kind, over, spend, reservation.delta)
        return self._state.reserved(run)

    def start(self, reservation: Reservation, spend_so_far: Spend) -> Reservation:
        """Record, before a round, all that the run will have spent when it ends.

        Raises:
            LedgerError: more than was reserved, less than was started, or the run has ended.
        """
        run = reservation.run_id
        with self._writing():
            if self._state.reserved(run).started != spend_so_far:
                self._append("started", {"run": run, "spend": spend_to_list(spend_so_far)})
            elif not self._state.reserved(run).open:
                raise LedgerError(f"run {run} is {self._state.reserved(run).state}")
        return self._state.reserved(run)

    def settle(self, reservation: Reservation) -> Reservation:
        """End a run: what was started last is charged, the rest of the reservation is free."""
        with self._writing():
            self._append("settled", {"run": reservation.run_id})
        return self._state.reserved(reservation.run_id)

    def abandon(self, reservation: Reservation, why: str) -> Reservation:
        """Give back a reservation of which nothing was started. LedgerError if anything was."""
        with self._writing():
            body = {"run": reservation.run_id, "why": check_text(why, "why")}
            self._append("abandoned", body)
        return self._state.reserved(reservation.run_id)

    def _over(self, names: Iterable[str], spend: Spend, run_id: str) -> list[str]:
        """The populations whose cap does not admit ``spend``."""
        found = []
        for name in names:
            cap = self._state.populations[name].cap
            if cap is None or not cap.admits(
                cap.cost(self._state.spends_with(name, run_id, spend))
            ):
                found.append(name)
        return found

    def _refuse(self, run_id: str, kind: str, names: list[str], spend: Spend, delta: float) -> None:
        """Record a refusal and raise it, with what would fit in all of ``names``."""
        body: dict[str, object] = {
            "run": run_id, "kind": kind, "populations": names, "spend": spend_to_list(spend),
        }  # fmt: skip
        with self._writing():
            self._append("refused", body)
        texts, fits = [], []
        for name in names:
            cap = self._state.populations[name].cap
            if cap is None:
                raise BudgetError(
                    f"population '{name}' has no cap: an officer sets one with privfin budget cap "
                    f"'{name}'"
                )
            spends = self._state.spends(name, without=run_id)
            spent = cap.cost(self._state.spends(name, open_too=False, without=run_id))
            both = cap.cost(spends)
            texts.append(
                f"population '{name}' has a cap of epsilon {cap.epsilon} at delta {cap.delta}, "
                f"{_up(spent)} is spent and {_up(max(0.0, both - spent))} reserved"
            )
            fits.append(fitting_epsilon(cap, spends, spend, delta))
        least = min((f for f in fits if f is not None), default=None)
        offer = "nothing would fit"
        if least is not None and None not in fits:
            offer = f"a run of this kind with epsilon {least:.2f} would fit"
        raise BudgetError(f"refused: {'; '.join(texts)}; {offer}")

    def _check_overlap(
        self,
        name: str,
        population: str,
        prints: Fingerprints,
        officer: str,
        reason: str | None,
        largest: float,
    ) -> None:
        shares: dict[str, float] = {}
        for other in self._state.datasets.values():
            if other.population != population:
                try:
                    share = share_in(prints, self._prints(other))
                except LedgerError:
                    if reason is None:
                        raise
                    share = 1.0  # lost fingerprints: could be anybody
                shares[other.population] = max(share, shares.get(other.population, 0.0))
        worst = {other: share for other, share in shares.items() if share > largest}
        if not worst:
            return
        listed = ", ".join(f"{_percent(share)} in '{other}'" for other, share in worst.items())
        if reason is None:
            raise BudgetError(
                f"patients of '{name}' are in another population already: {listed}; bind it to "
                "that one, or say --different-people --reason TEXT if equal identifiers are "
                "other people"
            )
        body = {
            "name": name,
            "population": population,
            "shares": {other: _percent(share) for other, share in worst.items()},
            "officer": officer,
            "reason": check_text(reason, "the reason"),
        }
        self._append("override", body)

    def _lost(self, bound: BoundSet) -> bool:
        """Whether a recovery lost its fingerprints, so that binding it again must bring them."""
        before_recovery = bound.seq <= self._state.recovered_at
        return before_recovery and self._store.fingerprints(bound.blobs[-1]) is None

    def _prints(self, bound: BoundSet) -> Fingerprints:
        # Each blob of a data set holds all its patients up to then: the last one is enough.
        content = self._store.fingerprints(bound.blobs[-1])
        if content is None and not self._lost(bound):
            raise LedgerError(
                f"the fingerprints of '{bound.name}' are missing: see privfin budget verify"
            )
        if content is None:
            raise LedgerError(
                f"the fingerprints of '{bound.name}' were lost in a recovery: run privfin budget "
                f"bind for it again, with --population '{bound.population}'"
            )
        return from_blob(content)


def _binding(bound: BoundSet) -> Binding:
    return Binding(bound.dataset, bound.name, bound.population)


def _percent(share: float) -> str:
    return f"{-(-share * 100 // 1):.0f} %"


def _up(epsilon: float) -> str:
    return f"{-(-epsilon * 100 // 1) / 100:.2f}"
