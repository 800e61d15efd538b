"""Training on real data: X-rays and notes of the COVID-19 image data collection, at four sites."""

import math
import re
from pathlib import Path

import pytest

from privfin.config import RunConfig, load_config
from privfin.federation.plan import declared_sites, make_plan
from privfin.federation.prepare import load_source, prepare
from privfin.federation.training_run import complete_run, start_run
from privfin.runs import load_run

REPOSITORY = Path(__file__).resolve().parents[2]
ROOT = REPOSITORY.parent / "shared" / "data" / "covid-cxr"
DIAGNOSIS = re.compile(
    r"covid|corona(?!r)|sars|\bn-?cov|\bmers\b|pneumoni|pneumocyst|\bp[jc]p\b|\bards\b|strept|"
    r"pneumococ|legion|pneumophila|klebs|e\.? ?coli\b|influenza|\bflu\b|h1n1",
    re.IGNORECASE,
)


CELLS = {
    "covid-cxr": {"both", "image only", "text only"},
    "covid-tabular": {
        *("all", "image + text only", "image + tabular only", "text + tabular only"),
        *("image only", "text only", "tabular only"),
    },
}


@pytest.fixture(scope="module", params=CELLS)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def config(name) -> RunConfig:
    if not (ROOT / "metadata.csv").exists():
        pytest.skip("real data not found in ../shared/data/covid-cxr")
    overrides = [
        ("data.root", ROOT),
        ("privacy.epsilon", 8.0),
        ("training.rounds", 2),
        ("evaluation.bootstrap", 50),
    ]
    return load_config(REPOSITORY / "configs" / f"{name}.toml", overrides)


def test_no_site_reads_a_diagnosis(config) -> None:
    texts = [r.inputs["text"] for r in load_source(config).dataset.records if "text" in r.inputs]
    assert len(texts) > 200
    assert not [match for text in texts for match in DIAGNOSIS.findall(text)]


def test_declared_patients_are_the_real_ones(config) -> None:
    # Otherwise --dry-run would print another plan than the one that is carried out.
    data = prepare(config)
    real = {name: len(site.patients) for name, site in data.sites.items()}
    assert real == {site.name: site.patients for site in declared_sites(config)}
    assert min(real.values()) >= 20


def test_trains_privately_and_says_how_well(config, name, tmp_path) -> None:
    data = prepare(config)
    plan = make_plan(config, data.declarations)
    run = start_run(tmp_path / "run", config, plan, data)
    assert complete_run(run, config, data) is not None
    done = load_run(tmp_path / "run")
    statement = done.privacy
    assert statement["claim"] == "dp"
    assert statement["encryption"]["scheme"].startswith("BFV")
    assert len(statement["sites"]) == 4
    for site in statement["sites"]:
        assert 0 < site["epsilon"] <= 8
        assert site["delta"] < 1 / site["patients_declared"]
    for title, cell in done.metrics["cells"].items():
        auroc = cell["macro_auroc"]
        print(f"{title}: AUROC {auroc:.3f} on {cell['records']} held-out records")
        assert math.isfinite(auroc)
        assert 0 <= auroc <= 1
    assert set(done.metrics["cells"]) == CELLS[name]
