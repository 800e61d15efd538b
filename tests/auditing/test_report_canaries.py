"""Canary reports through the run's own recipe: an imputer that copies them is a contradiction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from privfin.auditing import report_canaries
from privfin.auditing.report import Claim
from privfin.auditing.report_canaries import audit_reports
from privfin.config import RunConfig
from privfin.errors import PlanError
from privfin.federation.plan import make_plan
from privfin.federation.prepare import PreparedData

Configure = Callable[..., RunConfig]
Prepare = Callable[[RunConfig], PreparedData]
CLAIM = Claim(8.0, 1e-5)


def test_the_recipe_is_trained_and_the_bound_has_its_ceiling(
    tiny: Configure, prepared: Prepare
) -> None:
    config = tiny(crypto__encryption="none")
    data = prepared(config)
    result = audit_reports(
        config, make_plan(config, data.declarations), data, claim=CLAIM, confidence=0.95
    )
    assert result is not None
    assert result.canaries == min(100, result.canaries)
    assert 0 < result.inside < result.canaries
    assert result.bound is not None
    assert 0.0 <= result.bound.epsilon <= result.bound.ceiling
    assert not result.contradiction
    assert set(result.to_dict()) >= {"epsilon_bound", "ceiling", "claim"}


def test_a_model_that_gives_its_reports_away_contradicts_a_small_claim(
    tiny: Configure, prepared: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(crypto__encryption="none")
    data = prepared(config)
    attack = report_canaries.canary_attempt

    def leaking(model: Any, canaries: Any, others: Any) -> Any:
        heard = attack(model, canaries, others)
        return replace(heard, scores=canaries.inside + 1e-3 * np.arange(len(canaries.inside)))

    monkeypatch.setattr(report_canaries, "canary_attempt", leaking)
    result = audit_reports(
        config, make_plan(config, data.declarations), data, claim=Claim(0.5, 1e-5), confidence=0.9
    )
    assert result is not None
    assert result.contradiction


def test_it_stops_when_asked(tiny: Configure, prepared: Prepare) -> None:
    config = tiny(crypto__encryption="none")
    data = prepared(config)
    plan = make_plan(config, data.declarations)
    stopped = audit_reports(
        config, plan, data, claim=CLAIM, confidence=0.95, should_stop=lambda: True
    )
    assert stopped is None


def test_data_without_pairs_are_refused(tiny: Configure, prepared: Prepare) -> None:
    config = tiny()
    data = prepared(config)
    lonely = {
        name: replace(
            site,
            batch=replace(
                site.batch,
                present={m: torch.zeros_like(p) for m, p in site.batch.present.items()},
            ),
        )
        for name, site in data.sites.items()
    }
    with pytest.raises(PlanError, match="too few"):
        audit_reports(
            config,
            make_plan(config, data.declarations),
            replace(data, sites=lonely),
            claim=CLAIM,
            confidence=0.95,
        )
