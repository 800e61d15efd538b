"""Gradient inversion of a run: everything from plain gradients, nothing from what a site sends."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from attacks.errors import AuditRefusedError
from privfin.auditing.inversion import audit_inversion
from privfin.auditing.inversion_attacker import Effort
from privfin.auditing.inversion_public import grey, phantom_public, standardised
from privfin.auditing.inversion_result import PRIOR, Gain, InversionResult
from privfin.auditing.inversion_views import Observed, View
from privfin.auditing.population import Population, SitePool
from privfin.config import RunConfig
from privfin.federation.plan import TrainingPlan, make_plan
from privfin.federation.prepare import PreparedData
from privfin.models.multimodal import Batch
from privfin.models.segments import Vector, flatten, initial_model

Given = tuple[RunConfig, TrainingPlan, Population, Vector]
QUICK = Effort(steps=3)


@pytest.fixture(scope="module")
def given(
    tiny: Callable[..., RunConfig], prepared: Callable[[RunConfig], PreparedData]
) -> Callable[..., Given]:
    def make(**options: object) -> Given:
        config = tiny(**options)
        data = prepared(config)
        plan = make_plan(config, data.declarations)
        pools = tuple(
            SitePool(
                name, own.batch, own.copies, own.patients, np.ones(len(own.patients), np.bool_),
                own.batch, own.batch,
            )
            for name, own in data.sites.items()
        )  # fmt: skip
        # The head of the first model is zero, and nothing would reach the encoders.
        start = flatten(initial_model(config, len(plan.label_names)))
        noise = np.random.default_rng(0).standard_normal(start.size).astype(np.float32)
        return config, plan, Population(pools, plan.label_names), start + 0.05 * noise

    return make


def attack(given: Given, **options: object) -> InversionResult:
    config, plan, population, start = given
    public = phantom_public(config, patients=32)
    return audit_inversion(config, plan, start, population, public, effort=QUICK, **options)


def test_fixed_features_words_and_labels(given: Callable[..., Given]) -> None:
    """Sized: a random direction among 400 has a cosine of 0.05 with the truth, so that 0.3 is six
    standard deviations; the noise of the plan is more than twenty times the signal."""
    result = attack(given(), targets=6)
    for view in ("one record", "one record, clipped", "one record, round without noise"):
        assert min(result.values(view, "feature_cosine")) > 0.99
        assert result.values(view, "labels_right") == [1.0] * 6
    plain = result.word_means("one record")
    assert plain["bucket_precision"] == plain["bucket_recall"] == 1
    assert plain["phrase_precision"] == plain["phrase_recall"] == 1
    assert max(result.values("one record, round as sent", "feature_cosine")) < 0.3
    sent, prior = (
        result.word_means(name) for name in ("one record, round as sent", "prior: commonest words")
    )
    assert sent["bucket_precision"] < prior["bucket_precision"]
    verdicts = {g.view: g.verdict for g in result.gains() if g.measure == "feature_cosine"}
    assert verdicts["one record"].startswith("better than the prior by 0.")
    assert not verdicts["one record, round as sent"].startswith("better")


def test_pictures_and_figures_of_a_trained_encoder(given: Callable[..., Given]) -> None:
    result = attack(given(modalities__image__encoder="cnn"), targets=2)
    for view in result.views:
        assert len(result.values(view, "psnr")) == len(result.values(view, "ssim")) == 2
    text = json.dumps(result.to_dict(), allow_nan=False)
    assert "shown" not in text
    assert len(text) < 20_000  # figures, no pixels


def test_equal_seeds_give_equal_results(given: Callable[..., Given]) -> None:
    case = given(modalities__image__encoder="cnn")
    one, again, other = (attack(case, targets=1, seed=seed) for seed in (3, 3, 4))
    assert one.to_dict() == again.to_dict()
    assert one.to_dict() != other.to_dict()


def test_without_privacy_the_round_itself_gives_the_feature_away(
    given: Callable[..., Given],
) -> None:
    result = attack(given(privacy__epsilon=math.inf), targets=2)
    assert min(result.values("one record, round (no DP)", "feature_cosine")) > 0.99
    assert not any("clipped" in view for view in result.views)


def test_a_fixed_encoder_without_projection_shows_in_the_head(given: Callable[..., Given]) -> None:
    result = attack(given(modalities__image__projection="none"), targets=2)
    assert min(result.values("one record", "feature_cosine")) > 0.99


def seen(given: Given, count: int = 2) -> tuple[dict[str, list[View]], RunConfig]:
    config, plan, population, start = given
    pool = population.sites[-1]
    rows = pool.queries.rows(torch.arange(count))
    found: dict[str, list[View]] = {}
    for view in Observed(config, plan.site(pool.name), start, rows, None, 0).views():
        found.setdefault(view.name, []).append(view)
    return found, config


def test_a_clipped_gradient_has_at_most_the_norm_and_the_same_direction(
    given: Callable[..., Given],
) -> None:
    views, config = seen(given(privacy__clip_norm=0.01))
    for plain, clipped in zip(views["one record"], views["one record, clipped"], strict=True):
        a = torch.cat([g.reshape(-1) for g in plain.gradient.values()])
        b = torch.cat([g.reshape(-1) for g in clipped.gradient.values()])
        assert float(b.norm()) == pytest.approx(config.privacy.clip_norm, rel=1e-4)
        assert float(torch.cosine_similarity(a, b, dim=0)) == pytest.approx(1, abs=1e-5)


def test_a_round_of_one_step_is_the_clipped_gradient_over_the_fixed_divisor(
    given: Callable[..., Given],
) -> None:
    views, config = seen(given(training__local_steps=1))
    for clipped, sent in zip(
        views["one record, clipped"], views["one record, round without noise"], strict=True
    ):
        factor = config.training.learning_rate / config.training.batch_size
        for name, gradient in clipped.gradient.items():
            assert torch.allclose(sent.gradient[name], factor * gradient, atol=1e-6), name


def test_the_noise_of_the_plan_is_in_the_round(given: Callable[..., Given]) -> None:
    """The standard deviation over thousands of parameters that one record hardly moves."""
    case = given(training__local_steps=1)
    views, config = seen(case)
    site = case[1].sites[-1]
    factor = config.training.learning_rate / config.training.batch_size
    (quiet, loud) = (
        views[f"one record, {name}"][0] for name in ("round without noise", "round as sent")
    )
    noise = torch.cat([(loud.gradient[n] - quiet.gradient[n]).reshape(-1) for n in loud.gradient])
    expected = factor * config.privacy.clip_norm * site.noise_multiplier
    # Six standard errors of a standard deviation.
    assert float(noise.std()) == pytest.approx(expected, rel=6 / math.sqrt(2 * noise.numel()))


def test_an_attack_needs_members_with_images(given: Callable[..., Given]) -> None:
    config, plan, population, start = given()
    public = phantom_public(config, patients=8)

    def refused(sites: tuple[SitePool, ...], said: str) -> None:
        with pytest.raises(AuditRefusedError, match=said):
            audit_inversion(config, plan, start, Population(sites, ()), public)

    strangers = tuple(replace(p, members=np.zeros_like(p.members)) for p in population.sites)
    refused(strangers, "no member")
    blind = []
    for pool in population.sites:
        b = pool.queries
        none = {**b.present, "image": torch.zeros_like(b.present["image"])}
        blind.append(replace(pool, queries=Batch(b.inputs, none, b.labels)))
    refused(tuple(blind), "no site trains on images")


def test_verdicts() -> None:
    def verdict(mean: float, low: float, high: float, targets: int = 8) -> str:
        return Gain("v", "psnr", mean, low, high, 6, targets).verdict

    assert verdict(3, 1, 5).startswith("better than the prior by 3.0 dB (95 % interval +1.0")
    assert verdict(-3, -5, -1).startswith("worse than the prior by 3.0 dB")
    assert verdict(1, -1, 3).startswith("not distinguishable")
    assert verdict(3, 1, 5, targets=3).endswith("too few for a verdict")


def test_pictures_are_shown_from_black_to_white() -> None:
    images = torch.randint(0, 256, (3, 16, 16), generator=torch.Generator().manual_seed(0))
    pictures = standardised(images)
    assert pictures.mean(dim=(1, 2, 3)).abs().max() < 1e-4
    assert ((grey(pictures) >= 0) & (grey(pictures) <= 1)).all()
    assert PRIOR == "prior: mean"
