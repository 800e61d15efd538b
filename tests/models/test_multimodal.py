"""The multimodal model: records do not couple, absent inputs are inert, losses stay apart."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor

from privfin.config import ImputerKind, RunConfig
from privfin.errors import ConfigError
from privfin.models.multimodal import Batch, MultimodalModel, masked_bce
from privfin.models.scattering import scattering_width
from privfin.models.segments import assign, flatten, initial_model, segments

LABELS = 3
WIDTH = 8
KINDS = get_args(ImputerKind)
NOTHING = ("zero", "zero-fair", "none", "late")
PUBLIC = 6
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
                "prototypes": 3,
                "retrieval": {"source": "phantom", "records": PUBLIC, "neighbours": 2},
            },
        }
    )
    model = initial_model(config, LABELS)
    if kind == "retrieval":
        model.use_public(public_batch(modalities))
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=random) * 0.4)
    model.refresh()
    return model


def public_batch(modalities: dict) -> Batch:
    """Public records that have everything."""
    random = torch.Generator().manual_seed(11)
    inputs = {m: random_input(options, PUBLIC, random) for m, options in modalities.items()}
    there = dict.fromkeys(modalities, torch.ones(PUBLIC, dtype=torch.bool))
    return Batch(inputs, there, torch.full((PUBLIC, LABELS), math.nan))


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
    assert (together != 0).sum() >= 7


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


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "late"])
def test_a_record_without_any_modality_gets_the_bias(kind):
    model, batch = make_model(kind), make_batch()
    logits = model(batch.only(frozenset()))
    assert torch.allclose(logits, model.bias.weight.T.expand(len(batch), -1), atol=1e-6)


# The formula


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "late"])
def test_the_head_is_one_linear_map_of_the_concatenated_features(kind):
    """Logits = sqrt(d) W [f_image; f_text] + b, with absent features imputed or zero."""
    model, batch = make_model(kind), make_batch()
    blocks = torch.cat([model.head[m].weight for m in ("image", "text")], dim=1)
    real = {m: model.encoder[m](batch.inputs[m]) for m in ("image", "text")}
    rows = []
    for i in range(len(batch)):
        features = []
        for m, other in (("image", "text"), ("text", "image")):
            if batch.present[m][i]:
                features.append(real[m][i])
            elif kind not in NOTHING and batch.present[other][i]:
                features.append(imputed_alone(model, kind, other, m, real[other][i : i + 1]))
            else:
                features.append(torch.zeros(WIDTH))
        rows.append(WIDTH**0.5 * blocks @ torch.cat(features) + model.bias.weight[:, 0])
    assert torch.allclose(model(batch), torch.stack(rows), atol=1e-5)


def imputed_alone(model: MultimodalModel, kind: str, source: str, target: str, feature: Tensor):
    """What is imputed from one modality of one row, by the imputer itself."""
    if kind == "retrieval":
        bank = model.encode(public_batch(TWO))
        order = (bank[source] - feature).norm(dim=1).argsort()[:2]
        return bank[target][order].mean(dim=0)
    if kind == "fin-any":
        features = {source: feature, target: torch.zeros(1, WIDTH)}
        there = {source: torch.tensor([True]), target: torch.tensor([False])}
        ordered = {m: features[m] for m in model.modalities}
        return model.imputer["any"](ordered, there)[target].feature[0]
    return model.imputer[f"{source}_to_{target}"](feature).feature[0]


def test_late_fusion_is_the_mean_of_the_unimodal_heads():
    model, batch = make_model("late"), make_batch()
    each = {m: WIDTH**0.5 * model.encoder[m](batch.inputs[m]) for m in model.modalities}
    logits = {m: x @ model.head[m].weight.T + model.head[m].bias for m, x in each.items()}
    for i in range(len(batch)):
        there = [logits[m][i] for m in model.modalities if batch.present[m][i]]
        wanted = sum(there) / len(there) if there else torch.zeros(LABELS)
        assert torch.allclose(model(batch)[i], wanted, atol=1e-5)
        losses = [masked_bce(z[None], batch.labels[i : i + 1]) for z in there]
        wanted_loss = sum(losses) / len(losses) if losses else torch.zeros(1)
        assert torch.allclose(model.per_record_loss(batch, 0.5)[i], wanted_loss, atol=1e-5)


@pytest.mark.parametrize("kind", ["none", "fin", "pfin", "fin-any", "retrieval"])
@pytest.mark.parametrize("modalities", [TWO, THREE], ids=["two", "three"])
def test_modality_dropout_is_the_expectation_over_views(kind, modalities):
    """1 - p times the whole record's loss and p times the mean over views that lack one."""
    model, batch = make_model(kind, modalities), make_batch(modalities)
    model.dropout = 0.0
    whole = model.per_record_loss(batch, 0.0)
    model.dropout = 0.4
    found = model.per_record_loss(batch, 0.0)
    model.dropout = 0.0
    everything = torch.stack([batch.present[m] for m in modalities]).all(dim=0)
    for i in range(len(batch)):
        row = batch.rows(torch.tensor([i]))
        held = [m for m in modalities if batch.present[m][i]]
        if len(held) < 2:
            assert torch.allclose(found[i], whole[i], atol=1e-6)
            continue
        if not everything[i]:
            continue  # what the removed modality said of a third one stays in the view
        views = [model.per_record_loss(row.only(frozenset(held) - {m}), 0.0)[0] for m in held]
        wanted = 0.6 * whole[i] + 0.4 * sum(views) / len(views)
        assert torch.allclose(found[i], wanted, atol=1e-5)


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
            wanted += (model.imputer["image_to_text"](a).mean - b).square().sum().item()
            wanted += (model.imputer["text_to_image"](b).mean - a).square().sum().item()
        assert float(extra[i]) == pytest.approx(0.3 * wanted, abs=1e-4)


