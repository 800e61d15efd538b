"""The fixed part of every encoder: raw inputs in, tensors out. Nothing here is learned.

A front end is computed once per record and kept, so training only touches tensors. Text goes
through hashing (Weinberger et al. 2009): a vocabulary would have to be collected from patients.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata

import numpy as np
import torch
from sklearn.feature_extraction.text import HashingVectorizer
from torch import Tensor

from privfin.config import ModalityConfig
from privfin.data.records import LoadedInput, RawInput, Record, input_content, load_input
from privfin.errors import DataError
from privfin.models.feature_cache import FeatureCache, entry_key
from privfin.models.frozen import FrozenEncoder, frozen_width, is_frozen, load_frozen
from privfin.models.scattering import scattering_features, scattering_width
from privfin.models.weights import weights_digest

#: Hash buckets of the small transformer's word pieces; 0 is kept for padding.
WORD_BUCKETS = 2048
#: Records whose raw inputs are in memory at once.
CHUNK = 64
_WORD = re.compile(r"[a-z0-9]+|[.?!]")


def frontend(
    modality: ModalityConfig, image_size: int
) -> Callable[[Sequence[LoadedInput]], Tensor]:
    """The front end that an encoder is fed by: a function from n raw inputs to (n, ...) floats.

    Raises:
        ConfigError: a frozen encoder cannot be loaded, see :func:`load_frozen`.
    """
    if is_frozen(modality):
        return partial(_frozen, encoder=load_frozen(modality), side=image_size, kind=modality.kind)
    if modality.encoder == "scattering":
        return lambda raw: scattering_features(_pixels(raw, image_size), modality.order)
    if modality.encoder == "cnn":
        return lambda raw: _standardised(_pixels(raw, image_size))
    if modality.encoder == "hashed-ngrams":
        return partial(_hashed_ngrams, buckets=modality.features)
    if modality.encoder == "values":
        return partial(_scaled_values, ranges=[modality.ranges[c] for c in modality.columns])
    return partial(_hashed_words, length=modality.length)


def fixed_width(modality: ModalityConfig) -> int:
    """Numbers in one feature of a fixed front end, known without data.

    Raises:
        ValueError: the encoder is trained, so its front end gives no feature.
        ConfigError: see :func:`frozen_width`.
    """
    if is_frozen(modality):
        return frozen_width(modality)
    if modality.encoder == "scattering":
        return scattering_width(modality.order)
    if modality.encoder == "hashed-ngrams":
        return modality.features
    if modality.encoder == "values":
        return values_width(len(modality.columns))
    raise ValueError(f"encoder '{modality.encoder}' has no fixed features")


def _raise(row: int, error: DataError) -> None:
    raise error


def read_inputs(
    records: Sequence[Record],
    name: str,
    modality: ModalityConfig,
    image_size: int,
    *,
    cache: FeatureCache | None = None,
    unreadable: Callable[[int, DataError], None] = _raise,
    advance: Callable[[int], None] = lambda records: None,
) -> tuple[Tensor, Tensor]:
    """Front-end tensors of one modality for all records, :data:`CHUNK` records at a time.

    Args:
        records: whose inputs to read; lazy ones are loaded one chunk at a time.
        name: the modality.
        modality: its options.
        image_size: side of the images.
        cache: where features of frozen encoders are kept; other front ends are quicker than it.
        unreadable: called with the position of a record whose input cannot be read, and why. The
            row stays zero. By default the error is raised.
        advance: called with the number of records that were just done.

    Returns:
        ``(inputs, present)``: inputs (n, ...) float32 with zero rows where the modality is
        absent, and present (n,) bool.

    Raises:
        DataError: an input cannot be read (file and row are named), or is not of the right kind.
    """
    transform = frontend(modality, image_size)
    inputs = torch.zeros(len(records), *transform([]).shape[1:])
    present = torch.zeros(len(records), dtype=torch.bool)
    known = _Known(cache, modality, image_size) if cache and is_frozen(modality) else None
    for start in range(0, len(records), CHUNK):
        part = records[start : start + CHUNK]
        rows, raw, keys = [], [], []
        for row, record in enumerate(part, start=start):
            if name not in record.inputs:
                continue
            try:
                key = known.key(record.inputs[name]) if known else ""
                found = known.get(key) if known else None
                loaded = load_input(record.inputs[name]) if found is None else None
            except DataError as error:
                unreadable(row, error)
                continue
            present[row] = True
            if found is not None:
                inputs[row] = found
            if loaded is not None:
                rows.append(row)
                raw.append(loaded)
                keys.append(key)
        features = transform(raw)
        if not bool(torch.isfinite(features).all()):
            raise DataError(f"modality '{name}' has inputs that are not finite numbers")
        inputs[rows] = features
        if known:
            known.put(keys, features)
        advance(len(part))
    return inputs, present


#: Packages whose version may change a frozen encoder's features.
_VERSIONS = {
    "timm": ("privfin", "torch", "timm", "pillow"),
    "transformers": ("privfin", "torch", "transformers", "tokenizers"),
}


class _Known:
    """The features of one frozen encoder in the cache."""

    def __init__(self, cache: FeatureCache, modality: ModalityConfig, image_size: int) -> None:
        self._cache = cache
        self._width = fixed_width(modality)
        family = modality.encoder.partition(":")[0]
        # Where the weights lie is not part of it, what is in them is.
        parts = {
            "encoder": modality.encoder if family == "timm" else family,
            "weights": weights_digest(modality),
            "length": modality.length if modality.kind == "text" else image_size,
            "versions": {name: metadata.version(name) for name in _VERSIONS[family]},
        }
        self._front_end = json.dumps(parts, sort_keys=True).encode()

    def key(self, raw: RawInput) -> str:
        # An image that was moved must not be taken for one that is stored.
        kind = type(raw).__name__.encode()
        return entry_key([self._front_end, kind, input_content(raw)])

    def get(self, key: str) -> Tensor | None:
        found = self._cache.get(key, self._width)
        return None if found is None else torch.from_numpy(found.copy())

    def put(self, keys: Sequence[str], features: Tensor) -> None:
        for key, feature in zip(keys, features, strict=True):
            self._cache.put(key, feature.numpy())


def _frozen(raw: Sequence[LoadedInput], *, encoder: FrozenEncoder, side: int, kind: str) -> Tensor:
    """Unit-norm features of a frozen encoder, (n, its width)."""
    return encoder.features(_texts(raw) if kind == "text" else list(_pixels(raw, side)))


def _pixels(raw: Sequence[LoadedInput], side: int) -> Tensor:
    images = np.zeros((len(raw), 1, side, side), dtype=np.float32)
    for row, value in enumerate(raw):
        if isinstance(value, str) or value.shape != (side, side):
            raise DataError(f"an image encoder needs {side}x{side} grey images")
        images[row, 0] = value
    return torch.from_numpy(images / 255.0)


def _standardised(images: Tensor) -> Tensor:
    if not len(images):
        return images
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    spread = images.std(dim=(1, 2, 3), keepdim=True, correction=0)
    return (images - mean) / (spread + 1e-2)


def _texts(raw: Sequence[LoadedInput]) -> list[str]:
    texts = [value for value in raw if isinstance(value, str)]
    if len(texts) != len(raw):
        raise DataError("a text encoder needs texts, not images")
    return texts


def _hashed_ngrams(raw: Sequence[LoadedInput], *, buckets: int) -> Tensor:
    texts = _texts(raw)
    if not texts:
        return torch.empty(0, buckets)
    hasher = HashingVectorizer(
        n_features=buckets,
        ngram_range=(1, 2),
        token_pattern=r"(?u)\b\w+\b",  # noqa: S106
        binary=True,
    )
    return torch.from_numpy(hasher.transform(texts).toarray().astype(np.float32))


def _hashed_words(raw: Sequence[LoadedInput], *, length: int) -> Tensor:
    """Word ids as whole numbers in float32 (exact below 2^24), padded with zeros."""
    ids = torch.zeros(len(raw), length)
    for row, text in enumerate(_texts(raw)):
        words = _WORD.findall(text.lower())[:length]
        for column, word in enumerate(words):
            ids[row, column] = 1 + zlib.crc32(word.encode()) % (WORD_BUCKETS - 1)
    return ids


def values_width(columns: int) -> int:
    """Numbers that this many columns become: each its value and whether it is there."""
    return 2 * columns


def _scaled_values(raw: Sequence[LoadedInput], *, ranges: Sequence[tuple[float, float]]) -> Tensor:
    """Values (n, columns), NaN for missing, to (n, 2 * columns).

    A value becomes its place in its public range, -1 at the lowest and 1 at the highest, cut off
    there; a missing one becomes 0. The second half says with 1 or 0 which are there.
    """
    columns = len(ranges)
    values = np.full((len(raw), columns), np.nan)
    for row, value in enumerate(raw):
        if isinstance(value, str) or value.shape != (columns,):
            raise DataError(f"a table's encoder needs {columns} values")
        values[row] = value
    low, high = np.array(ranges).reshape(-1, 2).T
    known = ~np.isnan(values)
    scaled = np.clip(2 * (np.nan_to_num(values) - low) / (high - low) - 1, -1, 1) * known
    return torch.from_numpy(np.concatenate([scaled, known], axis=1).astype(np.float32))
