"""Measures the public constants of the scattering front end and writes them into the package.

    python benchmarks/scattering_constants.py

Mean and standard deviation of every scattering number over 1,000 phantom patients of a seed that
no run uses by default. The phantom is synthetic, so the constants are public. Takes two minutes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from privfin.data.phantom import generate_phantom
from privfin.models.scattering import raw_scattering

PATIENTS = 1000
SEED = 20_260_101
TARGET = Path(__file__).parent.parent / "privfin/models/scattering_constants.safetensors"


def main() -> None:
    records = generate_phantom(PATIENTS, 32, SEED).records
    images = np.stack([record.inputs["image"] for record in records])
    pixels = torch.from_numpy(images.astype(np.float32) / 255.0)[:, None]
    tensors = {}
    for order in (1, 2):
        features = raw_scattering(pixels, order)
        tensors[f"mean_{order}"] = features.mean(dim=0)
        tensors[f"std_{order}"] = features.std(dim=0) + 1e-4
    TARGET.write_bytes(save(tensors))
    print(f"wrote {TARGET.name}: {len(records)} images of {PATIENTS} phantom patients")


if __name__ == "__main__":
    main()
