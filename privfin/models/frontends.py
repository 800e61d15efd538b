"""The fixed part of every encoder: raw inputs in, tensors out. Nothing here is learned.

A front end is computed once per record and kept, so training only touches tensors. Text goes
through hashing (Weinberger et al. 2009): a vocabulary would have to be collected from patients.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from sklearn.feature_extraction.text import HashingVectorizer
from torch import Tensor

from privfin.config import ModalityConfig
from privfin.data.records import LoadedInput, Record, load_input
from privfin.errors import DataError
from privfin.models.scattering import scattering_features

#: Hash buckets of the small transformer's word pieces; 0 is kept for padding.
WORD_BUCKETS = 2048
_WORD = re.compile(r"[a-z0-9]+|[.?!]")


def frontend(
    modality: ModalityConfig, image_size: int
) -> Callable[[Sequence[LoadedInput]], Tensor]:
    """The front end that an encoder is fed by: a function from n raw inputs to (n, ...) floats."""
    if modality.encoder == "scattering":
        return lambda raw: scattering_features(_pixels(raw, image_size), modality.order)
    if modality.encoder == "cnn":
        return lambda raw: _standardised(_pixels(raw, image_size))
    if modality.encoder == "hashed-ngrams":
        return partial(_hashed_ngrams, buckets=modality.features)
    if modality.encoder == "values":
        return partial(_scaled_values, ranges=[modality.ranges[c] for c in modality.columns])
    return partial(_hashed_words, length=modality.length)


def read_inputs(
    records: Sequence[Record], name: str, modality: ModalityConfig, image_size: int
) -> tuple[Tensor, Tensor]:
    """Front-end tensors of one modality for all records.

    Returns:
        ``(inputs, present)``: inputs (n, ...) float32 with zero rows where the modality is
        absent, and present (n,) bool.
    """
    present = torch.tensor([name in record.inputs for record in records], dtype=torch.bool)
    transform = frontend(modality, image_size)
    found = transform([load_input(r.inputs[name]) for r in records if name in r.inputs])
    inputs = torch.zeros(len(records), *found.shape[1:])
    inputs[present] = found
    if not bool(torch.isfinite(inputs).all()):
        raise DataError(f"modality '{name}' has inputs that are not finite numbers")
    return inputs, present


def _pixels(raw: Sequence[LoadedInput], side: int) -> Tensor:
    images = np.zeros((len(raw), 1, side, side), dtype=np.float32)
    for row, value in enumerate(raw):
        if isinstance(value, str) or value.shape != (side, side):
            raise DataError(f"an image encoder needs {side}x{side} grey images")
        images[row, 0] = value
    return torch.from_numpy(images / 255.0)


def _standardised(images: Tensor) -> Tensor:
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
