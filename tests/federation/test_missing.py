"""Missingness in a run: where it acts, what the plan and the results say of it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from privfin.cli.summary import missingness_line, print_plan
from privfin.config import RunConfig
from privfin.data.missingness import effective_rate
from privfin.errors import ConfigError, PlanError
from privfin.federation.assessment import AS_IS, assess
from privfin.federation.plan import check_without_data, declared_sites, make_plan, site_names
from privfin.federation.prepare import prepare
from privfin.models.segments import initial_model

Make = Callable[..., RunConfig]
LABS = {"encoder": "hashed-ngrams", "kind": "text", "features": 64}


def test_inputs_go_from_training_records_and_held_out_records_apart(
    tiny: Make, prepared: Any
) -> None:
    whole = prepared(tiny())
    for split in ("train", "test"):
        data = prepared(tiny(missingness={split: {"text": 0.5, "image": 0.5}}))
        paired = data.sites["site-03"].batch
        lost = {m: 1 - float(paired.present[m].float().mean()) for m in ("image", "text")}
        gone = {m: 1 - float(data.test.batch.present[m].float().mean()) for m in ("image", "text")}
        touched, untouched = (lost, gone) if split == "train" else (gone, lost)
        rate = effective_rate({"text": 0.5, "image": 0.5}, "text", ("image", "text"))
        assert rate == 0.375
        assert all(abs(share - rate) < 0.25 for share in touched.values())
        assert set(untouched.values()) == {0.0}
        for name, site in data.sites.items():  # nobody is lost with it, so the plan is the same
            assert site.patients == whole.sites[name].patients
            assert bool(torch.stack(list(site.batch.present.values())).any(dim=0).all())
        assert data.declarations == whole.declarations
    alone = prepared(tiny(missingness={"train": {"text": 0.5}})).sites["site-02"]
    assert bool(alone.batch.present["text"].all())  # a site's only modality stays


def test_held_out_records_as_they_are_get_a_line_of_their_own(tiny: Make, prepared: Any) -> None:
    config = tiny(missingness={"test": {"text": 0.5}})
    data = prepared(config)
    names = tuple(str(i) for i in range(14))
    results = assess(initial_model(config, 14), data.test, names, config.evaluation, 0)
    everything = len(data.test.batch)
    assert results[AS_IS].records == results["image only"].records == everything
    assert results["both"].records == results["text only"].records < everything
    plain = prepared(tiny())
    assert AS_IS not in assess(initial_model(config, 14), plain.test, names, config.evaluation, 0)


def test_records_as_they_are_are_scored_with_what_they_have(tiny: Make, prepared: Any) -> None:
    """Without encoders' help: a model that only reads texts scores the textless alike."""
    config = tiny(missingness={"test": {"text": 0.5}}, model__imputer="zero")
    data = prepared(config)
    model = initial_model(config, 14)
    with torch.no_grad():
        model.head["text"].weight.normal_()
        scores = torch.sigmoid(model(data.test.batch))
    without = ~data.test.batch.present["text"]
    assert float((scores[without] - 0.5).abs().max()) < 1e-6
    assert float((scores[~without] - 0.5).abs().min(dim=0).values.max()) > 0
    names = tuple(str(i) for i in range(14))
    area = assess(model, data.test, names, config.evaluation, 0)[AS_IS].labels[0].auroc
    labels = data.test.batch.labels[:, 0].numpy()
    one, zero = scores[:, 0].numpy()[labels == 1], scores[:, 0].numpy()[labels == 0]
    difference = one[:, None] - zero[None, :]
    assert area == pytest.approx(((difference > 0) + 0.5 * (difference == 0)).mean())


# Labels that sites without a modality do not have


def test_sites_without_reports_keep_only_labelled_patients(tiny: Make, prepared: Any) -> None:
    whole = prepared(tiny())
    data = prepared(tiny(missingness={"unlabelled_without": {"text": 0.3}}))
    before = {d.name: d.patients for d in whole.declarations}
    after = {d.name: d.patients for d in data.declarations}
    assert after["site-01"] < before["site-01"]  # images only
    assert after["site-01"] == len(data.sites["site-01"].patients)
    assert (after["site-02"], after["site-03"]) == (before["site-02"], before["site-03"])
    for site in data.sites.values():
        assert not bool(torch.isnan(site.batch.labels).all(dim=1).any())
    with pytest.raises(PlanError, match="site 'site-01' has"):
        prepare(tiny(missingness={"unlabelled_without": {"text": 1.0}}))


