"""Front ends: fixed functions of one record, with zero rows where a modality is absent."""

from __future__ import annotations

import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from privfin.config import ModalityConfig
from privfin.data.images import StoredImage
from privfin.data.records import Record
from privfin.errors import DataError
from privfin.models.frontends import CHUNK, WORD_BUCKETS, frontend, read_inputs

SIDE = 16
MODALITIES = {
    "scattering": ModalityConfig(encoder="scattering", kind="image"),
    "cnn": ModalityConfig(encoder="cnn", kind="image"),
    "hashed-ngrams": ModalityConfig(encoder="hashed-ngrams", kind="text", features=64),
    "transformer": ModalityConfig(encoder="transformer", kind="text", length=6),
    "values": ModalityConfig(
        encoder="values",
        kind="tabular",
        ranges={"temperature": (35, 42), "age": (0, 100), "sex": (0, 1)},
    ),
}
TEXTS = ["No acute disease.", "Cardiomegaly; small effusion", "", "normal heart, normal heart"]
EVERY = pytest.mark.parametrize("name", MODALITIES)


def raw_inputs(name: str, count: int = 4) -> list:
    if MODALITIES[name].kind == "text":
        return [TEXTS[i % len(TEXTS)] for i in range(count)]
    random = np.random.default_rng(0)
    if MODALITIES[name].kind == "tabular":
        rows = random.normal([50, 0.5, 38], [20, 0.5, 2], (count, 3)).astype(np.float32)
        rows[random.random((count, 3)) < 0.3] = np.nan
        return list(rows)
    return [random.integers(0, 256, (SIDE, SIDE), dtype=np.uint8) for _ in range(count)]


def as_records(raw: list, modality: str = "m") -> list[Record]:
    labels = np.zeros(1, dtype=np.float32)
    return [
        Record(str(i), str(i), {} if x is None else {modality: x}, labels)
        for i, x in enumerate(raw)
    ]


@EVERY
def test_absent_rows_are_zero_and_do_not_touch_the_others(name):
    """An absent modality is an exact zero row, wherever it stands."""
    raw = raw_inputs(name)
    whole, all_there = read_inputs(as_records(raw), "m", MODALITIES[name], SIDE)
    assert all_there.all()
    gaps = [None, raw[0], raw[1], None, raw[2], raw[3], None]
    inputs, present = read_inputs(as_records(gaps), "m", MODALITIES[name], SIDE)
    assert present.tolist() == [x is not None for x in gaps]
    assert not inputs[~present].any()
    assert torch.allclose(inputs[present], whole, atol=1e-6)
    assert inputs.dtype == torch.float32


@EVERY
def test_a_site_without_the_modality_gets_rows_of_the_same_shape(name):
    with_one, _ = read_inputs(as_records(raw_inputs(name)), "m", MODALITIES[name], SIDE)
    none, present = read_inputs(as_records([None, None]), "m", MODALITIES[name], SIDE)
    assert none.shape == (2, *with_one.shape[1:])
    assert not none.any()
    assert not present.any()


@EVERY
def test_each_record_is_read_alone(name):
    """No vocabulary, mean or scale is taken over records: nothing is fitted on patients."""
    read = frontend(MODALITIES[name], SIDE)
    raw = raw_inputs(name)
    together = read(raw)
    assert torch.allclose(together, torch.cat([read([x]) for x in raw]), atol=1e-6)
    assert torch.allclose(together.flip(0), read(raw[::-1]), atol=1e-6)


@EVERY
def test_the_wrong_kind_of_input_is_refused_by_name(name):
    wrong = (
        np.zeros((SIDE, SIDE), dtype=np.uint8) if name in ("hashed-ngrams", "transformer") else "x"
    )
    with pytest.raises(DataError, match="encoder needs"):
        read_inputs(as_records([*raw_inputs(name), wrong]), "m", MODALITIES[name], SIDE)


@pytest.mark.parametrize("name", ["scattering", "cnn"])
@pytest.mark.parametrize("shape", [(SIDE, SIDE + 1), (8, 8), (SIDE, SIDE, 3)])
def test_images_of_another_shape_are_refused(name, shape):
    with pytest.raises(DataError, match="16x16 grey"):
        frontend(MODALITIES[name], SIDE)([np.zeros(shape, dtype=np.uint8)])


def test_numbers_that_are_not_finite_are_refused():
    broken = np.full((SIDE, SIDE), np.nan, dtype=np.float32)
    with pytest.raises(DataError, match="not finite"):
        read_inputs(as_records([broken]), "m", MODALITIES["cnn"], SIDE)


