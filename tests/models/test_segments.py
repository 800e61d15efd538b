"""The flat vector: nothing lost between model and update, and who trains and divides what."""

from __future__ import annotations

import itertools
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from privfin.config import ImputerKind, RunConfig
from privfin.models.segments import (
    assign,
    counts,
    flatten,
    freeze_untrained,
    initial_model,
    segment_of,
    segments,
    trains,
)

TEXT = {"encoder": "hashed-ngrams", "kind": "text", "features": 16}
IMAGE = {"encoder": "cnn", "kind": "image"}
TWO = {"image": IMAGE, "text": TEXT}
THREE = {**TWO, "notes": TEXT}
PUBLIC = {"source": "phantom", "records": 4}
KINDS = get_args(ImputerKind)
PAIRWISE = ("fin", "pfin", "mlp", "linear", "prototype", "mean")
FILLING = (*PAIRWISE, "fin-any", "retrieval")


def make_config(kind: str = "fin", modalities: dict = TWO, seed: int = 0) -> RunConfig:
    fin = {"layers": 1, "heads": 2, "feedforward": 8, "tokens": 2}
    return RunConfig.model_validate(
        {
            "modalities": modalities,
            "model": {"width": 8, "imputer": kind, "fin": fin, "retrieval": PUBLIC},
            "training": {"seed": seed},
        }
    )


def make_model(*args, **options) -> torch.nn.Module:
    return initial_model(make_config(*args, **options), 3)


# The vector


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("modalities", [TWO, THREE, {"text": TEXT}], ids=["two", "three", "one"])
def test_segments_divide_the_vector_without_gap_or_overlap(kind, modalities):
    model = make_model(kind, modalities)
    found = segments(model)
    assert found[0].start == 0
    assert found[-1].stop == flatten(model).size
    assert all(a.stop == b.start for a, b in itertools.pairwise(found))
    assert all(s.size == s.stop - s.start > 0 for s in found)
    wanted = [f"encoder.{m}" for m in modalities]
    if kind == "fin-any" and len(modalities) > 1:
        wanted.append("imputer.any")
    if kind in PAIRWISE:
        wanted += [f"imputer.{a}_to_{b}" for a, b in itertools.permutations(modalities, 2)]
    wanted += [f"head.{m}" for m in modalities] + ["bias"] * (kind != "late")
    assert [s.name for s in found] == wanted


def test_a_segment_is_the_parameters_of_its_module():
    """Changing one module changes exactly its slice of the vector."""
    model = make_model()
    before = flatten(model)
    for segment in segments(model):
        assign(model, before)
        module = model.get_submodule(segment.name)
        with torch.no_grad():
            for p in module.parameters():
                p += 1
        changed = np.flatnonzero(flatten(model) != before)
        assert changed.tolist() == list(range(segment.start, segment.stop))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-30, 1.0, 1e30]))
def test_the_vector_survives_the_model_bit_by_bit(seed, scale):
    model = make_model()
    size = flatten(model).size
    vector = (np.random.default_rng(seed).standard_normal(size) * scale).astype(np.float32)
    assign(model, vector)
    assert flatten(model).tobytes() == vector.tobytes()
    kept = flatten(model)
    vector[:] = 0
    assert flatten(model).tobytes() == kept.tobytes()  # the model does not share the array


def test_flatten_gives_a_copy():
    model = make_model("zero", {"text": TEXT})
    kept = flatten(model)
    before = kept.copy()
    assign(model, kept + 1)
    assert np.array_equal(kept, before)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_vector_of_another_length_is_refused(change):
    model = make_model()
    before = flatten(model)
    with pytest.raises(ValueError, match="parameters"):
        assign(model, np.ones(before.size + change, dtype=np.float32))
    assert np.array_equal(flatten(model), before)


# Who trains what

