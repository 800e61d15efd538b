"""The Feature Imputation Network: shapes, norms, and rows that do not couple."""

from __future__ import annotations

import pytest
import torch

from privfin.config import FinConfig
from privfin.models.attention import Attention
from privfin.models.imputers.fin import AnyToAnyFin, FeatureImputationNetwork
from privfin.models.imputers.pfin import ProbabilisticFin, beta_nll
from privfin.models.imputers.simple import (
    LinearImputer,
    MeanImputer,
    MlpImputer,
    PrototypeImputer,
)

SIZES = [
    FinConfig(layers=1, heads=2, feedforward=8, tokens=2),
    FinConfig(layers=3, heads=4, feedforward=16, tokens=1),
]


def make(config: FinConfig, width: int = 8) -> FeatureImputationNetwork:
    torch.manual_seed(0)
    return FeatureImputationNetwork(width, width, width, config)


@pytest.mark.parametrize("config", SIZES)
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_imputed_features_are_unit_vectors_of_the_same_width(config, rows):
    found = make(config)(torch.randn(rows, 8)).feature
    assert found.shape == (rows, 8)
    assert torch.allclose(found.norm(dim=1), torch.ones(rows), atol=1e-5)


@pytest.mark.parametrize("config", SIZES)
def test_rows_do_not_couple(config):
    imputer = make(config)
    source = torch.randn(5, 8)
    together = imputer(source).feature
    alone = [imputer(row[None]).feature for row in source]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


@pytest.mark.parametrize("config", SIZES)
def test_the_source_is_used_and_every_parameter_learns(config):
    """Opacus refuses a step in which a parameter gets no gradient; a zero row gives finite ones."""
    imputer = make(config)
    source = torch.randn(4, 8)
    source[3] = 0
    found = imputer(source).feature
    assert not torch.allclose(found[0], found[1], atol=1e-4)
    (found * torch.randn(4, 8)).sum().backward()
    for name, p in imputer.named_parameters():
        assert torch.isfinite(p.grad).all(), name
        # A shift of all keys by one vector moves every softmax score alike, so it cancels; and
        # attention to a single token has nothing to choose, whatever the query is.
        idle = "key" in name or "query" in name or (config.tokens == 1 and "norm_cross" in name)
        assert idle or p.grad.any(), name


def test_paper_scale_can_be_built():
    """The published size (d 256, 6 layers, 4 heads, feed-forward 1024) is a configuration."""
    imputer = make(FinConfig(preset="paper"), width=256)
    assert imputer(torch.randn(1, 256)).feature.shape == (1, 256)
    decoder = sum(p.numel() for p in imputer.decoder.layers.parameters())
    assert decoder == 6 * (8 * (256 * 256 + 256) + 2 * 256 * 1024 + 1024 + 256 + 3 * 2 * 256)


def test_attention_equals_torchs_own():
    """Attention made of plain linear layers is scaled dot-product attention, mask included."""
    torch.manual_seed(0)
    ours = Attention(8, 2)
    theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    parts = (ours.query, ours.key, ours.value)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
        theirs.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    target, source = torch.randn(3, 4, 8), torch.randn(3, 5, 8)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False], [False, True] * 2 + [True]])
    wanted, _ = theirs(target, source, source, key_padding_mask=~mask)
    assert torch.allclose(ours(target, source, mask), wanted, atol=1e-5)
    wanted, _ = theirs(target, source, source)
    assert torch.allclose(ours(target, source), wanted, atol=1e-5)


# P-FIN


def test_beta_nll_is_the_weighted_gaussian_likelihood():
    """Against torch's own Gaussian likelihood, weighted by the square root of the variance."""
    torch.manual_seed(0)
    mean, target = torch.randn(5, 7), torch.randn(5, 7)
    variance = torch.rand(5, 7) + 0.1
    each = torch.nn.functional.gaussian_nll_loss(mean, target, variance, reduction="none")
    assert torch.allclose(
        beta_nll(mean, variance, target), (variance.sqrt() * each).mean(dim=1), atol=1e-6
    )


def test_the_weight_of_beta_nll_has_no_gradient():
    variance = torch.tensor([[2.0]], requires_grad=True)
    loss = beta_nll(torch.zeros(1, 1), variance, torch.ones(1, 1)).sum()
    gradient = torch.autograd.grad(loss, variance)[0]
    # d/dv of (log v + 1/v) / 2 at 2, times the fixed weight sqrt(2)
    assert float(gradient) == pytest.approx(2**0.5 * 0.5 * (1 / 2 - 1 / 4))


