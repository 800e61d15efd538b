"""The reader on real data: 252 X-rays with notes from the COVID-19 image data collection."""

import re
from pathlib import Path

import numpy as np
import pytest

from privfin.data.covid_cxr import COVID_LABELS, COVID_VALUES, read_covid_cxr
from privfin.data.partition import partition_by_origin
from privfin.data.records import Dataset, load_input

ROOT = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "covid-cxr"


@pytest.fixture(scope="module")
def covid() -> Dataset:
    if not (ROOT / "metadata.csv").exists():
        pytest.skip(f"real data not found in {ROOT}")
    return read_covid_cxr(ROOT, image_size=32, labels=tuple(COVID_LABELS)).dataset


def test_everything_is_read(covid) -> None:
    assert len(covid.records) == 252
    assert len(covid.patients()) == 156
    assert covid.notices == ()
    for record in covid.records:
        assert set(record.inputs) == {"image", "text"}
        image = load_input(record.inputs["image"])
        assert image.shape == (32, 32)
        assert image.std() > 5
        assert record.origin == record.origin.strip()


def test_labels_have_the_collections_counts(covid) -> None:
    labels = np.array([record.labels for record in covid.records])
    positive = dict(zip(covid.label_names, (labels == 1).sum(axis=0), strict=True))
    unknown = dict(zip(covid.label_names, np.isnan(labels).sum(axis=0), strict=True))
    outcomes = {"survival": 63, "went_icu": 14, "intubated": 54}
    assert positive == {"covid-19": 200, "pneumonia": 246, **outcomes}
    outcomes = {"survival": 163, "went_icu": 231, "intubated": 192}
    # Four rows name ARDS alone. Two name no finding: the only negatives.
    assert unknown == {"covid-19": 0, "pneumonia": 4, **outcomes}


def test_no_diagnosis_is_left_in_the_text(covid) -> None:
    named = re.compile(
        r"covid|corona(?!r)|sars|\bn-?cov|\bmers\b|pneumoni|pneumocyst|\bp[jc]p\b|\bards\b|strept|"
        r"pneumococ|legion|pneumophila|klebs|e\.? ?coli\b|influenza|\bflu\b|h1n1",
        re.IGNORECASE,
    )
    texts = [record.inputs["text"] for record in covid.records]
    assert not [match for text in texts for match in named.findall(text)]
    # The raw notes do name it: masking is what removed it.
    raw = read_covid_cxr(ROOT, image_size=16, mask=()).dataset
    assert sum(bool(named.search(record.inputs["text"])) for record in raw.records) > 50
    assert all(len(text.split()) >= 1 for text in texts)


def test_places_make_sites(covid) -> None:
    patients = list(covid.patients())
    rules = [("italy", ["italy"]), ("spain", ["spain"]), ("asia", ["china", "taiwan", "vietnam"])]
    dealt = partition_by_origin(covid, patients, [*rules, ("others", ["*"])])
    assert all(len(site) >= 5 for site in dealt.values())
    assert sorted(p for site in dealt.values() for p in site) == sorted(patients)


def test_values_have_the_collections_counts() -> None:
    if not (ROOT / "metadata.csv").exists():
        pytest.skip(f"real data not found in {ROOT}")
    tables = {"labs": COVID_VALUES}
    records = read_covid_cxr(ROOT, image_size=16, tables=tables).dataset.records
    values = np.array([r.inputs.get("labs", np.full(len(COVID_VALUES), np.nan)) for r in records])
    known = dict(zip(COVID_VALUES, (~np.isnan(values)).sum(axis=0).tolist(), strict=True))
    assert known == {
        "age": 215, "sex": 224, "temperature": 24, "pO2_saturation": 29, "leukocyte_count": 9,
        "neutrophil_count": 2, "lymphocyte_count": 7,
    }  # fmt: skip
    assert [sum(r.sex == sex for r in records) for sex in "MF"] == [133, 91]
    assert np.isfinite([r.age for r in records]).sum() == 215
