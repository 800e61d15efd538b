"""Frozen encoders: what the library itself computes, from local files only, never trained."""

from __future__ import annotations

import json
import pickle
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from privfin.config import ModalityConfig
from privfin.data.records import Record
from privfin.errors import ConfigError
from privfin.models.encoders import make_encoder
from privfin.models.frontends import fixed_width, frontend, read_inputs
from privfin.models.frozen import load_frozen
from privfin.models.public_libraries import import_library
from privfin.models.weights import weights_digest

SIDE = 32
TEXTS = ["The heart is large.", "", "no effusion . lungs clear . " * 9, "zebra", "lung"]
Save = Callable[..., Path]


@pytest.fixture(scope="module")
def image(save_timm: Save, tmp_path_factory: pytest.TempPathFactory) -> ModalityConfig:
    path = save_timm(tmp_path_factory.mktemp("timm") / "weights.safetensors")
    return ModalityConfig(encoder="timm:test_resnet", kind="image", weights=path)


@pytest.fixture(scope="module")
def text(save_bert: Save, tmp_path_factory: pytest.TempPathFactory) -> ModalityConfig:
    folder = save_bert(tmp_path_factory.mktemp("bert") / "bert")
    return ModalityConfig(encoder=f"transformers:{folder}", kind="text", length=8)


@pytest.fixture(params=["image", "text"])
def either(request: pytest.FixtureRequest) -> ModalityConfig:
    return request.getfixturevalue(request.param)


def pixels(count: int = 5) -> list:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (SIDE, SIDE), dtype=np.uint8) for _ in range(count)]


def raw_of(modality: ModalityConfig) -> list:
    return list(TEXTS) if modality.kind == "text" else pixels()


# What they compute


def test_images_are_encoded_as_timm_does_with_the_public_constants_of_the_architecture(image):
    """An independent path: Pillow would resize bytes, so torch resizes; the rest is timm's own."""
    timm = import_library("timm")
    from safetensors.torch import load_file

    network = timm.create_model("test_resnet", pretrained=False, num_classes=5)
    network.load_state_dict(load_file(image.weights))
    network.reset_classifier(0)
    network.eval()
    settings = timm.data.resolve_data_config({}, model=network)
    grey = torch.from_numpy(np.stack(pixels())).float()[:, None] / 255
    size = settings["input_size"][1:]
    big = torch.nn.functional.interpolate(
        grey, size, mode=settings["interpolation"], antialias=True
    ).clamp(0, 1)
    mean, std = (torch.tensor(settings[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        expected = network((big.repeat(1, 3, 1, 1) - mean) / std)
    expected = expected / expected.norm(dim=1, keepdim=True)
    assert torch.allclose(frontend(image, SIDE)(pixels()), expected, atol=1e-5)
    assert not torch.allclose(expected[0], expected[1], atol=1e-4)


def test_texts_are_encoded_as_transformers_does_and_averaged_over_their_tokens(text):
    transformers = import_library("transformers")
    folder = text.encoder.partition(":")[2]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.BertModel.from_pretrained(folder).eval()
    batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=8, return_tensors="pt")
    assert batch["input_ids"].shape == (len(TEXTS), 8)
    assert batch["input_ids"][0].tolist()[:6] == [2, 5, 6, 7, 8, 15]  # [CLS] the heart is large .
    with torch.no_grad():
        last = network(**batch).last_hidden_state
    weight = batch["attention_mask"][:, :, None].float()
    mean = (last * weight).sum(1) / weight.sum(1)
    expected = mean / mean.norm(dim=1, keepdim=True)
    assert torch.allclose(frontend(text, SIDE)(TEXTS), expected, atol=1e-5)
    assert not torch.allclose(expected[0], expected[1], atol=1e-3)


def test_a_record_alone_has_the_same_bits_as_in_any_company(either):
    """No BatchNorm statistics of the batch and no padding: nothing couples two patients."""
    read = frontend(either, SIDE)
    raw = raw_of(either)
    together = read(raw)
    assert torch.equal(together, torch.cat([read([x]) for x in raw]))
    assert torch.equal(together.flip(0), read(raw[::-1]))
    assert torch.allclose(together.norm(dim=1), torch.ones(len(raw)), atol=1e-5)


def test_nothing_in_it_changes_or_trains(either):
    network = load_frozen(either).network
    before = {k: v.clone() for k, v in network.state_dict().items()}
    features = frontend(either, SIDE)(raw_of(either))
    assert not features.requires_grad
    assert not any(p.requires_grad for p in network.parameters())
    assert not any(m.training for m in network.modules())
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(v, after[k]) for k, v in before.items())
    trained = sum(p.numel() for p in make_encoder(either, 8).parameters())
    assert trained == 8 * fixed_width(either) + 8


def test_frozen_batchnorm_layers_are_counted(image, text):
    said = load_frozen(image).description()
    assert "15 BatchNorm layers frozen" in said
    assert "372,688 parameters" in said
    assert "no BatchNorm layers" in load_frozen(text).description()


def test_loading_leaves_the_public_seed_alone(image, save_timm, tmp_path):
    other = image.model_copy(update={"weights": save_timm(tmp_path / "o.safetensors", seed=9)})
    torch.manual_seed(3)
    load_frozen(other)
    drawn = torch.rand(4)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(4))


# The width, before there are weights


def test_the_width_is_known_without_weights_and_without_data(image, text, tmp_path):
    absent = image.model_copy(update={"weights": tmp_path / "later.safetensors"})
    assert fixed_width(absent) == frontend(image, SIDE)([]).shape[1] == 96
    assert fixed_width(text) == frontend(text, SIDE)([]).shape[1] == 24