def test_the_gate_closes_where_the_imputer_is_unsure():
    """sigmoid(-log v) = 1 / (1 + v): the paper's gate."""
    torch.manual_seed(0)
    imputer = ProbabilisticFin(8, 8, width=8, heads=2, layers=1, hidden=8)
    said = imputer(torch.randn(4, 8))
    gate = torch.sigmoid(-said.variance.log())
    assert torch.allclose(said.feature, said.mean * gate, atol=1e-6)
    with torch.no_grad():
        imputer.log_variance.bias += 100
    unsure = imputer(torch.randn(4, 8))
    assert (unsure.variance > 19).all()
    assert (unsure.feature.norm(dim=1) < 0.06 * unsure.mean.norm(dim=1)).all()


def test_the_variance_learns_how_wrong_the_mean_is():
    """On noise of known size the stated variance comes near it: uncertainty means something."""
    torch.manual_seed(0)
    imputer = ProbabilisticFin(8, 8, width=8, heads=2, layers=1, hidden=16)
    optimizer = torch.optim.Adam(imputer.parameters(), lr=0.01)
    for _ in range(400):
        source = torch.randn(256, 8)
        noise = torch.where(source[:, :1] > 0, 1.5, 0.3) * torch.randn(256, 8)
        said = imputer(source)
        loss = imputer.loss(said, noise / 8**0.5).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    source = torch.randn(2000, 8)
    variance = imputer(source).variance.mean(dim=1)
    loud, quiet = variance[source[:, 0] > 0.5].mean(), variance[source[:, 0] < -0.5].mean()
    assert 1.5**2 / 1.6 < loud < 1.5**2 * 1.6
    assert 0.3**2 / 1.6 < quiet < 0.3**2 * 1.6


# The cheap ones


def test_the_mean_imputer_settles_at_the_mean():
    target = torch.randn(50, 8)
    imputer = MeanImputer(8)
    with torch.no_grad():
        imputer.value.weight[:, 0] = target.mean(dim=0) * 8**0.5
    loss = imputer.loss(imputer(torch.randn(50, 3)), target).sum()
    assert torch.autograd.grad(loss, imputer.value.weight)[0].abs().max() < 1e-4


def test_the_linear_imputer_is_an_affine_map_of_unit_norm():
    torch.manual_seed(0)
    imputer, source = LinearImputer(5, 8), torch.randn(4, 5)
    wanted = source @ imputer.map.weight.T + imputer.map.bias
    wanted = wanted / wanted.norm(dim=1, keepdim=True)
    assert torch.allclose(imputer(source).feature, wanted, atol=1e-6)


@pytest.mark.parametrize(
    "imputer",
    [MeanImputer(6), LinearImputer(4, 6), MlpImputer(4, 6, 5), PrototypeImputer(4, 6, 3)],
    ids=lambda i: type(i).__name__,
)
def test_cheap_imputers_do_not_couple_rows(imputer):
    source = torch.randn(5, 4)
    alone = torch.cat([imputer(row[None]).feature for row in source])
    assert torch.allclose(imputer(source).feature, alone, atol=1e-6)
    assert alone.shape == (5, 6)


# Any to any


def make_any() -> AnyToAnyFin:
    torch.manual_seed(0)
    config = FinConfig(layers=1, heads=2, feedforward=8, tokens=2)
    return AnyToAnyFin({"a": 4, "b": 6, "c": 8}, 8, config)


def test_any_to_any_never_reads_the_target_or_what_is_absent():
    imputer, random = make_any(), torch.Generator().manual_seed(1)
    features = {m: torch.randn(3, w, generator=random) for m, w in (("a", 4), ("b", 6), ("c", 8))}
    present = {
        "a": torch.tensor([True, True, False]),
        "b": torch.tensor([True, False, True]),
        "c": torch.tensor([True, True, True]),
    }
    before = imputer(features, present)
    assert {m: e.feature.shape for m, e in before.items()} == {
        "a": (3, 4),
        "b": (3, 6),
        "c": (3, 8),
    }
    for changed in features:
        moved = imputer({**features, changed: features[changed] + 1}, present)
        for target in features:
            for row in range(3):
                read = changed != target and bool(present[changed][row])
                same = torch.allclose(
                    before[target].feature[row], moved[target].feature[row], atol=1e-6
                )
                assert same != read, (changed, target, row)