IMAGE_ONLY, TEXT_ONLY, PAIRED = ("image",), ("text",), ("image", "text")
TRAINS_WITH_FIN = {
    "encoder.image": {IMAGE_ONLY, PAIRED},
    "encoder.text": {TEXT_ONLY, PAIRED},
    "imputer.image_to_text": {PAIRED},
    "imputer.text_to_image": {PAIRED},
    "head.image": {IMAGE_ONLY, TEXT_ONLY, PAIRED},
    "head.text": {IMAGE_ONLY, TEXT_ONLY, PAIRED},
    "bias": {IMAGE_ONLY, TEXT_ONLY, PAIRED},
}
TRAINS_WITH_ZEROS = {
    **TRAINS_WITH_FIN,
    "head.image": {IMAGE_ONLY, PAIRED},
    "head.text": {TEXT_ONLY, PAIRED},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("have", [IMAGE_ONLY, TEXT_ONLY, PAIRED])
def test_who_trains_a_segment(kind, have):
    """With FIN the head's block for a missing modality learns from imputed features; with zeros
    it would only see zeros."""
    table = TRAINS_WITH_FIN if kind in FILLING else TRAINS_WITH_ZEROS
    for segment, sites in table.items():
        assert trains(segment, have, kind) == (have in sites), segment


@pytest.mark.parametrize("kind", KINDS)
def test_the_divisor_of_a_segment(kind):
    """4 image-only, 4 text-only, 2 paired. Only plain zero-filling dilutes an average with sites
    that cannot train the segment."""
    sites = [IMAGE_ONLY] * 4 + [TEXT_ONLY] * 4 + [PAIRED] * 2
    fin = dict.fromkeys(TRAINS_WITH_FIN, 10) | {
        "encoder.image": 6,
        "encoder.text": 6,
        "imputer.image_to_text": 2,
        "imputer.text_to_image": 2,
    }
    fair = fin | {"head.image": 6, "head.text": 6}
    wanted = fin if kind in FILLING else dict.fromkeys(fin, 10) if kind == "zero" else fair
    assert {s: sum(counts(s, have, kind) for have in sites) for s in wanted} == wanted


def test_the_any_to_any_imputer_is_trained_where_there_are_two_modalities():
    assert not trains("imputer.any", IMAGE_ONLY, "fin-any")
    assert trains("imputer.any", PAIRED, "fin-any")
    assert trains("imputer.any", ("image", "notes"), "fin-any")
    sites = [IMAGE_ONLY] * 4 + [TEXT_ONLY] * 4 + [PAIRED] * 2
    assert sum(counts("imputer.any", have, "fin-any") for have in sites) == 2


def test_ownership_with_three_modalities():
    have = ("image", "notes")
    assert trains("imputer.notes_to_image", have, "fin")
    assert not trains("imputer.notes_to_text", have, "fin")
    assert not trains("encoder.text", have, "fin")
    assert trains("head.text", have, "fin")
    assert not trains("head.text", have, "zero-fair")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("have", [IMAGE_ONLY, TEXT_ONLY, PAIRED])
def test_freezing_follows_the_table(kind, have):
    """What a site sends and what its divisor counts are decided by one rule. Freezing again for
    another site forgets the first."""
    model = make_model(kind)
    freeze_untrained(model, ("image",), kind)
    freeze_untrained(model, have, kind)
    for name, p in model.named_parameters():
        assert p.requires_grad == trains(segment_of(name), have, kind), name


# The first model


def test_the_first_model_depends_on_the_seed_alone():
    """Sites build it themselves: it must be equal everywhere, whatever ran before it."""
    torch.manual_seed(1)
    first = flatten(make_model(seed=5))
    torch.manual_seed(2)
    torch.randn(10)
    assert np.array_equal(first, flatten(make_model(seed=5)))
    assert not np.array_equal(first, flatten(make_model(seed=6)))


def test_building_the_first_model_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    wanted = torch.randn(3)
    torch.manual_seed(1)
    make_model(seed=5)
    assert torch.equal(torch.randn(3), wanted)
