"""The features of one front end in the cache, and what they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from importlib import metadata, resources

import torch
from torch import Tensor

from privfin.config import ModalityConfig
from privfin.data.records import RawInput, input_content
from privfin.models.feature_cache import FeatureCache, entry_key
from privfin.models.frozen import is_frozen
from privfin.models.weights import weights_digest

#: Packages whose version may change a front end's features.
_VERSIONS = {
    "scattering": ("torch", "numpy", "pillow"),
    "timm": ("torch", "timm", "pillow"),
    "transformers": ("torch", "transformers", "tokenizers"),
}
#: Files of privfin that compute them: other code, other features.
_CODE = (
    "frontends.py",
    "scattering.py",
    "scattering_constants.safetensors",
    "frozen.py",
    "frozen_images.py",
    "frozen_texts.py",
)
#: And those that decode, scale and move images before.
_DATA_CODE = ("images.py", "augment.py")


def is_cached(modality: ModalityConfig) -> bool:
    """Whether reading a feature is so much quicker than computing it that it is worth the disk.

    Measured in docs/how-to/frozen-encoders.md. Hashed words are as quick as a file.
    """
    return is_frozen(modality) or modality.encoder == "scattering"


class KnownFeatures:
    """The features (``width``,) of one front end, by the content of the input.

    Args:
        cache: where they are kept.
        modality: options of a modality that :func:`is_cached`.
        image_size: side of the images.
        width: numbers in a feature.
    """

    def __init__(
        self, cache: FeatureCache, modality: ModalityConfig, image_size: int, width: int
    ) -> None:
        self._cache = cache
        self._width = width
        family = modality.encoder.partition(":")[0]
        frozen = is_frozen(modality)
        # Where the weights lie is no part of it, what is in them is.
        parts = {
            "encoder": family if family == "transformers" else modality.encoder,
            "order": modality.order if family == "scattering" else None,
            "weights": weights_digest(modality) if frozen else None,
            "size": modality.length if modality.kind == "text" else image_size,
            "versions": {name: metadata.version(name) for name in _VERSIONS[family]},
            "code": _code_digest(),
        }
        self._front_end = json.dumps(parts, sort_keys=True).encode()

    def key(self, raw: RawInput) -> str:
        """The key of an input's feature. Raises DataError if the input cannot be read."""
        # An image that was moved must not be taken for one that is stored.
        kind = type(raw).__name__.encode()
        return entry_key([self._front_end, kind, input_content(raw)])

    def get(self, key: str) -> Tensor | None:
        """The feature, if it is known."""
        found = self._cache.get(key, self._width)
        return None if found is None else torch.from_numpy(found.copy())

    def put(self, keys: Sequence[str], features: Tensor) -> None:
        """Keep features (n, width) under n keys."""
        for key, feature in zip(keys, features, strict=True):
            self._cache.put(key, feature.numpy())


@lru_cache(maxsize=1)
def _code_digest() -> str:
    digest = hashlib.sha256()
    for package, names in (("privfin.models", _CODE), ("privfin.data", _DATA_CODE)):
        folder = resources.files(package)
        for name in names:
            digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()
