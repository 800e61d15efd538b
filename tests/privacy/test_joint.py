"""A site's part of a joint step: what one patient can move, how much noise there is, who is drawn.

Every check is also run on a step that was broken on purpose and must fail there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import stats
from torch import nn

from privfin.errors import PrivfinError
from privfin.privacy import joint
from privfin.privacy.joint import JointStep, JointStepSettings
from privfin.privacy.shared_calibration import CLIP_TOLERANCE, sensitivity
from privfin.randomness import RandomStream

PATIENTS, WIDTH, CLIP, SCALE = 40, 30, 0.5, 400.0
SITES, COLLUDING = 5, 1
VARIANCE = 10_000
SHARE = -(-VARIANCE // (SITES - COLLUDING))


class Problem:
    """A linear model whose record i has the gradient ``rows[i]``, whatever its parameters."""

    def __init__(self, seed: int = 1, length: float = 2.0) -> None:
        random = torch.Generator().manual_seed(seed)
        self.rows = torch.randn(PATIENTS, WIDTH, generator=random)
        self.rows *= (
            length * torch.rand(PATIENTS, 1, generator=random) / self.rows.norm(dim=1)[:, None]
        )
        self.model = nn.Linear(WIDTH, 1, bias=False)

    def step(self, patients: list[int], rate: float = 1.0, **changes: Any) -> JointStep:
        def losses(records: npt.NDArray[np.int64]) -> torch.Tensor:
            return self.model(self.rows[torch.from_numpy(records)])[:, 0]

        settings = JointStepSettings(CLIP, rate, SCALE, 20_000, **changes)
        return JointStep(self.model, losses, [[i] for i in patients], settings)

    def rounded(self, patients: list[int]) -> npt.NDArray[np.int64]:
        """The rounded sum of all these patients, always with the same dither."""
        step = self.step(patients)
        try:
            return step.rounded_sum(RandomStream.reproducible(1), RandomStream.reproducible(2))
        finally:
            step.close()

    def clipped(self, patients: list[int]) -> npt.NDArray[np.float64]:
        """The reference: a loop over patients."""
        total = np.zeros(WIDTH)
        for i in patients:
            row = self.rows[i].double().numpy()
            total += row * min(1.0, CLIP / float(np.linalg.norm(row)))
        return total


def sums_are_right() -> bool:
    problem = Problem()
    found = problem.rounded(list(range(PATIENTS))) / SCALE
    return bool(np.abs(found - problem.clipped(list(range(PATIENTS)))).max() <= 1.01 / SCALE)


def one_patient_moves_little() -> bool:
    """Against the very bound that the noise is calibrated for."""
    l2_squared, l1 = sensitivity(SCALE * CLIP * (1 + CLIP_TOLERANCE), WIDTH, 1e-9)
    for seed, first in ((1, 0), (2, 35)):  # many others, and few
        problem = Problem(seed)
        everyone = list(range(first, PATIENTS))
        whole = problem.rounded(everyone)
        for gone in everyone:
            moved = whole - problem.rounded([i for i in everyone if i != gone])
            if int((moved**2).sum()) > l2_squared or int(np.abs(moved).sum()) > l1:
                return False
    return True


def the_honest_shares_suffice() -> bool:
    """The sum of all but the colluding sites' contributions has the promised variance, and no less.

    Chi-square bounds that a right variance exceeds with a probability of 1e-8.
    """
    problem = Problem()
    steps = 400
    honest = np.zeros((steps, WIDTH))
    for site in range(SITES - COLLUDING):
        one = problem.step([])
        for number in range(steps):
            honest[number] += one.contribution(
                SHARE,
                sampling=RandomStream.reproducible(site, "sampling", number),
                rounding=RandomStream.reproducible(site, "rounding", number),
                noise=RandomStream.reproducible(site, "noise", number),
            )
        one.close()
    size = honest.size
    found = float((honest**2).sum()) / VARIANCE
    low, high = stats.chi2.ppf([1e-8, 1 - 1e-8], size)
    # A share is rounded up to a whole variance, so the sum may have a little more.
    return bool(low <= found <= high * (SHARE * (SITES - COLLUDING) / VARIANCE))


def patients_are_drawn_by_chance_alone() -> bool:
    """Every patient independently: the number drawn has the variance of a binomial."""
    rate, steps = 0.3, 2000
    drawn: list[int] = []
    problem = Problem()
    step = problem.step(list(range(PATIENTS)), rate)
    step._clipping.clipped_sum = lambda records: (
        drawn.append(len(records))
        or [  # type: ignore[method-assign, func-returns-value]
            torch.zeros(1, WIDTH)
        ]
    )
    for number in range(steps):
        step.rounded_sum(RandomStream.reproducible(number), RandomStream.reproducible(0))
    step.close()
    counts = np.array(drawn)
    mean, variance = PATIENTS * rate, PATIENTS * rate * (1 - rate)
    ratio = float(((counts - mean) ** 2).sum() / variance)
    low, high = stats.chi2.ppf([1e-8, 1 - 1e-8], steps)
    return bool(abs(counts.mean() - mean) < 6 * np.sqrt(variance / steps) and low < ratio < high)


CHECKS = {
    "sum": sums_are_right,
    "sensitivity": one_patient_moves_little,
    "noise": the_honest_shares_suffice,
    "sampling": patients_are_drawn_by_chance_alone,
}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
def test_the_right_step_keeps_its_promises(check: Callable[[], bool]) -> None:
    assert check()


def no_clipping(monkeypatch: pytest.MonkeyPatch) -> None:
    original = JointStep._clipper

    def loose(self: JointStep, trained: list[nn.Parameter]) -> Any:
        made = original(self, trained)
        made.max_grad_norm = 1e9
        return made

    monkeypatch.setattr(JointStep, "_clipper", loose)


def half_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = joint.SkellamSampler
    monkeypatch.setattr(joint, "SkellamSampler", lambda variance: sampler(variance // 4))


def realised_divisor(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the sum were a mean over the patients drawn, times a fixed number."""
    original = joint.PatientClipping.clipped_sum

    def mean(self: Any, records: npt.NDArray[np.int64]) -> list[torch.Tensor]:
        return [s * (20 / max(1, len(records))) for s in original(self, records)]

    monkeypatch.setattr(joint.PatientClipping, "clipped_sum", mean)


