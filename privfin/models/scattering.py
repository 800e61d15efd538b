"""A fixed wavelet-scattering front end for images: no parameter is learned, so it costs no privacy.

Scattering (Bruna and Mallat 2013, "Invariant Scattering Convolution Networks", eq. 5-9) averages
the modulus of Morlet wavelet responses. Order 1 is ``mean |x * psi(j, theta)|``, order 2 is
``mean ||x * psi(j1, theta1)| * psi(j2, theta2)|`` for j2 > j1. It suits DP because only a linear
map on top is trained (Tramer and Boneh 2021, "Differentially Private Learning Needs Better
Features").
"""

from __future__ import annotations

import math
from functools import lru_cache
from importlib import resources

import torch
from safetensors.torch import load as load_tensors
from torch import Tensor

SCALES = 3
ORIENTATIONS = 8
GRID = 4


def scattering_width(order: int) -> int:
    """Numbers in one feature vector: 400 for order 1, 3,472 for order 2."""
    channels = 1 + SCALES * ORIENTATIONS
    if order == 2:
        channels += SCALES * (SCALES - 1) // 2 * ORIENTATIONS**2
    return channels * GRID * GRID


def scattering_features(images: Tensor, order: int, rows: int = 128) -> Tensor:
    """Scattering features of grey images, centred and scaled by public constants.

    The constants are the mean and standard deviation of each number over images of the built-in
    phantom (``benchmarks/scattering_constants.py``). They come from no patient, so they cost no
    privacy, and they keep the mean image from filling the clipped gradients.

    Args:
        images: (n, 1, side, side), any scale: each image is standardised by itself.
        order: 1 or 2.
        rows: images of 32x32 computed at once, fewer if they are larger, which bounds memory.

    Returns:
        (n, :func:`scattering_width`) float32, each row of unit Euclidean norm.
    """
    raw = raw_scattering(images, order, rows)
    constants = _constants()
    centred = (raw - constants[f"mean_{order}"]) / constants[f"std_{order}"]
    return torch.nn.functional.normalize(centred, dim=1)


def raw_scattering(images: Tensor, order: int, rows: int = 128) -> Tensor:
    """Scattering features before the constants: each group of channels (mean, order 1, order 2)
    is standardised within the record, and the vector has unit norm. Shapes as above."""
    rows = max(1, rows * 32**2 // max(1, images.shape[-1]) ** 2)
    parts = [_scatter(images[i : i + rows].float(), order) for i in range(0, len(images), rows)]
    return torch.cat(parts) if parts else torch.empty(0, scattering_width(order))


@lru_cache(maxsize=1)
def _constants() -> dict[str, Tensor]:
    path = resources.files("privfin.models") / "scattering_constants.safetensors"
    return dict(load_tensors(path.read_bytes()))


def _scatter(images: Tensor, order: int) -> Tensor:
    side = images.shape[-1]
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    spread = images.std(dim=(1, 2, 3), keepdim=True, correction=0)
    # A margin of mirrored pixels keeps the borders of the image from ringing around.
    margin = side // 4
    x = torch.nn.functional.pad((images - mean) / (spread + 1e-3), [margin] * 4, mode="reflect")
    x = x[:, 0]
    filters = _morlet_bank(x.shape[-1])
    first = torch.fft.ifft2(torch.fft.fft2(x)[:, None, None] * filters).abs()
    groups = [_pool(x[:, None], margin, side), _pool(first.flatten(1, 2), margin, side)]
    if order == 2:
        second = []
        for coarse in range(1, SCALES):
            spectrum = torch.fft.fft2(first[:, :coarse])[:, :, :, None]
            response = torch.fft.ifft2(spectrum * filters[coarse]).abs()
            second.append(_pool(response.flatten(1, 3), margin, side))
        groups.append(torch.cat(second, dim=1))
    levelled = [torch.nn.functional.layer_norm(g, g.shape[1:]) for g in groups]
    return torch.nn.functional.normalize(torch.cat(levelled, dim=1), dim=1)


def _pool(maps: Tensor, margin: int, side: int) -> Tensor:
    inner = maps[..., margin : margin + side, margin : margin + side]
    return torch.nn.functional.adaptive_avg_pool2d(inner, GRID).flatten(1)


@lru_cache(maxsize=4)
def _morlet_bank(side: int) -> Tensor:
    """Morlet wavelets in the Fourier domain, (SCALES, ORIENTATIONS, side, side), real.

    Scale j has centre frequency ``3 pi / 4 / 2^j`` and bandwidth ``0.8 * 2^j`` pixels; the part
    at frequency zero is taken out, so that constants give no response.
    """
    steps = torch.fft.fftfreq(side) * 2 * math.pi
    wy, wx = torch.meshgrid(steps, steps, indexing="ij")
    bank = []
    for j in range(SCALES):
        sigma, centre = 0.8 * 2**j, 0.75 * math.pi / 2**j
        for k in range(ORIENTATIONS):
            angle = math.pi * k / ORIENTATIONS
            along = wx * math.cos(angle) + wy * math.sin(angle)
            across = (wy * math.cos(angle) - wx * math.sin(angle)) * 2
            envelope = torch.exp(-(sigma**2) / 2 * ((along - centre) ** 2 + across**2 / 4))
            low = torch.exp(-(sigma**2) / 2 * (along**2 + across**2 / 4))
            bank.append(envelope - low * (envelope[0, 0] / low[0, 0]))
    return torch.stack(bank).reshape(SCALES, ORIENTATIONS, side, side)