def test_a_site_without_the_modality_gets_rows_of_the_same_shape(either):
    none = [Record(str(i), str(i), {}, np.zeros(1, dtype=np.float32)) for i in range(2)]
    inputs, present = read_inputs(none, "m", either, SIDE)
    assert inputs.shape == (2, fixed_width(either))
    assert not inputs.any()
    assert not present.any()


# Local files only


def test_the_network_is_never_touched(either, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    from privfin.models import frozen

    frozen._load.cache_clear()
    frontend(either, SIDE)(raw_of(either))


@pytest.mark.parametrize("name", ["hf-hub:timm/resnet18", "hf_hub:x/y", "local-dir:/tmp", "a/b"])
def test_names_that_would_fetch_or_read_something_else_are_refused(image, name):
    with pytest.raises(ConfigError, match="timm has no architecture"):
        fixed_width(image.model_copy(update={"encoder": f"timm:{name}"}))


def test_a_mistyped_architecture_gets_the_nearest(image):
    with pytest.raises(ConfigError, match="did you mean 'resnet18'"):
        fixed_width(image.model_copy(update={"encoder": "timm:resnet188"}))


class Boom:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth"])
def test_pickled_weights_are_refused_unopened(suffix, image, save_bert, tmp_path):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(pickle.dumps(Boom()))
    with pytest.raises(ConfigError, match=r"only \.safetensors"):
        load_frozen(image.model_copy(update={"weights": path}))
    folder = save_bert(tmp_path / "bert")
    (folder / "model.safetensors").unlink()
    (folder / f"pytorch_model{suffix}").write_bytes(pickle.dumps(Boom()))
    with pytest.raises(ConfigError, match=r"only \.safetensors"):
        load_frozen(ModalityConfig(encoder=f"transformers:{folder}", kind="text", length=8))


def test_code_in_the_folder_is_not_run(save_bert, tmp_path):
    folder = save_bert(tmp_path / "bert")
    (folder / "evil.py").write_text("raise SystemExit('code of the folder was run')\n")
    settings = json.loads((folder / "config.json").read_text())
    remote = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    settings |= {"model_type": "evil", "auto_map": remote}
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_frozen(ModalityConfig(encoder=f"transformers:{folder}", kind="text", length=8))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda state: state.pop("conv1.0.weight"), "conv1.0.weight is missing"),
        (lambda state: state.update(more=torch.ones(2)), "more is not part of it"),
        (lambda state: state.update({"conv1.0.weight": torch.ones(2)}), "size mismatch"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, expected, image, tmp_path):
    """Layers left at random would give features that differ from site to site."""
    from safetensors.torch import load_file, save_file

    state = load_file(image.weights)
    change(state)
    save_file(state, tmp_path / "broken.safetensors")
    broken = image.model_copy(update={"weights": tmp_path / "broken.safetensors"})
    with pytest.raises(ConfigError, match=expected):
        load_frozen(broken)


def test_a_text_encoder_with_a_layer_missing_is_refused(save_bert, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = save_bert(tmp_path / "bert")
    state = load_file(folder / "model.safetensors")
    lost = "encoder.layer.1.output.dense.weight"
    del state[lost]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=lost):
        load_frozen(ModalityConfig(encoder=f"transformers:{folder}", kind="text", length=8))


@pytest.mark.parametrize("content", [b"", b"not a tensor file", b"\xff" * 64])
def test_damaged_weights_are_refused(content, image, tmp_path):
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read as safetensors"):
        load_frozen(image.model_copy(update={"weights": path}))


def test_files_that_are_not_there_are_named(image, tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.safetensors do not exist"):
        load_frozen(image.model_copy(update={"weights": tmp_path / "nowhere.safetensors"}))
    nothing = ModalityConfig(encoder=f"transformers:{tmp_path}/nothing", kind="text")
    with pytest.raises(ConfigError, match="is not a folder"):
        load_frozen(nothing)


def test_more_tokens_than_the_encoder_has_places_for_are_refused(text):
    with pytest.raises(ConfigError, match="reads 16 tokens at most"):
        load_frozen(text.model_copy(update={"length": 17}))


@pytest.mark.parametrize("library", ["timm", "transformers"])
def test_a_missing_extra_is_named(library, image, text, monkeypatch):
    from privfin.models import frozen_images, frozen_texts

    monkeypatch.setitem(sys.modules, library, None)  # what an import of it then raises on
    frozen_images.width.cache_clear()
    frozen_texts._configuration.cache_clear()
    with pytest.raises(ConfigError, match=rf"pip install 'privfin\[{library}\]'"):
        fixed_width(image if library == "timm" else text)


# Weights are known by their content


def test_the_digest_depends_on_the_content_and_not_on_the_place(
    image, text, save_timm, save_bert, tmp_path
):
    copy = save_timm(tmp_path / "elsewhere.safetensors")
    assert weights_digest(image.model_copy(update={"weights": copy})) == weights_digest(image)
    other = save_timm(tmp_path / "other.safetensors", seed=1)
    assert weights_digest(image.model_copy(update={"weights": other})) != weights_digest(image)

    folder = save_bert(tmp_path / "again")
    moved = text.model_copy(update={"encoder": f"transformers:{folder}"})
    assert weights_digest(moved) == weights_digest(text)
    (folder / "README.md").write_text("notes do not matter")
    assert weights_digest(moved) == weights_digest(text)
    words = (folder / "vocab.txt").read_text()
    (folder / "vocab.txt").write_text(words.replace("heart", "lungx"))
    assert weights_digest(moved) != weights_digest(text)
