"""Imputers: the feature of a missing modality from the feature of one that is there."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from privfin.config import FinConfig
from privfin.models.attention import Attention, FeedForward


class FeatureImputationNetwork(nn.Module):
    """FIN (arXiv 2505.20232): a transformer decoder from one modality's feature to another's.

    The source feature is spread over a few memory tokens by a linear map, learned query tokens
    read them through decoder layers, and the mean of the queries is projected and normalised.
    The paper's layers (6 layers, 4 heads, d 256, feed-forward 1024) are available through
    ``FinConfig``; what its decoder uses as memory is not public, so that part is our choice.
    """

    def __init__(self, width: int, config: FinConfig) -> None:
        super().__init__()
        self.tokens = config.tokens
        self.spread = nn.Linear(width, config.tokens * width)
        self.queries = nn.Embedding(config.tokens, width)
        self.layers = nn.ModuleList(
            _DecoderLayer(width, config.heads, config.feedforward) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, width)

    def forward(self, source: Tensor) -> Tensor:
        """(n, width) source features to (n, width) imputed features of unit norm."""
        memory = self.spread(source).unflatten(1, (self.tokens, -1))
        index = torch.arange(self.tokens, device=source.device).repeat(len(source), 1)
        x = self.queries(index)
        for layer in self.layers:
            x = layer(x, memory)
        return torch.nn.functional.normalize(self.project(self.norm(x).mean(dim=1)), dim=1)


class _DecoderLayer(nn.Module):
    """Pre-norm decoder layer: self-attention, attention to the memory, feed-forward."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm_self = nn.LayerNorm(width)
        self.self_attention = Attention(width, heads)
        self.norm_cross = nn.LayerNorm(width)
        self.cross_attention = Attention(width, heads)
        self.norm_ff = nn.LayerNorm(width)
        self.feedforward = FeedForward(width, hidden)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        own = self.norm_self(x)
        x = x + self.self_attention(own, own)
        x = x + self.cross_attention(self.norm_cross(x), memory)
        out: Tensor = x + self.feedforward(self.norm_ff(x))
        return out
