"""The public set of retrieval: named, read on its own, and never a site's own patients."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from privfin.data.load import load_source
from privfin.data.records import Dataset
from privfin.errors import ConfigError, DataError
from privfin.federation.plan import make_plan
from privfin.federation.prepare import prepare
from privfin.federation.public_set import load_public, refuse_own_patients
from privfin.federation.training_run import complete_run, start_run
from privfin.runs import load_run

RETRIEVAL = {"model__imputer": "retrieval", "model__retrieval__source": "phantom"}


def test_there_is_none_without_retrieval(tiny):
    assert load_public(tiny()) is None


def test_public_patients_are_other_patients(tiny):
    config = tiny(**RETRIEVAL, model__retrieval__records=30)
    public, own = load_public(config), load_source(config).dataset
    assert len(public.records) == 30
    refuse_own_patients(public, own)


def test_the_runs_own_seed_is_refused(tiny):
    config = tiny(**RETRIEVAL, model__retrieval__seed=0)
    with pytest.raises(ConfigError, match="would be the run's own"):
        load_public(config)


@pytest.mark.parametrize("renamed", [False, True])
def test_a_site_s_own_patient_in_the_public_set_is_refused(tiny, renamed):
    """Also under another name: a copy of a data set may have other identifiers."""
    config = tiny(**RETRIEVAL)
    public, own = load_public(config), load_source(config).dataset
    stolen = own.records[7]
    if renamed:
        stolen = replace(stolen, record_id="x", patient_id="x")
    mixed = Dataset("public", public.label_names, (*public.records[:5], stolen))
    with pytest.raises(DataError, match="1 public records share"):
        refuse_own_patients(mixed, own)


def test_stock_phrases_are_no_reason_to_refuse(tiny):
    config = tiny(**RETRIEVAL)
    own = load_source(config).dataset
    inputs = {"image": np.zeros((32, 32), dtype=np.uint8), "text": own.records[0].inputs["text"]}
    record = replace(own.records[0], record_id="x", patient_id="x", inputs=inputs)
    refuse_own_patients(Dataset("public", own.label_names, (record,)), own)


def test_a_finished_model_imputes_without_its_public_set(tiny, tmp_path):
    """The bank of public features is in the model's file, so predict needs no public records."""
    config = tiny(**RETRIEVAL, model__retrieval__records=20, model__retrieval__neighbours=3)
    data = prepare(config)
    run = start_run(tmp_path / "run", config, make_plan(config, data.declarations), data)
    result = complete_run(run, config, data)
    model = load_run(tmp_path / "run").model()
    bank = model.imputer.get_buffer("bank_image")
    assert bank.abs().sum() > 0
    assert np.allclose(bank.numpy(), model.encode(data.public)["image"].detach().numpy(), atol=1e-6)
    assert result.cells["image only"].records > 0


def test_a_seed_of_any_phantom_of_a_mix_is_refused(tiny):
    parts = tuple({"name": n, "source": "phantom", "patients": 20} for n in ("a", "b"))
    wanted = {"data__source": "mix", "data__part": parts, "data__image_size": 32}
    config = tiny(**RETRIEVAL, **wanted, model__retrieval__seed=1)
    with pytest.raises(ConfigError, match="would be the run's own"):
        load_public(config)


def test_a_public_set_needs_no_labels(tiny, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(np.full((20, 20), 90, dtype=np.uint8)).save(images / "0.png")
    entry = {"id": "CXR1_IM-0001", "report": "Clear lungs.", "image_path": ["0.png"]}
    content = {"train": [entry], "val": [], "test": []}
    (tmp_path / "annotation.json").write_text(json.dumps(content), encoding="utf-8")
    wanted = {"model__retrieval__source": "openi", "model__retrieval__root": tmp_path}
    public = load_public(tiny(**{**RETRIEVAL, **wanted}))
    assert [set(r.inputs) for r in public.records] == [{"image", "text"}]


def test_a_public_set_without_a_folder_is_named(tiny):
    config = tiny(**{**RETRIEVAL, "model__retrieval__source": "openi"})
    with pytest.raises(ConfigError, match=r"give model\.retrieval\.root"):
        load_public(config)
