"""Stacked gradients are those of a plain loop over models and records, on both paths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attacks.shadows import ParameterPlaces, StackedGradients, stacked_outputs
from attacks.shadows.by_layer import LayerGradients, owners
from attacks.shadows.per_record import PerRecordGradients


class Words(nn.Module):
    """Embedding with repeated words, norms, positions, a layer used twice; one loss a row."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 6)
        self.norm = nn.LayerNorm(6)
        self.mix = nn.Linear(6, 6)
        self.dense = nn.Linear(3, 6, bias=False)
        self.head = nn.Linear(6, 1)
        self.register_buffer("shift", torch.zeros(1))

    def forward(self, rows: Mapping[str, Tensor]) -> Tensor:
        x = self.norm(self.words(rows["words"]))
        x = self.mix(torch.tanh(self.mix(x))).mean(dim=1) + self.dense(rows["dense"])
        missed = self.head(torch.relu(x))[:, 0] + self.shift - rows["target"]
        return 3.0 * missed.square()


class Pictures(nn.Module):
    """Convolution and group norm: layers that only the general path knows."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 1)
        )

    def forward(self, rows: Mapping[str, Tensor]) -> Tensor:
        return (self.layers(rows["image"])[:, 0] - rows["target"]).square()


def words(models: int, rows: int, seed: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {
        "words": torch.randint(5, (models, rows, 7), generator=g),
        "dense": torch.randn(models, rows, 3, generator=g),
        "target": torch.randn(models, rows, generator=g),
    }


def pictures(models: int, rows: int, seed: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {
        "image": torch.randn(models, rows, 1, 4, 4, generator=g),
        "target": torch.randn(models, rows, generator=g),
    }


def loop(
    module: nn.Module,
    trained: set[str],
    vectors: Tensor,
    rows: dict[str, Tensor],
    weights: Tensor,
    clip: float | None,
    copies: int,
) -> Tensor:
    """The definition, one model and one record at a time, with plain autograd."""
    places = ParameterPlaces(module)
    out = torch.zeros_like(vectors)
    parameters = dict(module.named_parameters())
    for at, vector in enumerate(vectors):
        with torch.no_grad():
            for place in places:
                parameters[place.name].copy_(vector[place.start : place.stop].view(place.shape))
        for record in range(weights.shape[1]):
            if not weights[at, record]:
                continue
            few = slice(record * copies, (record + 1) * copies)
            loss = module({n: x[at, few] for n, x in rows.items()}).mean()
            module.zero_grad()
            loss.backward()
            flat = torch.zeros(places.size)
            for place in places:
                if place.name in trained:
                    given = parameters[place.name].grad
                    assert given is not None
                    flat[place.start : place.stop] = given.flatten()
            factor = 1.0 if clip is None else min(1.0, clip / float(flat.norm() + 1e-6))
            out[at] += factor * flat
        if clip is None:
            out[at] /= max(1.0, float(weights[at].sum()))
    return out


CASES: dict[str, tuple[type[nn.Module], Callable[..., dict[str, Tensor]]]] = {
    "by layer": (Words, words),
    "general": (Pictures, pictures),
}


@settings(deadline=None, max_examples=25)
@given(
    name=st.sampled_from(sorted(CASES)),
    models=st.integers(1, 4),
    records=st.integers(1, 5),
    copies=st.integers(1, 3),
    clip=st.sampled_from([0.05, 1.0, 1e6]),
    at_once=st.integers(1, 40),
    seed=st.integers(0, 2**16),
)
def test_sums_and_means_are_those_of_a_loop(
    name: str, models: int, records: int, copies: int, clip: float, at_once: int, seed: int
) -> None:
    make, draw = CASES[name]
    torch.manual_seed(seed)
    module = make()
    every = [n for n, _ in module.named_parameters()]
    picks = np.random.default_rng(seed).random(len(every)) < 0.7
    trained = {n for n, picked in zip(every, picks, strict=True) if picked} or {every[0]}
    vectors = 0.5 * torch.randn(models, ParameterPlaces(module).size)
    rows = draw(models, records * copies, seed)
    weights = (torch.rand(models, records) < 0.7).float()
    stacked = StackedGradients(module, trained, rows_at_once=at_once)
    total = stacked.clipped_sum(vectors, rows, weights, clip, copies=copies)
    expected = loop(module, trained, vectors, rows, weights, clip, copies)
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(total, expected, rtol=2e-4, atol=2e-6 * scale)
    mean = stacked.mean(vectors, rows, weights, copies=copies)
    expected = loop(module, trained, vectors, rows, weights, None, copies)
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(mean, expected, rtol=2e-4, atol=2e-6 * scale)
    assert isinstance(stacked._path, LayerGradients if name == "by layer" else PerRecordGradients)


def test_no_clipped_sum_moves_by_more_than_the_norm_when_a_record_is_taken_out() -> None:
    torch.manual_seed(0)
    module = Words()
    vectors = torch.randn(2, ParameterPlaces(module).size)
    rows = words(2, 12, 1)
    stacked = StackedGradients(module, [n for n, _ in module.named_parameters()])
    weights = torch.ones(2, 6)
    whole = stacked.clipped_sum(vectors, rows, weights, 0.3, copies=2)
    for gone in range(6):
        fewer = weights.clone()
        fewer[:, gone] = 0.0
        moved = whole - stacked.clipped_sum(vectors, rows, fewer, 0.3, copies=2)
        assert bool((moved.norm(dim=1) <= 0.3 * (1 + 1e-4)).all())


def test_each_model_has_its_own_buffers() -> None:
    torch.manual_seed(0)
    module = Words()
    vectors = torch.randn(1, ParameterPlaces(module).size).repeat(3, 1)
    rows = {n: x.expand(3, *x.shape[1:]) for n, x in words(1, 4, 0).items()}
    stacked = StackedGradients(module, ["head.bias"])
    shift = {"shift": torch.tensor([[0.0], [0.0], [2.0]])}
    total = stacked.mean(vectors, rows, torch.ones(3, 4), buffers=shift)[:, -1]
    assert total[0] == total[1]
    # The loss is 3 missed^2: a shift of 2 moves the gradient of the bias by 12.
    assert float(total[2] - total[0]) == pytest.approx(12.0, rel=1e-4)
    answers = stacked_outputs(module, vectors, {n: x[0] for n, x in rows.items()}, buffers=shift)
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])


class Hidden(nn.Module):
    """Uses a layer's weight behind the layer's back, which hooks do not see."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(3, 3)

    def forward(self, rows: Mapping[str, Tensor]) -> Tensor:
        x = self.dense(rows["dense"])
        return (x @ self.dense.weight.t()).square().sum(dim=1)


