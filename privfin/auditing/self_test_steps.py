"""The white-box audit of one real DP-SGD step: patients alike, and a canary that is their opposite.

Every step of the scene starts from the same parameters and every patient takes part, the canary by
a fair coin. The canary has the others' features and the opposite labels, at a point where the
model is undecided: its gradient is exactly opposite to theirs, and far longer than C. So a divisor
that follows the realised number of patients shows as much as a canary that is clipped too little.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from attacks.limits import BoolArray, Bound, FloatArray
from attacks.steps import step_bound
from privfin.models.multimodal import masked_bce
from privfin.privacy.dpsgd import DpSgd, DpSgdSettings
from privfin.randomness import RandomStream

DELTA = 1e-5
SIGMA = 1.0
CLIP_NORM = 1.0
OTHERS = 12
_WIDTH, _HIDDEN, _LABELS = 8, 6, 3
_SCALE = 20.0


@dataclass(frozen=True)
class StepScores:
    """What an audit of single steps saw.

    Attributes:
        scores: (steps,) projections on the canary's gradient, in units of the noise claimed:
            coin / sigma + N(0, 1) where the step keeps its promise.
        coins: (steps,) whether the canary took part.
        gradient_norm: of the canary, before clipping.
    """

    scores: FloatArray
    coins: BoolArray
    gradient_norm: float

    def bound(self, confidence: float) -> Bound:
        """The lower bound on the step's μ and ε; the threshold is chosen on half of the steps."""
        return step_bound(self.scores, self.coins, delta=DELTA, confidence=confidence)


def observe_steps(
    kind: type[DpSgd], steps: int, seed: int, *, done: Callable[[], None] = lambda: None
) -> StepScores:
    """Run steps of this class and score each by its update.

    Args:
        kind: ``DpSgd`` itself, or a broken one.
        steps: how many.
        seed: of the model, the patients, the coins and the noise. No real patient is involved.
        done: called after each step.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    model, features, labels = _scene(rng)
    gradient = _gradient(model, features[-1:], labels[-1:])
    norm = float(gradient.norm())
    direction = gradient / norm
    # What the others add to a clipped sum, which this auditor knows.
    others = -OTHERS * CLIP_NORM
    # The step reads this list anew each time: the coin puts the canary's record in or takes it out.
    present: list[list[int]] = [[record] for record in range(OTHERS)]

    def record_loss(records: npt.NDArray[np.int64]) -> Tensor:
        rows = torch.from_numpy(records)
        return masked_bce(model(features[rows]), labels[rows])

    settings = DpSgdSettings(CLIP_NORM, SIGMA, 1.0, OTHERS + 1, physical_batch=OTHERS + 1)
    sgd = kind(
        model,
        record_loss,
        present,
        settings,
        lambda trained: torch.optim.SGD(trained, lr=1.0),
        noise=RandomStream.reproducible(seed, kind.__name__, "noise"),
        sampling=RandomStream.reproducible(seed, kind.__name__, "sampling"),
    )
    start = [p.detach().clone() for p in model.parameters()]
    flat = torch.cat([p.flatten() for p in start]).double()
    coins: BoolArray = rng.random(steps) < 0.5
    scores = np.empty(steps)
    try:
        for step, coin in enumerate(coins):
            del present[OTHERS:]
            if coin:
                present.append([OTHERS])
            sgd.step()
            after = torch.cat([p.detach().flatten() for p in model.parameters()]).double()
            seen = float(direction @ (flat - after)) * settings.batch_size
            scores[step] = (seen - others) / (SIGMA * CLIP_NORM)
            with torch.no_grad():
                for p, first in zip(model.parameters(), start, strict=True):
                    p.copy_(first)
            done()
    finally:
        sgd.close()
    return StepScores(scores, coins, norm)


def _scene(rng: np.random.Generator) -> tuple[nn.Module, Tensor, Tensor]:
    """A small network, undecided about its patients; the last row is the canary's."""
    head = nn.Linear(_HIDDEN, _LABELS)
    model = nn.Sequential(nn.Linear(_WIDTH, _HIDDEN), nn.LeakyReLU(), head)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.from_numpy(rng.normal(0.0, 1 / math.sqrt(p.shape[-1]), p.shape)))
        features = torch.from_numpy(rng.normal(0.0, _SCALE, _WIDTH)).float().expand(OTHERS + 1, -1)
        head.bias.copy_(head.bias - model(features[0]))
    labels = torch.zeros(OTHERS + 1, _LABELS)
    labels[-1] = 1.0
    return model, features.contiguous(), labels


def _gradient(model: nn.Module, features: Tensor, labels: Tensor) -> Tensor:
    loss = masked_bce(model(features), labels).sum()
    parts = torch.autograd.grad(loss, list(model.parameters()))
    return torch.cat([part.flatten() for part in parts]).double()
