"""Weights of sites: the right mean, no weight to be seen, and a bound on what a lie gains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privfin.config import RunConfig, load_config
from privfin.crypto.quantize import Quantizer
from privfin.errors import ConfigError
from privfin.federation.aggregation import (
    MIN_WEIGHT,
    Aggregation,
    segment,
    site_certainty,
)
from privfin.federation.plan import SiteDeclaration, TrainingPlan, make_plan
from privfin.federation.statement import privacy_statement
from privfin.models.segments import counts
from privfin.randomness import RandomStream

SITES = (
    SiteDeclaration("a", ("image",), 100),
    SiteDeclaration("b", ("text",), 50),
    SiteDeclaration("c", ("image", "text"), 200),
    SiteDeclaration("d", ("image", "text"), 150),
)
UNCERTAIN = {"training__aggregation": "uncertainty", "model__imputer": "pfin"}


def changes_of(config: RunConfig, plan: TrainingPlan, seed: int = 0) -> dict[str, np.ndarray]:
    """What sites add: random, and zero where they train nothing."""
    rng = np.random.default_rng(seed)
    found = {}
    for site in plan.sites:
        mask = plan.trained_mask(site.modalities, config.model.imputer)
        change = rng.uniform(-0.1, 0.1, plan.parameters) * mask
        found[site.name] = change.astype(np.float32)
    return found


def averaged(config: RunConfig, plan: TrainingPlan, sent: dict[str, np.ndarray]) -> np.ndarray:
    """Through the quantiser, as in a round: the average that every site applies."""
    quantizer = Quantizer(config.crypto.update_bound, config.crypto.value_bits)
    stream = RandomStream.reproducible(1, "rounding")
    codes = sum(quantizer.encode(v, stream).astype(np.int64) for v in sent.values())
    summed = quantizer.decode_sum(codes, len(sent))
    divisors = Aggregation(config, plan, "a").divisors(summed[plan.parameters :], plan.cohort)
    return summed[: plan.parameters] / plan.spread(divisors)


def reference(
    config: RunConfig,
    plan: TrainingPlan,
    changes: dict[str, np.ndarray],
    weights: dict[str, float],
) -> np.ndarray:
    """The weighted mean over the sites that count, segment by segment, in a loop."""
    wanted = np.zeros(plan.parameters)
    for part in plan.segments:
        place = slice(part.start, part.stop)
        who = [s for s in plan.sites if counts(part.name, s.modalities, config.model.imputer)]
        if who:
            total = sum(weights[s.name] * changes[s.name][place].astype(float) for s in who)
            wanted[place] = total / sum(weights[s.name] for s in who)
    return wanted


@pytest.mark.parametrize("kind", ["fin", "fin-any", "zero", "zero-fair", "late", "mean"])
def test_by_size_is_the_mean_weighted_by_declared_patients(tiny, kind):
    config = tiny(training__aggregation="size", model__imputer=kind)
    plan = make_plan(config, SITES)
    changes = changes_of(config, plan)
    start = np.zeros(plan.parameters, dtype=np.float32)
    sent = {
        n: Aggregation(config, plan, n).outgoing(start, c, plan.cohort) for n, c in changes.items()
    }
    assert {v.shape for v in sent.values()} == {(plan.values,)} == {(plan.parameters,)}
    weights = {s.name: float(s.patients) for s in SITES}
    wanted = reference(config, plan, changes, weights)
    step = 4 * config.crypto.update_bound / 2**15
    assert np.abs(averaged(config, plan, sent) - wanted).max() < step


def with_uncertainties(plan: TrainingPlan, values: dict[str, float]) -> dict[str, np.ndarray]:
    """Parameters before the round; the learned scalar is what a site has after its steps."""
    starts = {}
    for name, value in values.items():
        starts[name] = np.zeros(plan.parameters, dtype=np.float32)
        starts[name][segment(plan, "uncertainty").start] = value
    return starts


def test_by_uncertainty_is_the_mean_weighted_by_certainty_and_size(tiny):
    config = tiny(**UNCERTAIN)
    plan = make_plan(config, SITES)
    changes = changes_of(config, plan)
    scalar = segment(plan, "uncertainty").start
    for change in changes.values():
        change[scalar] = 0
    learned = {"a": 0.1, "b": 0.4, "c": 0.02, "d": 1.0}
    starts = with_uncertainties(plan, learned)
    sent = {
        n: Aggregation(config, plan, n).outgoing(starts[n], c, plan.cohort)
        for n, c in changes.items()
    }
    assert {v.shape for v in sent.values()} == {(plan.parameters + len(plan.segments),)}
    weights = {
        s.name: max(MIN_WEIGHT, 0.4 * s.patients / 200 + 0.6 * np.exp(-learned[s.name] / 0.2))
        for s in SITES
    }
    wanted = reference(config, plan, changes, weights)
    step = 4 * config.crypto.update_bound / 2**15 / MIN_WEIGHT
    assert np.abs(averaged(config, plan, sent) - wanted).max() < step


def test_the_scalar_is_read_after_the_sites_own_steps(tiny):
    config = tiny(**UNCERTAIN)
    plan = make_plan(config, SITES)
    place = segment(plan, "uncertainty").start
    change = np.zeros(plan.parameters, dtype=np.float32)
    change[place] = -0.5
    start = with_uncertainties(plan, {"a": 0.5})["a"]
    sent = Aggregation(config, plan, "a").outgoing(start, change, plan.cohort)
    weight = 0.4 * 100 / 200 + 0.6 * site_certainty(0.0, 0.2)
    assert sent[place] == pytest.approx(-0.5 * weight)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(uncertainty=st.floats(-1e6, 1e6), temperature=st.floats(0.01, 10))
def test_no_claim_makes_a_site_count_more_than_the_largest_weight(uncertainty, temperature):
    """Whatever a site says of its certainty, it counts at least the least weight and at most 1."""
    config = load_config(
        None,
        [
            ("training.aggregation", "uncertainty"),
            ("model.imputer", "pfin"),
            ("training.uncertainty.temperature", temperature),
            ("training.batch_size", 16),
            ("privacy.epsilon", float("inf")),
        ],
    )
    plan = make_plan(config, SITES)
    liar = with_uncertainties(plan, {"c": uncertainty})["c"]
    sent = Aggregation(config, plan, "c").outgoing(liar, np.zeros_like(liar), plan.cohort)
    tail = sent[plan.parameters :] / config.crypto.update_bound
    mine = [counts(s.name, ("image", "text"), "pfin") for s in plan.segments]
    assert np.all((tail >= MIN_WEIGHT - 1e-6) & (tail <= 1 + 1e-6) | ~np.array(mine))


def test_a_weight_above_one_cannot_be_encoded(tiny):
    """A dishonest site that writes 7 into its weight is cut to 1 by the code's own range."""
    config = tiny(**UNCERTAIN)
    quantizer = Quantizer(config.crypto.update_bound, config.crypto.value_bits)
    claimed = np.array([7.0 * config.crypto.update_bound])
    code = quantizer.encode(claimed, RandomStream.reproducible(1, "x"))
    assert quantizer.decode_sum(code, 1)[0] == pytest.approx(config.crypto.update_bound)