@pytest.mark.parametrize("kind", NOTHING)
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
    said = model.imputer(features, batch.present)
    full = model.complete(features, batch.present, said)
    row = next(
        i
        for i in range(len(batch))
        if batch.present["image"][i] and batch.present["text"][i] and not batch.present["notes"][i]
    )
    each = [model.imputer[f"{m}_to_notes"](features[m][row : row + 1]).feature[0] for m in TWO]
    assert torch.allclose(full["notes"][row], sum(each) / 2, atol=1e-5)


def test_one_modality_alone_works():
    only = {"text": TWO["text"]}
    model = make_model("fin", only)
    batch = make_batch(only)
    assert len(model.imputer) == 0
    assert torch.isfinite(model.per_record_loss(batch, 0.5)).all()


@EVERY_KIND
def test_one_modality_alone_trains_with_every_imputer(kind):
    only = {"text": TWO["text"]}
    model, batch = make_model("zero-fair" if kind == "retrieval" else kind, only), make_batch(only)
    assert torch.isfinite(model.per_record_loss(batch, 0.5)).all()


# Retrieval: a patient's feature and public records, nothing else


def test_retrieval_reads_nothing_of_other_patients():
    """One patient's row is imputed alike whatever the other rows of the batch are."""
    model, batch = make_model("retrieval"), make_batch()
    said = model.imputer(model.encode(batch), batch.present).estimates["text"].feature
    changed = {m: x.clone() for m, x in batch.inputs.items()}
    for x in changed.values():
        x[1:] = torch.randn(x[1:].shape, generator=torch.Generator().manual_seed(5))
    other = replace(batch, inputs=changed)
    again = model.imputer(model.encode(other), other.present).estimates["text"].feature
    assert torch.equal(said[0], again[0])
    assert not torch.equal(said, again)


def test_training_leaves_the_public_bank_alone():
    """A loss over patients must not put them into the bank from which others are imputed."""
    model, batch = make_model("retrieval"), make_batch()
    before = {n: b.clone() for n, b in model.imputer.named_buffers()}
    model.per_record_loss(batch, 0.5).sum().backward()
    assert all(torch.equal(before[n], b) for n, b in model.imputer.named_buffers())
    assert not any(b.requires_grad for b in model.imputer.buffers())


