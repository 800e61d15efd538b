"""With epochs, sites of different size take different numbers of steps, each counted as its own."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from privfin.cli.summary import print_plan
from privfin.cli.train import _worst_epsilons
from privfin.config import RunConfig
from privfin.federation.plan import declared_sites, make_plan
from privfin.federation.training_run import complete_run, plan_figures, start_run
from privfin.privacy.accounting import epsilon
from privfin.privacy.dpsgd import DpSgd


@pytest.fixture
def uneven(tiny: Callable[..., RunConfig]) -> RunConfig:
    """Sites of 51, 51 and 50 patients: 6, 6 and 5 steps of 10 patients see each of them once."""
    return tiny(data__patients=202, training__batch_size=10, training__local_epochs=1.0)


def test_the_steps_taken_are_the_steps_stated(
    uneven: RunConfig, prepared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = prepared(uneven)
    plan = make_plan(uneven, data.declarations)
    taken: Counter[float] = Counter()
    real = DpSgd.step

    def step(self: DpSgd) -> None:
        taken[self._settings.noise_multiplier] += 1
        real(self)

    monkeypatch.setattr(DpSgd, "step", step)
    result = complete_run(start_run(tmp_path / "run", uneven, plan, data), uneven, data)
    assert result is not None
    stated = {s["site"]: s["steps"] for s in result.privacy["sites"]}
    assert stated == {"site-01": 12, "site-02": 12, "site-03": 10}
    by_noise: Counter[float] = Counter()
    for site in plan.sites:
        by_noise[site.noise_multiplier] += stated[site.name]
    assert taken == by_noise
    for entry, site in zip(result.privacy["sites"], plan.sites, strict=True):
        assert entry["epsilon"] == epsilon([site.event(site.steps)], site.delta) <= 8.0
    assert [f["steps"] for f in plan_figures(plan)] == [12, 12, 10]


def test_the_curve_on_display_counts_each_sites_own_steps(uneven: RunConfig) -> None:
    plan = make_plan(uneven, declared_sites(uneven))
    curve = _worst_epsilons(uneven, plan)
    assert curve is not None
    assert len(curve) == 2
    for number, shown in enumerate(curve, start=1):
        worst = max(epsilon([s.event(number * s.local_steps)], s.delta) for s in plan.sites)
        assert shown == pytest.approx(worst, abs=2e-3)


def test_the_plan_shows_the_range(uneven: RunConfig) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    print_plan(console, uneven, make_plan(uneven, declared_sites(uneven)))
    said = console.export_text()
    assert "2 rounds of 5 to 6 steps" in said
    assert max(map(len, said.splitlines())) <= 80
