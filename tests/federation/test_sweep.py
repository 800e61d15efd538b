"""Prepared data are shared only where they are the same, and checked for every budget."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from privfin.config import RunConfig
from privfin.errors import PlanError
from privfin.federation.prepare import PreparedData, check_declared, data_key
from privfin.federation.sweep import Combination, Outcome, Sweep, spent_in_sum

Tiny = Callable[..., RunConfig]


def test_data_are_shared_over_budgets_and_imputers_only(tiny: Tiny) -> None:
    key = data_key(tiny())
    assert data_key(tiny(privacy__epsilon=math.inf, model__imputer="zero")) == key
    for changed in (
        {"training__seed": 1},
        {"data__patients": 210},
        {"data__test_fraction": 0.3},
        {"federation__alpha": 2.0},
        {"training__batch_size": 17},
        {"missingness__train": {"text": 0.5}},
        {"modalities__text__features": 64},
        {"privacy__delta": 1e-6},
        {"model__imputer": "retrieval", "model__retrieval__source": "phantom"},
    ):
        assert data_key(tiny(**changed)) != key, changed


def test_shared_data_meet_the_check_of_every_budget(
    tiny: Tiny, prepared: Callable[[RunConfig], PreparedData]
) -> None:
    """Without DP delta is not checked; the next run's budget may need it to be."""
    config = tiny(privacy__delta=0.01)
    data = prepared(tiny(privacy__epsilon=math.inf))
    check_declared(config, data)
    first = data.declarations[0].name
    site = data.sites[first]
    rows = torch.arange(len(site.batch)).repeat(20)
    records = [[p + k * len(site.batch) for p in ps] for k in range(20) for ps in site.patients]
    more = replace(site, batch=site.batch.rows(rows), patients=records)
    grown = replace(data, sites={**data.sites, first: more})
    check_declared(tiny(privacy__epsilon=math.inf, privacy__delta=0.01), grown)
    with pytest.raises(PlanError, match=f"site '{first}'"):
        check_declared(config, grown)


def test_combinations_differ_in_what_is_varied_and_nothing_else(tiny: Tiny) -> None:
    base = tiny(model__width=12)
    sweep = Sweep(base, (1.0, math.inf), ("zero", "fin"), (3, 4))
    found = sweep.combinations()
    assert len({one.name for one in found}) == 8
    assert [one.seed for one in found] == [3] * 4 + [4] * 4
    config = sweep.config(Combination(math.inf, "zero", 4))
    expected: dict[str, Any] = base.model_dump()
    expected["privacy"]["epsilon"] = math.inf
    expected["model"]["imputer"] = "zero"
    expected["training"]["seed"] = 4
    assert config.model_dump() == expected
    assert sweep.config(Combination(8.0, "fin", 0)) == base


def test_the_sum_counts_every_run_that_was_started(tiny: Tiny) -> None:
    sweep = Sweep(tiny(), (1.0, 3.0, math.inf), ("fin",), (0, 1))
    names = [one.name for one in sweep.combinations()]
    states: Any = dict.fromkeys(names, "waiting")
    assert "0 private runs so far" in spent_in_sum(sweep, Outcome(states))
    # Failed and interrupted ones have begun: they count in full.
    states.update({names[0]: "failed", names[1]: "interrupted", names[2]: "finished"})
    words = spent_in_sum(sweep, Outcome(states))
    assert "2 private runs so far, together epsilon 4 at most" in words
    assert "1 runs are NOT PRIVATE" in words
    test_mode = Sweep(tiny(privacy__reproducible=True), (1.0,), ("fin",), (0,))
    words = spent_in_sum(test_mode, Outcome({"fin-eps1-seed0": "finished"}))
    assert "0 private runs so far" in words