def batches_of_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    def fixed(stream: RandomStream, count: int, rate: float) -> npt.NDArray[np.int64]:
        return np.argsort(stream.uniform(count))[: round(rate * count)]

    monkeypatch.setattr(joint, "poisson_patients", fixed)


def share_omitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """One honest site of the last round's sums forgets its noise."""
    original = JointStep.contribution
    asked: list[int] = []

    def forgetful(self: JointStep, variance: int, **streams: RandomStream) -> Any:
        if id(self) not in asked:
            asked.append(id(self))
        if len(asked) == 1:
            return self.rounded_sum(streams["sampling"], streams["rounding"])
        return original(self, variance, **streams)

    monkeypatch.setattr(JointStep, "contribution", forgetful)


def share_of_all_sites(monkeypatch: pytest.MonkeyPatch) -> None:
    """The noise divided by all sites, as if none could collude."""
    sampler = joint.SkellamSampler
    monkeypatch.setattr(
        joint,
        "SkellamSampler",
        lambda variance: sampler(variance * (SITES - COLLUDING) // SITES),
    )


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (no_clipping, "sensitivity"),
        (no_clipping, "sum"),
        (half_the_noise, "noise"),
        (realised_divisor, "sensitivity"),
        (batches_of_one_size, "sampling"),
        (share_omitted, "noise"),
        (share_of_all_sites, "noise"),
    ],
)
def test_a_broken_step_is_caught(
    monkeypatch: pytest.MonkeyPatch, broken: Callable[[pytest.MonkeyPatch], None], check: str
) -> None:
    broken(monkeypatch)
    assert not CHECKS[check]()


def test_large_sums_are_cut_before_the_noise_and_infinite_ones_refused() -> None:
    problem = Problem(length=1e6)
    with torch.no_grad():
        problem.rows[:, 0] = 1e9
    step = JointStep(
        problem.model,
        lambda records: problem.model(problem.rows[torch.from_numpy(records)])[:, 0],
        [[i] for i in range(PATIENTS)],
        JointStepSettings(CLIP, 1.0, SCALE, 1000),
    )
    found = step.rounded_sum(RandomStream.reproducible(1), RandomStream.reproducible(2))
    assert found.max() == 1000
    problem.rows[0, 0] = float("inf")
    with pytest.raises(PrivfinError, match="not finite"):
        step.rounded_sum(RandomStream.reproducible(1), RandomStream.reproducible(2))
    step.close()
