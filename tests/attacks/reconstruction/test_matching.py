"""Inversion of a small convolutional network: it works on a plain gradient and not under noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attacks.reconstruction.matching import (
    Search,
    cosine_distance,
    feature_distance,
    find_pictures,
    gradient_distance,
    nothing_seen,
    total_variation,
)
from attacks.reconstruction.priors import mean_picture, nearest_pictures
from attacks.reconstruction.similarity import psnr

SIDE = 12
SEARCH = Search(steps=100, restarts=1, smoothness=0.003, low=-2, high=2)


def blobs(count: int, seed: int) -> Tensor:
    """Pictures of one soft blob each, about zero mean."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    centre = rng.uniform(2, SIDE - 3, (count, 2, 1, 1))
    width = rng.uniform(1.5, 3, (count, 1, 1))
    drawn = 2 * np.exp(-((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2) / (2 * width**2)) - 0.5
    return torch.from_numpy(drawn.astype(np.float32))[:, None]


class Network:
    """A strided convolution and a linear head, with one record's loss."""

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.module = nn.Sequential(
                nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.Sigmoid(), nn.Flatten(),
                nn.Linear(8 * (SIDE // 2) ** 2, 4),
            )  # fmt: skip
        self.parameters = list(self.module.parameters())

    def loss(self, pictures: Tensor) -> Tensor:
        labels = torch.tensor([[1.0, 0.0, 1.0, 0.0]]).expand(len(pictures), 4)
        return nn.functional.binary_cross_entropy_with_logits(self.module(pictures), labels)

    def gradient(self, pictures: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(self.loss(pictures), self.parameters))


def test_beats_the_prior_from_a_plain_gradient_and_not_from_a_noised_one() -> None:
    network, targets, public = Network(), blobs(3, 1), blobs(200, 2)
    prior = torch.from_numpy(mean_picture(public[:, 0]))
    noise = torch.Generator().manual_seed(5)
    gains: dict[str, list[float]] = {"plain": [], "noised": []}
    for target in targets:
        plain = network.gradient(target[None])
        norm = torch.sqrt(sum((g.square().sum() for g in plain), torch.zeros(())))
        noised = [g / norm + torch.randn(g.shape, generator=noise) for g in plain]
        for name, gradient in (("plain", plain), ("noised", noised)):
            distance = gradient_distance(network.loss, network.parameters, gradient)
            found = find_pictures(distance, (1, 1, SIDE, SIDE), SEARCH).pictures[0, 0]
            gain = psnr(target[0], found, 2.5) - psnr(target[0], prior, 2.5)
            gains[name].append(float(gain))
    assert min(gains["plain"]) > 3
    assert max(gains["noised"]) < 0


def test_equal_seeds_find_equal_pictures() -> None:
    network, target = Network(), blobs(1, 3)
    distance = gradient_distance(network.loss, network.parameters, network.gradient(target))
    search = Search(steps=5, restarts=2, seed=7)
    first = find_pictures(distance, (1, 1, SIDE, SIDE), search)
    torch.manual_seed(99)
    again = find_pictures(distance, (1, 1, SIDE, SIDE), search)
    other = find_pictures(distance, (1, 1, SIDE, SIDE), Search(steps=5, restarts=2, seed=8))
    assert torch.equal(first.pictures, again.pictures)
    assert not torch.equal(first.pictures, other.pictures)


def test_the_better_start_counts() -> None:
    network, target = Network(), blobs(1, 3)
    distance = gradient_distance(network.loss, network.parameters, network.gradient(target))
    one = find_pictures(distance, target.shape, Search(steps=20, restarts=1))
    three = find_pictures(distance, target.shape, Search(steps=20, restarts=3))
    assert three.objective <= one.objective


def test_the_gradient_of_parameters_is_left_alone() -> None:
    network, target = Network(), blobs(1, 3)
    distance = gradient_distance(network.loss, network.parameters, network.gradient(target))
    find_pictures(distance, target.shape, Search(steps=2, restarts=1))
    assert all(p.grad is None for p in network.parameters)


def test_distance_is_zero_at_the_truth_for_any_factor() -> None:
    network, target = Network(), blobs(2, 4)
    gradient = [3.7 * g for g in network.gradient(target)]
    distance = gradient_distance(network.loss, network.parameters, gradient)
    assert distance(target).item() == pytest.approx(0, abs=1e-6)
    assert distance(-target).item() > 1e-3


def test_cosine_distance_is_that_of_one_long_vector() -> None:
    torch.manual_seed(0)
    a, b = [torch.randn(3, 2), torch.randn(4)], [torch.randn(3, 2), torch.randn(4)]
    long = [torch.cat([t.reshape(-1) for t in side]) for side in (a, b)]
    expected = 1 - torch.cosine_similarity(long[0], long[1], dim=0)
    assert float(cosine_distance(a, b)) == pytest.approx(float(expected), abs=1e-6)


def test_total_variation_by_a_loop() -> None:
    x = blobs(1, 9)
    down = [abs(float(x[0, 0, i + 1, j] - x[0, 0, i, j])) for i in range(11) for j in range(12)]
    across = [abs(float(x[0, 0, i, j + 1] - x[0, 0, i, j])) for i in range(12) for j in range(11)]
    assert float(total_variation(x)) == pytest.approx(np.mean(down) + np.mean(across), rel=1e-5)


def test_features_of_a_picture_lead_back_to_it() -> None:
    torch.manual_seed(0)
    mix = torch.randn(SIDE**2, 2 * SIDE**2)
    target = blobs(1, 6)

    def encode(pictures: Tensor) -> Tensor:
        return (pictures.flatten(1) @ mix).abs()

    distance = feature_distance(encode, encode(target))
    assert distance(target).item() == pytest.approx(0, abs=1e-6)
    prior = blobs(200, 2).mean(dim=0, keepdim=True)
    found = find_pictures(distance, target.shape, SEARCH, start=prior)
    assert psnr(target[0, 0], found.pictures[0, 0], 2.5) > psnr(target[0, 0], prior[0, 0], 2.5) + 5


def test_without_a_gradient_the_picture_becomes_flat() -> None:
    found = find_pictures(nothing_seen, (1, 1, SIDE, SIDE), Search(steps=400, restarts=1, rate=0.1))
    assert float(total_variation(found.pictures)) < 0.1


def test_nearest_public_picture_by_a_loop() -> None:
    public, wanted = blobs(30, 1)[:, 0].numpy(), blobs(5, 2)[:, 0].numpy()
    by_loop = [int(np.argmin([((p - w) ** 2).sum() for p in public])) for w in wanted]
    assert nearest_pictures(public, wanted).tolist() == by_loop


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"rate": 0.0}, {"low": 1.0, "high": 1.0}])
def test_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="need"):
        Search(**wrong)