def test_unlabelled_pairs_still_train_an_imputer(tiny: Make, prepared: Any) -> None:
    """Three modalities: sites without 'labs' keep unlabelled records of image and text."""
    config = tiny(
        modalities__labs=LABS,
        federation__modalities="image=1, image+text=1, image+text+labs=1",
        missingness={"unlabelled_without": {"labs": 0.4}},
    )
    data = prepared(config)
    counts = [d.patients for d in data.declarations]
    assert counts[0] < counts[1] == counts[2]  # only the site without pairs loses patients
    batch = data.sites["site-02"].batch
    unknown = torch.isnan(batch.labels).all(dim=1)
    assert 0.1 < float(unknown.float().mean()) < 0.8

    rows = batch.rows(torch.nonzero(unknown).flatten())
    model = initial_model(config, 14)
    assert float(model.per_record_loss(rows, 0.0).detach().abs().max()) == 0.0
    loss = model.per_record_loss(rows, 0.5)
    assert float(loss.detach().min()) > 0
    loss.sum().backward()
    taught = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum()}
    assert taught
    assert {name.rsplit(".", 2)[0].split(".")[0] for name in taught} == {"imputer"}
    assert {name.split(".")[1] for name in taught} == {"image_to_text", "text_to_image"}

    single = rows.only(frozenset({"image"}))
    assert float(model.per_record_loss(single, 0.5).detach().abs().max()) == 0.0


# Sites in shards


def shards(tiny: Make, **more: Any) -> RunConfig:
    sites = [
        {"name": "xray", "match": ["nowhere"], "modalities": ["image"], "patients": 50},
        {"name": "mixed", "match": ["*"], "shards": 3, "patients": 50, **more},
    ]
    return tiny(federation__site=sites)


def test_shards_stand_in_the_plan_as_sites(tiny: Make) -> None:
    config = shards(tiny)
    assert site_names(config) == ["xray", "mixed-1", "mixed-2", "mixed-3"]
    plan = make_plan(config, declared_sites(config))
    assert [(s.name, s.patients) for s in plan.sites] == [(n, 50) for n in site_names(config)]
    trained = {s.name: s.trained_by for s in plan.segments}
    assert trained["encoder.image"] == 4
    assert trained["encoder.text"] == trained["imputer.image_to_text"] == 3


def test_a_run_of_shards_is_one_line_of_the_plan(tiny: Make) -> None:
    config = shards(tiny)
    shown = io.StringIO()
    print_plan(Console(file=shown, width=80), config, make_plan(config, declared_sites(config)))
    assert "│ xray " in shown.getvalue()
    assert "│ mixed-1..3 " in shown.getvalue()


def test_shards_are_trained_on_as_sites(tiny: Make) -> None:
    sites = [{"name": "mixed", "match": ["*"], "shards": 3, "patients": 50}]
    data = prepare(tiny(federation__site=sites))
    assert [(d.name, d.patients) for d in data.declarations] == [
        ("mixed-1", 50), ("mixed-2", 50), ("mixed-3", 50)
    ]  # fmt: skip
    assert [len(site.patients) for site in data.sites.values()] == [50, 50, 50]
    assert not data.notices  # each shard has what it declares
    assert len({site.fingerprint for site in data.sites.values()}) == 3


# What is said


def test_missingness_is_one_sentence(tiny: Make) -> None:
    assert missingness_line(tiny()) is None
    assert missingness_line(tiny(missingness={"train": {"text": 0.0}})) is None
    config = tiny(
        missingness={
            "train": {"image": 0.1, "text": 0.3},
            "test": {"text": 0.5},
            "label": "Edema",
            "odds": 3.0,
            "unlabelled_without": {"text": 0.8},
        }
    )
    assert missingness_line(config) == (
        "Taken away: image from 10 %, text from 30 % of training records; text from 50 % of "
        "held-out records; odds of a loss x 3 where 'Edema' is 1; labels of 80 % of patients at "
        "sites without text. A record keeps at least one input."
    )
    labels_only = tiny(missingness={"unlabelled_without": {"text": 0.8}})
    assert missingness_line(labels_only) == (
        "Taken away: labels of 80 % of patients at sites without text."
    )
    shown = io.StringIO()
    print_plan(Console(file=shown, width=80), config, make_plan(config, declared_sites(config)))
    assert "Taken away: image from 10 %" in shown.getvalue()
    assert "have fewer than shown here" in " ".join(shown.getvalue().split())
    assert max(map(len, shown.getvalue().splitlines())) <= 80


def test_a_label_that_the_run_does_not_have_is_refused_before_data_is_read(tiny: Make) -> None:
    config = tiny(missingness={"train": {"text": 0.1}, "label": "Edma", "odds": 2.0})
    for check in (check_without_data, lambda c: make_plan(c, declared_sites(c))):
        with pytest.raises(ConfigError, match=r"'Edma' is no label.*did you mean 'Edema'"):
            check(config)


def test_labels_decide_whom_it_hits(tiny: Make, prepared: Any) -> None:
    config = tiny(
        data__patients=600,
        missingness={"train": {"text": 0.3}, "label": "Support Devices", "odds": 1000.0},
    )
    batch = prepared(config).sites["site-03"].batch
    with_label = (batch.labels[:, 13] == 1).numpy()
    gone = ~batch.present["text"].numpy()
    assert np.count_nonzero(with_label) > 100
    assert gone[with_label].mean() > 0.9  # 1 - 1/430 expected
    assert gone[~with_label].mean() < 0.6  # 0.3 expected, more than 100 records
