"""Imputer attacks on a model of privfin: planted reports, pairs, and a tiny training."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch

from privfin.auditing.imputer_attacks import (
    canary_attempt,
    error_attempts,
    imputations,
    plant_reports,
    retrieval_attempt,
)
from privfin.auditing.population import SitePool, joined
from privfin.config import RunConfig
from privfin.errors import PlanError
from privfin.federation.local import stream_source
from privfin.federation.local_training import LocalTrainer
from privfin.federation.plan import declared_sites, make_plan
from privfin.federation.prepare import PreparedData
from privfin.models.imputers import Estimate, Imputations, ImputerSet
from privfin.models.multimodal import MultimodalModel
from privfin.models.segments import assign, flatten, initial_model

Configure = Callable[..., RunConfig]
Prepare = Callable[[RunConfig], PreparedData]


def pool_of(data: PreparedData, name: str) -> SitePool:
    site, test = data.sites[name], data.test.batch
    batch = joined([site.batch, test])
    groups = [*site.patients, *([len(site.batch) + i] for i in range(len(test)))]
    members = np.arange(len(groups)) < len(site.patients)
    return SitePool(name, batch, 1, groups, members, batch, batch)


def paired_site(data: PreparedData) -> str:
    return next(d.name for d in data.declarations if len(d.modalities) == 2)


def trained(config: RunConfig, data: PreparedData, steps: int) -> MultimodalModel:
    """Plain gradient steps on one paired site."""
    model = initial_model(config, data.test.batch.labels.shape[1])
    batch = data.sites[paired_site(data)].batch
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        model.per_record_loss(batch, 1.0).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model


def test_attempts_of_a_trained_model(tiny: Configure, prepared: Prepare) -> None:
    config = tiny()
    data = prepared(config)
    pool = pool_of(data, paired_site(data))
    model = trained(config, data, 20)
    shadows = [trained(config, data, steps) for steps in (5, 8)]
    inside = np.zeros((2, len(pool.patients)), dtype=bool)
    error, lira = error_attempts(model, pool, shadows, inside)
    assert (error.attack, lira.attack) == ("imputer-error", "imputer-error-lira")
    assert error.members.sum() == len(data.sites[pool.name].patients)
    # The score by hand, from the model's own loss: two directions, squared distances.
    said = imputations(model, pool.queries)
    each = [-np.log(((a - b) ** 2).sum(axis=1)) for a, b in said.values()]
    whole = torch.stack(list(pool.queries.present.values())).all(dim=0).numpy()
    by_hand = [np.mean(each, axis=0)[[r for r in own if whole[r]]] for own in pool.patients]
    assert np.allclose(error.scores, [s.mean() for s in by_hand if s.size])
    rank = retrieval_attempt(model, pool)
    assert ((rank.scores >= 0) & (rank.scores <= 1)).all()
    assert rank.members.sum() == error.members.sum()


def test_a_model_without_imputers_is_refused(tiny: Configure, prepared: Prepare) -> None:
    config = tiny(model__imputer="zero")
    data = prepared(config)
    pool = pool_of(data, paired_site(data))
    model = initial_model(config, data.test.batch.labels.shape[1])
    for attack in (error_attempts, retrieval_attempt):
        with pytest.raises(PlanError, match="imputes no"):
            attack(model, pool)


def test_canaries_in_keep_their_image_and_those_out_are_gone(
    tiny: Configure, prepared: Prepare
) -> None:
    config = tiny()
    data = prepared(config)
    name = paired_site(data)
    before = data.sites[name]
    canaries = plant_reports(config, data, name, 20, seed=0)
    after = canaries.data.sites[name]
    assert len(after.patients) == len(before.patients) - int((~canaries.inside).sum())
    assert after.fingerprint != before.fingerprint
    texts = canaries.reports.inputs["text"]
    found = [at for at, t in enumerate(texts) if (after.batch.inputs["text"] == t).all(dim=1).any()]
    assert found == np.flatnonzero(canaries.inside).tolist()
    images = {x.numpy().tobytes() for x in before.batch.inputs["image"]}
    assert all(x.numpy().tobytes() in images for x in after.batch.inputs["image"])
    with pytest.raises(PlanError, match="for 9999 canaries"):
        plant_reports(config, data, name, 9999, seed=0)


def test_canaries_through_a_sites_own_training(tiny: Configure, prepared: Prepare) -> None:
    config = tiny(privacy__epsilon=float("inf"))
    data = prepared(config)
    name = paired_site(data)
    plan = make_plan(config, declared_sites(config))
    seen: list[int] = []

    def train(planted: PreparedData) -> MultimodalModel:
        own = planted.sites[name]
        seen.append(len(own.patients))
        model = initial_model(config, len(plan.label_names))
        start = flatten(model)
        trainer = LocalTrainer(config, plan.site(name), own, stream_source(config, name))
        assign(model, start + trainer.train(start, 1, 3))
        return model

    canaries = plant_reports(config, data, name, 20, seed=0)
    attempt = canary_attempt(train(canaries.data), canaries, data.test.batch)
    assert attempt.scores.shape == (20,)
    assert np.isfinite(attempt.scores).all()
    assert seen == [len(data.sites[name].patients) - int((~attempt.members).sum())]


class Copying(ImputerSet):
    """A broken imputer: it hands the training reports' features to other patients."""

    def __init__(self, texts: torch.Tensor) -> None:
        super().__init__()
        self.texts = texts

    def forward(
        self, features: Mapping[str, torch.Tensor], present: Mapping[str, torch.Tensor]
    ) -> Imputations:
        there = present["image"]
        copied = self.texts[torch.arange(len(there)) % len(self.texts)]
        return Imputations(
            {"text": Estimate.plain(copied)}, {"text": there}, torch.zeros(len(there))
        )


def test_an_imputer_that_copies_reports_is_caught(tiny: Configure, prepared: Prepare) -> None:
    config = tiny()
    data = prepared(config)
    name = paired_site(data)

    def train(planted: PreparedData) -> MultimodalModel:
        model = initial_model(config, data.test.batch.labels.shape[1])
        own = planted.sites[name].batch
        with torch.no_grad():
            model.imputer = Copying(model.encode(own)["text"][: len(data.test.batch) // 2])
        return model

    canaries = plant_reports(config, data, name, 16, seed=0)
    attempt = canary_attempt(train(canaries.data), canaries, data.test.batch)
    assert attempt.scores[attempt.members].min() > attempt.scores[~attempt.members].max()