def test_a_module_that_the_quick_path_gets_wrong_is_taken_by_the_general_one() -> None:
    torch.manual_seed(0)
    module = Hidden()
    trained = {"dense.weight", "dense.bias"}
    assert owners(module, trained) is not None
    vectors = torch.randn(2, ParameterPlaces(module).size)
    rows = {"dense": torch.randn(2, 3, 3)}
    stacked = StackedGradients(module, trained)
    total = stacked.clipped_sum(vectors, rows, torch.ones(2, 3), 0.5)
    assert isinstance(stacked._path, PerRecordGradients)
    expected = loop(module, trained, vectors, rows, torch.ones(2, 3), 0.5, 1)
    torch.testing.assert_close(total, expected, rtol=1e-4, atol=1e-6)


def test_a_module_that_couples_records_and_a_wrong_name_are_refused() -> None:
    with pytest.raises(ValueError, match="BatchNorm"):
        StackedGradients(nn.Sequential(nn.BatchNorm1d(3)), [])
    with pytest.raises(ValueError, match="no parameter"):
        StackedGradients(Words(), ["heads"])


@pytest.mark.parametrize("at_once", [1, 7, 10_000])
def test_outputs_are_those_of_each_model_alone(at_once: int) -> None:
    torch.manual_seed(0)
    module: Any = Words()
    places = ParameterPlaces(module)
    vectors = torch.randn(3, places.size)
    rows = {n: x[0] for n, x in words(1, 9, 4).items()}
    found = stacked_outputs(module, vectors, rows, cells_at_once=at_once)
    for vector, answers in zip(vectors, found, strict=True):
        with torch.no_grad():
            for place in places:
                parameter = module.get_parameter(place.name)
                parameter.copy_(vector[place.start : place.stop].view(place.shape))
            torch.testing.assert_close(answers, module(rows), rtol=1e-4, atol=1e-5)
