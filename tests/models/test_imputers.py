"""The Feature Imputation Network: shapes, norms, and rows that do not couple."""

from __future__ import annotations

import pytest
import torch

from privfin.config import FinConfig
from privfin.models.attention import Attention
from privfin.models.imputers import FeatureImputationNetwork

SIZES = [
    FinConfig(layers=1, heads=2, feedforward=8, tokens=2),
    FinConfig(layers=3, heads=4, feedforward=16, tokens=1),
]


def make(config: FinConfig, width: int = 8) -> FeatureImputationNetwork:
    torch.manual_seed(0)
    return FeatureImputationNetwork(width, config)


@pytest.mark.parametrize("config", SIZES)
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_imputed_features_are_unit_vectors_of_the_same_width(config, rows):
    found = make(config)(torch.randn(rows, 8))
    assert found.shape == (rows, 8)
    assert torch.allclose(found.norm(dim=1), torch.ones(rows), atol=1e-5)


@pytest.mark.parametrize("config", SIZES)
def test_rows_do_not_couple(config):
    imputer = make(config)
    source = torch.randn(5, 8)
    together = imputer(source)
    assert torch.allclose(together, torch.cat([imputer(row[None]) for row in source]), atol=1e-5)


@pytest.mark.parametrize("config", SIZES)
def test_the_source_is_used_and_every_parameter_learns(config):
    """Opacus refuses a step in which a parameter gets no gradient; a zero row gives finite ones."""
    imputer = make(config)
    source = torch.randn(4, 8)
    source[3] = 0
    found = imputer(source)
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
    config = FinConfig(layers=6, heads=4, feedforward=1024)
    assert make(config, width=256)(torch.randn(1, 256)).shape == (1, 256)


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
