"""Lazy inputs in a run: what cannot be read is named, or left out before patients are counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from privfin.config import load_config
from privfin.data.images import StoredImage
from privfin.data.records import Dataset, Record
from privfin.data.sources import LoadedData
from privfin.errors import DataError, PlanError
from privfin.federation import prepare as preparation
from privfin.federation.encoding import Encoding
from privfin.federation.plan import make_plan
from privfin.federation.prepare import prepare
from privfin.federation.training_run import start_run

SIDE = 16
PATIENTS = 40


def stored(folder: Path) -> Dataset:
    """Two records a patient: an image in a file with a text, and a text alone."""
    random = np.random.default_rng(0)
    records = []
    for i in range(PATIENTS):
        path = folder / f"patient-{i}.png"
        Image.fromarray(random.integers(0, 256, (20, 16), dtype=np.uint8)).save(path)
        image = StoredImage(path, SIDE, f"list.csv row {i + 1}")
        label = np.array([i % 2], dtype=np.float32)
        patient, origin = f"p{i:02d}", "north" if i % 2 else "south"
        both = {"image": image, "text": f"report {i}"}
        records.append(Record(f"{i}-a", patient, both, label, origin))
        records.append(Record(f"{i}-b", patient, {"text": "alone"}, label, origin))
    return Dataset("lazy", ("sick",), tuple(records))


def break_images(dataset: Dataset, patients: list[int]) -> None:
    for i in patients:
        dataset.records[2 * i].inputs["image"].path.write_bytes(b"no image")


def as_eager(dataset: Dataset) -> Dataset:
    records = []
    for record in dataset.records:
        image = record.inputs.get("image")
        loaded = {} if image is None else {"image": image.load()}
        records.append(replace(record, inputs={**record.inputs, **loaded}))
    return replace(dataset, records=tuple(records))


@pytest.fixture
def lazy(tmp_path: Path) -> Dataset:
    return stored(tmp_path)


@pytest.fixture
def prepared(monkeypatch):
    """Prepares these records; ``test`` are patients of the official test split."""

    def run(dataset: Dataset, test=range(30, PATIENTS), **options):
        given = {
            "data.source": "manifest",
            "data.labels": ["sick"],
            "data.image_size": SIDE,
            "federation.sites": 3,
            "federation.modalities": "0:0:3",
            "training.batch_size": 5,
            "privacy.epsilon": "inf",
            **{k.replace("__", "."): v for k, v in options.items()},
        }
        loaded = LoadedData(dataset, frozenset(f"p{i:02d}" for i in test))
        monkeypatch.setattr(preparation, "load_source", lambda config: loaded)
        config = load_config(None, list(given.items()))
        return config, prepare(config)

    return run


def same(a, b) -> bool:
    return all(torch.equal(a.inputs[m], b.inputs[m]) for m in a.inputs) and torch.equal(
        a.labels, b.labels
    )


def test_lazy_records_are_prepared_as_loaded_ones(lazy, prepared):
    _, one = prepared(lazy)
    _, other = prepared(as_eager(lazy))
    assert one.sites.keys() == other.sites.keys()
    for name, site in one.sites.items():
        assert same(site.batch, other.sites[name].batch)
        assert site.patients == other.sites[name].patients
    assert same(one.test.batch, other.test.batch)


@pytest.mark.parametrize("patient", [3, 35])
def test_an_unreadable_image_stops_the_run_and_is_named(patient, lazy, prepared):
    break_images(lazy, [patient])
    with pytest.raises(
        DataError, match=rf"list\.csv row {patient + 1}: image .*patient-{patient}\.png"
    ):
        prepared(lazy)


@pytest.mark.parametrize("copies", [1, 3])
def test_with_skip_bad_its_record_is_left_out_and_the_rest_is_as_without_it(copies, lazy, prepared):
    broken = [3, 17, 35]
    options = {"data__skip_bad": True, "training__augmentations": copies}
    break_images(lazy, broken)
    _, found = prepared(lazy, **options)
    ids = {f"{i}-a" for i in broken}
    rest = Dataset("lazy", ("sick",), tuple(r for r in lazy.records if r.record_id not in ids))
    _, expected = prepared(rest, **options)
    skipped = [n.split(":")[0] for n in found.notices if n.startswith("skipped ")]
    assert sorted(skipped) == sorted(f"skipped list.csv row {i + 1}" for i in broken)
    for name, site in found.sites.items():
        assert same(site.batch, expected.sites[name].batch)
        assert site.patients == expected.sites[name].patients
        assert site.fingerprint == expected.sites[name].fingerprint
    assert same(found.test.batch, expected.test.batch)
    assert found.test.patient_ids == expected.test.patient_ids
    assert found.test.fingerprint == expected.test.fingerprint
    assert found.declarations == expected.declarations


def test_a_part_of_a_mix_skips_its_own_only(lazy):
    """Wherever in that part: its records name their places behind the part's name."""
    parts = [
        {"name": "good", "source": "covid-cxr", "folder": "good"},
        {"name": "loose", "source": "covid-cxr", "folder": "loose", "skip_bad": True},
    ]
    config = load_config(
        None, [("data.source", "mix"), ("data.part", parts), ("data.image_size", SIDE)]
    )
    break_images(lazy, [0, 1])
    for place in ("loose", "loose: Rome, Italy"):
        mixed = tuple(replace(r, origin=place) for r in lazy.records[:6])
        dataset = Dataset("mix", ("sick",), mixed)
        found = Encoding(config).readable(dataset, dataset)
        assert [r.record_id for r in found.dataset.records] == ["0-b", "1-b", "2-a", "2-b"]
        assert len(found.notices) == 2
    for place in ("good", "good: loose"):
        dataset = Dataset("mix", ("sick",), (replace(lazy.records[0], origin=place),))
        with pytest.raises(DataError, match=r"list\.csv row 1"):
            Encoding(config).readable(dataset, dataset)


def test_patients_are_counted_after_what_cannot_be_read_is_gone(lazy, prepared):
    """A patient without a readable record must count neither for the batch nor for the rate."""
    images = tuple(r for r in lazy.records if "image" in r.inputs)
    only = Dataset("lazy", ("sick",), images)
    options = {"federation__modalities": "0:0:3", "data__skip_bad": True}
    _, whole = prepared(only, **options)
    assert sum(d.patients for d in whole.declarations) == 30
    lost = 2
    break_images(lazy, list(range(lost)))
    _, fewer = prepared(only, **options)
    assert sum(d.patients for d in fewer.declarations) == 30 - lost
    assert sum(len(s.patients) for s in fewer.sites.values()) == 30 - lost
    break_images(lazy, list(range(30)))
    with pytest.raises(PlanError, match="has 0 patients with usable records"):
        prepared(only, **options)


def test_a_run_without_a_readable_test_record_is_refused(lazy, prepared):
    images = tuple(r for r in lazy.records if "image" in r.inputs)
    break_images(lazy, list(range(30, PATIENTS)))
    with pytest.raises(PlanError, match="no held-out record can be read"):
        prepared(Dataset("lazy", ("sick",), images), data__skip_bad=True)


def test_the_manifest_tells_how_many_were_left_out_and_not_which(lazy, prepared, tmp_path):
    break_images(lazy, [3, 35])
    config, data = prepared(lazy, data__skip_bad=True)
    run = start_run(tmp_path / "run", config, make_plan(config, data.declarations), data)
    assert "skipped 2 records whose input could not be read" in run.manifest["notices"]
    written = (run.path / "manifest.json").read_text()
    for word in ("patient-3", "patient-35", "list.csv", str(tmp_path)):
        assert word not in written
