"""What noisy steps have cost: ε for a given δ, from the list of what was run.

The figure to report and to enforce is :func:`epsilon`: dp_accounting's privacy loss distributions
(PLD), add/remove neighbours, Poisson-subsampled Gaussian steps. :func:`epsilon_rdp` and
:func:`epsilon_prv` are independent checks on it. Opacus' GDP accountant is not offered: it uses a
central limit theorem as if it were exact and states too small an ε (4.60 where the others find
5.13 to 5.69, at σ = 1, q = 0.032, 620 steps, δ = 1e-5).

Every figure is an upper bound up to floating-point rounding. Privacy losses are put on a grid by
the "Connect the Dots" method (Doroshenko et al., "Connect the Dots: Tighter Discrete
Approximations of Privacy Loss Distributions", arXiv:2207.04380), whose δ(ε) is never below the
true one. A finer grid only tightens the bound, and :func:`grid_interval` says how fine it is.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
from dp_accounting import dp_event, rdp
from dp_accounting.pld import privacy_loss_distribution
from dp_accounting.privacy_accountant import NeighboringRelation

from privfin.errors import PlanError

FloatArray = npt.NDArray[np.float64]

# Below this δ the rounding of the Fourier transforms is no longer small beside δ.
SMALLEST_DELTA = 1e-12

_FIELDS = ("noise_multiplier", "sampling_rate", "steps")
_INTERVALS = (1e-7, 2e-7, 5e-7, 1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3)
_GRID_ERROR = 1e-3
_GRID_POINTS = 2**19
# An ε this large protects nobody: the RDP bound, which needs no grid, is returned instead.
_LARGEST_LOSS_ON_GRID = 1e6
# Fractional orders are left out: their series does not converge at the larger sampling rates.
_RDP_ORDERS = (*range(2, 64), 80, 96, 128, 192, 256, 384, 512, 1024)


@dataclass(frozen=True, order=True)
class SubsampledGaussianEvent:
    """Steps that each add Gaussian noise to a clipped sum over a Poisson sample.

    Attributes:
        noise_multiplier: noise standard deviation over clipping norm, σ >= 0; 0 means no privacy.
        sampling_rate: probability that a patient is in a step's sample, 0 < q <= 1.
        steps: how many such steps, >= 0.

    Raises:
        PlanError: when a field is out of range or not a number.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int

    def __post_init__(self) -> None:
        noise = _number("noise_multiplier", self.noise_multiplier)
        rate = _number("sampling_rate", self.sampling_rate)
        if noise < 0.0:
            raise PlanError(f"noise_multiplier must be at least 0, got {noise}")
        if not 0.0 < rate <= 1.0:
            raise PlanError(f"sampling_rate must lie in (0, 1], got {rate}")
        if isinstance(self.steps, bool) or not isinstance(self.steps, int):
            raise PlanError(f"steps must be a whole number, got {self.steps!r}")
        if self.steps < 0:
            raise PlanError(f"steps must be at least 0, got {self.steps}")
        object.__setattr__(self, "noise_multiplier", noise)
        object.__setattr__(self, "sampling_rate", rate)

    def to_dict(self) -> dict[str, float | int]:
        """The three fields by name, ready for JSON."""
        return {
            "noise_multiplier": self.noise_multiplier,
            "sampling_rate": self.sampling_rate,
            "steps": self.steps,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> SubsampledGaussianEvent:
        """Read back what :meth:`to_dict` wrote.

        Raises:
            PlanError: when a field is missing, unknown or out of range.
        """
        if set(fields) != set(_FIELDS):
            found = ", ".join(sorted(map(str, fields))) or "none"
            raise PlanError(
                f"an accounting event has the fields {', '.join(_FIELDS)}; found {found}"
            )
        return cls(**{name: fields[name] for name in _FIELDS})


def accountant_name() -> dict[str, str]:
    """Name and version of the accountant behind :func:`epsilon`, for reports."""
    return {"accountant": "dp_accounting PLD", "version": version("dp-accounting")}


def epsilon(events: Sequence[SubsampledGaussianEvent], delta: float) -> float:
    """The ε that all ``events`` together have cost, at ``delta``.

    Order does not matter, and events with the same noise and rate count as one with the steps
    added, so the answer does not depend on how a run was cut into rounds. Results are remembered.

    Args:
        events: what was run; may be empty.
        delta: 1e-12 <= δ < 1.

    Returns:
        An upper bound on ε, within 0.005 of what an arbitrarily fine grid gives while ε <= 100.
        0.0 without steps; ``math.inf`` when a step had no noise.

    Raises:
        PlanError: when ``delta`` is out of range.
    """
    return _epsilon(_merge(events), _checked_delta(delta))


def epsilon_after(
    event: SubsampledGaussianEvent,
    delta: float,
    steps_list: Sequence[int],
    *,
    before: Sequence[SubsampledGaussianEvent] = (),
) -> list[float]:
    """ε after each of several numbers of steps of one kind, cheaper than separate calls.

    Meant for showing progress; it agrees with :func:`epsilon` to 1e-3, and to 1e-4 at the largest
    entry. Decide with :func:`epsilon`.

    Args:
        event: the kind of step; its own ``steps`` are not used.
        delta: 1e-12 <= δ < 1.
        steps_list: total steps at each point, each >= 0, in any order.
        before: what the same patients had already spent.

    Returns:
        One ε for each entry of ``steps_list``, never falling as steps grow.

    Raises:
        PlanError: when ``delta`` or an entry of ``steps_list`` is out of range.
    """
    delta = _checked_delta(delta)
    kind = (event.noise_multiplier, event.sampling_rate)
    stages = sorted({SubsampledGaussianEvent(*kind, steps).steps for steps in steps_list})
    if not stages:
        return []
    spent = _merge(before)
    whole = _merge([*spent, SubsampledGaussianEvent(*kind, stages[-1])])
    if any(part.noise_multiplier == 0.0 for part in whole) or _largest_loss(whole) > (
        _LARGEST_LOSS_ON_GRID
    ):
        each = {
            steps: epsilon([*spent, SubsampledGaussianEvent(*kind, steps)], delta)
            for steps in stages
        }
        return [each[steps] for steps in steps_list]

    interval = grid_interval(whole)
    total = privacy_loss_distribution.identity(value_discretization_interval=interval)
    for part in spent:
        total = total.compose(_loss_distribution(part, interval))
    increments: dict[int, Any] = {}
    after: dict[int, float] = {}
    done, highest = 0, 0.0
    for steps in stages:
        increment = steps - done
        if increment:
            if increment not in increments:
                increments[increment] = _loss_distribution(
                    SubsampledGaussianEvent(*kind, increment), interval
                )
            total = total.compose(increments[increment])
            done = steps
        if steps or spent:
            # More steps never cost less, so an earlier bound that is higher by rounding holds too.
            highest = max(highest, float(total.get_epsilon_for_delta(delta)))
        after[steps] = highest
    return [after[steps] for steps in steps_list]


def delta_curve(events: Sequence[SubsampledGaussianEvent], epsilons: FloatArray) -> FloatArray:
    """δ(ε) of all ``events`` together at several ε, on the grid that :func:`epsilon` uses.

    Args:
        events: what was run; may be empty.
        epsilons: (points,) each >= 0.

    Returns:
        (points,) upper bounds on δ; all 1 when a step had no noise or protects nobody.
    """
    merged = _merge(events)
    if not merged:
        return np.zeros_like(epsilons)
    if any(part.noise_multiplier == 0.0 for part in merged) or _largest_loss(merged) > (
        _LARGEST_LOSS_ON_GRID
    ):
        return np.ones_like(epsilons)
    return np.asarray(_composed_losses(merged).get_delta_for_epsilon(epsilons), dtype=np.float64)


def epsilon_rdp(events: Sequence[SubsampledGaussianEvent], delta: float) -> float:
    """The same ε by Rényi DP (Mironov, Talwar and Zhang, arXiv:1908.10530): looser, no grid.

    Whole orders from 2 to 1024 only. Usually 6 to 22 % above :func:`epsilon` while ε <= 10; far
    above it for larger ε and for a single step at a small rate.

    Args:
        events: what was run; may be empty.
        delta: 1e-12 <= δ < 1.

    Returns:
        An upper bound on ε; 0.0 without steps; ``math.inf`` when a step had no noise.

    Raises:
        PlanError: when ``delta`` is out of range.
    """
    merged, delta = _merge(events), _checked_delta(delta)
    return _epsilon_rdp(merged, delta)


def epsilon_prv(events: Sequence[SubsampledGaussianEvent], delta: float) -> float:
    """The same ε by Opacus' PRV accountant (Gopi, Lee and Wutschitz, arXiv:2106.02848).

    A second implementation by other people of the same quantity. It returns the upper end of its
    error interval, usually 0.01 to 0.02 above :func:`epsilon`. It takes seconds and much memory
    when ε is in the hundreds.

    Args:
        events: what was run; may be empty.
        delta: 1e-12 <= δ < 1.

    Returns:
        An upper bound on ε; 0.0 without steps; ``math.inf`` when a step had no noise.

    Raises:
        PlanError: when ``delta`` is out of range.
    """
    merged, delta = _merge(events), _checked_delta(delta)
    if not merged:
        return 0.0
    if any(part.noise_multiplier == 0.0 for part in merged):
        return math.inf
    # Importing Opacus takes seconds, and only this cross-check needs it.
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [
        (part.noise_multiplier, part.sampling_rate, part.steps) for part in merged
    ]
    # At q = 1 Opacus takes log(0) in a branch it then discards, and at small ε it warns that its
    # first, wide guess of the grid's ends is loose; neither changes the bound.
    with warnings.catch_warnings(), np.errstate(divide="ignore"):
        warnings.filterwarnings("ignore", message="Optimal order", category=UserWarning)
        return float(accountant.get_epsilon(delta))


def grid_interval(events: Sequence[SubsampledGaussianEvent]) -> float:
    """The spacing of privacy losses that :func:`epsilon` uses for ``events``.

    Rounding to a grid of spacing h adds a variance of at most h²/4 to a step's loss, beside about
    q²(exp(1/σ²) - 1) that is there anyway. Over T steps with total variance V this moves a quantile
    at five standard deviations by about 5·T·h²/(8·√V). The spacing is the largest of 1e-7, 2e-7,
    5e-7, …, 1e-3 that keeps this below 1e-3; measured against a four times finer grid, the excess
    was at most 0.0006 in eight realistic settings. No fixed spacing does: 1e-4 adds 0.02 at σ = 2,
    q = 1e-4, 100,000 steps, while at σ = 1, q = 0.15, 280 steps a spacing of 1e-3 already gives
    18.8871 where 3e-5 gives 18.8870, in a twentieth of the time. Where losses reach into the
    hundreds the spacing grows, so that memory and time stay bounded.

    Args:
        events: what is composed; steps without noise are not on the grid and are ignored.

    Returns:
        The spacing, in units of ε.
    """
    merged = tuple(part for part in _merge(events) if part.noise_multiplier > 0.0)
    if not merged:
        return _INTERVALS[-1]
    # A full-batch event is one Gaussian whatever its steps.
    rounded = sum(1 if part.sampling_rate == 1.0 else part.steps for part in merged)
    variance = sum(_loss_variance(part) for part in merged)
    wanted = math.sqrt(8.0 * _GRID_ERROR * math.sqrt(variance) / (5.0 * rounded))
    fitting = [interval for interval in _INTERVALS if interval <= wanted]
    interval = fitting[-1] if fitting else _INTERVALS[0]
    return max(interval, _largest_loss(merged) / _GRID_POINTS)


def _loss_variance(event: SubsampledGaussianEvent) -> float:
    """About the variance of an event's privacy loss, kept finite where the noise is tiny."""
    exponent = min(event.noise_multiplier**-2, 100.0)
    if event.sampling_rate == 1.0:
        return event.steps * exponent
    return event.steps * event.sampling_rate**2 * math.expm1(exponent)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise PlanError(f"{name} must be a finite number, got {value!r}")
    return float(value)


def _checked_delta(delta: float) -> float:
    delta = _number("delta", delta)
    if not SMALLEST_DELTA <= delta < 1.0:
        raise PlanError(f"delta must lie in [{SMALLEST_DELTA:g}, 1), got {delta:g}")
    return delta


def _merge(events: Iterable[SubsampledGaussianEvent]) -> tuple[SubsampledGaussianEvent, ...]:
    """Add up the steps of events of one kind; drop empty ones; sort."""
    totals: dict[tuple[float, float], int] = {}
    for event in events:
        kind = (event.noise_multiplier, event.sampling_rate)
        totals[kind] = totals.get(kind, 0) + event.steps
    return tuple(
        sorted(SubsampledGaussianEvent(*kind, steps) for kind, steps in totals.items() if steps)
    )


def _composed(events: Sequence[SubsampledGaussianEvent]) -> list[tuple[dp_event.DpEvent, int]]:
    """The same events in dp_accounting's terms, each with its number of steps."""
    composed = []
    for part in events:
        gaussian = dp_event.GaussianDpEvent(part.noise_multiplier)
        if part.sampling_rate < 1.0:
            gaussian = dp_event.PoissonSampledDpEvent(part.sampling_rate, gaussian)
        composed.append((gaussian, part.steps))
    return composed


@lru_cache(maxsize=4096)
def _epsilon(events: tuple[SubsampledGaussianEvent, ...], delta: float) -> float:
    if not events:
        return 0.0
    if any(part.noise_multiplier == 0.0 for part in events):
        return math.inf
    if _largest_loss(events) > _LARGEST_LOSS_ON_GRID:
        return _epsilon_rdp(events, delta)
    return float(_composed_losses(events).get_epsilon_for_delta(delta))


@lru_cache(maxsize=16)
def _composed_losses(events: tuple[SubsampledGaussianEvent, ...]) -> Any:
    """The privacy loss distribution of all ``events``, each with noise, at their grid's spacing."""
    interval = grid_interval(events)
    total = privacy_loss_distribution.identity(value_discretization_interval=interval)
    for part in events:
        total = total.compose(_loss_distribution(part, interval))
    return total


def _epsilon_rdp(events: tuple[SubsampledGaussianEvent, ...], delta: float) -> float:
    if not events:
        return 0.0
    if any(part.noise_multiplier == 0.0 for part in events):
        return math.inf
    accountant = rdp.RdpAccountant(list(_RDP_ORDERS), NeighboringRelation.ADD_OR_REMOVE_ONE)
    for event, steps in _composed(events):
        accountant.compose(event, steps)
    return float(accountant.get_epsilon(delta))


@lru_cache(maxsize=4096)
def _largest_loss(events: tuple[SubsampledGaussianEvent, ...]) -> float:
    """A loss that is exceeded with a probability of about 1e-15, from the RDP bound."""
    return _epsilon_rdp(events, 1e-15)


def _loss_distribution(event: SubsampledGaussianEvent, interval: float) -> Any:
    """The privacy loss distribution of all steps of one event with noise."""
    if event.sampling_rate == 1.0:
        return privacy_loss_distribution.from_gaussian_mechanism(
            event.noise_multiplier / math.sqrt(event.steps),
            value_discretization_interval=interval,
        )
    step = privacy_loss_distribution.from_gaussian_mechanism(
        event.noise_multiplier,
        sampling_prob=event.sampling_rate,
        value_discretization_interval=interval,
    )
    return step.self_compose(event.steps)
