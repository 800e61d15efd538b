"""A linear layer's gradient gives its input away: exactly, and as well as noise lets it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from attacks.reconstruction.linear import inferred_labels, linear_input


def gradients(seed: int, records: int = 1, inputs: int = 20) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(seed)
    layer, x = nn.Linear(inputs, 6), torch.randn(records, inputs)
    y = (torch.rand(records, 6) < 0.5).float()
    loss = nn.functional.binary_cross_entropy_with_logits(layer(x), y)
    loss.backward()
    return x, y, layer.weight.grad, layer.bias.grad


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.floats(1e-3, 1e3))
def test_exact_for_one_record_whatever_the_factor(seed: int, factor: float) -> None:
    x, _, weight, bias = gradients(seed)
    found = linear_input(weight * factor, bias * factor)
    assert torch.allclose(found.value, x[0], atol=1e-4)
    assert found.share == pytest.approx(1, abs=1e-6)
    # The textbook's quotient says the same.
    assert torch.allclose(weight[2] / bias[2], x[0], rtol=1e-3, atol=1e-4)


def test_without_a_bias_the_direction_is_known_up_to_its_sign() -> None:
    x, _, weight, _ = gradients(3)
    found = linear_input(weight)
    cosine = float(found.direction @ x[0] / x[0].norm())
    assert abs(cosine) == pytest.approx(1, abs=1e-5)
    assert math.isnan(found.scale)
    with pytest.raises(ValueError, match="direction"):
        _ = found.value


def test_several_records_share_the_gradient() -> None:
    _, _, weight, bias = gradients(4, records=8)
    assert linear_input(weight, bias).share < 0.9


def test_the_singular_vector_bears_noise_better_than_the_quotient() -> None:
    quotient, least_squares = 0.0, 0.0
    for seed in range(20):
        x, _, weight, bias = gradients(seed)
        std = 0.5 * weight.norm() / math.sqrt(weight.numel())
        noisy_weight = weight + std * torch.randn_like(weight)
        noisy_bias = bias + std * torch.randn_like(bias)
        for row in range(len(bias)):
            one = noisy_weight[row] / noisy_bias[row]
            quotient += float(torch.cosine_similarity(one, x[0], dim=0)) / (20 * len(bias))
        found = linear_input(noisy_weight, noisy_bias).direction
        least_squares += float(torch.cosine_similarity(found, x[0], dim=0)) / 20
    assert least_squares > 0.9
    assert least_squares > quotient + 0.05


def test_a_zero_gradient_says_nothing() -> None:
    found = linear_input(torch.zeros(3, 5), torch.zeros(3))
    assert not found.direction.any()
    assert found.share == 0


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(0, 5))
def test_labels_are_the_signs_of_the_bias_gradient(seed: int, unknown: int) -> None:
    torch.manual_seed(seed)
    logits, y = torch.randn(6, requires_grad=True), (torch.rand(6) < 0.5).float()
    each = nn.functional.binary_cross_entropy_with_logits(logits, y, reduction="none")
    known = torch.ones(6)
    known[:unknown] = 0
    (each * known).sum().backward()
    found = inferred_labels(logits.grad * 0.37)
    assert torch.isnan(found[:unknown]).all()
    assert torch.equal(found[unknown:], y[unknown:])


@pytest.mark.parametrize(
    ("weight", "bias", "said"),
    [
        (torch.zeros(3), None, "two dimensions"),
        (torch.zeros(3, 2), torch.zeros(2), "one value for each"),
        (torch.full((3, 2), math.inf), None, "finite"),
    ],
)
def test_refused(weight: torch.Tensor, bias: torch.Tensor | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        linear_input(weight, bias)
