"""What a report says of the guarantee is what the run's files say, and its curve holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant

from privfin.privacy.tradeoff import REPORTED_RATES
from privfin.reporting.blocks_privacy import Guarantee
from privfin.reporting.collect.guarantee import guarantee_block
from privfin.reporting.collect.reading import rounded_up
from privfin.reporting.evidence import Evidence

Of = Callable[[str], Evidence]
PRIVATE = ("dp", "json", "ckks", "shared", "fine-tuned", "dropped", "secure")
NOT_PRIVATE = ("inf", "reproducible")


def curve(block: Guarantee) -> dict[float, float]:
    return {p.false_positive_rate: p.true_positive_rate for p in block.curve.get()}


@pytest.mark.parametrize("kind", PRIVATE)
def test_the_curve_goes_through_the_stated_points_and_is_one(kind: str, evidence_of: Of) -> None:
    """Rising, concave, never below chance, from about 0 to 1: what any trade-off curve is."""
    evidence = evidence_of(kind)
    block = guarantee_block(evidence)
    points = curve(block)
    assert 60 <= len(points) <= 100
    stated = evidence.privacy["observers"]["outsider"]["trade_off"]
    assert {p["false_positive_rate"] for p in stated} == set(REPORTED_RATES) <= set(points)
    for point in stated:
        again = points[point["false_positive_rate"]]
        assert again == pytest.approx(point["true_positive_rate"], abs=1e-12)
    rates, found = np.array(list(points)), np.array(list(points.values()))
    assert np.all(np.diff(rates) > 0)
    assert np.all(np.diff(found) >= 0)
    assert np.all(found >= rates)
    assert found[0] < 1e-5
    assert found[-1] == rates[-1] == 1.0
    slopes = np.diff(found) / np.diff(rates)
    assert all(after <= before * (1 + 1e-9) for before, after in pairwise(slopes))


def test_the_curve_is_what_the_loss_distribution_gives(evidence_of: Of) -> None:
    """At each rate the least that delta(epsilon) allows, from dp_accounting on a finer grid."""
    evidence = evidence_of("dp")
    site = evidence.manifest["plan"][0]
    accountant = PLDAccountant(value_discretization_interval=2e-4)
    gaussian = dp_event.GaussianDpEvent(site["noise_multiplier"])
    accountant.compose(dp_event.PoissonSampledDpEvent(site["sampling_rate"], gaussian), 4)
    epsilons = np.linspace(0.0, 25.0, 4001)
    deltas = np.asarray(accountant.get_delta(epsilons))
    for rate, found in curve(guarantee_block(evidence)).items():
        few = np.exp(epsilons) * rate + deltas
        many = 1.0 - np.exp(-epsilons) * (1.0 - rate - deltas)
        best = min(1.0, float(few.min()), float(many.min()))
        assert best - 1e-6 <= found <= best + 2e-3


def test_an_outsider_of_shared_noise_learns_less_than_a_site(evidence_of: Of) -> None:
    block = guarantee_block(evidence_of("shared"))
    by_name = {one.observer: one for one in block.observers.get()}
    site = {p.false_positive_rate: p for p in by_name["another site"].trade_off}
    for rate, found in curve(block).items():
        if rate in site:
            assert found < site[rate].true_positive_rate
    rows = block.colluding_sites.get()
    assert [row.is_promised for row in rows] == [True, True, False]
    assert rows[0].epsilon < rows[1].epsilon < rows[2].epsilon
    assert "only its share" in block.outputs.get()


@pytest.mark.parametrize("kind", NOT_PRIVATE)
def test_nothing_is_promised_where_nothing_holds(kind: str, evidence_of: Of) -> None:
    block = guarantee_block(evidence_of(kind))
    assert block.is_private.value is False
    assert math.isinf(block.epsilon.get())
    assert block.curve.status == "not_applicable"
    statement = block.statement.get()
    assert statement.startswith("NOT PRIVATE")
    assert "Nothing is promised" in statement
    assert "exp(epsilon)" not in statement
    for one in block.observers.get():
        assert math.isinf(one.epsilon)
        assert one.best_accuracy == 1.0
        assert all(point.true_positive_rate == 1.0 for point in one.trade_off)


def test_a_claim_that_the_configuration_does_not_allow_is_not_private(evidence_of: Of) -> None:
    evidence = evidence_of("inf")
    evidence.privacy["claim"] = "dp"
    assert guarantee_block(evidence).is_private.value is False


@pytest.mark.parametrize("kind", PRIVATE)
def test_the_statement_never_has_epsilon_alone(kind: str, evidence_of: Of) -> None:
    evidence = evidence_of(kind)
    block = guarantee_block(evidence)
    statement = block.statement.get()
    headline = evidence.privacy["population"]
    for needed in (
        f"epsilon = {rounded_up(headline['epsilon'])} (rounded up)",
        f"delta = {headline['delta']:g}",
        "one patient",
        evidence.privacy["adjacency"],
        headline["is"],
        headline["no_person_at_two_sites"],
        evidence.privacy["trust"],
        block.outputs.get(),
    ):
        assert needed in statement
    tuned = "fine-tun" in block.outputs.get() and "fine-tuning" in block.accesses.get()
    assert tuned == (kind == "fine-tuned")


def test_delta_counts_against_the_patients_that_it_is_about(evidence_of: Of) -> None:
    """Of the largest site; with shared noise all sites are one sample."""
    for kind, combine in (("dp", max), ("shared", sum)):
        evidence = evidence_of(kind)
        patients = [site["patients"] for site in evidence.manifest["sites"]]
        found = guarantee_block(evidence).delta_times_patients.get()
        assert found == pytest.approx(evidence.privacy["population"]["delta"] * combine(patients))
        assert found < 0.1


@pytest.mark.parametrize(
    ("value", "shown"),
    [(7.99994, "8"), (7.9999, "7.9999"), (0.12341, "0.1235"), (3.0, "3"), (math.inf, "inf")],
)
def test_numbers_for_reading_are_rounded_up(value: float, shown: str) -> None:
    assert rounded_up(value) == shown