@pytest.mark.parametrize("lie", [-1.0, -0.37, -0.74])
def test_negative_weights_do_not_blow_up_what_honest_sites_sent(tiny, lie):
    """A valid code may be negative. The divisor stays at what honest sites would send at least,
    so no honest change counts for more than 1 / (least weight times trainers) of itself."""
    config = tiny(**UNCERTAIN)
    plan = make_plan(config, SITES)
    bound = config.crypto.update_bound
    honest = {"a": 0.3, "b": 0.25, "d": 0.6}
    tail = np.zeros(len(plan.segments))
    for site in SITES:
        mine = np.array([counts(s.name, site.modalities, "pfin") for s in plan.segments])
        tail += mine * bound * honest.get(site.name, lie)
    divisors = Aggregation(config, plan, "a").divisors(tail, plan.cohort)
    for part, divisor in zip(plan.segments, divisors, strict=True):
        assert divisor >= MIN_WEIGHT * part.trained_by - 1e-6, part.name


def test_a_segment_that_nobody_trains_is_divided_by_one(tiny):
    """A sum of zeros is divided by one, not by zero."""
    for options in ({}, {"training__aggregation": "size"}, UNCERTAIN):
        config = tiny(**options)
        lonely = (SITES[0], SITES[1])
        plan = make_plan(config, lonely)
        tail = np.zeros(plan.values - plan.parameters)
        divisors = Aggregation(config, plan, "a").divisors(tail, plan.cohort)
        at = plan.segments.index(segment(plan, "imputer.image_to_text"))
        assert divisors[at] == 1


def test_uncertainty_needs_an_imputer_that_states_one():
    with pytest.raises(ConfigError, match="needs imputer = 'pfin'"):
        load_config(None, [("training.aggregation", "uncertainty")])


@pytest.mark.parametrize("options", [{"training__aggregation": "size"}, UNCERTAIN])
def test_encrypted_and_plain_rounds_agree_to_the_bit(
    federation: Callable[..., Any], options: dict[str, Any]
) -> None:
    """All sites, with encryption and without: the weights change nothing of that."""
    models = set()
    for encryption in ("bfv", "none"):
        one = federation(crypto__encryption=encryption, real_training=True, **options).train()
        models |= {state.vector.tobytes() for state in one.states.values()}
    assert len(models) == 1


def test_the_statement_says_what_weights_show(tiny):
    config = tiny(**UNCERTAIN)
    statement = privacy_statement(config, make_plan(config, SITES), {})
    assert "covered by the site's epsilon" in statement["aggregation"]
    assert all(s["divisor"] is None for s in statement["segments"])
