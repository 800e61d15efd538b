"""Attention and feed-forward blocks made of nn.Linear, which Opacus can take per-sample."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017, eq. 1) without dropout."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, target: Tensor, source: Tensor, mask: Tensor | None = None) -> Tensor:
        """Read ``source`` (n, s, d) for every token of ``target`` (n, t, d).

        ``mask`` (n, s) is True where a source token counts.
        """
        q, k = self._split(self.query(target)), self._split(self.key(source))
        v = self._split(self.value(source))
        weights = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if mask is not None:
            weights = weights.masked_fill(~mask[:, None, None, :], -1e9)
        mixed = torch.softmax(weights, dim=-1) @ v
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        parts: Tensor = x.unflatten(-1, (self.heads, -1))  # type: ignore[no-untyped-call]
        return parts.transpose(1, 2)


class FeedForward(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) in, (..., d) out."""
        out: Tensor = self.down(torch.nn.functional.gelu(self.up(x)))
        return out
