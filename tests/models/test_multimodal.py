"""The multimodal model: records do not couple, absent inputs are inert, losses stay apart."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from privfin.config import RunConfig
from privfin.errors import ConfigError
from privfin.models.multimodal import Batch, MultimodalModel, masked_bce
from privfin.models.scattering import scattering_width
from privfin.models.segments import initial_model, segments

LABELS = 3
WIDTH = 8
KINDS = ["fin", "zero", "zero-fair"]
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
TWO = {
    "image": {"encoder": "scattering", "kind": "image"},
    "text": {"encoder": "hashed-ngrams", "kind": "text", "features": 16},
}
TRAINED = {
    "image": {"encoder": "cnn", "kind": "image"},
    "text": {"encoder": "transformer", "kind": "text", "length": 5},
}
THREE = {**TWO, "notes": {"encoder": "hashed-ngrams", "kind": "text", "features": 24}}
EVERY_SET = pytest.mark.parametrize(
    "modalities", [TWO, TRAINED, THREE], ids=["two", "trained", "three"]
)


def make_model(kind: str = "fin", modalities: dict = TWO) -> MultimodalModel:
    """Random parameters: a new head is zero, which would hide what reaches it."""
    config = RunConfig.model_validate(
        {
            "modalities": modalities,
            "model": {
                "width": WIDTH,
                "imputer": kind,
                "fin": {"layers": 1, "heads": 2, "feedforward": 8, "tokens": 2},
            },
        }
    )
    model = initial_model(config, LABELS)
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=random) * 0.4)
    return model


def random_input(options: dict, rows: int, random: torch.Generator) -> Tensor:
    if options["encoder"] == "scattering":
        return torch.randn(rows, scattering_width(1), generator=random)
    if options["encoder"] == "cnn":
        return torch.randn(rows, 1, 16, 16, generator=random)
    if options["encoder"] == "transformer":
        return torch.randint(1, 2048, (rows, options["length"]), generator=random).float()
    return torch.randn(rows, options["features"], generator=random)


def make_batch(modalities: dict = TWO, rows: int = 10, seed: int = 0) -> Batch:
    """Rows with every combination of modalities, and some unknown labels."""
    random = torch.Generator().manual_seed(seed)
    inputs, present = {}, {}
    for k, (name, options) in enumerate(modalities.items()):
        present[name] = torch.tensor(
            [(i % 2 ** len(modalities)) >> k & 1 == 0 for i in range(rows)]
        )
        inputs[name] = random_input(options, rows, random)
        inputs[name][~present[name]] = 0
    labels = torch.randint(0, 2, (rows, LABELS), generator=random).float()
    labels[1, 0] = labels[4] = math.nan
    return Batch(inputs, present, labels)


def grads(loss: Tensor, model: MultimodalModel) -> dict[str, Tensor]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return {
        n: torch.zeros_like(p) if g is None else g
        for n, p, g in zip(names, parameters, found, strict=True)
    }


# Records do not couple


@EVERY_KIND
@EVERY_SET
def test_the_loss_of_a_batch_is_the_loss_of_each_record_alone(kind, modalities):
    model, batch = make_model(kind, modalities), make_batch(modalities)
    together = model.per_record_loss(batch, 0.5)
    assert together.shape == (len(batch),)
    alone = [model.per_record_loss(batch.rows(torch.tensor([i])), 0.5) for i in range(len(batch))]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
    assert (together > 0).sum() >= 8


@EVERY_KIND
def test_a_record_moves_no_other_records_loss(kind):
    """The gradient of one record's loss with respect to every other record's input is zero."""
    model, batch = make_model(kind), make_batch()
    for x in batch.inputs.values():
        x.requires_grad_(True)
    for i in (0, 1, 2):
        loss = model.per_record_loss(batch, 0.5)[i]
        for found in torch.autograd.grad(loss, list(batch.inputs.values()), allow_unused=True):
            if found is not None:
                others = torch.arange(len(batch)) != i
                assert not found[others].any()


def test_a_coupling_loss_would_be_caught():
    """The first check above on a loss that subtracts the batch's mean logits."""
    model, batch = make_model(), make_batch()
    logits = model(batch)
    together = masked_bce(logits - logits.mean(dim=0), batch.labels)
    single = model(batch.rows(torch.tensor([0])))
    alone = masked_bce(single - single.mean(dim=0), batch.labels[:1])
    assert not torch.allclose(together[:1], alone, atol=1e-3)


