"""Attributes of a run's patients: what is tried, and a model that gives the site away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from privfin.auditing.attributes import attribute_results, released
from privfin.auditing.population import read_population
from privfin.config import RunConfig
from privfin.models.segments import initial_model


def test_attributes_of_a_population(tiny: Callable[..., RunConfig]) -> None:
    config = tiny(training__augmentations=1, data__patients=120)
    population = read_population(config)
    labels = len(population.label_names)
    model = initial_model(config, labels)
    seen = released(model, population.queries())
    assert seen.shape == (len(population.queries()), 2 * config.model.width + labels)
    results, left_out = attribute_results(model, population, (60,), resamples=5)
    named = {r.attribute for r in results} | {line.split(":")[0] for line in left_out}
    assert named == {"sex", "age band", "site", "had a report"}
    # One site holds images alone and one reports alone: presence tells sites apart without a model.
    site = next(r for r in results if r.attribute == "site")
    assert site.balanced_accuracy.without_model > 0.6
    report = next(r for r in results if r.attribute == "had a report")
    assert report.classes == ("no", "yes")


def test_the_report_itself_is_not_seen_when_it_is_guessed(tiny: Callable[..., RunConfig]) -> None:
    """Other reports at the same records change nothing of that attribute's result."""
    config = tiny(training__augmentations=1, data__patients=120)
    population = read_population(config)
    model = initial_model(config, len(population.label_names))
    changed = []
    for site in population.sites:
        queries = site.queries
        text = torch.where(
            queries.present["text"][:, None], torch.ones_like(queries.inputs["text"]), 0.0
        )
        other = replace(queries, inputs={**queries.inputs, "text": text})
        changed.append(replace(site, queries=other))
    first, _ = attribute_results(model, population, (60,), resamples=5)
    second, _ = attribute_results(
        model, replace(population, sites=tuple(changed)), (60,), resamples=5
    )
    assert first[-1].attribute == "had a report"
    assert first[-1] == second[-1]
