"""The MedMNIST reader, on tiny files written here, and on files that are not what they seem."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from privfin.data.images import read_grey_image
from privfin.data.medmnist import MEDMNIST_LABELS, medmnist_labels, read_medmnist
from privfin.data.records import load_input
from privfin.errors import DataError

SIZES = {"train": 5, "val": 3, "test": 4}


def arrays(side: int = 28, columns: int = 1, largest: int = 1, colour: bool = False):
    rng = np.random.default_rng(3)
    made = {}
    for split, count in SIZES.items():
        shape = (count, side, side, 3) if colour else (count, side, side)
        made[f"{split}_images"] = rng.integers(0, 256, shape).astype(np.uint8)
        made[f"{split}_labels"] = rng.integers(0, largest + 1, (count, columns)).astype(np.uint8)
        made[f"{split}_labels"][0, :] = largest
    return made


def write(root: Path, name: str = "pneumoniamnist.npz", **given) -> Path:
    np.savez_compressed(root / name, **(given or arrays()))
    return root


def test_every_image_becomes_a_record_of_its_own_patient(tmp_path) -> None:
    given = arrays()
    loaded = read_medmnist(write(tmp_path, **given), image_size=28)
    dataset = loaded.dataset
    assert dataset.label_names == ("pneumonia",)
    assert len(dataset.records) == len(dataset.patients()) == 12
    assert loaded.test_patients == {f"test-{i}" for i in range(4)}
    assert "no patient identifiers" in dataset.notices[0]
    for split in SIZES:
        mine = [r for r in dataset.records if r.record_id.startswith(split)]
        assert np.array_equal(
            [load_input(r.inputs["image"]) for r in mine], given[f"{split}_images"]
        )
        assert np.array_equal([r.labels for r in mine], given[f"{split}_labels"])


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize(("side", "size"), [(28, 32), (64, 32), (28, 16)])
def test_images_are_resized_as_image_files_are(tmp_path, colour, side, size) -> None:
    given = arrays(side=side, colour=colour)
    loaded = read_medmnist(write(tmp_path, **given), image_size=size)
    Image.fromarray(given["train_images"][1]).save(tmp_path / "one.png")
    expected = read_grey_image(tmp_path / "one.png", size)
    assert np.array_equal(load_input(loaded.dataset.records[1].inputs["image"]), expected)


def test_an_image_is_known_by_its_pixels_shape_and_size(tmp_path) -> None:
    given = arrays()
    given["train_images"][1] = given["train_images"][0]
    first, same, other = read_medmnist(write(tmp_path, **given), image_size=28).dataset.records[:3]
    assert first.inputs["image"].content() == same.inputs["image"].content()
    assert first.inputs["image"].content() != other.inputs["image"].content()
    larger = read_medmnist(tmp_path, image_size=32).dataset.records[0]
    assert first.inputs["image"].content() != larger.inputs["image"].content()


def test_chestmnist_has_its_published_labels_and_some_can_be_chosen(tmp_path) -> None:
    given = arrays(side=64, columns=14)
    write(tmp_path, "chestmnist_64.npz", **given)
    assert medmnist_labels(tmp_path) == MEDMNIST_LABELS["chestmnist"]
    whole = read_medmnist(tmp_path, image_size=16).dataset
    assert whole.label_names == MEDMNIST_LABELS["chestmnist"]
    some = read_medmnist(tmp_path, image_size=16, labels=("pneumonia", "cardiomegaly")).dataset
    assert some.label_names == ("pneumonia", "cardiomegaly")
    for record, full, row in zip(some.records, whole.records, given["train_labels"], strict=False):
        assert np.array_equal(full.labels, row)
        assert np.array_equal(record.labels, row[[6, 1]])


def test_other_sets_have_numbered_labels(tmp_path) -> None:
    write(tmp_path, "breastmnist.npz", **arrays())
    assert medmnist_labels(tmp_path) == ("label-0",)
    dataset = read_medmnist(tmp_path, image_size=16).dataset
    assert np.array_equal([r.labels for r in dataset.records[:5]], arrays()["train_labels"])


def test_numbered_classes_become_one_label_each(tmp_path) -> None:
    given = arrays(largest=4, colour=True)
    write(tmp_path, "bloodmnist.npz", **given)
    dataset = read_medmnist(tmp_path, image_size=16).dataset
    assert dataset.label_names == medmnist_labels(tmp_path)
    assert dataset.label_names == ("label-0", "label-1", "label-2", "label-3", "label-4")
    classes = np.concatenate([given[f"{split}_labels"][:, 0] for split in SIZES])
    labels = np.array([r.labels for r in dataset.records])
    assert np.array_equal(labels.argmax(axis=1), classes)
    assert np.all(labels.sum(axis=1) == 1)


def test_one_file_is_found_or_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"no MedMNIST file; name the folder"):
        read_medmnist(tmp_path, image_size=16)
    with pytest.raises(DataError, match=r"no MedMNIST file"):
        read_medmnist(tmp_path / "gone", image_size=16)
    write(tmp_path)
    write(tmp_path, "chestmnist.npz", **arrays(columns=14))
    with pytest.raises(DataError, match=r"2 \.npz files \(chestmnist\.npz, pneumoniamnist\.npz\)"):
        read_medmnist(tmp_path, image_size=16)
    named = read_medmnist(tmp_path / "pneumoniamnist.npz", image_size=16)
    assert named.dataset.name == "pneumoniamnist"


def test_pickled_objects_are_refused_and_never_run(tmp_path) -> None:
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    trap = np.array([Trap()], dtype=object)
    for name in ("train_images", "test_labels"):
        write(tmp_path, **(arrays() | {name: trap}))
        with pytest.raises(DataError, match=f"array '{name}' cannot be read"):
            read_medmnist(tmp_path, image_size=16)
    trap.dump(tmp_path / "pneumoniamnist.npz")
    with pytest.raises(DataError, match="cannot be read"):
        read_medmnist(tmp_path, image_size=16)
    np.save(tmp_path / "plain.npy", np.zeros(3))
    (tmp_path / "plain.npy").rename(tmp_path / "pneumoniamnist.npz")
    with pytest.raises(DataError, match="not an npz file"):
        read_medmnist(tmp_path, image_size=16)
    assert not (tmp_path / "ran").exists()


def test_a_cut_or_damaged_file_is_named(tmp_path) -> None:
    path = write(tmp_path) / "pneumoniamnist.npz"
    whole = path.read_bytes()
    for share in (0.0, 0.3, 0.6, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DataError, match=r"pneumoniamnist\.npz cannot be read .*get the file"):
            read_medmnist(tmp_path, image_size=16)
    damaged = bytearray(whole)
    damaged[200:260] = bytes(60)
    path.write_bytes(bytes(damaged))
    with pytest.raises(DataError, match=r"pneumoniamnist\.npz.* cannot be read"):
        read_medmnist(tmp_path, image_size=16)


def test_an_array_that_claims_to_be_huge_is_refused(tmp_path) -> None:
    path = write(tmp_path) / "pneumoniamnist.npz"
    header = io.BytesIO()
    claim = {"descr": "|u1", "fortran_order": False, "shape": (10**12, 28, 28)}
    np.lib.format.write_array_header_1_0(header, claim)
    given = arrays()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train_images.npy", header.getvalue() + bytes(100))
        for name, values in list(given.items())[1:]:
            content = io.BytesIO()
            np.save(content, values)
            archive.writestr(f"{name}.npy", content.getvalue())
    with pytest.raises(DataError, match=r"'train_images' (needs more memory|cannot be read)"):
        read_medmnist(tmp_path, image_size=16)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("val_images", None, "no array 'val_images'"),
        ("val_images", np.zeros((3, 28, 28), np.float32), "val_images has values of type float32"),
        ("val_images", np.zeros((3, 28), np.uint8), r"val_images has shape \(3, 28\)"),
        ("val_images", np.zeros((3, 28, 28, 28), np.uint8), "val_images has shape"),
        ("val_images", np.zeros((3, 0, 28), np.uint8), "val_images has shape"),
        ("val_images", np.zeros((2, 28, 28), np.uint8), "has 2 entries and val_labels 3"),
        ("val_labels", np.zeros((3, 2), np.uint8), "val_labels has 2 columns where 1"),
        ("val_labels", np.zeros((3, 1, 1), np.uint8), "val_labels has shape"),
        ("val_labels", np.full((3, 1), 2, np.uint8), "other than 0 and 1"),
        ("val_labels", np.full((3, 1), -1, np.int8), "whole numbers from 0"),
        ("val_labels", np.zeros((3, 1), np.float32), "whole numbers from 0"),
    ],
)
def test_wrong_arrays_are_named(tmp_path, name, value, said) -> None:
    given = arrays()
    del given[name]
    if value is not None:
        given[name] = value
    with pytest.raises(DataError, match=said):
        read_medmnist(write(tmp_path, **given), image_size=16)


def test_sets_of_unknown_name_need_agreeing_labels(tmp_path) -> None:
    given = arrays() | {"val_labels": np.zeros((3, 2), np.uint8)}
    with pytest.raises(DataError, match="columns of labels"):
        read_medmnist(write(tmp_path, "other.npz", **given), image_size=16)
    given = arrays() | {"val_labels": np.full((3, 1), 60000, np.uint16)}
    with pytest.raises(DataError, match="60001 classes"):
        read_medmnist(write(tmp_path, "other.npz", **given), image_size=16)


def test_unknown_labels_are_refused(tmp_path) -> None:
    write(tmp_path)
    with pytest.raises(DataError, match="no label 'pneumonie'; did you mean 'pneumonia'"):
        read_medmnist(tmp_path, image_size=16, labels=("pneumonie",))
    with pytest.raises(DataError, match="twice"):
        read_medmnist(tmp_path, image_size=16, labels=("pneumonia", "pneumonia"))
