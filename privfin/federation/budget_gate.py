"""What stands between a run and its patients: the site's policy, and a reservation in its ledger.

The order is what protects: the policy is checked and the budget reserved before any data are read,
the exact events are stated once they are known, every round is written down before its first step,
and what was not started is given back only at the end. A crash anywhere leaves the reservation
counted in full; a resumed run goes on under it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from privfin.config import RunConfig
from privfin.errors import BudgetError, LedgerError
from privfin.federation.plan import (
    TrainingPlan,
    declared_patients,
    declared_sites,
    make_plan,
    site_names,
)
from privfin.privacy.composition import EnvelopeEvent, Spend
from privfin.privacy.ledger import (
    Binding,
    DatasetKey,
    Ledger,
    LedgerHead,
    Reservation,
    dataset_keys,
    ledger_home,
)
from privfin.privacy.ledger.datasets import patients_by_dataset
from privfin.privacy.policy import Policy, load_policy

#: A run that no ledger counts, and why: for manifest.json and privacy.json.
UNCOUNTED = {
    "status": "none",
    "meaning": "no ledger counts this run: what else its patients were charged is unknown",
}
SIMULATED = {"status": "simulated", "meaning": "simulated patients, whom no ledger counts"}


class BudgetGate:
    """One run's passage. Use :func:`open_gate`.

    Attributes:
        run_id: the run's identifier, new unless it is resumed.
        policy: the site's policy, or None where there is no home or nothing to protect.
        counted: whether a ledger counts the run.
    """

    def __init__(
        self,
        config: RunConfig,
        kind: str,
        run_id: str | None,
        *,
        ledger: Ledger | None = None,
        policy: Policy | None = None,
        bindings: Sequence[Binding] = (),
        uncounted: Mapping[str, str] = UNCOUNTED,
    ) -> None:
        self.run_id = run_id or secrets.token_hex(16)
        self.policy = policy
        self._config = config
        self._kind = kind
        self._ledger = ledger
        self._bindings = list(bindings)
        self._uncounted = uncounted
        self._reservation: Reservation | None = None

    @property
    def counted(self) -> bool:
        """Whether a ledger counts the run."""
        return self._ledger is not None

    def reserve(self) -> None:
        """Take the run's whole cost off the budget, before any data are read.

        Where the number of patients is not declared, noise and steps are not known yet: then the
        run's epsilon is held, until :meth:`specify` states the events.

        Raises:
            BudgetError: over a cap; the line says what would fit.
        """
        if self._ledger is None:
            return
        config = self._config
        spend = Spend(((EnvelopeEvent(config.privacy.epsilon, 0.0),),))
        delta = config.privacy.delta
        if len(declared_patients(config)) == len(site_names(config)):
            plan = make_plan(config, declared_sites(config))
            spend, delta = plan.spend(), max(site.delta for site in plan.sites)
        self._reservation = self._ledger.reserve(
            self.run_id,
            self._bindings,
            spend,
            kind=self._kind,
            config_digest=config.digest(),
            delta=1e-5 if delta == "auto" else float(delta),
        )

    def go_on(self, ledger_block: Mapping[str, Any]) -> None:
        """Find the reservation of a run that is resumed.

        Args:
            ledger_block: what the run's manifest says about its ledger.

        Raises:
            LedgerError: the run was counted by another ledger, or its reservation is not open.
        """
        was_counted = ledger_block.get("status") == "counted"
        if was_counted != self.counted:
            raise LedgerError(
                "this run was started under a ledger, which has to be there to go on"
                if was_counted
                else "this run was started without a ledger: go on with --no-ledger, or start anew"
            )
        if self._ledger is None:
            return
        if ledger_block["head"]["ledger_id"] != self._ledger.head().ledger_id:
            raise LedgerError("this run was started under another ledger")
        found = self._ledger.reservation(self.run_id)
        if found is None or not found.open:
            state = "missing" if found is None else found.state
            raise LedgerError(f"the reservation of this run is {state}: start a new run")
        self._reservation = found

    def specify(self, plan: TrainingPlan, patient_ids: Sequence[str]) -> None:
        """State the exact events, once the data were read and before anything is trained.

        Raises:
            BudgetError: the events do not fit, or the data hold patients that are not bound.
            PolicyError: the plan breaks a rule.
        """
        if self.policy is not None:
            self.policy.check_plan(plan)
        if self._ledger is None or self._reservation is None:
            return
        found = patients_by_dataset(self._config, patient_ids)
        by_key = dict(zip(dataset_keys(self._config), found, strict=True))
        for key, own in by_key.items():
            binding = self._ledger.binding_of(key)
            if binding is not None:
                self._ledger.check_patients(binding, own)
        if self._reservation.started is None:
            self._reservation = self._ledger.specify(self._reservation, plan.spend())

    def start(self, spend: Spend) -> None:
        """Write down, before a round, all that the run will have spent after it."""
        if self._ledger is None:
            return
        if self._reservation is None:
            raise LedgerError("nothing was reserved for this run, so no round may start")
        self._reservation = self._ledger.start(self._reservation, spend)

    def settle(self) -> None:
        """The run has ended: what was never started is free again."""
        if self._ledger is not None and self._reservation is not None:
            self._reservation = self._ledger.settle(self._reservation)

    def give_back(self, why: str) -> None:
        """Give the reservation back if nothing was ever started under it; else it stays."""
        reservation = self._reservation
        if self._ledger is None or reservation is None:
            return
        if reservation.state == "reserved":
            self._reservation = self._ledger.abandon(reservation, why)

    def block(self) -> dict[str, Any]:
        """What may be told of the ledger: its id and its last row, which anchors it."""
        head = self.head()
        if head is None:
            return dict(self._uncounted)
        return {"status": "counted", "head": head.to_dict()}

    def head(self) -> LedgerHead | None:
        """The ledger's last row, None where no ledger counts the run."""
        return None if self._ledger is None else self._ledger.head()

    def summary(self) -> list[str]:
        """A line a population: what is spent and what is left."""
        if self._ledger is None:
            return []
        names = {binding.population for binding in self._bindings}
        return [
            f"population '{one.name}': epsilon {one.spent:.2f} of {one.epsilon} is spent, "
            f"{one.reserved:.2f} reserved, {one.left:.2f} left"
            for one in self._ledger.status()
            if one.name in names
        ]