def test_an_empty_bank_is_refused():
    model, batch = make_model("retrieval"), make_batch()
    for name, x in list(model.imputer.named_buffers()):
        x.zero_()
        assert not x.any(), name
    with pytest.raises(ConfigError, match="public set"):
        model(batch)


def test_the_bank_follows_the_encoders():
    model = make_model("retrieval")
    before = model.imputer.get_buffer("bank_image").clone()
    assign(model, flatten(model) * -1.0 + 0.5)
    after = model.imputer.get_buffer("bank_image")
    assert not torch.allclose(before, after)
    assert torch.allclose(after, model.encode(public_batch(TWO))["image"])


def test_prototypes_are_parameters_and_nothing_else():
    """Every row's imputation is a mixture of learned vectors; no buffer could hold patients."""
    model, batch = make_model("prototype"), make_batch()
    assert not list(model.imputer.buffers())
    imputer = model.imputer["image_to_text"]
    before = [p.clone() for p in imputer.parameters()]
    said = imputer(model.encode(batch)["image"]).feature
    assert all(torch.equal(a, b) for a, b in zip(before, imputer.parameters(), strict=True))
    rows = imputer.prototypes.weight.T
    weights = torch.linalg.lstsq(rows.T, said.T).solution
    assert torch.allclose(rows.T @ weights, said.T, atol=1e-4)
    assert (weights > -1e-3).all(), "a mixture, up to its length"


def test_a_prototype_that_remembers_patients_would_be_caught():
    """The batch test above on a prototype moved towards the rows it has just seen."""
    model, batch = make_model("prototype"), make_batch()
    imputer = model.imputer["image_to_text"]
    honest = imputer.forward

    def remembering(source: Tensor):
        with torch.no_grad():
            imputer.prototypes.weight += source.mean(dim=0)[:, None]
        return honest(source)

    imputer.forward = remembering
    together = model.per_record_loss(batch, 0.5)
    alone = [model.per_record_loss(batch.rows(torch.tensor([i])), 0.5) for i in range(len(batch))]
    assert not torch.allclose(together, torch.cat(alone), atol=1e-3)


# Uncertainty


def test_the_imputed_variance_is_stated_for_what_is_missing_only():
    model, batch = make_model("pfin"), make_batch()
    found = model.imputed_variance(batch)
    for m, other in (("image", "text"), ("text", "image")):
        wanted = ~batch.present[m] & batch.present[other]
        assert torch.equal(~torch.isnan(found[m]), wanted)
        assert (found[m][wanted] > 0).all()
    assert make_model("fin").imputed_variance(batch) == {}


def test_the_uncertainty_scalar_learns_the_mean_variance():
    config = RunConfig.model_validate(
        {
            "modalities": TWO,
            "model": {"width": WIDTH, "imputer": "pfin"},
            "training": {"aggregation": "uncertainty"},
        }
    )
    model, batch = initial_model(config, LABELS), make_batch()
    said = model.imputer(model.encode(batch), batch.present)
    rows = [
        torch.stack(
            [e.variance.mean(dim=1)[i] for m, e in said.estimates.items() if said.said[m][i]]
        ).mean()
        for i in range(len(batch))
        if any(said.said[m][i] for m in said.estimates)
    ]
    wanted = torch.stack(rows).clamp(max=4.0).mean()
    with torch.no_grad():
        model.uncertainty.weight.fill_(float(wanted))
    loss = model.per_record_loss(batch, 0.0).sum()
    gradient = torch.autograd.grad(loss, model.uncertainty.weight)[0]
    assert abs(float(gradient)) < 1e-4


@pytest.mark.parametrize("name", ["values", "type", "training", "keys"])
def test_a_name_that_torch_keeps_for_itself_is_refused_in_one_line(name):
    with pytest.raises(ConfigError, match=f"'{name}' cannot be the name of a modality"):
        make_model("fin", {**TWO, name: TWO["text"]})
