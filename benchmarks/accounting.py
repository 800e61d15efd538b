"""Our epsilon beside three other accountants, in ten settings, and shared noise beside Gaussian.

    python benchmarks/accounting.py

Writes ``docs/results/accounting.md``. The settings run from a single step to epsilon 393.
"""

from __future__ import annotations

import math
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "docs" / "results" / "accounting.md"
#: noise multiplier, sampling rate, steps, delta
SETTINGS = (
    (1.0, 0.032, 620, 1e-5),
    (1.2, 0.032, 1550, 1e-5),
    (1.0, 0.0128, 7800, 1e-5),
    (2.0, 0.128, 480, 1e-4),
    (0.8, 0.0051, 3900, 1e-6),
    (0.5, 0.032, 620, 1e-5),
    (5.0, 1.0, 50, 1e-5),
    (8.0, 0.01, 1000, 1e-5),
    (1.0, 0.001, 1, 1e-5),
    (0.4, 0.1, 2000, 1e-5),
)
#: epsilon, sampling rate, steps, parameters, bits of a code
SHARED = ((8.0, 0.2, 300, 3473, 16), (1.0, 0.2, 300, 3473, 16), (8.0, 0.05, 300, 700_000, 16),
          (1.0, 0.05, 600, 700_000, 16))  # fmt: skip
DELTA = 1e-5


def plain_pld(sigma: float, rate: float, steps: int, delta: float, interval: float) -> float:
    """dp_accounting's own PLD accountant, called without anything of privfin."""
    from dp_accounting import dp_event
    from dp_accounting.pld import PLDAccountant

    step: dp_event.DpEvent = dp_event.GaussianDpEvent(sigma)
    if rate < 1.0:
        step = dp_event.PoissonSampledDpEvent(rate, step)
    accountant = PLDAccountant(value_discretization_interval=interval)
    return float(accountant.compose(step, steps).get_epsilon(delta))


def main() -> None:
    from privfin.privacy.accounting import (
        SubsampledGaussianEvent,
        epsilon,
        epsilon_prv,
        epsilon_rdp,
    )
    from privfin.privacy.composition import Spend, total_epsilon
    from privfin.privacy.shared_calibration import calibrate_shared

    rows = []
    for sigma, rate, steps, delta in SETTINGS:
        event = [SubsampledGaussianEvent(sigma, rate, steps)]
        ours = epsilon(event, delta)
        pld = plain_pld(sigma, rate, steps, delta, 1e-4)
        rows.append(
            f"| {sigma:g} | {rate:g} | {steps} | {delta:g} | {ours:.4f} | {pld:.4f} | "
            f"{ours - pld:+.4f} | {epsilon_prv(event, delta):.4f} | "
            f"{epsilon_rdp(event, delta):.4f} |"
        )
    joint = []
    for target, rate, steps, parameters, bits in SHARED:
        noise = calibrate_shared(
            target, DELTA, rate, steps,
            clip_norm=0.5, parameters=parameters, honest=7, value_bits=bits,
        )  # fmt: skip
        sigma = math.sqrt(noise.variance) / (noise.scale * 0.5)
        gaussian = [SubsampledGaussianEvent(sigma, rate, steps)]
        ours = total_epsilon([Spend(((noise.event(steps),),))], DELTA)
        joint.append(
            f"| {parameters:,} | {rate:g} | {steps} | {sigma:.3f} | "
            f"{100 * noise.rounding_cost:.1f} % | {ours:.3f} | "
            f"{epsilon_rdp(gaussian, DELTA):.3f} | {epsilon(gaussian, DELTA):.3f} |"
        )
    text = "\n".join(
        [
            "# Accounting",
            "",
            "Made by `python benchmarks/accounting.py`.",
            "",
            "## Gaussian noise",
            "",
            "`ours` is the figure that is reported and enforced: dp_accounting's loss",
            "distributions on a grid chosen for the setting. `PLD` is a plain call of the same",
            "accountant on its default grid of 1e-4, `PRV` is Opacus' accountant, `RDP` that of",
            "dp_accounting at whole orders. The differences are those of the grids.",
            "",
            "| sigma | q | steps | delta | ours | PLD | ours - PLD | PRV | RDP |",
            "|---|---|---|---|---|---|---|---|---|",
            *rows,
            "",
            "## Shared noise",
            "",
            "Skellam noise of seven honest shares, clip norm 0.5, codes of 16 bits, beside",
            "Gaussian noise of the same sigma. Rounding to integers is the cost of the lattice;",
            "the rest of the distance to PLD is that of Rényi divergences.",
            "",
            "| parameters | q | steps | sigma | rounding | ours | Gaussian, RDP | Gaussian, PLD |",
            "|---|---|---|---|---|---|---|---|",
            *joint,
            "",
        ]
    )
    TARGET.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
