"""Blocks of a report about the guarantee: what is promised, by what, and what was spent."""

from __future__ import annotations

from typing import Literal

from privfin.reporting.facts import Extended, Fact, Strict


class TradeOff(Strict):
    """A point of the trade-off curve: no test finds more members at this rate of false alarms."""

    false_positive_rate: float
    true_positive_rate: float


class ObserverGuarantee(Strict):
    """The guarantee against one observer.

    Attributes:
        observer: as the privacy statement names it.
        sees: what it sees, in words.
        epsilon: infinite where nothing is promised.
        delta: at which epsilon is stated.
        mu: of a Gaussian trade-off that the guarantee implies; infinite where nothing is promised.
        mu_excess: how far that Gaussian lies above the true curve at most.
        best_accuracy: no test that starts at 50:50 is right more often, by the whole curve.
        certainty_of_epsilon_alone: nor by (epsilon, delta) alone, reading delta as zero.
        trade_off: points of the curve.
    """

    observer: str
    sees: str
    epsilon: Extended
    delta: float
    mu: Extended
    mu_excess: float
    best_accuracy: float
    certainty_of_epsilon_alone: float
    trade_off: tuple[TradeOff, ...]


class ColludingSites(Strict):
    """Shared noise: what holds if this many sites reveal their shares."""

    sites: int
    epsilon: Extended
    is_promised: bool


class Guarantee(Strict):
    """What is promised to a patient.

    Attributes:
        claim: ``dp``, or ``NOT PRIVATE`` and why.
        is_private: whether anything is promised.
        statement: the formal statement, in one paragraph.
        unit: the protected unit.
        adjacency: which data sets are neighbours.
        epsilon: the headline, for any patient; infinite where nothing is promised.
        delta: at which epsilon is stated.
        delta_times_patients: delta times the patients of the largest site; must be far below 1.
        headline: what the headline is: largest of a site, or composition over all.
        no_person_at_two_sites: ``checked``, ``declared`` or ``unknown``.
        epsilon_at_every_site: for a person who is a patient of every site.
        observers: a row an observer.
        colluding_sites: rows with shared noise.
        curve: of the outsider's guarantee, finer than ``trade_off``: for the plot.
        outputs: which outputs are covered.
        accesses: which uses of the data are covered.
    """

    claim: Fact[str]
    is_private: Fact[bool]
    statement: Fact[str]
    unit: Fact[str]
    adjacency: Fact[str]
    epsilon: Fact[Extended]
    delta: Fact[float]
    delta_times_patients: Fact[float]
    headline: Fact[str]
    no_person_at_two_sites: Fact[Literal["checked", "declared", "unknown"]]
    epsilon_at_every_site: Fact[Extended]
    observers: Fact[tuple[ObserverGuarantee, ...]]
    colluding_sites: Fact[tuple[ColludingSites, ...]]
    curve: Fact[tuple[TradeOff, ...]]
    outputs: Fact[str]
    accesses: Fact[str]


class SiteMechanism(Strict):
    """What one site ran. Fields are None where they were withheld or there are none."""

    site: str
    mechanism: str
    noise_multiplier: float | None
    clip_norm: float | None
    sampling_rate: float | None
    sampler: str
    divisor: float | None
    steps: int
    steps_planned: int
    epsilon: Extended
    delta: float


class Segment(Strict):
    """A part of the model: how many sites train it, and whether it was summed."""

    segment: str
    parameters: int
    sites_training_it: int
    is_summed: bool


class Mechanism(Strict):
    """How the guarantee comes about.

    Attributes:
        trust: who adds the noise.
        target_epsilon: what was asked for.
        sites: a row a site.
        aggregation: how sites are weighted.
        segments: parts of the model.
        fine_tuning: steps that sites take for themselves.
        randomness: where noise and sampling come from; never a seed.
        rounds: that were counted.
    """

    trust: Fact[str]
    target_epsilon: Fact[Extended]
    sites: Fact[tuple[SiteMechanism, ...]]
    aggregation: Fact[str]
    segments: Fact[tuple[Segment, ...]]
    fine_tuning: Fact[str]
    randomness: Fact[str]
    rounds: Fact[int]


class Assumption(Strict):
    """What the guarantee rests on, and how far it is known."""

    assumption_id: str
    text: str
    status: Literal["checked", "declared", "unknown"]
    by: str


class Accounting(Strict):
    """How epsilon was calculated.

    Attributes:
        accountant: with its version.
        recomputed_epsilon: the headline again, from plan and events, while this report was made.
        second_accountant: another accountant's value at the largest site, with its name in
            ``source``.
        assumptions: rows.
    """

    accountant: Fact[str]
    recomputed_epsilon: Fact[Extended]
    second_accountant: Fact[Extended]
    assumptions: Fact[tuple[Assumption, ...]]


class PopulationBudget(Strict):
    """Where one population's budget stands; epsilon at the cap's delta.

    Attributes:
        population: its name in the ledger.
        cap_epsilon: None without a cap.
        cap_delta: None without a cap.
        before: spent by the runs before this one.
        this_run: what this run adds to it.
        reserved: held by open runs.
        left: up to the cap; 0 or less means used up.
        runs: that were counted.
        refusals: runs that were refused.
        raised: how often the cap was raised.
        is_over: whether more is spent than the cap.
    """

    population: str
    cap_epsilon: float | None
    cap_delta: float | None
    before: Extended
    this_run: Extended
    reserved: Extended
    left: float
    runs: int
    refusals: int
    raised: int
    is_over: bool


class LedgerEntry(Strict):
    """A row of the extract: one run as the ledger charges it."""

    seq: int
    time: str
    run: str
    kind: str
    state: str
    populations: str
    epsilon: Extended
    delta: float


class Head(Strict):
    """The last row of the ledger, signed with the ledger's key: anchors it in this report."""

    ledger_id: str
    seq: int
    hash: str
    public_key: str
    signature: str


class LedgerBlock(Strict):
    """What these patients were charged over all runs.

    Attributes:
        status: ``counted``, ``simulated`` patients, or ``none``: nobody counts.
        meaning: in words.
        budgets: a row a population.
        extract: runs of these populations.
        head: of the ledger.
        check: what checking rows, signatures and anchors found.
        heads_of_sites: sites whose messages named their ledger's last row.
    """

    status: Fact[Literal["counted", "simulated", "none"]]
    meaning: Fact[str]
    budgets: Fact[tuple[PopulationBudget, ...]]
    extract: Fact[tuple[LedgerEntry, ...]]
    head: Fact[Head]
    check: Fact[str]
    heads_of_sites: Fact[tuple[str, ...]]
