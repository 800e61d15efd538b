"""The layout of secure metrics: exact for whatever sites hold, and nothing else is accepted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from privfin.config import RunConfig
from privfin.crypto.pack import Packing
from privfin.errors import PlanError, ProtocolError
from privfin.evaluation.histograms import LabelSums
from privfin.federation.metric_plan import CellSums, plan_metrics


@pytest.mark.parametrize("layout", ["2x20", "3x15"])
@pytest.mark.parametrize(("sites", "patients"), [(3, 10), (4, 10**6), (16, 200), (64, 10**6)])
def test_sums_are_exact_up_to_the_largest_numbers(
    tiny: Callable[..., RunConfig], layout: str, sites: int, patients: int
) -> None:
    config = tiny(evaluation__secure=True, crypto__layout=layout, crypto__value_bits=8)
    plan = plan_metrics(config, ("a", "b"), [patients] * sites)
    packing = Packing.named(layout)
    packing.check_headroom(sites, plan.digit_bits)
    bins = plan.edges.size + 1
    rng = np.random.default_rng(sites)
    most = plan.largest_records
    fixed = most * 32 * 2**16

    def label(top: bool) -> LabelSums:
        draw = (
            (lambda high, n: np.full(n, high))
            if top
            else (lambda high, n: rng.integers(0, high, n, endpoint=True))
        )
        counts = [np.asarray(draw(most, bins), dtype=np.int64) for _ in range(2)]
        sums = np.asarray(draw(fixed, 2 + plan.calibration_bins), dtype=np.int64)
        return LabelSums(*counts, most, int(sums[0]), int(sums[1]), sums[2:])

    for top in (True, False):
        each = [
            [CellSums(most, most, (label(top), label(top))) for _ in plan.cells]
            for _ in range(sites)
        ]
        codes = [plan.encode(one) for one in each]
        packed = sum(packing.pack(code) for code in codes)
        assert int(np.max(packed)) < packing.modulus
        total = plan.decode(packing.unpack(np.asarray(packed), plan.values))
        for at, cell in enumerate(total):
            assert cell.records == cell.patients == sites * most
            for place, found in enumerate(cell.labels):
                for name in vars(found):
                    wanted = sum(getattr(one[at].labels[place], name) for one in each)
                    assert np.array_equal(getattr(found, name), wanted), name


@pytest.mark.parametrize("change", ["too many owners", "too large a digit", "another length"])
def test_sums_that_sites_cannot_have_sent_are_refused(
    tiny: Callable[..., RunConfig], change: str
) -> None:
    plan = plan_metrics(tiny(evaluation__secure=True), ("a", "b"), [40] * 4)
    with pytest.raises(ProtocolError, match="not that of the cohort"):
        if change == "too many owners":
            plan.opening(np.full(plan.owner_values, plan.sites + 1, dtype=np.uint64))
        elif change == "too large a digit":
            plan.decode(np.full(plan.values, 2**20, dtype=np.uint64))
        else:
            plan.decode(np.zeros(plan.values + 1, dtype=np.uint64))


def test_a_layout_for_too_many_sites_is_refused(tiny: Callable[..., RunConfig]) -> None:
    with pytest.raises(PlanError, match="65 sites"):
        plan_metrics(tiny(evaluation__secure=True), ("a",), [40] * 65)


def test_numbers_need_no_more_digits_than_declared_patients_ask_for(
    tiny: Callable[..., RunConfig],
) -> None:
    """Twice the digits would be twice the bytes."""
    config = tiny(evaluation__secure=True)
    small, large = (plan_metrics(config, ("a",), [n] * 16) for n in (500, 5000))
    assert large.values > 1.9 * small.values