# Absent modalities


@EVERY_KIND
@EVERY_SET
def test_what_stands_in_an_absent_row_cannot_influence_anything(kind, modalities):
    """Masking is done by the model, not trusted to the reader of the data."""
    model, batch = make_model(kind, modalities), make_batch(modalities)
    random = torch.Generator().manual_seed(8)
    dirty = {}
    for name, x in batch.inputs.items():
        garbage = random_input(modalities[name], len(batch), random)
        absent = ~batch.present[name]
        dirty[name] = x.clone()
        dirty[name][absent] = garbage[absent]
    assert any(not torch.equal(dirty[m], batch.inputs[m]) for m in dirty)
    other = replace(batch, inputs=dirty)
    assert torch.equal(model(batch), model(other))
    loss, other_loss = model.per_record_loss(batch, 0.5), model.per_record_loss(other, 0.5)
    assert torch.equal(loss, other_loss)
    clean, unclean = grads(loss.sum(), model), grads(other_loss.sum(), model)
    for name, grad in clean.items():
        assert torch.allclose(grad, unclean[name], atol=1e-5), name


@EVERY_SET
def test_features_of_absent_modalities_are_exact_zeros(modalities):
    model, batch = make_model("fin", modalities), make_batch(modalities)
    for name, feature in model.encode(batch).items():
        present = batch.present[name]
        assert not feature[~present].any()
        assert torch.allclose(feature[present].norm(dim=1), torch.ones(()), atol=1e-5)


def test_only_the_named_modalities_are_seen():
    """How an evaluation cell hides a modality: as if the record never had it."""
    model, batch = make_model(), make_batch()
    seen = batch.only(frozenset({"image"}))
    assert not seen.present["text"].any()
    assert not seen.inputs["text"].any()
    assert torch.equal(seen.inputs["image"], batch.inputs["image"])
    changed = replace(batch, inputs={**batch.inputs, "text": batch.inputs["text"] + 1})
    assert torch.equal(model(seen), model(changed.only(frozenset({"image"}))))
    assert not torch.allclose(model(seen), model(batch))


@EVERY_KIND
def test_a_record_without_any_modality_gets_the_bias(kind):
    model, batch = make_model(kind), make_batch()
    logits = model(batch.only(frozenset()))
    assert torch.allclose(logits, model.bias.weight.T.expand(len(batch), -1), atol=1e-6)


# The formula


@EVERY_KIND
def test_the_head_is_one_linear_map_of_the_concatenated_features(kind):
    """Logits = sqrt(d) W [f_image; f_text] + b, with absent features imputed (fin) or zero."""
    model, batch = make_model(kind), make_batch()
    blocks = torch.cat([model.head[m].weight for m in ("image", "text")], dim=1)
    real = {m: model.encoder[m](batch.inputs[m]) for m in ("image", "text")}
    rows = []
    for i in range(len(batch)):
        features = []
        for m, other in (("image", "text"), ("text", "image")):
            if batch.present[m][i]:
                features.append(real[m][i])
            elif kind == "fin" and batch.present[other][i]:
                features.append(model.imputer[f"{other}_to_{m}"](real[other][i : i + 1])[0])
            else:
                features.append(torch.zeros(WIDTH))
        rows.append(WIDTH**0.5 * blocks @ torch.cat(features) + model.bias.weight[:, 0])
    assert torch.allclose(model(batch), torch.stack(rows), atol=1e-5)


def test_a_new_model_knows_nothing():
    """A zero head says 1/2 for every label, so the first round starts from no opinion."""
    model = initial_model(RunConfig(), LABELS)
    x = {"image": torch.randn(2, scattering_width(1)), "text": torch.randn(2, 512)}
    there = torch.tensor([True, True])
    batch = Batch(x, {"image": there, "text": there}, torch.zeros(2, LABELS))
    assert not model(batch).any()


# Which loss teaches what


def names_with_gradient(loss: Tensor, model: MultimodalModel) -> set[str]:
    return {n.split(".")[0] for n, g in grads(loss, model).items() if g.any()}


