"""FIN: a transformer decoder from the features that are there to the one that is missing."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from privfin.config import FinConfig
from privfin.models.attention import Attention, FeedForward
from privfin.models.imputers.base import Estimate, PairImputer, unit


class FeatureImputationNetwork(PairImputer):
    """FIN (arXiv 2505.20232): a transformer decoder from one modality's feature to another's.

    The source feature is spread over a few memory tokens by a linear map, learned query tokens
    read them through decoder layers, and the mean of the queries is projected and normalised.
    The paper's layers (6 layers, 4 heads, d 256, feed-forward 1024) are ``fin.preset = "paper"``
    with ``model.width = 256``; what its decoder uses as memory is not public, so that part is our
    choice.
    """

    def __init__(self, source_width: int, target_width: int, width: int, config: FinConfig) -> None:
        super().__init__()
        self.tokens = config.tokens
        self.spread = nn.Linear(source_width, config.tokens * width)
        self.decoder = _Decoder(width, config)
        self.project = nn.Linear(width, target_width)

    def forward(self, source: Tensor) -> Estimate:
        """See :class:`PairImputer`; imputed features have unit norm."""
        memory = self.spread(source).unflatten(1, (self.tokens, -1))
        index = torch.arange(self.tokens, device=source.device).repeat(len(source), 1)
        return Estimate.plain(unit(self.project(self.decoder(index, memory))))


class AnyToAnyFin(nn.Module):
    """One FIN for all modalities: it reads whatever is there and writes what is asked for.

    The memory holds the tokens of every modality that is present (each spread by its own linear
    map, and marked by a learned embedding); the query tokens are those of the target.
    """

    def __init__(self, widths: Mapping[str, int], width: int, config: FinConfig) -> None:
        super().__init__()
        self.names = tuple(widths)
        self.tokens = config.tokens
        self.spread = nn.ModuleDict(
            {m: nn.Linear(w, config.tokens * width) for m, w in widths.items()}
        )
        self.marks = nn.Embedding(len(widths), width)
        self.decoder = _Decoder(width, config, targets=len(widths))
        self.project = nn.ModuleDict({m: nn.Linear(width, w) for m, w in widths.items()})

    def forward(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> dict[str, Estimate]:
        """An estimate of every modality from the others that are present.

        A row's own feature of the target is never read for it. Where no other modality is
        present the estimate means nothing and must be masked.
        """
        rows = len(next(iter(present.values())))
        memory, owner = self._memory(features, rows)
        found = {}
        for index, target in enumerate(self.names):
            there = torch.stack([present[m] & (m != target) for m in self.names], dim=1)
            ask = torch.arange(self.tokens).repeat(rows, 1) + index * self.tokens
            answer = self.decoder(ask, memory, there[:, owner])
            found[target] = Estimate.plain(unit(self.project[target](answer)))
        return found

    def _memory(self, features: Mapping[str, Tensor], rows: int) -> tuple[Tensor, Tensor]:
        """Tokens (n, modalities * tokens, width) and which modality each belongs to."""
        owner = torch.arange(len(self.names)).repeat_interleave(self.tokens)
        parts = [
            self.spread[m](features[m].detach()).unflatten(1, (self.tokens, -1)) for m in self.names
        ]
        return torch.cat(parts, dim=1) + self.marks(owner.repeat(rows, 1)), owner


class _Decoder(nn.Module):
    """Learned query tokens that read the memory; their mean comes out."""

    def __init__(self, width: int, config: FinConfig, targets: int = 1) -> None:
        super().__init__()
        self.queries = nn.Embedding(targets * config.tokens, width)
        self.layers = nn.ModuleList(
            _DecoderLayer(width, config.heads, config.feedforward) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, index: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        """Queries ``index`` (n, t) on ``memory`` (n, s, width) to (n, width)."""
        x = self.queries(index)
        for layer in self.layers:
            x = layer(x, memory, mask)
        out: Tensor = self.norm(x).mean(dim=1)
        return out


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

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        own = self.norm_self(x)
        x = x + self.self_attention(own, own)
        x = x + self.cross_attention(self.norm_cross(x), memory, mask)
        out: Tensor = x + self.feedforward(self.norm_ff(x))
        return out