@contextmanager
def open_gate(
    config: RunConfig,
    *,
    kind: str,
    no_ledger: bool = False,
    run_id: str | None = None,
    home: Path | None = None,
) -> Iterator[BudgetGate]:
    """Check what can be checked without data, and keep the ledger open while the run goes on.

    If the run fails before its first round, its reservation is given back.

    Args:
        config: the run's configuration.
        kind: ``train``, ``sweep`` or ``audit``.
        no_ledger: train although no ledger counts it, where the policy allows that.
        run_id: of a run that is resumed.
        home: where the ledger lies, by default :func:`ledger_home`.

    Raises:
        BudgetError: patients' data without a ledger, or not bound, or a run that spends an infinite
            amount.
        LedgerError: the ledger is missing, damaged or older than its anchor.
        PolicyError: the policy is missing or does not allow the run.
    """
    place = home or ledger_home()
    keys = dataset_keys(config)
    simulated = all(key.simulated for key in keys)
    if not Ledger.exists(place):
        if not (simulated or no_ledger):
            raise BudgetError(
                "no ledger counts these patients' data: make one with privfin budget init, cap "
                "and bind, or train with --no-ledger, which the run's files will say"
            )
        yield BudgetGate(config, kind, run_id, uncounted=SIMULATED if simulated else UNCOUNTED)
        return
    with Ledger.open(place) as ledger:
        bindings = _bindings(ledger, keys)
        if simulated and not bindings:
            yield BudgetGate(config, kind, run_id, uncounted=SIMULATED)
            return
        policy = load_policy(place)
        policy.check(config, sites=len(site_names(config)), with_ledger=not no_ledger)
        if no_ledger:
            yield BudgetGate(config, kind, run_id, policy=policy)
            return
        missing = [key for key in keys if key not in bindings and not key.simulated]
        if missing:
            raise BudgetError(
                f"the data set '{missing[0].source}' is bound to no population: an officer binds "
                "it with privfin budget bind, or train with --no-ledger if the policy allows it"
            )
        if not config.privacy.is_private or config.privacy.reproducible:
            raise BudgetError(
                "a run that is NOT PRIVATE spends more than any budget: it needs --no-ledger"
            )
        for one in ledger.status():
            is_ours = one.name in {b.population for b in bindings.values()}
            if is_ours and one.epsilon is not None and one.delta is not None:
                policy.check_cap(float(one.epsilon), float(one.delta))
        gate = BudgetGate(
            config, kind, run_id, ledger=ledger, policy=policy, bindings=list(bindings.values())
        )
        try:
            yield gate
        except BaseException as error:
            # The kind of error only: a message may name a patient's file.
            gate.give_back(f"ended before its first round ({type(error).__name__})")
            raise


def _bindings(ledger: Ledger, keys: Sequence[DatasetKey]) -> dict[DatasetKey, Binding]:
    found = {key: ledger.binding_of(key) for key in keys}
    return {key: binding for key, binding in found.items() if binding is not None}
