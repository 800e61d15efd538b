"""ε against dp_accounting on a finer grid, Opacus' PRV, published figures and a closed form."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from privfin.errors import PlanError
from privfin.privacy import accounting
from privfin.privacy.accounting import (
    SubsampledGaussianEvent,
    accountant_name,
    epsilon,
    epsilon_after,
    epsilon_prv,
    epsilon_rdp,
    grid_interval,
)

Accountant = Callable[[float, float, int, float], float]

# noise multiplier, sampling rate, steps, delta, epsilon measured with dp_accounting and with PRV
TABLE = [
    pytest.param(1.0, 64 / 2000, 620, 1e-5, 5.132, 5.143, id="2000 patients, 20 rounds"),
    pytest.param(1.2, 64 / 2000, 1550, 1e-5, 6.013, 6.023, id="2000 patients, 50 rounds"),
    pytest.param(1.0, 64 / 5000, 7800, 1e-5, 7.169, 7.179, id="5000 patients, 100 rounds"),
    pytest.param(2.0, 64 / 500, 480, 1e-4, 6.320, 6.331, id="500 patients, 30 rounds"),
    pytest.param(0.8, 256 / 50_000, 3900, 1e-6, 3.355, 3.365, id="50000 patients, 20 rounds"),
    pytest.param(0.5, 64 / 2000, 620, 1e-5, 29.33, 29.34, id="low noise"),
    pytest.param(5.0, 1.0, 50, 1e-5, 6.573, 6.583, id="full batch"),
    pytest.param(8.0, 0.01, 1000, 1e-5, 0.125, 0.135, id="very private"),
    pytest.param(1.0, 0.001, 1, 1e-5, 0.009, 0.019, id="one step"),
    pytest.param(0.4, 0.1, 2000, 1e-5, 392.72, 392.74, id="huge epsilon"),
]


def one(noise: float, rate: float, steps: int, delta: float) -> float:
    return epsilon([SubsampledGaussianEvent(noise, rate, steps)], delta)


def finer(noise: float, rate: float, steps: int, delta: float) -> float:
    """dp_accounting directly, on a grid four times as fine as the one privfin chooses."""
    interval = grid_interval([SubsampledGaussianEvent(noise, rate, steps)]) / 4
    accountant = PLDAccountant(value_discretization_interval=interval)
    gaussian = dp_event.GaussianDpEvent(noise)
    accountant.compose(dp_event.PoissonSampledDpEvent(rate, gaussian), steps)
    return float(accountant.get_epsilon(delta))


def gaussian_delta(size: float, at: float) -> float:
    """δ(ε) of one Gaussian mechanism (Balle and Wang, arXiv:1805.06530, theorem 5)."""
    second = math.exp(at + float(norm.logcdf(-size / 2 - at / size)))
    return float(norm.cdf(size / 2 - at / size)) - second


def gaussian_epsilon(noise: float, steps: int, delta: float) -> float:
    size = math.sqrt(steps) / noise
    if gaussian_delta(size, 0.0) <= delta:
        return 0.0
    return float(brentq(lambda at: gaussian_delta(size, at) - delta, 0.0, 500.0, xtol=1e-12))


def close_and_not_below(found: float, truth: float) -> bool:
    """The promise: at most 0.02 above the truth and never below it (beyond rounding)."""
    return -1e-6 <= found - truth <= 0.02


@pytest.mark.parametrize(("noise", "rate", "steps", "delta", "pld", "prv"), TABLE)
def test_agrees_with_the_published_table(
    noise: float, rate: float, steps: int, delta: float, pld: float, prv: float
) -> None:
    found = one(noise, rate, steps, delta)
    assert found == pytest.approx(pld, abs=0.02)
    assert found <= prv + 1e-3


@pytest.mark.parametrize(("noise", "rate", "steps", "delta", "pld", "prv"), TABLE)
def test_agrees_with_a_finer_grid(
    noise: float, rate: float, steps: int, delta: float, pld: float, prv: float
) -> None:
    assert close_and_not_below(one(noise, rate, steps, delta), finer(noise, rate, steps, delta))


@settings(deadline=None, max_examples=5)
@given(
    noise=st.floats(0.7, 20.0),
    rate=st.floats(0.002, 1.0),
    steps=st.integers(1, 1000),
    delta=st.floats(1e-9, 1e-3),
)
def test_agrees_with_a_finer_grid_anywhere(
    noise: float, rate: float, steps: int, delta: float
) -> None:
    found, truth = one(noise, rate, steps, delta), finer(noise, rate, steps, delta)
    assert -1e-5 * max(1.0, truth) <= found - truth <= max(0.02, 2e-4 * truth)


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "delta"),
    [case.values[:4] for case in TABLE[:-1]] + [(1.0, 0.15, 280, 1e-5)],
)
def test_agrees_with_opacus_prv(noise: float, rate: float, steps: int, delta: float) -> None:
    events = [SubsampledGaussianEvent(noise, rate, steps)]
    assert -1e-3 <= epsilon_prv(events, delta) - epsilon(events, delta) <= 0.02


@pytest.mark.parametrize(("noise", "rate", "steps", "delta", "pld", "prv"), TABLE)
def test_renyi_is_above(
    noise: float, rate: float, steps: int, delta: float, pld: float, prv: float
) -> None:
    events = [SubsampledGaussianEvent(noise, rate, steps)]
    assert epsilon_rdp(events, delta) >= epsilon(events, delta)


def test_renyi_agrees_with_the_published_figures() -> None:
    # The published figures use fractional orders too, hence the small excess.
    for noise, rate, steps, expected in [
        (1.0, 0.032, 620, 5.690),
        (1.2, 0.032, 1550, 6.549),
        (5.0, 1.0, 50, 7.077),
        (1.0, 0.001, 1, 0.609),
    ]:
        found = epsilon_rdp([SubsampledGaussianEvent(noise, rate, steps)], 1e-5)
        assert expected - 0.001 <= found <= expected * 1.005


@settings(deadline=None, max_examples=10)
@given(
    noise=st.floats(3.0, 50.0),
    steps=st.integers(1, 500),
    delta=st.floats(1e-10, 1e-2),
)
def test_full_batches_match_the_closed_form(noise: float, steps: int, delta: float) -> None:
    truth = gaussian_epsilon(noise, steps, delta)
    found = one(noise, 1.0, steps, delta)
    assert -1e-6 * max(1.0, truth) <= found - truth <= max(0.02, 2e-4 * truth)


@pytest.mark.parametrize("delta", [1e-5, 1e-8, 1e-10, 1e-11])
def test_composed_grid_never_falls_below_the_closed_form(delta: float) -> None:
    # A rate just below 1 takes the composed path, and its true ε is a hair below the closed form.
    truth = gaussian_epsilon(20.0, 620, delta)
    assert close_and_not_below(one(20.0, 1.0 - 1e-12, 620, delta), truth)


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("half the noise", lambda s, q, t, d: one(s / 2, q, t, d)),
        ("twice the noise", lambda s, q, t, d: one(s * 2, q, t, d)),
        ("steps ignored", lambda s, q, t, d: one(s, q, 1, d)),
        ("one step dropped in twenty", lambda s, q, t, d: one(s, q, t - t // 20, d)),
        ("sampling ignored", lambda s, q, t, d: one(s, 1.0, t, d)),
        ("delta ten times larger", lambda s, q, t, d: one(s, q, t, 10 * d)),
        ("epsilon adds up", lambda s, q, t, d: t * one(s, q, 1, d)),
    ],
)
def test_the_check_tells_broken_accountants_apart(name: str, broken: Accountant) -> None:
    setting = (2.0, 0.128, 480, 1e-4)
    assert close_and_not_below(one(*setting), finer(*setting))
    assert not close_and_not_below(broken(*setting), finer(*setting)), name


@settings(deadline=None, max_examples=4)
@given(
    noise=st.floats(0.8, 10.0),
    rate=st.floats(0.005, 0.6),
    steps=st.integers(1, 1000),
    delta=st.floats(1e-8, 1e-4),
)
def test_monotone(noise: float, rate: float, steps: int, delta: float) -> None:
    here = one(noise, rate, steps, delta)
    # Every one of these changes moves the true ε by far more than the grid's rounding.
    assert one(noise * 1.2, rate, steps, delta) <= here + 2e-3
    assert one(noise, rate, 2 * steps, delta) >= here - 2e-3
    assert one(noise, rate * 1.3, steps, delta) >= here - 2e-3
    assert one(noise, rate, steps, delta * 3) <= here + 2e-3


def test_strictly_monotone_at_a_usual_setting() -> None:
    here = one(1.0, 0.032, 620, 1e-5)
    assert one(1.05, 0.032, 620, 1e-5) < here - 0.1
    assert one(1.0, 0.032, 700, 1e-5) > here + 0.1
    assert one(1.0, 0.035, 620, 1e-5) > here + 0.1
    assert one(1.0, 0.032, 620, 2e-5) < here - 0.05


def test_composition() -> None:
    a = SubsampledGaussianEvent(1.5, 0.05, 100)
    b = SubsampledGaussianEvent(3.0, 0.2, 50)
    both = epsilon([a, b], 1e-5)
    assert max(epsilon([a], 1e-5), epsilon([b], 1e-5)) < both
    assert both < epsilon([a], 5e-6) + epsilon([b], 5e-6)
    assert both == epsilon([b, a], 1e-5)
    assert both == pytest.approx(epsilon_prv([a, b], 1e-5), abs=0.02)


def test_rounds_cost_the_same_as_one_run() -> None:
    rounds = [SubsampledGaussianEvent(1.0, 0.1, 7)] * 20
    assert epsilon(rounds, 1e-5) == one(1.0, 0.1, 140, 1e-5)


def test_full_batches_compose_to_one_gaussian() -> None:
    # 1/4 + 3/12 = 1/2 of variance⁻¹: the same as two steps at σ = 2.
    events = [SubsampledGaussianEvent(2.0, 1.0, 1), SubsampledGaussianEvent(math.sqrt(12), 1.0, 3)]
    assert epsilon(events, 1e-5) == pytest.approx(gaussian_epsilon(2.0, 2, 1e-5), abs=0.001)


@pytest.mark.parametrize("measure", [epsilon, epsilon_rdp, epsilon_prv])
def test_nothing_run_and_no_noise(measure: Callable[..., float]) -> None:
    noisy = SubsampledGaussianEvent(1.0, 0.1, 10)
    assert measure([], 1e-5) == 0.0
    assert measure([SubsampledGaussianEvent(1.0, 0.1, 0)], 1e-5) == 0.0
    assert measure([SubsampledGaussianEvent(0.0, 0.1, 0)], 1e-5) == 0.0
    assert measure([noisy, SubsampledGaussianEvent(0.0, 0.1, 1)], 1e-5) == math.inf


@pytest.mark.parametrize("noise", [1e-5, 1e-3, 0.02, 0.05])
def test_hardly_any_noise_gives_a_huge_finite_bound(noise: float) -> None:
    found = one(noise, 0.5, 10, 1e-5)
    assert 1_000.0 < found < math.inf
    assert found <= epsilon_rdp([SubsampledGaussianEvent(noise, 0.5, 10)], 1e-5)


def test_after_matches_separate_calls() -> None:
    event = SubsampledGaussianEvent(1.0, 0.15, 1)
    counts = [7 * at for at in range(41)]
    shown = epsilon_after(event, 1e-5, counts)
    assert shown[0] == 0.0
    assert shown == sorted(shown)
    for at in (1, 2, 10, 25):
        assert shown[at] == pytest.approx(one(1.0, 0.15, counts[at], 1e-5), abs=1e-3)
    assert shown[-1] == pytest.approx(one(1.0, 0.15, counts[-1], 1e-5), abs=1e-4)


def test_after_takes_any_order_and_what_was_spent_before() -> None:
    event, past = SubsampledGaussianEvent(2.0, 0.1, 1), SubsampledGaussianEvent(3.0, 0.2, 40)
    shown = epsilon_after(event, 1e-5, [30, 0, 10, 30], before=[past])
    assert shown[0] == shown[3]
    for steps, found in zip([30, 0, 10], shown, strict=False):
        expected = epsilon([past, SubsampledGaussianEvent(2.0, 0.1, steps)], 1e-5)
        assert found == pytest.approx(expected, abs=1e-3)
    assert epsilon_after(event, 1e-5, []) == []
    full = epsilon_after(SubsampledGaussianEvent(5.0, 1.0, 1), 1e-5, [1, 50])
    assert full[1] == pytest.approx(6.573, abs=0.02)


def test_after_without_noise() -> None:
    silent = SubsampledGaussianEvent(0.0, 0.1, 1)
    assert epsilon_after(silent, 1e-5, [0, 1]) == [0.0, math.inf]
    noisy = SubsampledGaussianEvent(1.0, 0.1, 1)
    spent = SubsampledGaussianEvent(0.0, 0.1, 1)
    assert epsilon_after(noisy, 1e-5, [0, 5], before=[spent]) == [math.inf, math.inf]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ((-0.1, 0.1, 1), "noise_multiplier"),
        ((math.nan, 0.1, 1), "noise_multiplier"),
        ((math.inf, 0.1, 1), "noise_multiplier"),
        ((True, 0.1, 1), "noise_multiplier"),
        (("1", 0.1, 1), "noise_multiplier"),
        ((1.0, 0.0, 1), "sampling_rate"),
        ((1.0, 1.01, 1), "sampling_rate"),
        ((1.0, math.nan, 1), "sampling_rate"),
        ((1.0, 0.1, -1), "steps"),
        ((1.0, 0.1, 1.0), "steps"),
        ((1.0, 0.1, True), "steps"),
    ],
)
def test_events_refuse_what_is_out_of_range(fields: tuple[float, float, int], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        SubsampledGaussianEvent(*fields)


@given(
    noise=st.floats(0, 1e6),
    rate=st.floats(0, 1, exclude_min=True),
    steps=st.integers(0, 2**40),
)
def test_events_survive_json(noise: float, rate: float, steps: int) -> None:
    event = SubsampledGaussianEvent(noise, rate, steps)
    assert SubsampledGaussianEvent.from_dict(json.loads(json.dumps(event.to_dict()))) == event


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"noise_multiplier": 1.0, "sampling_rate": 0.1},
        {"noise_multiplier": 1.0, "sampling_rate": 0.1, "steps": 1, "delta": 1e-5},
        {"noise_multiplier": "1.0", "sampling_rate": 0.1, "steps": 1},
        {"noise_multiplier": None, "sampling_rate": 0.1, "steps": 1},
    ],
)
def test_events_refuse_other_fields(fields: dict[str, object]) -> None:
    with pytest.raises(PlanError):
        SubsampledGaussianEvent.from_dict(fields)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan, 1e-13])
@pytest.mark.parametrize("measure", [epsilon, epsilon_rdp, epsilon_prv])
def test_delta_out_of_range(measure: Callable[..., float], delta: float) -> None:
    with pytest.raises(PlanError, match="delta"):
        measure([], delta)
    with pytest.raises(PlanError, match="delta"):
        epsilon_after(SubsampledGaussianEvent(1.0, 0.1, 1), delta, [1])


def test_name_says_which_accountant() -> None:
    name = accountant_name()
    assert name["accountant"] == "dp_accounting PLD"
    assert name["version"].startswith("0.6")


def test_no_gdp_accountant_is_offered() -> None:
    assert not [name for name in vars(accounting) if "gdp" in name.lower()]


@pytest.mark.parametrize(
    ("sigma", "rate", "steps", "delta"),
    [
        (1.0, 0.032, 620, 1e-5),
        (1.2, 0.032, 1550, 1e-5),
        (2.0, 0.128, 480, 1e-4),
        (0.5, 0.032, 620, 1e-5),
        (5.0, 1.0, 50, 1e-5),
        (8.0, 0.01, 1000, 1e-5),
        (1.0, 0.001, 1, 1e-5),
    ],
)
def test_ours_is_not_below_a_plain_call_of_the_same_accountant(
    sigma: float, rate: float, steps: int, delta: float
) -> None:
    """All ten settings are in docs/results/accounting.md (benchmarks/accounting.py)."""
    from dp_accounting import dp_event
    from dp_accounting.pld import PLDAccountant

    step = dp_event.GaussianDpEvent(sigma)
    if rate < 1.0:
        step = dp_event.PoissonSampledDpEvent(rate, step)
    plain = PLDAccountant().compose(step, steps).get_epsilon(delta)
    ours = epsilon([SubsampledGaussianEvent(sigma, rate, steps)], delta)
    assert plain - 1e-6 <= ours <= plain + 0.02


@pytest.mark.slow
def test_the_published_table_is_what_both_accountants_say() -> None:
    """Every row of docs/results/accounting.md: ours within 0.02 of plain PLD, and not below."""
    page = (Path(__file__).parents[2] / "docs" / "results" / "accounting.md").read_text()
    rows = [line for line in page.split("## Shared noise")[0].splitlines() if line[:2] == "| "][1:]
    assert len(rows) == 10
    for row in rows:
        sigma, rate, steps, delta, stated, pld, *_ = map(float, row.strip("| ").split(" | "))
        ours = epsilon([SubsampledGaussianEvent(sigma, rate, int(steps))], delta)
        gaussian: dp_event.DpEvent = dp_event.GaussianDpEvent(sigma)
        step = dp_event.PoissonSampledDpEvent(rate, gaussian) if rate < 1 else gaussian
        accountant = PLDAccountant(value_discretization_interval=1e-4)
        plain = accountant.compose(step, int(steps)).get_epsilon(delta)
        assert ours == pytest.approx(stated, abs=1e-4)
        assert plain == pytest.approx(pld, abs=1e-4)
        assert -1e-9 <= ours - plain <= 0.02
