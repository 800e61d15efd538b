"""Reads a data set of the MedMNIST collection: one npz file of small images and labels.

Arrays, label names and splits as published by Yang et al., "MedMNIST v2: a large-scale lightweight
benchmark for 2D and 3D biomedical image classification" (2023), and in the collection's own list
of data sets; the larger sizes (64, 128, 224) come in files with the size in their name.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from privfin.data.images import ArrayImage
from privfin.data.records import Dataset, Record
from privfin.data.sources import LoadedData
from privfin.errors import DataError, nearest

#: Label names of the chest X-ray sets, in the order of their columns.
MEDMNIST_LABELS: dict[str, tuple[str, ...]] = {
    "pneumoniamnist": ("pneumonia",),
    "chestmnist": (
        "atelectasis",
        "cardiomegaly",
        "effusion",
        "infiltration",
        "mass",
        "nodule",
        "pneumonia",
        "pneumothorax",
        "consolidation",
        "edema",
        "emphysema",
        "fibrosis",
        "pleural",
        "hernia",
    ),
}
_SPLITS = ("train", "val", "test")
#: More classes than any MedMNIST set has: beyond it the file is something else.
_MOST_CLASSES = 100
_NO_PATIENTS = (
    "MedMNIST publishes no patient identifiers: every image counts as a patient of its own, so "
    "that privacy is an image's, not a patient's, and one person may be in training and test data"
)

Arrays = dict[str, npt.NDArray[np.generic]]


def medmnist_labels(root: Path) -> tuple[str, ...]:
    """The names of the labels of the data set at ``root``; see :func:`read_medmnist`.

    Raises:
        DataError: the file cannot be found, or its labels cannot be read.
    """
    path = _file(root)
    known = MEDMNIST_LABELS.get(_set_name(path))
    if known is not None:
        return known
    names = [f"{split}_labels" for split in _SPLITS]
    return _label_names(path, _read(path, names))


def read_medmnist(root: Path, *, image_size: int, labels: Sequence[str] = ()) -> LoadedData:
    """Read a MedMNIST file: ``root`` itself, or the only ``.npz`` file in the folder ``root``.

    Records carry ``image``, which becomes (``image_size``, ``image_size``) uint8 when it is asked
    for. PneumoniaMNIST has the label "pneumonia", ChestMNIST its 14 published ones. Other sets
    have "label-0", "label-1", ...: one a column of 0 and 1, or one a class where a single column
    numbers the classes. ``labels`` chooses some of them; empty means all.

    MedMNIST names no patients, so that every image is its own patient, and a notice says so. The
    published ``test`` images are the test patients; ``train`` and ``val`` are both for training,
    because no validation set is used here.

    Raises:
        DataError: no file or several, a file that is not such an npz (an array is missing, has
            another type or shape, or holds Python objects), or an unknown label.
    """
    path = _file(root)
    arrays = _read(path, [f"{split}_{part}" for split in _SPLITS for part in ("images", "labels")])
    names = MEDMNIST_LABELS.get(_set_name(path)) or _label_names(path, arrays)
    chosen = _choose(path, names, labels)
    records: list[Record] = []
    test: list[str] = []
    for split in _SPLITS:
        images = _images(path, arrays, split)
        values = _label_values(path, arrays, split, names)
        if len(images) != len(values):
            raise DataError(
                f"{path}: {split}_images has {len(images)} entries and {split}_labels "
                f"{len(values)}; get the file again"
            )
        for index, image in enumerate(images):
            name = f"{split}-{index}"
            inputs = {"image": ArrayImage(image, image_size)}
            records.append(Record(name, name, inputs, values[index, chosen]))
            if split == "test":
                test.append(name)
    if not records:
        raise DataError(f"{path} has no images")
    kept = tuple(names[i] for i in chosen)
    dataset = Dataset(path.stem, kept, tuple(records), (_NO_PATIENTS,))
    return LoadedData(dataset, frozenset(test))


def _file(root: Path) -> Path:
    if root.is_file():
        return root
    found = sorted(root.glob("*.npz")) if root.is_dir() else []
    if not found:
        raise DataError(f"{root} has no MedMNIST file; name the folder that holds the .npz file")
    if len(found) > 1:
        raise DataError(
            f"{root} has {len(found)} .npz files ({', '.join(p.name for p in found[:5])}); "
            f"name one of them, for example --data-root {found[0]}"
        )
    return found[0]


def _set_name(path: Path) -> str:
    return re.sub(r"_(28|64|128|224)$", "", path.stem.lower())


def _read(path: Path, names: Sequence[str]) -> Arrays:
    """The named arrays. Objects are refused: to read them would be to run what they contain."""
    with _clear_errors(path):
        opened: Any = np.load(path, allow_pickle=False)
    if not isinstance(opened, np.lib.npyio.NpzFile):
        raise DataError(f"{path} is not an npz file; get it again")
    arrays: Arrays = {}
    with opened as archive:
        for name in names:
            if name not in archive.files:
                raise DataError(f"{path} has no array '{name}'{nearest(name, archive.files)}")
            with _clear_errors(path, name):
                arrays[name] = archive[name]
            if not isinstance(arrays[name], np.ndarray):
                raise DataError(f"{path}: '{name}' is not an array; get the file again")
    return arrays


@contextmanager
def _clear_errors(path: Path, name: str | None = None) -> Iterator[None]:
    where = str(path) if name is None else f"{path}: array '{name}'"
    try:
        yield
    except MemoryError as error:
        raise DataError(f"{where} needs more memory than there is; use smaller images") from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        EOFError,
        ValueError,
        KeyError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        # zipfile raises the last two for packing methods and passwords that it cannot read.
        reason = getattr(error, "strerror", None) or str(error) or "it ends too early"
        raise DataError(f"{where} cannot be read ({reason}); get the file again") from error


def _images(path: Path, arrays: Arrays, split: str) -> npt.NDArray[np.uint8]:
    images = arrays[f"{split}_images"]
    if images.dtype != np.uint8:
        raise DataError(f"{path}: {split}_images has values of type {images.dtype}, not uint8")
    grey_or_colour = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)
    if not grey_or_colour or 0 in images.shape[1:]:
        raise DataError(
            f"{path}: {split}_images has shape {images.shape}; flat grey (N, H, W) or colour "
            "(N, H, W, 3) images can be read"
        )
    return images.astype(np.uint8, copy=False)


def _label_columns(path: Path, arrays: Arrays, split: str) -> npt.NDArray[np.int64]:
    """Whole numbers (N, columns)."""
    labels = arrays[f"{split}_labels"]
    if labels.ndim == 1:
        labels = labels[:, None]
    if labels.ndim != 2 or labels.shape[1] == 0:
        raise DataError(f"{path}: {split}_labels has shape {labels.shape}, not (N, labels)")
    if labels.dtype.kind not in "biu" or (labels.size and int(labels.min()) < 0):
        raise DataError(f"{path}: {split}_labels must hold whole numbers from 0 on")
    return labels.astype(np.int64)


def _label_names(path: Path, arrays: Arrays) -> tuple[str, ...]:
    columns = [_label_columns(path, arrays, split) for split in _SPLITS]
    widths = {part.shape[1] for part in columns}
    if len(widths) > 1:
        raise DataError(f"{path}: its splits have {sorted(widths)} columns of labels; need one")
    (count,) = widths
    largest = max((int(part.max()) for part in columns if part.size), default=0)
    if count == 1 and largest > 1:
        count = largest + 1
        if count > _MOST_CLASSES:
            raise DataError(f"{path}: its labels number {count} classes, which is no MedMNIST set")
    return tuple(f"label-{i}" for i in range(count))


def _label_values(
    path: Path, arrays: Arrays, split: str, names: Sequence[str]
) -> npt.NDArray[np.float32]:
    """0 and 1, (N, labels)."""
    columns = _label_columns(path, arrays, split)
    numbered = columns.shape[1] == 1 and _set_name(path) not in MEDMNIST_LABELS
    if numbered and len(names) > 1:  # a class number: one label a class
        return np.equal(columns, np.arange(len(names))).astype(np.float32)
    if columns.shape[1] != len(names):
        raise DataError(
            f"{path}: {split}_labels has {columns.shape[1]} columns where {len(names)} labels "
            "are published; get the file again"
        )
    if columns.size and columns.max() > 1:
        raise DataError(f"{path}: {split}_labels has values other than 0 and 1")
    return columns.astype(np.float32)


def _choose(path: Path, names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Positions of the wanted labels."""
    for name, times in Counter(wanted).items():
        if name not in names:
            raise DataError(
                f"{path.name} has no label '{name}'{nearest(name, names)} "
                f"(known: {', '.join(names)})"
            )
        if times > 1:
            raise DataError(f"label '{name}' is asked for twice")
    return [names.index(name) for name in wanted] or list(range(len(names)))
