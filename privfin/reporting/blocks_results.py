"""Blocks of a report with results: what attacks found, and how well the model does."""

from __future__ import annotations

from typing import Literal

from privfin.reporting.blocks_people import Count
from privfin.reporting.facts import Extended, Fact, Strict


class Interval(Strict):
    """A value with the ends of its interval; None where nothing is defined or it was withheld."""

    value: float | None
    low: float | None = None
    high: float | None = None


class TprAtFpr(Strict):
    """Share of members found at a rate of false alarms.

    Attributes:
        target_fpr: the rate asked for.
        tpr: the rate of members found, with Clopper-Pearson limits.
        fpr: the realised rate of false alarms.
        is_resolved: whether so small a rate can be told from none with this sample.
    """

    target_fpr: float
    tpr: Interval
    fpr: float
    is_resolved: bool


class AttackResult(Strict):
    """One membership attack by one observer on one stratum of patients.

    Attributes:
        attack: its name.
        observer: whose view.
        stratum: ``all`` or a part of the patients.
        members: patients that were trained on.
        nonmembers: patients that were not.
        auc: with its interval.
        tpr: at small rates of false alarms.
        epsilon_bound: epsilon is at least this, with the audit's confidence; None if not stated.
        epsilon_ceiling: the largest bound that a test of this size could have shown.
        claim: epsilon claimed against this observer.
        curve: (false positive rate, true positive rate) points of the ROC.
        note: what the figures rest on.
        withheld: why figures are missing, if they were withheld.
    """

    attack: str
    observer: str
    stratum: str
    members: Count
    nonmembers: Count
    auc: Interval
    tpr: tuple[TprAtFpr, ...]
    epsilon_bound: Extended | None
    epsilon_ceiling: Extended | None
    claim: Extended
    curve: tuple[tuple[float, float], ...]
    note: str = ""
    withheld: str | None = None


class CanaryTest(Strict):
    """Invented patients that were trained on by coin: what was shown of them.

    Attributes:
        kind: of canary.
        level: what one coin decides about: ``record``, ``patient`` or ``site``.
        observer: ``outsider`` (the final model), or ``training`` (every noisy step).
        canaries: coins thrown.
        epsilon_bound: epsilon is at least this, with the audit's confidence; None if not stated.
        epsilon_ceiling: the largest bound that a test of this size could have shown.
        claim: epsilon claimed.
        is_contradiction: whether the bound is above the claim.
        auc: with its interval; None where nothing was scored.
        note: what the figures rest on, or why there are none.
    """

    kind: str
    level: str
    observer: str
    canaries: int
    epsilon_bound: Extended | None
    epsilon_ceiling: Extended | None
    claim: Extended
    is_contradiction: bool
    auc: Interval | None = None
    note: str = ""


class AttributeResult(Strict):
    """Attribute inference: how much better than without the model an attribute is guessed.

    Attributes:
        attribute: its name.
        seen: what the observer has of the model.
        patients: that were guessed, one guess each.
        chance: balanced accuracy of always guessing the same.
        with_model: balanced accuracy with the model.
        without_model: balanced accuracy from what is known without it.
        difference: of the two, with its interval.
    """

    attribute: str
    seen: str
    patients: Count
    chance: float
    with_model: Interval
    without_model: Interval
    difference: Interval


class Inversion(Strict):
    """Gradient inversion: likeness of what was rebuilt from updates to the true record.

    Attributes:
        view: what it was rebuilt from; ``as sent`` is what a site sends, before encryption.
        measure: ``PSNR, dB``, ``SSIM``, ``feature cosine``, or precision or recall of words.
        value: mean over the targets.
        prior: of the best guess without any update.
        difference: of the two, with its interval; without one for words.
        verdict: in words; empty for words.
    """

    view: str
    measure: str
    value: float
    prior: float
    difference: Interval
    verdict: str


