"""Pictures whose gradient (or whose features) are those that were seen: inversion by optimisation.

Geiping et al. 2020, "Inverting Gradients" (arXiv:2003.14053), equation 4: the cosine distance of
gradients plus total variation, minimised by Adam on the signs of the picture's gradient, with a
step size that falls at 3/8, 5/8 and 7/8 of the way, from several random starts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

#: From pictures (n, 1, height, width) to one number that is 0 where they explain what was seen.
Distance = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Search:
    """How the optimisation runs.

    Attributes:
        steps: of Adam, from each start.
        rate: its step size at first, in units of the picture's values.
        smoothness: what total variation weighs against the distance.
        restarts: how many starts; the one that ends with the smallest objective counts.
        seed: of the starts.
        signed: Adam on signs, as published; False uses the gradients themselves.
        low, high: the range of a picture's values.
    """

    steps: int = 300
    rate: float = 0.1
    smoothness: float = 0.01
    restarts: int = 2
    seed: int = 0
    signed: bool = True
    low: float = -3.0
    high: float = 3.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1:
            raise ValueError("a search needs at least one step and one start")
        if not (self.rate > 0 and self.smoothness >= 0 and self.low < self.high):
            raise ValueError("rate > 0, smoothness >= 0 and low < high are needed")


@dataclass(frozen=True)
class Found:
    """The best pictures of a search.

    Attributes:
        pictures: (n, 1, height, width).
        objective: distance plus weighted total variation, of the start that was chosen.
    """

    pictures: Tensor = field(repr=False)
    objective: float


def total_variation(pictures: Tensor) -> Tensor:
    """Mean absolute difference of neighbours in (n, 1, height, width), down plus across."""
    down = (pictures[..., 1:, :] - pictures[..., :-1, :]).abs().mean()
    across = (pictures[..., :, 1:] - pictures[..., :, :-1]).abs().mean()
    return down + across


def cosine_distance(seen: Sequence[Tensor], made: Sequence[Tensor]) -> Tensor:
    """One minus the cosine of two lists of tensors, each taken as one long vector; in [0, 2].

    A zero vector is at distance 1 from everything.
    """
    dot = torch.stack([(a * b).sum() for a, b in zip(seen, made, strict=True)]).sum()
    norms = [torch.stack([a.square().sum() for a in side]).sum() for side in (seen, made)]
    # A floor that no real gradient reaches, so that a zero one has a derivative.
    return 1 - dot / (norms[0] * norms[1]).clamp(min=1e-24).sqrt()


def gradient_distance(
    loss: Distance, parameters: Sequence[Tensor], gradient: Sequence[Tensor]
) -> Distance:
    """How far the gradient that pictures would cause is from the one that was seen.

    Args:
        loss: the training loss of pictures, differentiable twice.
        parameters: those whose gradient was seen.
        gradient: what was seen, one tensor a parameter, times any positive factor.
    """
    wanted = [g.detach() for g in gradient]

    def distance(pictures: Tensor) -> Tensor:
        made = torch.autograd.grad(
            loss(pictures), list(parameters), create_graph=True, materialize_grads=True
        )
        return cosine_distance(wanted, made)

    return distance


def feature_distance(encode: Callable[[Tensor], Tensor], features: Tensor) -> Distance:
    """How far the fixed features of pictures are from ``features`` (n, width), mean over rows."""
    wanted = features.detach()

    def distance(pictures: Tensor) -> Tensor:
        return 1 - torch.nn.functional.cosine_similarity(encode(pictures), wanted, dim=1).mean()

    return distance


def nothing_seen(pictures: Tensor) -> Tensor:
    """A distance that knows nothing: the search is then led by total variation alone."""
    return pictures.sum() * 0.0


def find_pictures(
    distance: Distance,
    shape: tuple[int, int, int, int],
    search: Search,
    *,
    start: Tensor | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Found:
    """Pictures of the smallest objective; equal arguments find equal pictures.

    Args:
        distance: what ties them to what was seen.
        shape: (n, 1, height, width).
        search: how to look.
        start: pictures of this shape that the first start is taken from (a public mean picture,
            say); the other starts, or all without it, are standard normal.
        progress: told of steps done and steps in all.
    """
    best: Found | None = None
    total = search.steps * search.restarts
    for attempt in range(search.restarts):
        generator = torch.Generator().manual_seed(search.seed * 1009 + attempt)
        drawn = torch.randn(shape, generator=generator)
        first = drawn if start is None or attempt else start.detach().expand(shape).clone()
        pictures = first.clamp(search.low, search.high).requires_grad_()
        adam = torch.optim.Adam([pictures], lr=search.rate)
        falls = [search.steps * eighths // 8 for eighths in (3, 5, 7)]
        pace = torch.optim.lr_scheduler.MultiStepLR(adam, falls, gamma=0.1)
        for step in range(search.steps):
            objective = distance(pictures) + search.smoothness * total_variation(pictures)
            (slope,) = torch.autograd.grad(objective, [pictures])
            pictures.grad = slope.sign() if search.signed else slope
            adam.step()
            pace.step()
            with torch.no_grad():
                pictures.clamp_(search.low, search.high)
            progress(attempt * search.steps + step + 1, total)
        last = pictures.detach()
        ended = float((distance(pictures) + search.smoothness * total_variation(last)).detach())
        if best is None or ended < best.objective:
            best = Found(last, ended)
    assert best is not None  # noqa: S101 - there is at least one start
    return best
