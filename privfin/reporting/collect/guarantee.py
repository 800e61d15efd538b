"""The guarantee: what is promised to a patient, against whom, and the whole curve of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from privfin.federation.guarantee import profile_against
from privfin.federation.statement import claim
from privfin.privacy.tradeoff import true_positive_rate
from privfin.reporting.blocks_privacy import ColludingSites, Guarantee, ObserverGuarantee, TradeOff
from privfin.reporting.collect.reading import (
    EVENTS,
    MANIFEST,
    PRIVACY,
    counted_steps,
    number,
    rounded_up,
)
from privfin.reporting.evidence import Evidence
from privfin.reporting.facts import Fact, derived, measured, not_applicable

_POPULATION = f"{PRIVACY}: population"


def guarantee_block(evidence: Evidence) -> Guarantee:
    """The guarantee as ``privacy.json`` states it, and its curve, calculated again.

    That the statement is not smaller than what the plan and the events give is checked where
    epsilon is calculated again: :func:`privfin.reporting.collect.accounting.accounting_block`.
    """
    stated = evidence.privacy
    headline = stated["population"]
    return Guarantee(
        claim=measured(str(stated["claim"]), PRIVACY),
        is_private=derived(is_private(evidence), f"{PRIVACY}: claim"),
        statement=derived(_statement(evidence), f"{PRIVACY}, in words"),
        unit=measured(str(stated["unit"]), PRIVACY),
        adjacency=measured(str(stated["adjacency"]), PRIVACY),
        epsilon=derived(number(headline["epsilon"]), _POPULATION),
        delta=measured(number(headline["delta"]), _POPULATION),
        delta_times_patients=_delta_times_patients(evidence),
        headline=measured(str(headline["is"]), _POPULATION),
        no_person_at_two_sites=measured(headline["no_person_at_two_sites"], _POPULATION),
        epsilon_at_every_site=derived(number(headline["epsilon_at_every_site"]), _POPULATION),
        observers=derived(
            tuple(_observer(name, one) for name, one in stated["observers"].items()),
            f"{PRIVACY}: observers",
        ),
        colluding_sites=_colluding_sites(evidence),
        curve=_curve(evidence),
        outputs=derived(_outputs(evidence), f"{MANIFEST}: plan and configuration"),
        accesses=derived(_accesses(evidence), f"{MANIFEST}: plan and configuration"),
    )


def is_private(evidence: Evidence) -> bool:
    """Whether the run promises anything: the claim, and what its configuration allows to claim."""
    return str(evidence.privacy["claim"]) == "dp" == claim(evidence.config)


def _observer(name: str, stated: Mapping[str, Any]) -> ObserverGuarantee:
    return ObserverGuarantee(
        observer=name,
        sees=str(stated["sees"]),
        epsilon=number(stated["epsilon"]),
        delta=number(stated["delta"]),
        mu=number(stated["gdp"]["mu"]),
        mu_excess=number(stated["gdp"]["excess"]),
        best_accuracy=number(stated["best_accuracy"]),
        certainty_of_epsilon_alone=number(stated["certainty_of_epsilon_alone"]),
        trade_off=tuple(
            TradeOff(
                false_positive_rate=number(point["false_positive_rate"]),
                true_positive_rate=number(point["true_positive_rate"]),
            )
            for point in stated["trade_off"]
        ),
    )


def _colluding_sites(evidence: Evidence) -> Fact[tuple[ColludingSites, ...]]:
    if evidence.config.privacy.trust != "shared":
        return not_applicable(
            "noise is not shared: every site adds the full noise to its own training", PRIVACY
        )
    if not is_private(evidence):
        return not_applicable("nothing is promised, however many sites collude", PRIVACY)
    rows = tuple(
        ColludingSites(
            sites=int(one["sites"]),
            epsilon=number(one["epsilon"]),
            is_promised=bool(one["is_promised"]),
        )
        for one in evidence.privacy["colluding_sites"]
    )
    return derived(rows, f"{PRIVACY}: colluding_sites")


def _delta_times_patients(evidence: Evidence) -> Fact[float]:
    """delta is the chance that something outside epsilon happens; times the patients it covers."""
    delta = number(evidence.privacy["population"]["delta"])
    declared = [int(site["patients"]) for site in evidence.manifest["sites"]]
    if evidence.config.privacy.trust == "shared":
        return derived(
            delta * sum(declared), f"{PRIVACY} and {MANIFEST}", "the patients of all sites together"
        )
    return derived(
        delta * max(declared), f"{PRIVACY} and {MANIFEST}", "the patients of the largest site"
    )


#: False-positive rates of the curve: close together where they are small, where it matters.
_RATES = (
    0.0,
    *(float(f"{rate:.4g}") for rate in np.logspace(-4, -1, 31)),
    *(float(f"{rate:.4g}") for rate in np.linspace(0.1, 1.0, 46)[1:]),
)


def _curve(evidence: Evidence) -> Fact[tuple[TradeOff, ...]]:
    if not is_private(evidence):
        return not_applicable("nothing is promised, so nothing bounds an attacker", PRIVACY)
    plan = evidence.plan
    profile = profile_against(
        evidence.config,
        plan,
        counted_steps(evidence),
        is_private=True,
        # An outsider knows no site's share of shared noise.
        colluding=None if plan.shared is None else 0,
    )
    points = tuple(
        TradeOff(false_positive_rate=rate, true_positive_rate=true_positive_rate(profile, rate))
        for rate in _RATES
    )
    return derived(
        points,
        f"{MANIFEST}: plan, and the steps in {EVENTS}",
        "against an outsider; calculated when this report was made",
    )


def _outputs(evidence: Evidence) -> str:
    if evidence.config.privacy.trust == "shared":
        found = (
            "the sum of every joint step, the model after it, and the final model; not what a "
            "single site sends, which has only its share of the noise"
        )
    else:
        found = (
            "what each site sends in every round, the sum and the model after it, and the final "
            "model"
        )
    if evidence.config.training.fine_tune_steps:
        found += "; the model that a site fine-tunes for itself"
    return found


def _accesses(evidence: Evidence) -> str:
    tuned = evidence.config.training.fine_tune_steps
    return (
        "training: every step of every round that was started, also of rounds that were repeated "
        "or lost"
        + (f", and the {tuned} steps of every fine-tuning that was started" if tuned else "")
        + "; other uses of patients' data are listed as not covered"
    )


def _statement(evidence: Evidence) -> str:
    stated = evidence.privacy
    if not is_private(evidence):
        return (
            f"{stated['claim']}. Nothing is promised: no epsilon bounds what the outputs of this "
            "run tell about a patient."
        )
    headline = stated["population"]
    mechanisms = " and ".join(dict.fromkeys(str(one["mechanism"]) for one in stated["sites"]))
    accountant = stated["accountant"]
    return (
        f"The protected unit is one {stated['unit']}. Two data sets are neighbours if one becomes "
        f"the other by this change: {stated['adjacency']}. For all neighbours D and D' and every "
        "set S of outputs, P[M(D) in S] <= exp(epsilon) P[M(D') in S] + delta with epsilon = "
        f"{rounded_up(number(headline['epsilon']))} (rounded up) and delta = "
        f"{number(headline['delta']):g}. M is {mechanisms}, as it was run; its outputs are "
        f"{_outputs(evidence)}. Trust: {stated['trust']}. The stated epsilon is {headline['is']}; "
        "that no person is at two sites is "
        f"{headline['no_person_at_two_sites']}, and for a patient of every site epsilon is "
        f"{rounded_up(number(headline['epsilon_at_every_site']))}. Calculated by "
        f"{accountant['accountant']} {accountant['version']}, under the assumptions that are "
        "listed with it."
    )
