"""Inner products with updates equal those of gradients taken one record at a time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attacks.gradients import LossOfOne, alignments, cosines, record_gradients


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.LayerNorm(4), nn.Linear(4, 2))


@pytest.fixture
def records() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {"x": torch.randn(23, 5), "y": torch.randn(23, 2)}


def loss_of(model: nn.Module) -> LossOfOne:
    def loss(parameters: Mapping[str, Tensor], record: Mapping[str, Tensor]) -> Tensor:
        out: Tensor = torch.func.functional_call(model, dict(parameters), (record["x"],))
        return (out - record["y"]).square().sum()

    return loss


def one_by_one(model: nn.Module, records: dict[str, Tensor]) -> Tensor:
    rows = []
    for x, y in zip(records["x"], records["y"], strict=True):
        model.zero_grad()
        (model(x) - y).square().sum().backward()
        rows.append(torch.cat([p.grad.reshape(-1).clone() for p in model.parameters()]))  # type: ignore[union-attr]
    return torch.stack(rows)


@pytest.mark.parametrize("chunk", [1, 7, 23, 500])
def test_products_and_norms_are_those_of_explicit_gradients(
    model: nn.Module, records: dict[str, Tensor], chunk: int
) -> None:
    named = dict(model.named_parameters())
    explicit = one_by_one(model, records)
    assert torch.allclose(record_gradients(loss_of(model), named, records), explicit, atol=1e-5)
    updates = np.random.default_rng(0).standard_normal((3, explicit.shape[1]))
    products, norms = alignments(loss_of(model), named, records, updates, chunk=chunk)
    assert np.allclose(products, updates @ explicit.numpy().T, atol=1e-4)
    assert np.allclose(norms, explicit.norm(dim=1).numpy(), rtol=1e-5)


def test_products_are_directional_derivatives(model: nn.Module, records: dict[str, Tensor]) -> None:
    """Forward mode knows nothing of gradients, and gives the same."""
    named = {name: p.detach() for name, p in model.named_parameters()}
    update = np.random.default_rng(3).standard_normal((1, sum(p.numel() for p in named.values())))
    pieces = torch.split(torch.from_numpy(update[0]).float(), [p.numel() for p in named.values()])
    along = {n: v.view_as(p) for (n, p), v in zip(named.items(), pieces, strict=True)}
    of_all = torch.func.vmap(loss_of(model), in_dims=(None, 0))
    _, derivatives = torch.func.jvp(lambda p: of_all(p, records), (named,), (along,))
    products, _ = alignments(loss_of(model), named, records, update)
    assert np.allclose(products[0], derivatives.numpy(), atol=1e-4)


def test_what_no_update_moves_is_in_no_norm(model: nn.Module, records: dict[str, Tensor]) -> None:
    explicit = one_by_one(model, records)
    updates = np.ones((2, explicit.shape[1]))
    updates[:, 10:] = 0.0
    products, norms = alignments(loss_of(model), dict(model.named_parameters()), records, updates)
    assert np.allclose(norms, explicit[:, :10].norm(dim=1).numpy(), rtol=1e-5)
    found = cosines(products, norms, updates)
    assert (np.abs(found) <= 1 + 1e-6).all()
    assert not cosines(0 * products, 0 * norms, 0 * updates).any()


def test_updates_of_another_length_are_refused(
    model: nn.Module, records: dict[str, Tensor]
) -> None:
    named = dict(model.named_parameters())
    with pytest.raises(ValueError, match="must be of shape"):
        alignments(loss_of(model), named, records, np.ones((2, 3)))
    size = sum(p.numel() for p in named.values())
    with pytest.raises(ValueError, match="at least one record"):
        alignments(loss_of(model), named, records, np.ones((2, size)), chunk=0)
