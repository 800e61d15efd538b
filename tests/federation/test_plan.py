"""A plan is made before any data is read, and refuses what could not be kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant

from privfin.config import RunConfig, SiteConfig
from privfin.errors import PlanError
from privfin.federation.plan import SiteDeclaration, declared_sites, make_plan
from privfin.federation.prepare import prepare

Make = Callable[..., RunConfig]


def reference_epsilon(sigma: float, rate: float, steps: int, delta: float) -> float:
    """dp_accounting, asked directly, with its own default grid."""
    step = dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(sigma))
    accountant = PLDAccountant()
    accountant.compose(dp_event.SelfComposedDpEvent(step, steps))
    return float(accountant.get_epsilon(delta))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"federation__sites": 4, "federation__modalities": "2:1:1", "data__patients": 203},
        {"federation__sites": 5, "model__imputer": "zero", "privacy__epsilon": 3.0},
        {"privacy__epsilon": math.inf, "crypto__encryption": "none"},
        {"evaluation__choose_round": "validation", "data__validation_fraction": 0.2},
        {"privacy__delta": 1e-6, "crypto__layout": "3x15", "crypto__value_bits": 11},
    ],
)
def test_the_plan_without_data_is_the_plan_with_data(
    tiny: Make, prepared: Any, options: dict[str, Any]
) -> None:
    config = tiny(**options)
    assert make_plan(config, declared_sites(config)) == make_plan(
        config, prepared(config).declarations
    )


@pytest.mark.parametrize("target", [2.0])
def test_the_noise_keeps_the_target_by_another_account(tiny: Make, target: float) -> None:
    config = tiny(privacy__epsilon=target, data__patients=400, training__rounds=5)
    plan = make_plan(config, declared_sites(config))
    for site in plan.sites:
        assert site.steps == 10
        assert site.sampling_rate == 16 / site.patients
        other = reference_epsilon(site.noise_multiplier, site.sampling_rate, 10, site.delta)
        assert site.epsilon <= target
        assert other <= target + 1e-3
        assert abs(site.epsilon - other) <= 0.02
        assert site.epsilon >= target - 0.02  # no more noise than needed


@pytest.mark.parametrize(("epochs", "steps"), [(1.0, [4, 63]), (0.5, [2, 32]), (2.0, [7, 125])])
def test_epochs_are_counted_from_each_sites_declared_patients(
    tiny: Make, epochs: float, steps: list[int]
) -> None:
    """e / q rounded up, and every one of those steps is in the noise and in epsilon."""
    config = tiny(training__local_epochs=epochs, training__rounds=3, training__local_steps=77)
    sites = [SiteDeclaration("a", ("image",), 50), SiteDeclaration("b", ("text",), 1000)]
    plan = make_plan(config, sites)
    assert [s.local_steps for s in plan.sites] == steps
    for site, each in zip(plan.sites, steps, strict=True):
        assert site.steps == 3 * each
        other = reference_epsilon(site.noise_multiplier, site.sampling_rate, 3 * each, site.delta)
        assert other <= 8.0 + 1e-3
        assert abs(site.epsilon - other) <= 0.02
        drawn = each * site.sampling_rate  # how often a round draws a patient, on average
        assert epochs <= drawn < epochs + site.sampling_rate


def test_auto_delta_depends_on_the_declared_patients(tiny: Make) -> None:
    config = tiny()
    sites = [SiteDeclaration("a", ("image",), 50), SiteDeclaration("b", ("text",), 50_000)]
    plan = make_plan(config, sites)
    assert [s.delta for s in plan.sites] == [1e-5, 2e-6]
    assert [s.sampling_rate for s in plan.sites] == [16 / 50, 16 / 50_000]
    assert plan.sites[0].noise_multiplier > plan.sites[1].noise_multiplier


@pytest.mark.parametrize(
    ("sites", "layout", "bits", "fits"),
    [
        (16, "2x20", 16, True),
        (17, "2x20", 16, False),
        (16, "3x15", 11, True),
        (17, "3x15", 11, False),
        (2, "3x15", 14, True),
        (3, "3x15", 14, False),
        (65, "2x20", 8, False),
    ],
)
def test_a_sum_that_could_overflow_is_refused(
    tiny: Make, sites: int, layout: str, bits: int, fits: bool
) -> None:
    config = tiny(crypto__layout=layout, crypto__value_bits=bits, privacy__epsilon=math.inf)
    declared = [SiteDeclaration(f"s{i}", ("image", "text"), 50) for i in range(sites)]
    if fits:
        make_plan(config, declared)
        return
    with pytest.raises(PlanError, match=f"cannot sum {sites} sites"):
        make_plan(config, declared)


def test_a_site_smaller_than_a_batch_is_refused(tiny: Make) -> None:
    config = tiny(training__batch_size=51)
    with pytest.raises(PlanError, match=r"site-01.*50 patients"):
        make_plan(config, declared_sites(config))
    with pytest.raises(PlanError, match=r"site-01.*50 patients"):
        prepare(config)
    make_plan(tiny(training__batch_size=50), declared_sites(config))


@pytest.mark.parametrize("delta", [1 / 50, 0.03, 0.9])
def test_a_delta_that_allows_to_publish_a_patient_is_refused(tiny: Make, delta: float) -> None:
    config = tiny(privacy__delta=delta)
    with pytest.raises(PlanError, match="delta"):
        make_plan(config, declared_sites(config))


def test_one_site_is_refused_with_encryption_and_taken_without(tiny: Make) -> None:
    options = {"federation__sites": 1, "federation__modalities": "0:0:1"}
    config = tiny(**options)
    with pytest.raises(PlanError, match="hides nothing"):
        make_plan(config, declared_sites(config))
    config = tiny(crypto__encryption="none", **options)
    assert len(make_plan(config, declared_sites(config)).sites) == 1


def _with_sites(config: RunConfig, *sites: SiteConfig) -> RunConfig:
    federation = config.federation.model_copy(update={"site": sites})
    return config.model_copy(update={"federation": federation})


def test_declared_patients_decide_the_sampling_rate_also_with_data(tiny: Make) -> None:
    """The plan uses public numbers; what a site really holds does not change its noise."""
    config = _with_sites(
        tiny(),
        SiteConfig(name="b", match=("*",), modalities=("image",), patients=160),
        SiteConfig(name="a", match=("nowhere",), modalities=("text",), patients=160),
    )
    (first, second) = declared_sites(config)
    assert (first.name, first.patients, second.modalities) == ("b", 160, ("text",))
    plan = make_plan(config, [first, second])
    assert plan.sites[0].sampling_rate == 0.1
    both = _with_sites(tiny(), SiteConfig(name="b", match=("*",), patients=160))
    data = prepare(both)
    assert len(data.sites["b"].patients) == 150
    assert data.declarations[0].patients == 160


def test_a_delta_is_checked_against_the_patients_that_are_really_there(tiny: Make) -> None:
    """A site that declares fewer patients than it has could be given a delta above 1/N."""
    config = _with_sites(
        tiny(privacy__delta=0.008), SiteConfig(name="b", match=("*",), patients=100)
    )
    with pytest.raises(PlanError, match=r"site 'b': delta 0.008"):
        prepare(config)


def test_sites_that_declare_nothing_cannot_be_planned_without_data(tiny: Make) -> None:
    config = _with_sites(
        tiny(),
        SiteConfig(name="a", match=("*",), patients=50),
        SiteConfig(name="b", match=("x",)),
    )
    with pytest.raises(PlanError, match="site 'b' does not declare"):
        declared_sites(config)


@pytest.mark.parametrize(("imputer", "image_divisor"), [("fin", 2), ("zero", 3), ("zero-fair", 2)])
def test_divisors_are_public_numbers_of_sites(tiny: Make, imputer: str, image_divisor: int) -> None:
    plan = make_plan(tiny(model__imputer=imputer), declared_sites(tiny()))
    by_name = {s.name: s.divisor() for s in plan.segments}
    assert by_name["encoder.image"] == image_divisor
    assert plan.bytes_up == plan.bytes_down


def test_held_out_patients_without_any_label_are_refused(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    from privfin.data.records import Dataset, Record
    from privfin.data.sources import LoadedData
    from privfin.federation import prepare as module

    made = module.load_source(tiny()).dataset
    blind = frozenset(list(made.patients())[:40])
    unknown = np.full(len(made.label_names), np.nan, dtype=np.float32)
    records = tuple(
        Record(r.record_id, r.patient_id, r.inputs, unknown) if r.patient_id in blind else r
        for r in made.records
    )
    changed = LoadedData(Dataset("x", made.label_names, records), blind)
    monkeypatch.setattr(module, "load_source", lambda config: changed)
    with pytest.raises(PlanError, match="held-out"):
        module.prepare(tiny())
