"""What is measured is real: every scheme's sum is right, and its bytes are those of a run."""

from __future__ import annotations

import numpy as np
import pytest

from privfin.crypto import ckks
from privfin.crypto.bfv import ciphertext_bytes
from privfin.crypto.cost import SCHEMES, STAGES, measure, scheme_named
from privfin.crypto.pack import LAYOUTS
from privfin.errors import PlanError


def test_every_scheme_is_measured_over_the_whole_way() -> None:
    steps: list[None] = []
    values = 20_000
    costs = measure(SCHEMES, values, 4, repeats=2, on_step=lambda: steps.append(None))
    assert [cost.scheme for cost in costs] == list(SCHEMES)
    assert len(steps) == 2 * len(SCHEMES)
    for cost in costs:
        assert set(cost.seconds) == set(STAGES)
        assert cost.coordinator_seconds == 4 * cost.seconds["add"]
        # Two rounding errors of one level of 13 bits over a range of 16, or an approximate sum.
        limit = 2 * 8 / (2**12 - 1) if cost.scheme in LAYOUTS else 1e-5
        assert cost.largest_error <= limit
    sent = {cost.scheme: cost.bytes_up for cost in costs}
    for name, packing in LAYOUTS.items():
        assert sent[name] == ciphertext_bytes(values, packing)  # type: ignore[index]
    assert sent["ckks"] == ckks.ciphertext_bytes(values)
    assert sent["plain"] == 4 * values
    # 57.6 bytes a number are published for the setting; the last ciphertext is not full.
    assert 57 < sent["nvflare"] / (5 * 4096) < 59


def test_the_mask_stage_masks_and_only_where_there_are_masks() -> None:
    """One that does nothing would make masks look free."""
    update = np.ones(1000, dtype=np.float32)
    for name in SCHEMES:
        scheme = scheme_named(name, 1000, 4)
        slots = scheme.encode(update)
        masked = scheme.mask(slots)
        assert np.mean(masked == slots) == (0 if name in LAYOUTS else 1)


def test_a_cohort_that_does_not_fit_is_refused() -> None:
    with pytest.raises(PlanError):
        measure(["3x15"], 10, 65, repeats=1)
    with pytest.raises(PlanError):
        measure(["ckks"], 10, 65, repeats=1)
