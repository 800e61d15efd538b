"""Encoders: unit vectors of one record each, and gradients that stay finite on empty rows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from privfin.config import ModalityConfig
from privfin.models.encoders import make_encoder
from privfin.models.frontends import WORD_BUCKETS
from privfin.models.scattering import scattering_width

WIDTH = 8
CASES = {
    "scattering": (ModalityConfig(encoder="scattering", kind="image"), (scattering_width(1),)),
    "scattering-2": (
        ModalityConfig(encoder="scattering", kind="image", order=2),
        (scattering_width(2),),
    ),
    "hashed-ngrams": (ModalityConfig(encoder="hashed-ngrams", kind="text", features=32), (32,)),
    "cnn": (ModalityConfig(encoder="cnn", kind="image"), (1, 16, 16)),
    "transformer": (ModalityConfig(encoder="transformer", kind="text", length=6), (6,)),
    "values": (
        ModalityConfig(encoder="values", kind="tabular", ranges={"a": (0, 1), "b": (0, 2)}),
        (4,),
    ),
}
EVERY = pytest.mark.parametrize("name", CASES)


def make(name: str, rows: int = 5) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    modality, shape = CASES[name]
    inputs = torch.randn(rows, *shape)
    if name == "transformer":
        inputs = torch.randint(1, WORD_BUCKETS, (rows, *shape)).float()
        inputs[1, 3:] = 0  # a short text
    return make_encoder(modality, WIDTH), inputs


@EVERY
def test_features_are_unit_vectors(name):
    """Features of every modality weigh alike in the head, present or imputed."""
    encoder, inputs = make(name)
    found = encoder(inputs)
    assert found.shape == (5, WIDTH)
    assert torch.allclose(found.norm(dim=1), torch.ones(5), atol=1e-5)
    assert not torch.allclose(found[0], found[1], atol=1e-3)


@EVERY
def test_zero_rows_give_finite_features_and_gradients(name):
    """Rows without the modality go through the encoder too: they must not poison anything."""
    encoder, inputs = make(name)
    inputs[2:] = 0
    found = encoder(inputs)
    assert torch.isfinite(found).all()
    mask = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0])[:, None]
    (found * mask).sum().backward()
    for p in encoder.parameters():
        assert p.grad is not None
        assert torch.isfinite(p.grad).all()
    with_zero_rows = [p.grad.clone() for p in encoder.parameters()]
    encoder.zero_grad()
    encoder(inputs[:2]).sum().backward()
    for p, grad in zip(encoder.parameters(), with_zero_rows, strict=True):
        assert torch.allclose(p.grad, grad, atol=1e-5)


@EVERY
def test_a_batch_of_zero_rows_only_has_finite_gradients(name):
    encoder, inputs = make(name)
    encoder(torch.zeros_like(inputs)).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters())


@EVERY
def test_rows_do_not_couple(name):
    """A record's feature is a function of that record: what BatchNorm would break."""
    encoder, inputs = make(name)
    encoder.train()
    together = encoder(inputs)
    alone = torch.cat([encoder(row[None]) for row in inputs])
    assert torch.allclose(together, alone, atol=1e-5)
    changed = inputs.clone()
    changed[1:] = inputs[1:].flip(0)
    assert torch.allclose(encoder(changed)[0], together[0], atol=1e-5)


@EVERY
def test_training_and_evaluation_agree(name):
    """No dropout and no running statistics: nothing about patients is kept in buffers."""
    encoder, inputs = make(name)
    assert list(encoder.buffers()) == []
    assert torch.equal(encoder.train()(inputs), encoder.eval()(inputs))


def test_padding_of_a_text_is_ignored():
    """Only the words that are there count, whatever the configured length."""
    encoder, _ = make("transformer")
    short = torch.tensor([[5.0, 9.0, 0.0, 0.0, 0.0, 0.0]])
    with torch.no_grad():
        before = encoder(short)
        encoder.words.weight[0] += 10.0
        encoder.places.weight[2:] += 10.0
        assert torch.allclose(encoder(short), before, atol=1e-5)
        assert torch.allclose(encoder(short[:, :2]), before, atol=1e-5)
