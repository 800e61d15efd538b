"""The fixed image front end: what it ignores, what it sees, and that records do not couple."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from privfin.models.scattering import raw_scattering, scattering_features, scattering_width

BOTH = pytest.mark.parametrize("features", [raw_scattering, scattering_features])
ORDERS = pytest.mark.parametrize(("order", "width"), [(1, 400), (2, 3472)])


def blobs(count: int, side: int, seed: int = 0) -> torch.Tensor:
    """Smooth random images: noise blurred to features of a few pixels."""
    noise = torch.randn(count, 1, side, side, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.avg_pool2d(noise, 3, stride=1, padding=1)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm(dim=1).max())


@ORDERS
@BOTH
def test_width_and_norm(features, order, width):
    """The numbers of the design, and unit norm: no record has a larger gradient by its scale."""
    found = features(blobs(3, 32), order)
    assert scattering_width(order) == width
    assert found.shape == (3, width)
    assert found.dtype == torch.float32
    assert torch.allclose(found.norm(dim=1), torch.ones(3), atol=1e-5)


@BOTH
@settings(max_examples=15, deadline=None, derandomize=True)
@given(side=st.integers(16, 64), order=st.sampled_from([1, 2]))
def test_every_image_size_works(features, side, order):
    found = features(blobs(2, side), order)
    assert found.shape == (2, scattering_width(order))
    assert torch.isfinite(found).all()
    assert torch.allclose(found.norm(dim=1), torch.ones(2), atol=1e-5)


@ORDERS
@BOTH
def test_a_record_does_not_depend_on_its_neighbours(features, order, width):
    """Features are fixed per record; statistics over a batch would let one patient touch another.
    Nor does cutting the batch change anything."""
    images = blobs(6, 20)
    together = features(images, order)
    alone = torch.cat([features(image[None], order) for image in images])
    in_pieces = features(images, order, rows=4)
    elsewhere = features(torch.cat([blobs(3, 20, seed=9) * 100, images]), order)[3:]
    for other in (alone, in_pieces, elsewhere):
        assert torch.allclose(together, other, atol=1e-5)
    assert features(images[:0], order).shape == (0, width)


@ORDERS
@BOTH
@pytest.mark.parametrize(("gain", "offset"), [(1.0, 5.0), (3.0, 0.0), (0.5, -2.0)])
def test_brightness_and_contrast_are_ignored(features, order, width, gain, offset):
    """Two devices with other exposure give the same features, so nothing need be fitted."""
    images = blobs(4, 32)
    same = distance(features(images, order), features(images * gain + offset, order))
    other = distance(features(images, order), features(blobs(4, 32, seed=1), order))
    assert same < 0.05 * other


@ORDERS
@BOTH
def test_a_shift_of_one_pixel_changes_less_than_another_image(features, order, width):
    images = blobs(4, 40)
    here, there = images[..., 4:36, 4:36], images[..., 5:37, 4:36]
    shifted = (features(here, order) - features(there, order)).norm(dim=1)
    other = (features(here, order) - features(here.roll(1, 0), order)).norm(dim=1)
    assert (shifted < 0.7 * other).all()


def test_orientations_are_told_apart():
    """Stripes along one axis and along the other are far apart: the modulus keeps direction."""
    wave = torch.sin(torch.arange(32) * math.pi / 2).expand(1, 1, 32, 32)
    assert distance(raw_scattering(wave, 1), raw_scattering(wave.transpose(2, 3), 1)) > 0.3


@ORDERS
@BOTH
@pytest.mark.parametrize("value", [0.0, 1.0, 255.0])
def test_an_image_of_one_colour_gives_finite_numbers(features, order, width, value):
    assert torch.isfinite(features(torch.full((2, 1, 32, 32), value), order)).all()


@ORDERS
def test_it_is_a_constant_function(order, width):
    """Nothing is learned or drawn: no gradient, no generator, the same bits every time."""
    images = blobs(2, 24)
    torch.manual_seed(1)
    first = scattering_features(images, order)
    torch.manual_seed(2)
    assert torch.equal(first, scattering_features(images, order))
    assert not first.requires_grad
