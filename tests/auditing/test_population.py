"""Members and held-out patients of an audit differ in nothing but membership."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from attacks.guards import check_blind
from privfin.auditing.population import joined, read_population
from privfin.config import RunConfig
from privfin.federation.prepare import prepare

MakeConfig = Callable[..., RunConfig]


def test_members_are_the_runs_own_training_data(tiny: MakeConfig) -> None:
    population, data = read_population(tiny()), prepare(tiny())
    for pool in population.sites:
        own = data.sites[pool.name]
        rows = len(own.batch)
        assert pool.patients[: len(own.patients)] == own.patients
        assert pool.members.sum() == len(own.patients)
        assert pool.members[: len(own.patients)].all()
        for name, tensor in own.batch.inputs.items():
            assert torch.equal(pool.batch.inputs[name][:rows], tensor)
            assert torch.equal(pool.batch.present[name][:rows], own.batch.present[name])
        assert torch.equal(pool.batch.labels[:rows].nan_to_num(9), own.batch.labels.nan_to_num(9))


def test_no_patient_is_on_both_sides_and_none_is_lost(tiny: MakeConfig) -> None:
    population = read_population(tiny())
    ids = [patient for site in population.sites for patient in site.patient_ids]
    assert len(ids) == len(set(ids)) == len(population.members)
    outside = {p for p, m in zip(ids, population.members, strict=True) if not m}
    assert outside == set(prepare(tiny()).test.patient_ids)


def test_what_a_site_lacks_its_held_out_patients_lack_too(tiny: MakeConfig) -> None:
    population = read_population(tiny())
    kinds = set()
    for site in population.sites:
        for batch in (site.batch, site.queries):
            held = tuple(sorted(m for m, p in batch.present.items() if p.any()))
            for name in batch.present:
                assert bool(batch.present[name].all()) == (name in held)
        kinds.add(held)
        # What was taken from them is still there to ask about.
        assert all(bool(p.all()) for p in site.full.present.values())
    assert kinds == {("image",), ("text",), ("image", "text")}


def test_queries_are_records_and_copies_are_for_training_only(tiny: MakeConfig) -> None:
    population = read_population(tiny(training__augmentations=3))
    for site in population.sites:
        records = sum(len(rows) for rows in site.patients)
        assert len(site.queries) == len(site.full) == records
        assert len(site.batch) == records * site.copies
    assert {site.copies for site in population.sites} == {1, 3}


def test_records_of_all_sites_are_counted_through(tiny: MakeConfig) -> None:
    population = read_population(tiny())
    rows = [row for patient in population.records for row in patient]
    assert sorted(rows) == list(range(len(population.queries())))
    last = population.sites[-1]
    at = population.records[-1][0]
    want = last.queries.rows(torch.tensor([last.patients[-1][0]]))
    assert torch.equal(population.queries().rows(torch.tensor([at])).labels, want.labels)
    assert len(joined([last.queries, last.full])) == 2 * len(last.queries)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_a_blind_classifier_finds_no_difference(tiny: MakeConfig, alpha: float) -> None:
    """Skewed labels at sites: dealt without looking at labels, held-out patients would show."""
    population = read_population(
        tiny(data__patients=2000, federation__alpha=alpha, federation__sites=6)
    )
    sites = np.repeat(np.arange(6), [len(site.patients) for site in population.sites])
    first = torch.tensor([rows[0] for rows in population.records])
    labels = population.queries().rows(first).labels.nan_to_num(-1).numpy()
    # The number of held-out patients a site gets is free: what is tested is who they are.
    table = np.concatenate([np.eye(6)[sites][:, k : k + 1] * labels for k in range(6)], axis=1)
    check_blind(table, population.members, confidence=1 - 1e-6)
