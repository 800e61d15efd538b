"""A run on a mix of sources: sites are dealt by part, and results are grouped by part."""

from __future__ import annotations

from privfin.federation.plan import make_plan
from privfin.federation.prepare import prepare
from privfin.federation.training_run import complete_run, start_run
from privfin.runs import load_run

PARTS = tuple({"name": name, "source": "phantom", "patients": 160} for name in ("north", "south"))
SITES = (
    {"name": "a", "match": ["north"], "modalities": ["image"], "shards": 2},
    {"name": "b", "match": ["south"], "modalities": ["image", "text"]},
)
MIX = {"data__source": "mix", "data__part": PARTS, "federation__site": SITES}


def test_sites_get_the_parts_they_match_and_results_are_by_part(tiny, tmp_path):
    config = tiny(**MIX)
    data = prepare(config)
    assert {name: len(site.patients) for name, site in data.sites.items()} == {
        "a-1": 60,
        "a-2": 60,
        "b": 120,
    }
    plan = make_plan(config, data.declarations)
    run = start_run(tmp_path / "run", config, plan, data)
    assert complete_run(run, config, data) is not None
    by_source = load_run(tmp_path / "run").metrics["groups"]["source"]
    assert set(by_source) == {"north", "south"}


def test_patients_of_every_part_are_held_out(tiny):
    data = prepare(tiny(**MIX))
    held_out = set(data.test.patient_ids)
    assert {patient.partition(":")[0] for patient in held_out} == {"north", "south"}
    assert len(held_out) == 80
