"""P-FIN: an imputer that says how sure it is (arXiv 2604.12970, section 3).

A small transformer encoder reads a query token and the source feature, and two heads give the mean
and the variance of every entry of the target. The mean is trained with the beta-weighted Gaussian
likelihood (Seitzer et al. 2022, arXiv 2203.09168, eq. 7) and multiplied by the gate
``sigmoid(-log variance) = 1 / (1 + variance)``, which hides uncertain entries from the head.

The paper states variances of unit vectors of 256 entries, whose size is about 1/256, so that its
gate hardly closes. Here mean and variance are those of the feature times the square root of its
width, where an entry's own variance is about 1: a gate of 1/2 then means "as good as a guess".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from privfin.models.attention import Attention, FeedForward
from privfin.models.imputers.base import Estimate, PairImputer, scaled

#: Weight of the stop-gradient variance in the likelihood (the paper's value).
BETA = 0.5
#: Bounds of the log variance: from almost certain to much worse than a guess.
_LOG_VARIANCE = (-6.0, 3.0)


class ProbabilisticFin(PairImputer):
    """Mean and variance of the target's feature, gated."""

    def __init__(
        self, source_width: int, target_width: int, width: int, heads: int, layers: int, hidden: int
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(source_width, width)
        self.norm = nn.LayerNorm(width)
        self.query = nn.Embedding(1, width)
        self.layers = nn.ModuleList(_EncoderLayer(width, heads, hidden) for _ in range(layers))
        self.norm_out = nn.LayerNorm(width)
        self.mean = nn.Linear(width, target_width)
        self.log_variance = nn.Linear(width, target_width)

    def forward(self, source: Tensor) -> Estimate:
        """See :class:`PairImputer`."""
        token = torch.nn.functional.gelu(self.norm(self.embed(source)))
        first = torch.zeros(len(source), 1, dtype=torch.long, device=source.device)
        x = torch.cat([self.query(first), token[:, None]], dim=1)
        for layer in self.layers:
            x = layer(x)
        answer = self.norm_out(x[:, 0])
        low, high = _LOG_VARIANCE
        # A smooth bound: a hard one would leave parameters without a gradient.
        squashed = torch.sigmoid(self.log_variance(answer))
        variance = torch.exp(low + (high - low) * squashed)
        mean = self.mean(answer) / math.sqrt(self.mean.out_features)
        return Estimate(mean / (1.0 + variance), mean, variance)

    def loss(self, estimate: Estimate, target: Tensor) -> Tensor:
        """(n,) beta-NLL, averaged over the entries of the scaled feature."""
        if estimate.variance is None:
            raise TypeError("a P-FIN estimate has a variance")
        return beta_nll(scaled(estimate.mean), estimate.variance, scaled(target))


def beta_nll(mean: Tensor, variance: Tensor, target: Tensor) -> Tensor:
    """``mean over entries of sg(v^beta) * (log v + (t - m)^2 / v) / 2``, (n,) from (n, d)."""
    likelihood = 0.5 * (variance.log() + (target - mean).square() / variance)
    return (variance.detach() ** BETA * likelihood).mean(dim=1)


class _EncoderLayer(nn.Module):
    """Pre-norm transformer encoder layer."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_ff = nn.LayerNorm(width)
        self.feedforward = FeedForward(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        own = self.norm_attention(x)
        x = x + self.attention(own, own)
        out: Tensor = x + self.feedforward(self.norm_ff(x))
        return out