def test_each_loss_teaches_its_own_part():
    """Classification teaches encoders and head; imputation teaches imputers. Neither leaks into
    the other's parameters, although both are one scalar for clipping."""
    model, batch = make_model(), make_batch()
    classification = masked_bce(model(batch), batch.labels).sum()
    assert names_with_gradient(classification, model) == {"encoder", "head", "bias"}
    both = model.per_record_loss(batch, 1.0).sum()
    imputation = both - classification
    found = grads(imputation, model)
    for name, grad in found.items():
        if name.startswith("imputer"):
            continue
        assert torch.allclose(grad, torch.zeros(()), atol=1e-5), name
    assert any(g.abs().max() > 1e-2 for n, g in found.items() if n.startswith("imputer"))
    assert names_with_gradient(both, model) == {"encoder", "head", "bias", "imputer"}


def test_the_imputation_loss_is_the_squared_distance_on_paired_records():
    model, batch = make_model(), make_batch()
    without = model.per_record_loss(batch, 0.0)
    extra = model.per_record_loss(batch, 0.3) - without
    features = model.encode(batch)
    for i in range(len(batch)):
        wanted = 0.0
        if batch.present["image"][i] and batch.present["text"][i]:
            a, b = features["image"][i : i + 1], features["text"][i : i + 1]
            wanted += (model.imputer["image_to_text"](a) - b).square().sum().item()
            wanted += (model.imputer["text_to_image"](b) - a).square().sum().item()
        assert float(extra[i]) == pytest.approx(0.3 * wanted, abs=1e-4)


@pytest.mark.parametrize("kind", ["zero", "zero-fair"])
def test_zero_filling_has_no_imputer_and_no_imputation_loss(kind):
    model, batch = make_model(kind), make_batch()
    assert len(model.imputer) == 0
    assert torch.equal(model.per_record_loss(batch, 0.0), model.per_record_loss(batch, 9.0))


# Labels


def test_unknown_labels_teach_nothing():
    """A label that was never looked at must not be read as absent."""
    model, batch = make_model("zero"), make_batch()
    labels = batch.labels.clone()
    labels[:, 1] = math.nan
    found = grads(model.per_record_loss(replace(batch, labels=labels), 0.5).sum(), model)
    assert all(torch.isfinite(g).all() for g in found.values())
    assert not found["bias.weight"][1].any()
    assert not found["head.image.weight"][1].any()
    assert found["bias.weight"][0].any()
    labels[:] = math.nan
    nothing = model.per_record_loss(replace(batch, labels=labels), 0.5)
    assert not nothing.any()
    assert not any(g.any() for g in grads(nothing.sum(), model).values())


def test_the_loss_is_the_mean_over_known_labels():
    logits = torch.tensor([[0.3, -2.0, 5.0], [1.0, 1.0, 1.0]])
    labels = torch.tensor([[1.0, math.nan, 0.0], [math.nan] * 3])
    wanted = (math.log1p(math.exp(-0.3)) + math.log1p(math.exp(5.0))) / 2
    assert masked_bce(logits, labels).tolist() == pytest.approx([wanted, 0.0], abs=1e-6)


# More modalities


def test_a_third_modality_needs_a_name_and_nothing_else():
    model, batch = make_model("fin", THREE), make_batch(THREE)
    assert model.modalities == ("image", "text", "notes")
    assert len(model.imputer) == 6
    names = {s.name for s in segments(model)}
    assert {"encoder.notes", "head.notes", "imputer.notes_to_image"} <= names
    assert model(batch).shape == (len(batch), LABELS)
    # A missing feature is the mean of what the present ones say of it.
    features = model.encode(batch)
    full = model.complete(batch, features, model.impute(features))
    row = next(
        i
        for i in range(len(batch))
        if batch.present["image"][i] and batch.present["text"][i] and not batch.present["notes"][i]
    )
    said = [model.imputer[f"{m}_to_notes"](features[m][row : row + 1])[0] for m in TWO]
    assert torch.allclose(full["notes"][row], sum(said) / 2, atol=1e-5)


def test_one_modality_alone_works():
    only = {"text": TWO["text"]}
    model = make_model("fin", only)
    batch = make_batch(only)
    assert len(model.imputer) == 0
    assert torch.isfinite(model.per_record_loss(batch, 0.5)).all()


@pytest.mark.parametrize("name", ["values", "type", "training", "keys"])
def test_a_name_that_torch_keeps_for_itself_is_refused_in_one_line(name):
    with pytest.raises(ConfigError, match=f"'{name}' cannot be the name of a modality"):
        make_model("fin", {**TWO, name: TWO["text"]})
