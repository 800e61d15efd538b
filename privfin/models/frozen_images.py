"""Image encoders of timm, with weights from a safetensors file."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from privfin.errors import ConfigError, nearest
from privfin.models.public_libraries import import_library
from privfin.models.weights import check_safetensors


@lru_cache(maxsize=8)
def width(name: str) -> int:
    """Numbers in one pooled feature: the shape that the architecture gives, without weights."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.inference_mode():
        network = _create(name)
        size = network.pretrained_cfg["input_size"]
        return int(network(torch.empty(1, *size)).shape[1])


def load(name: str, weights: str) -> tuple[nn.Module, Callable[[Any], Tensor]]:
    """The network with its weights, and the function from one grey image to its feature.

    A grey square becomes the channels and the size that the architecture's public configuration
    names (``pretrained_cfg`` of timm), normalised with the mean and standard deviation given there.
    """
    network = _create(name)
    path = check_safetensors(Path(weights))
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"weights {path} cannot be read as safetensors ({error})") from error
    settings = network.pretrained_cfg
    heads = settings.get("classifier") or ()
    prefixes = tuple(f"{h}." for h in ([heads] if isinstance(heads, str) else heads))
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    try:
        missing, unknown = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ConfigError(f"weights {path} do not fit timm:{name}: {reason}") from error
    extra = [k for k in unknown if not k.startswith(prefixes)]  # the old classifier is not needed
    if missing or extra:
        problem = f"{missing[0]} is missing" if missing else f"{extra[0]} is not part of it"
        raise ConfigError(f"weights {path} do not fit timm:{name}: {problem}")
    network.eval()
    return network, lambda image: network(_prepare(image, settings)[None])[0]


def _create(name: str) -> Any:
    timm = import_library("timm")
    architecture = name.partition(".")[0]
    # Names with a scheme (hf-hub:, local-dir:) would read, or fetch, what they point to.
    if not name.replace("_", "").replace(".", "").isalnum() or not timm.is_model(architecture):
        hint = nearest(architecture, timm.list_models())
        raise ConfigError(f"timm has no architecture '{name}'{hint}")
    try:
        return timm.create_model(name, pretrained=False, num_classes=0).eval()
    except (RuntimeError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"timm:{name} cannot be used as an encoder: {reason}") from error


def _prepare(image: Tensor, settings: dict[str, Any]) -> Tensor:
    """A grey image in [0, 1], (1, side, side), as (channels, height, width)."""
    channels, height, across = settings["input_size"]
    mode = "bilinear" if settings["interpolation"] == "bilinear" else "bicubic"
    resized = nn.functional.interpolate(
        image[None], (height, across), mode=mode, antialias=True, align_corners=False
    )[0].clamp(0, 1)
    mean, spread = (torch.tensor(settings[k]).view(-1, 1, 1) for k in ("mean", "std"))
    return (resized.expand(channels, -1, -1) - mean) / spread
