"""What an attacker of a privfin run has without its gradients: public pictures and reports."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from privfin.config import RunConfig
from privfin.data.phantom import LARGEST_IMAGE, generate_phantom
from privfin.data.records import Dataset, Record
from privfin.federation.encoding import encode
from privfin.models.multimodal import Batch

#: A picture's standardised values between these are shown from black to white.
DARKEST, BRIGHTEST = -3.0, 3.0


@dataclass(frozen=True)
class Public:
    """Public records like the run's.

    Attributes:
        batch: encoded by the run's front ends.
        pictures: (n, 1, side, side), each standardised by itself; None where there are none of
            the run's size.
        phrases: (phrases, buckets) hashed like reports; None without such an encoder.
    """

    batch: Batch = field(repr=False)
    pictures: Tensor | None = field(repr=False)
    phrases: Tensor | None = field(repr=False)


def phantom_public(config: RunConfig, patients: int = 256, seed: int = 20_260_202) -> Public:
    """Phantom patients of a seed that no run uses by default, for the run's front ends.

    On real patients they are a weak prior: give :class:`Public` of a public data set instead.
    """
    seed += seed == config.training.seed
    side = config.data.image_size
    fits = side <= LARGEST_IMAGE
    dataset = generate_phantom(patients, side if fits else LARGEST_IMAGE, seed)
    records = [r for r in dataset.records if r.record_id.endswith("-1")]
    kinds = {m: c.kind for m, c in config.modalities.items()}
    own = [_renamed(r, kinds, with_image=fits) for r in records]
    batch = encode(replace(dataset, records=tuple(own)), config)
    raw = np.stack([np.asarray(r.inputs["image"]) for r in records])
    phrases = None
    reader = hashed_text(config)
    if reader is not None:
        reports = [str(r.inputs["text"]) for r in records]
        said = sorted(
            {s.strip() for text in reports for s in re.split(r"[.?!]", text) if s.strip()}
        )
        labels = np.zeros(len(dataset.label_names), np.float32)
        made = tuple(Record(str(i), str(i), {reader: s}, labels) for i, s in enumerate(said))
        phrases = encode(Dataset("phrases", dataset.label_names, made), config).inputs[reader]
    return Public(batch, standardised(torch.from_numpy(raw)) if fits else None, phrases)


def _renamed(record: Record, kinds: Mapping[str, str], *, with_image: bool) -> Record:
    inputs = {
        m: record.inputs[kind]
        for m, kind in kinds.items()
        if kind in record.inputs and (with_image or kind != "image")
    }
    return replace(record, inputs=inputs)


def hashed_text(config: RunConfig) -> str | None:
    """The modality of hashed n-grams with a trained projection, if there is one."""
    found = [
        m
        for m, c in config.modalities.items()
        if c.encoder == "hashed-ngrams" and c.projection == "linear"
    ]
    return found[0] if found else None


def standardised(images: Tensor) -> Tensor:
    """Grey images (n, side, side), 0 to 255, as (n, 1, side, side) of mean 0 and deviation 1 each:
    what any exposure of the same image becomes, and what the encoders see."""
    x = images.float()[:, None] / 255
    mean, spread = (
        x.mean(dim=(1, 2, 3), keepdim=True),
        x.std(dim=(1, 2, 3), keepdim=True, correction=0),
    )
    return (x - mean) / (spread + 1e-2)


def grey(pictures: Tensor) -> Tensor:
    """Standardised pictures as values from 0 (black) to 1 (white)."""
    return ((pictures - DARKEST) / (BRIGHTEST - DARKEST)).clamp(0, 1)
