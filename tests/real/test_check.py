"""Checks of the real data sets beside the repository."""

from pathlib import Path

import pytest

from privfin.config import load_config
from privfin.data.check import DataCheck, check_source

ROOT = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def check(source: str, folder: str) -> DataCheck:
    if not (ROOT / folder).exists():
        pytest.skip(f"real data not found in {ROOT / folder}")
    config = load_config(None, [("data.source", source), ("data.root", ROOT / folder)])
    return check_source(config)


def test_pneumoniamnist() -> None:
    found = check("medmnist", "pneumoniamnist")
    assert found.usable
    assert (found.patients, found.test_patients) == (5827, 621)
    assert found.modalities["image"] == found.labels["pneumonia"].known == 5827


def test_covid_cxr() -> None:
    found = check("covid-cxr", "covid-cxr")
    assert found.usable
    assert (found.patients, found.records, found.test_patients) == (156, 252, None)
    assert (found.files, found.unreadable_files) == (252, 0)
    assert found.labels["covid-19"].positive == 200
    assert found.places["Italy"] == 36


def test_openi() -> None:
    found = check("openi", "openi")
    assert found.usable
    assert found.modalities == {"image": 0, "text": 3330}  # 95 more have no known label
    assert found.labels["Cardiomegaly"].positive == 311
    assert any("Enlarged Cardiomediastinum" in text for text in found.warnings)