def test_hashing_is_the_same_in_every_process():
    """Sites must hash a word alike, so Python's own hash, salted per process, will not do."""
    script = (
        "from privfin.config import ModalityConfig\n"
        "from privfin.models.frontends import frontend\n"
        "for options in {}:\n"
        "    modality = ModalityConfig.model_validate(options)\n"
        "    print(frontend(modality, 16)({!r}).tolist())\n"
    )
    readers = [MODALITIES["hashed-ngrams"], MODALITIES["transformer"]]
    options = [modality.model_dump() for modality in readers]
    out = subprocess.run(  # noqa: S603
        [sys.executable, "-c", script.format(options, TEXTS)],
        env={"PYTHONHASHSEED": "12345", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    here = [str(frontend(modality, SIDE)(TEXTS).tolist()) for modality in readers]
    assert out.stdout.splitlines() == here


class Lazy:
    """An image that is made when it is asked for; knows how many of them are alive at once."""

    alive: weakref.WeakSet
    most: int

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def load(self) -> np.ndarray:
        made = np.random.default_rng(self.seed).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
        marker = made.view(type("Counted", (np.ndarray,), {"__hash__": object.__hash__}))
        Lazy.alive.add(marker)
        Lazy.most = max(Lazy.most, len(Lazy.alive))
        return marker

    def content(self) -> bytes:
        return bytes([self.seed])


def test_lazy_inputs_give_the_same_and_only_one_part_of_them_is_in_memory():
    Lazy.alive, Lazy.most = weakref.WeakSet(), 0
    count = 2 * CHUNK + 7
    done: list[int] = []
    lazy = [Lazy(i) for i in range(count)]
    found, present = read_inputs(
        as_records(lazy), "m", MODALITIES["cnn"], SIDE, advance=done.append
    )
    assert 0 < Lazy.most <= CHUNK + 1
    assert done == [CHUNK, CHUNK, 7]
    assert present.all()
    eager = frontend(MODALITIES["cnn"], SIDE)([Lazy(i).load() for i in range(count)])
    assert torch.equal(found, eager)


def test_the_first_unreadable_input_is_named_with_its_row(tmp_path):
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    image = StoredImage(tmp_path / "cut.png", SIDE, "list.csv row 7")
    records = as_records([*raw_inputs("cnn"), image])
    with pytest.raises(DataError, match=r"list\.csv row 7: image .*cut\.png cannot be decoded"):
        read_inputs(records, "m", MODALITIES["cnn"], SIDE)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(texts=st.lists(st.text(max_size=60), max_size=4))
def test_any_text_can_be_hashed(texts):
    """Reports hold anything: the result is finite, of bounded norm, with ids that exist."""
    grams = frontend(MODALITIES["hashed-ngrams"], SIDE)(texts)
    assert grams.shape == (len(texts), 64)
    assert torch.isfinite(grams).all()
    assert (grams.norm(dim=1) <= 1 + 1e-5).all()
    ids = frontend(MODALITIES["transformer"], SIDE)(texts)
    assert ids.shape == (len(texts), 6)
    assert torch.equal(ids, ids.round())
    assert ((ids >= 0) & (ids < WORD_BUCKETS)).all()


def test_words_count_and_their_order_counts():
    """Not a proof of quality: only that texts which differ are not confused."""
    read = frontend(MODALITIES["hashed-ngrams"], SIDE)
    a, b, c = read(["large heart small lung", "small heart large lung", "LARGE heart  small lung"])
    assert torch.equal(a, c)
    assert not torch.equal(a, b)
    words = frontend(MODALITIES["transformer"], SIDE)(["Effusion? No.", "effusion ? no ."])
    assert torch.equal(words[0], words[1])
    assert (words[0] > 0).sum() == 4


def test_values_are_scaled_in_their_public_ranges():
    """Columns in the order of their names, whatever the file's or the configuration's."""
    assert MODALITIES["values"].columns == ("age", "sex", "temperature")
    rows = [
        [50, 1, 35], [0, 0, 42], [25, np.nan, 38.5], [np.nan, np.nan, np.nan], [-20, 7, 1e30]
    ]  # fmt: skip
    found = frontend(MODALITIES["values"], SIDE)([np.array(row, np.float32) for row in rows])
    expected = [
        [0, 1, -1, 1, 1, 1],
        [-1, -1, 1, 1, 1, 1],
        [-0.5, 0, 0, 1, 0, 1],
        [0, 0, 0, 0, 0, 0],
        [-1, 1, 1, 1, 1, 1],
    ]
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float32))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    low=st.floats(-1e6, 1e6),
    width=st.floats(1e-3, 1e6),
    value=st.one_of(
        st.just(float("nan")), st.floats(width=32, allow_nan=False, allow_infinity=False)
    ),
)
def test_any_value_stays_within_bounds(low, width, value):
    """Each number is in [-1, 1], so a record's input is bounded; a missing one is told from 0."""
    modality = ModalityConfig(encoder="values", kind="tabular", ranges={"x": (low, low + width)})
    ((scaled, known),) = frontend(modality, SIDE)([np.array([value], np.float32)]).tolist()
    assert -1 <= scaled <= 1
    assert known == (0.0 if np.isnan(value) else 1.0)
    assert known or scaled == 0.0


@pytest.mark.parametrize("shape", [(2,), (4,), (3, 1)])
def test_a_row_of_another_table_is_refused(shape):
    with pytest.raises(DataError, match="needs 3 values"):
        frontend(MODALITIES["values"], SIDE)([np.zeros(shape, dtype=np.float32)])