class Audit(Strict):
    """What attacks found.

    Attributes:
        was_done: whether ``privfin audit`` was run on this run.
        verdict: ``contradiction``, ``risk`` or ``none found``; never that a run is safe.
        suite: ``quick`` or ``full``.
        confidence: of every interval, and of all bounds together.
        shadow_models: how many.
        blind_auc: of a classifier without the model: the guard.
        attacks: rows.
        best_attack: the row with the most members found at 1 % false alarms among those on all
            patients; its index in ``attacks``.
        largest_ceiling: of all bounds of observers who exist: none could have been larger. That of
            canaries that see every noisy step is in the note only.
        canaries: rows.
        attributes: rows.
        inversion: rows.
        left_out: attacks that were not made, each with the reason.
        contradictions: lines.
        risks: rules that were passed.
    """

    was_done: Fact[bool]
    verdict: Fact[Literal["contradiction", "risk", "none found"]]
    suite: Fact[str]
    confidence: Fact[float]
    shadow_models: Fact[int]
    blind_auc: Fact[float]
    attacks: Fact[tuple[AttackResult, ...]]
    best_attack: Fact[int]
    largest_ceiling: Fact[Extended]
    canaries: Fact[tuple[CanaryTest, ...]]
    attributes: Fact[tuple[AttributeResult, ...]]
    inversion: Fact[tuple[Inversion, ...]]
    left_out: Fact[tuple[str, ...]]
    contradictions: Fact[tuple[str, ...]]
    risks: Fact[tuple[str, ...]]


class LabelResult(Strict):
    """A label in one availability cell.

    ``left_out`` says why it is not in the macro figures; ``withheld`` why figures are missing.
    """

    label: str
    positives: Count
    negatives: Count
    auroc: Interval
    auprc: Interval
    ece: float | None
    brier: float | None
    left_out: str | None
    withheld: str | None = None


class CellResult(Strict):
    """Held-out records that have at least these modalities, with all others taken away.

    Attributes:
        cell: ``both``, ``image only``, ...
        records: how many.
        patients: how many.
        auroc: macro AUROC with its interval.
        auprc: macro average precision with its interval.
        ece: macro expected calibration error.
        brier: macro Brier score.
        confidence: of the intervals; 1 where they are bounds of a secure metric.
        labels: rows.
        withheld: why figures are missing, if they were withheld.
    """

    cell: str
    records: Count
    patients: Count
    auroc: Interval
    auprc: Interval
    ece: float | None
    brier: float | None
    confidence: float
    labels: tuple[LabelResult, ...] = ()
    withheld: str | None = None


class GroupResult(Strict):
    """A subgroup: ``by`` is ``sex``, ``age`` or ``source``."""

    by: str
    group: str
    cells: tuple[CellResult, ...]
    left_out: dict[str, str]


class PrivacyCost(Strict):
    """What privacy costs in one cell: against a run without it on the same data.

    ``difference`` is private minus not private, in macro AUROC.
    """

    cell: str
    private: float
    not_private: float
    difference: float
    other_run: str


class Utility(Strict):
    """How well the model does.

    Attributes:
        cells: rows.
        groups: rows by subgroup.
        cost_of_privacy: rows, if a run without privacy is shown beside this one.
        is_secure: whether figures are read off encrypted sums, with bounds instead of intervals.
        noise: that the figures are computed without noise.
    """

    cells: Fact[tuple[CellResult, ...]]
    groups: Fact[tuple[GroupResult, ...]]
    cost_of_privacy: Fact[tuple[PrivacyCost, ...]]
    is_secure: Fact[bool]
    noise: Fact[str]


class ComparedRun(Strict):
    """A run of a comparison, the report's own among them.

    Attributes:
        name: shortest end of the path that tells runs apart.
        run_id: its identifier.
        claim: ``dp`` or why not.
        epsilon: headline.
        delta: headline.
        encryption: ``bfv``, ``ckks`` or ``none``.
        auroc: macro AUROC by cell.
        audit_verdict: None if it was not audited.
        differences: options that differ from the first run: ``section.key`` and its value here.
    """

    name: str
    run_id: str
    claim: str
    epsilon: Extended
    delta: float
    encryption: str
    auroc: dict[str, Interval]
    audit_verdict: str | None
    differences: dict[str, str]


class ComparisonBlock(Strict):
    """Several runs beside each other."""

    runs: Fact[tuple[ComparedRun, ...]]
