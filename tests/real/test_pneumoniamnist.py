"""The MedMNIST reader on the real PneumoniaMNIST file."""

from pathlib import Path

import numpy as np
import pytest

from privfin.data.medmnist import read_medmnist
from privfin.data.records import load_input

ROOT = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "pneumoniamnist"


def test_published_splits_and_labels_are_read() -> None:
    if not (ROOT / "pneumoniamnist.npz").exists():
        pytest.skip(f"real data not found in {ROOT}")
    loaded = read_medmnist(ROOT, image_size=32)
    dataset = loaded.dataset
    sizes = {
        split: sum(r.record_id.startswith(split) for r in dataset.records)
        for split in ("train", "val", "test")
    }
    assert sizes == {"train": 4682, "val": 524, "test": 621}
    assert loaded.test_patients == {p for p in dataset.patients() if p.startswith("test")}
    # The official test split has more healthy children than training has.
    positive = {
        split: np.mean([r.labels[0] for r in dataset.records if r.record_id.startswith(split)])
        for split in sizes
    }
    assert 0.73 < positive["train"] < 0.76
    assert 0.61 < positive["test"] < 0.64
    for record in dataset.records[::500]:
        image = load_input(record.inputs["image"])
        assert image.shape == (32, 32)
        assert image.std() > 5
