"""From configuration to records: the dispatch of sources, and a whole mix from files."""

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from privfin.config import RunConfig, parse_config
from privfin.config.data import Source
from privfin.data.chexpert_labels import CHEXPERT_LABELS
from privfin.data.load import READERS, check_tables, label_names, load_source
from privfin.errors import ConfigError, DataError


def config(**data: object) -> RunConfig:
    return parse_config({"data": data}, "test")


def openi(root: Path, numbers: range) -> None:
    (root / "ecgen-radiology").mkdir(parents=True)
    for n in numbers:
        (root / "ecgen-radiology" / f"{n}.xml").write_text(
            f'<eCitation><uId id="CXR{n}"/><AbstractText Label="FINDINGS">Clear.</AbstractText>'
            f"<MeSH><major>{'normal' if n % 2 else 'Pneumonia'}</major></MeSH></eCitation>",
            encoding="utf-8",
        )


def medmnist(root: Path) -> None:
    root.mkdir(parents=True)
    rng = np.random.Generator(np.random.PCG64(0))
    arrays = {}
    for split, count in (("train", 6), ("val", 2), ("test", 3)):
        arrays[f"{split}_images"] = rng.integers(0, 255, (count, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count, dtype=np.uint8)[:, None] % 2
    np.savez(root / "pneumoniamnist.npz", **arrays)


def covid(root: Path) -> None:
    (root / "images").mkdir(parents=True)
    Image.fromarray(np.full((30, 20), 90, dtype=np.uint8)).save(root / "images" / "a.png")
    lines = ["patientid,finding,view,modality,location,filename,clinical_notes"]
    lines += [
        f'{i},{"COVID-19" if i % 2 else "SARS"},PA,X-ray,"Rome, Italy",a.png,Fever. SARS.'
        for i in range(8)
    ]
    (root / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


RENAME = {"pneumonia": "Pneumonia"}
MIX = [
    {"name": "openi", "source": "openi", "folder": "reports"},
    {"name": "mnist", "source": "medmnist", "folder": "mnist", "rename": RENAME},
    {"name": "covid", "source": "covid-cxr", "folder": "covid", "rename": RENAME},
]


def mix(root: Path, parts: list[dict[str, object]] = MIX, **data: object) -> RunConfig:
    return config(source="mix", root=root, part=parts, image_size=16, **data)


@pytest.fixture
def files(tmp_path) -> Path:
    openi(tmp_path / "reports", range(1, 21))
    medmnist(tmp_path / "mnist")
    covid(tmp_path / "covid")
    return tmp_path


def test_every_source_of_the_configuration_has_a_reader() -> None:
    assert set(READERS) == set(get_args(Source))


def test_a_mix_of_three_sources(files) -> None:
    loaded = load_source(mix(files))
    data = loaded.dataset
    assert data.label_names == CHEXPERT_LABELS
    kinds = {(r.origin, *sorted(r.inputs)) for r in data.records}
    assert kinds == {("openi", "text"), ("mnist", "image"), ("covid: Rome, Italy", "image", "text")}
    pneumonia = CHEXPERT_LABELS.index("Pneumonia")
    others = [i for i in range(14) if i != pneumonia]
    for record in data.records:
        if not record.origin.startswith("openi"):
            assert np.isnan(record.labels[others]).all()
    by_part = {name: [r for r in data.records if r.origin.startswith(name)] for name in
               ("openi", "mnist", "covid")}  # fmt: skip
    assert [len(records) for records in by_part.values()] == [20, 11, 8]
    assert {float(r.labels[pneumonia]) for r in by_part["covid"]} == {1}
    assert all("SARS" not in r.inputs["text"] for r in by_part["covid"])
    # MedMNIST's own test images are kept; the others are drawn, a quarter of each part.
    test = loaded.test_patients
    assert {p for p in test if p.startswith("mnist")} == {f"mnist:test-{i}" for i in range(3)}
    assert sum(p.startswith("openi") for p in test) == 5
    assert sum(p.startswith("covid") for p in test) == 2


def test_a_mix_may_have_more_labels_than_the_fourteen(files) -> None:
    labels = ("Pneumonia", "COVID-19", "Edema")
    parts = [dict(p) for p in MIX]
    parts[2]["rename"] = {"pneumonia": "Pneumonia", "covid-19": "COVID-19"}
    run = mix(files, parts, labels=labels)
    assert label_names(run) == labels
    last = load_source(run).dataset.records[-1]
    assert np.array_equal(last.labels, [1, 1, np.nan], equal_nan=True)


def test_options_of_a_part_are_its_own(files) -> None:
    parts = [{**MIX[0], "sections": ["impression", "findings"]}, {**MIX[2], "mask_words": []}]
    texts = {r.inputs["text"] for r in load_source(mix(files, parts)).dataset.records}
    assert texts == {"Clear.", "Fever. SARS."}


def test_errors_name_the_part(files) -> None:
    (files / "covid" / "metadata.csv").unlink()
    with pytest.raises(DataError, match=r"^part 'covid': .*metadata\.csv does not exist"):
        load_source(mix(files))
    with pytest.raises(ConfigError, match="part 'covid': covid-cxr has none of the run's labels"):
        load_source(mix(files, [{"name": "covid", "source": "covid-cxr"}]))
    with pytest.raises(ConfigError, match="mix needs a folder: give --data-root"):
        load_source(mix(files).model_copy(update={"data": config(source="mix", part=MIX).data}))


def test_two_phantoms_of_a_mix_are_different_people() -> None:
    part = {"source": "phantom", "patients": 20}
    parts = [{**part, "name": "a"}, {**part, "name": "b"}]
    records = load_source(mix(Path(), parts)).dataset.records
    first, second = (
        {r.inputs["text"] for r in records if r.origin.startswith(name) and "text" in r.inputs}
        for name in "ab"
    )
    assert not first & second


def test_random_splits_forget_the_official_one(files) -> None:
    run = config(source="medmnist", root=files / "mnist", image_size=16)
    assert label_names(run) == ("pneumonia",)
    assert load_source(run).test_patients == {f"test-{i}" for i in range(3)}
    run = config(source="medmnist", root=files / "mnist", image_size=16, split="random")
    assert load_source(run).test_patients is None


def test_a_source_without_labels_cannot_be_trained_on(tmp_path) -> None:
    entry = {"id": "CXR1_IM-0001", "report": "Clear.", "image_path": []}
    content = {"train": [entry], "val": [], "test": []}
    (tmp_path / "annotation.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=r"no record of openi has a known label.*retrieval"):
        load_source(config(source="openi", root=tmp_path))
    parts = [{"name": "r2gen", "source": "openi"}]
    with pytest.raises(DataError, match=r"^part 'r2gen': no record of openi has a known label"):
        load_source(mix(tmp_path, parts))


@pytest.mark.parametrize("source", ["openi", "mimic-cxr"])
def test_labels_are_known_without_data(source) -> None:
    assert label_names(config(source=source)) == CHEXPERT_LABELS
    assert label_names(config(source=source, labels=["Edema"])) == ("Edema",)
    with pytest.raises(ConfigError, match=f"{source} needs a folder: give --data-root DIR"):
        load_source(config(source=source))


LABS = {"encoder": "values", "kind": "tabular", "ranges": {"age": [0, 100], "sex": [0, 1]}}


def with_labs(data: dict) -> RunConfig:
    return parse_config({"data": data, "modalities": {"labs": LABS}}, "test")


@pytest.mark.parametrize("source", get_args(Source))
def test_sources_without_values_refuse_a_tabular_modality(source) -> None:
    run = with_labs({"source": source, "root": "nowhere"})
    if source in ("manifest", "covid-cxr"):
        check_tables(run)
        return
    message = f"{source} has no table of values for modality 'labs': remove it, or use manifest"
    for check in (check_tables, load_source):
        with pytest.raises(ConfigError, match=message):
            check(run)


def test_a_mix_needs_one_part_with_values(files) -> None:
    path = files / "covid" / "metadata.csv"
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    rows = [f"{row},{60 + i},{'M' if i % 2 else ''}" for i, row in enumerate(rows)]
    path.write_text("\n".join([f"{header},age,sex", *rows]) + "\n", encoding="utf-8")
    records = load_source(with_labs({"source": "mix", "root": files, "part": MIX})).dataset.records
    assert {r.origin for r in records if "labs" in r.inputs} == {"covid: Rome, Italy"}
    with pytest.raises(ConfigError, match="openi, medmnist has no table of values"):
        check_tables(with_labs({"source": "mix", "root": files, "part": MIX[:2]}))


def test_a_manifest_gives_values_groups_and_needs_no_input_for_them(tmp_path) -> None:
    (tmp_path / "manifest.csv").write_text(
        "patient_id,age,sex,ill\np1,63,F,1\np2,,,0\np3,40,m,1\n", encoding="utf-8"
    )
    run = with_labs({
        "source": "manifest", "root": tmp_path, "labels": ["ill"],
        "manifest": {"inputs": {}, "sex": "sex", "age": "age"},
    })  # fmt: skip
    first, third = load_source(run).dataset.records
    assert first.inputs["labs"].tolist() == [63, 0]
    assert third.inputs["labs"].tolist() == [40, 1]
    assert (first.sex, first.age, third.sex) == ("F", 63, "M")
