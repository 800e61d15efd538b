"""The configuration: mistakes are named in one line, and what defines a run changes its digest."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privfin.config import RunConfig, load_config, parse_config, parse_override
from privfin.errors import ConfigError
from privfin.files import jsonable


def refusal(content: dict | None = None, overrides: tuple = ()) -> str:
    """The one line with which a configuration is refused."""
    with pytest.raises(ConfigError) as caught:
        if content is None:
            load_config(None, overrides)
        else:
            parse_config(content, "here")
    line = str(caught.value)
    assert "\n" not in line
    assert caught.value.exit_code == 2
    return line


SITE = {"name": "a", "match": ["*"]}


# Unknown keys


@pytest.mark.parametrize(
    ("content", "where", "meant"),
    [
        ({"trainin": {}}, "trainin", "training"),
        ({"data": {"patient": 30}}, "data.patient", "patients"),
        ({"data": {"manifest": {"fil": "x"}}}, "data.manifest.fil", "file"),
        ({"modalities": {"image": {"encodr": "cnn"}}}, "modalities.image.encodr", "encoder"),
        ({"modalities": {"x": {"knd": "text"}}}, "modalities.x.knd", "kind"),
        ({"federation": {"site": [SITE, {"nam": "b"}]}}, "federation.site.1.nam", "name"),
        ({"federation": {"alfa": 1}}, "federation.alfa", "alpha"),
        ({"model": {"imputr": "fin"}}, "model.imputr", "imputer"),
        ({"model": {"fin": {"layer": 2}}}, "model.fin.layer", "layers"),
        ({"training": {"round": 3}}, "training.round", "rounds"),
        ({"privacy": {"epsilonn": 8}}, "privacy.epsilonn", "epsilon"),
        ({"crypto": {"encrypt": "bfv"}}, "crypto.encrypt", "encryption"),
        ({"evaluation": {"bootstraps": 3}}, "evaluation.bootstraps", "bootstrap"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_one(content, where, meant):
    """A typo that was silently ignored could change a guarantee. It also goes first: a required
    key that is missing because of it is not the news."""
    assert refusal(content) == f"here: unknown key '{where}'; did you mean '{meant}'?"


def test_an_unknown_key_like_no_other_gets_the_list_of_known_ones():
    line = refusal({"model": {"zzzzzz": 1}})
    known = "fin, hidden, imputer, modality_dropout, prototypes, retrieval, width"
    assert line == f"here: unknown key 'model.zzzzzz' (known: {known})"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(section=st.sampled_from(sorted(RunConfig.model_fields)), key=st.text(max_size=12))
def test_no_key_is_taken_in_silence(section, key):
    """Whatever the key: it is an option, or the line names it."""
    if section == "modalities":
        return
    known = RunConfig.model_fields[section].annotation.model_fields
    if key in known:
        return
    with pytest.raises(ConfigError) as caught:
        parse_config({section: {key: 1}}, "here")
    assert f"unknown key '{section}.{key}'" in str(caught.value)


# Values out of range


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("privacy.epsilon", 0),
        ("privacy.epsilon", -1.0),
        ("privacy.epsilon", math.nan),
        ("privacy.epsilon", "nan"),
        ("privacy.epsilon", -math.inf),
        ("privacy.epsilon", "a lot"),
        ("privacy.delta", "soon"),
        ("privacy.delta", 0.0),
        ("privacy.delta", 1.0),
        ("privacy.delta", 1),
        ("privacy.delta", math.nan),
        ("privacy.delta", -1e-5),
        ("privacy.clip_norm", 0.0),
        ("privacy.clip_norm", math.inf),
        ("privacy.clip_norm", math.nan),
        ("training.rounds", 0),
        ("training.rounds", 2.5),
        ("training.batch_size", 0),
        ("training.physical_batch", 0),
        ("training.learning_rate", 0.0),
        ("training.learning_rate", math.inf),
        ("training.learning_rate_without_privacy", math.inf),
        ("training.learning_rate", math.nan),
        ("training.momentum", 1.0),
        ("training.momentum", math.nan),
        ("training.imputation_weight", -0.1),
        ("training.imputation_weight", math.inf),
        ("training.seed", -1),
        ("training.seed", 2**63),
        ("federation.alpha", 0.0),
        ("federation.alpha", math.nan),
        ("federation.sites", 0),
        ("crypto.encryption", "rot13"),
        ("crypto.value_bits", 20),
        ("crypto.update_bound", math.inf),
        ("data.image_size", 8),
        ("data.test_fraction", 1.0),
        ("data.source", "elsewhere"),
        ("evaluation.confidence", 0.5),
        ("modalities.image.order", 3),
        ("modalities.text.features", 1),
    ],
)
def test_a_value_out_of_range_is_named(key, value):
    line = refusal(overrides=((key, value),))
    assert line.startswith(f"the options: {key}")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ((("modalities.image.encoder", "transformer"),), "reads texts, not images"),
        ((("modalities.x", {"encoder": "cnn", "kind": "text"}),), "reads images, not texts"),
        ((("modalities", {}),), "at least one modality"),
        ((("modalities.a-b", {"encoder": "cnn", "kind": "image"}),), "'a-b' must be letters"),
        ((("model.width", 10),), "fin.heads"),
        ((("federation.site", [SITE, SITE]),), "same name"),
        ((("federation.site", [{**SITE, "shards": 2}, {**SITE, "name": "a-2"}]),), "same name"),
        ((("missingness.odds", 2.0),), "missingness: odds needs label"),
        ((("missingness.train", {"txt": 0.5}),), "unknown modality 'txt'; did you mean 'text'?"),
        ((("missingness.test", {"text": 1.0}),), "must be below 1; leave the modality out"),
        ((("federation.site", [{**SITE, "name": "No Caps"}]),), "federation.site.0.name"),
        (
            (("federation.site", [{**SITE, "modalities": ["imgae"]}]),),
            "unknown modality 'imgae'; did you mean 'image'?",
        ),
        (
            (
                ("modalities.text.encoder", "transformer"),
                ("model.width", 6),
                ("model.fin.heads", 2),
            ),
            "model.width (6) must be a multiple of 4",
        ),
        ((("training", 5),), "training"),
        ((("training.rounds.x", 5),), "training.rounds"),
    ],
)
def test_options_that_contradict_each_other_are_named(overrides, says):
    assert says in refusal(overrides=overrides)


@pytest.mark.parametrize("name", ["a_to_b", "to_b", "a_to", "to"])
def test_a_modality_name_cannot_look_like_an_imputers(name):
    """An imputer is called source_to_target; with 'a_to_b' among the modalities nobody could say
    which two it stands for, and it would quietly never be trained."""
    text = {"encoder": "hashed-ngrams", "kind": "text"}
    assert "must not contain the word 'to'" in refusal({"modalities": {name: text}})
    for harmless in ("photo", "tomography", "to2"):
        parse_config({"modalities": {harmless: text}}, "here")


def test_epsilon_infinite_means_no_privacy():
    for value in (math.inf, "inf"):
        config = load_config(None, [("privacy.epsilon", value)])
        assert not config.privacy.is_private
    assert load_config(None, [("privacy.epsilon", 1e6)]).privacy.is_private


# Files and --set


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("training.rounds=5", ("training.rounds", 5)),
        ("privacy.epsilon=inf", ("privacy.epsilon", math.inf)),
        ("privacy.reproducible=true", ("privacy.reproducible", True)),
        ("model.imputer=zero-fair", ("model.imputer", "zero-fair")),
        ('model.imputer="zero"', ("model.imputer", "zero")),
        (" model.imputer = zero ", ("model.imputer", "zero")),
        ('data.labels=["a", "b"]', ("data.labels", ["a", "b"])),
        ("data.root=/some/where=else", ("data.root", "/some/where=else")),
        ("data.root=", ("data.root", "")),
    ],
)
def test_set_reads_toml_or_plain_text(text, wanted):
    assert parse_override(text) == wanted


@pytest.mark.parametrize("text", ["rounds=5", "training.rounds", "", "="])
def test_set_without_section_or_value_is_refused(text):
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        parse_override(text)


def test_set_below_a_value_that_is_no_section_is_refused(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[training]\nrounds = 5\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="'rounds' is not a section"):
        load_config(path, [("training.rounds.x", 1)])


def test_set_wins_over_the_file_which_wins_over_the_defaults(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[training]\nrounds = 5\nbatch_size = 32\n", encoding="utf-8")
    training = load_config(path, [("training.rounds", 7)]).training
    assert (training.rounds, training.batch_size) == (7, 32)
    assert training.local_steps == RunConfig().training.local_steps


@pytest.mark.parametrize(("name", "content"), [("absent", None), ("bad", b"a ="), ("bin", b"\xff")])
def test_a_file_that_cannot_be_read_is_named_in_one_line(tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_valid_is_named():
    with pytest.raises(ConfigError, match=r"^some\.toml: unknown key 'x'"):
        parse_config({"x": 1}, "some.toml")


def test_changing_one_option_of_a_modality_keeps_the_others():
    """Neither the other options of that modality nor the other modality is lost."""
    config = load_config(None, [("modalities.text.features", 64)])
    assert config.modalities["text"].features == 64
    assert config.modalities["text"].encoder == "hashed-ngrams"
    assert config.modalities["image"] == RunConfig().modalities["image"]


def test_a_file_lists_the_modalities_it_uses(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[modalities.image]\norder = 2\n", encoding="utf-8")
    config = load_config(path)
    assert list(config.modalities) == ["image"]
    assert config.modalities["image"].encoder == "scattering"
    assert config.modalities["image"].order == 2


def test_ranges_count_in_the_digest_but_not_the_order_they_are_written_in():
    """Parameters are laid out by the columns' names, so two orders are one model."""

    def digest(ranges: dict) -> str:
        table = {"encoder": "values", "kind": "tabular", "ranges": ranges}
        return parse_config({"modalities": {"labs": table}}, "here").digest()

    first = digest({"age": [0, 100], "sex": [0, 1]})
    assert first == digest({"sex": [0, 1], "age": [0, 100]})
    assert first != digest({"age": [0, 120], "sex": [0, 1]})
    assert first != digest({"age": [0, 100]})


def test_a_configuration_cannot_change_once_read():
    config = RunConfig()
    with pytest.raises(Exception, match="frozen"):
        config.privacy.epsilon = 100.0


# Digest and JSON

CHANGES = [
    ("data.source", "covid-cxr"),
    ("data.patients", 21),
    ("data.image_size", 33),
    ("data.labels", ["a"]),
    ("data.test_fraction", 0.3),
    ("data.validation_fraction", 0.2),
    ("data.skip_bad", True),
    ("data.mask_words", ["x"]),
    ("data.manifest.file", "other.csv"),
    ("data.manifest.patient", "p"),
    ("data.manifest.record", "r"),
    ("data.manifest.inputs", {"image": "i"}),
    ("data.manifest.site", "s"),
    ("data.manifest.split", "t"),
    ("data.manifest.sex", "s"),
    ("data.manifest.age", "a"),
    ("data.sections", ["impression"]),
    ("data.uncertain", "zero"),
    ("data.views", "all"),
    ("data.split", "random"),
    ("missingness.train", {"text": 0.5}),
    ("missingness.test", {"text": 0.5}),
    ("missingness.label", "Edema"),
    ("missingness", {"label": "Edema", "odds": 2.0}),
    ("missingness.unlabelled_without", {"text": 0.5}),
    ("modalities.image.encoder", "cnn"),
    ("modalities.image.order", 2),
    ("modalities.text.features", 64),
    ("modalities.text.length", 9),
    ("federation.sites", 3),
    ("federation.modalities", "8:0:2"),
    ("federation.alpha", math.inf),
    ("federation.patients", 5000),
    ("federation.disjoint", True),
    ("federation.smallest_cohort", 4),
    ("crypto.min_owners", 2),
    ("federation.site", [SITE]),
    ("model.width", 64),
    ("model.imputer", "zero"),
    ("model.fin.layers", 3),
    ("model.fin.heads", 2),
    ("model.fin.feedforward", 65),
    ("model.fin.tokens", 5),
    ("model.fin.preset", "paper"),
    ("model.hidden", 8),
    ("model.prototypes", 8),
    ("model.modality_dropout", 0.1),
    ("model.retrieval.source", "phantom"),
    ("model.retrieval.records", 8),
    ("model.retrieval.neighbours", 8),
    ("model.retrieval.seed", 8),
    ("modalities.image.projection", "none"),
    ("privacy.trust", "shared"),
    ("privacy.collusion", 2),
    ("evaluation.metrics", ["auroc"]),
    ("training.rounds", 31),
    ("training.local_steps", 11),
    ("training.batch_size", 65),
    ("training.physical_batch", 8),
    ("training.learning_rate", 0.5),
    ("training.learning_rate_without_privacy", 0.5),
    ("training.momentum", 0.8),
    ("training.average_from", 0.6),
    ("training.imputation_weight", 0.4),
    ("training.seed", 1),
    ("training.local_epochs", 1.0),
    ("training.proximal", 0.1),
    ("training.augmentations", 2),
    ("training.fine_tune_steps", 2),
    ("training.aggregation", "size"),
    ("training.server.optimizer", "adam"),
    ("training.server.learning_rate", 0.1),
    ("training.server.momentum", 0.1),
    ("training.server.second_moment", 0.1),
    ("training.server.floor", 0.1),
    ("training.uncertainty.share", 0.1),
    ("training.uncertainty.temperature", 0.1),
    ("privacy.epsilon", math.inf),
    ("privacy.delta", 1e-6),
    ("privacy.clip_norm", 0.5),
    ("privacy.reproducible", True),
    ("crypto.encryption", "none"),
    ("crypto.layout", "3x15"),
    ("crypto.value_bits", 12),
    ("crypto.update_bound", 1.5),
    ("evaluation.choose_round", "validation"),
    ("evaluation.secure", True),
    ("evaluation.bootstrap", 10),
    ("evaluation.confidence", 0.9),
    ("evaluation.calibration_bins", 5),
    ("evaluation.age_bands", [50]),
    ("evaluation.smallest_group", 5),
]


def leaves(content: dict, prefix: str = "") -> set[str]:
    found = set()
    for key, value in content.items():
        path = f"{prefix}{key}"
        found |= leaves(value, f"{path}.") if isinstance(value, dict) and value else {path}
    return found


@pytest.mark.parametrize(("key", "value"), CHANGES)
def test_the_digest_changes_with_every_option(key, value):
    """Sites compare digests: two that would train differently must not agree."""
    assert load_config(None, [(key, value)]).digest() != RunConfig().digest()


def test_the_list_of_changes_above_is_complete():
    options = leaves(RunConfig().model_dump(mode="json"))
    told = {key for key, _ in CHANGES}
    missing = {o for o in options if not any(o == k or o.startswith(f"{k}.") for k in told)}
    unused = {f"modalities.{m}.{o}" for m in ("image", "text") for o in ("kind", "encoder")} | {
        # read only by the other encoders, and covered once above
        "modalities.image.features",
        "modalities.image.length",
        "modalities.text.order",
        "modalities.text.projection",
        *(f"modalities.{m}.{o}" for m in ("image", "text") for o in ("weights", "ranges")),
        "data.part",  # only with a mix: tests/data/test_load.py
    }
    assert missing - unused == {"data.root", "model.retrieval.root"}


def test_the_digest_does_not_depend_on_where_the_data_lie():
    here = load_config(None, [("data.root", "/here")])
    there = load_config(None, [("data.root", "/there")])
    assert here.digest() == there.digest() == RunConfig().digest()


def test_the_digest_does_not_depend_on_where_public_weights_lie():
    """What is in them is compared by their own digest, which the manifest holds."""

    def at(folder, image="timm:resnet18", text=True):
        changes = [
            ("modalities.image.encoder", image),
            ("modalities.image.weights", f"{folder}/w.safetensors"),
            ("modalities.text.encoder", f"transformers:{folder}/bert" if text else "hashed-ngrams"),
        ]
        return load_config(None, changes).digest()

    assert at("/here") == at("/there")
    assert at("/here", image="timm:resnet34") != at("/here")
    assert at("/here", text=False) != at("/here")


def test_the_digest_knows_the_order_of_modalities():
    """Parameters are laid out in that order, so two orders are two different vectors."""
    modalities = RunConfig().model_dump()["modalities"]
    turned = dict(reversed(list(modalities.items())))
    assert parse_config({"modalities": turned}, "here").digest() != RunConfig().digest()


@pytest.mark.parametrize(
    "overrides", [(), *(((key, value),) for key, value in CHANGES), (("data.root", Path("x")),)]
)
def test_a_configuration_survives_json(overrides):
    """Through strict JSON, as run manifests keep it, infinities included."""
    config = load_config(None, overrides)
    text = json.dumps(jsonable(config.model_dump(mode="json")), allow_nan=False)
    again = parse_config(json.loads(text), "here")
    assert again == config
    assert again.digest() == config.digest()


# One person must stay one patient, and options must have an effect


@pytest.mark.parametrize(
    ("sources", "wanted"),
    [
        (("openi", "openi"), "read the same folder"),
        (("chexpert", "chexpert-plus"), "same patients"),
    ],
)
def test_a_mix_that_would_hold_a_person_twice_is_refused(sources, wanted):
    """Clipping bounds a patient once; the same person under two names would count twice."""
    parts = [{"name": f"p{i}", "source": s} for i, s in enumerate(sources)]
    with pytest.raises(ConfigError, match=wanted):
        load_config(None, [("data.source", "mix"), ("data.part", parts)])


def test_a_mix_of_two_phantoms_or_two_folders_is_fine():
    for parts in (
        [{"name": "a", "source": "phantom"}, {"name": "b", "source": "phantom"}],
        [{"name": n, "source": "openi", "folder": n} for n in ("a", "b")],
    ):
        load_config(None, [("data.source", "mix"), ("data.part", parts)])


def test_dropout_of_modalities_is_refused_where_it_has_no_effect():
    with pytest.raises(ConfigError, match="no joint view"):
        load_config(None, [("model.imputer", "late"), ("model.modality_dropout", 0.5)])


def test_the_papers_size_is_a_preset_that_single_sizes_override():
    fin = load_config(None, [("model.fin.preset", "paper"), ("model.fin.layers", 2)]).model.fin
    assert (fin.layers, fin.heads, fin.feedforward, fin.tokens) == (2, 4, 1024, 1)
    assert RunConfig().model.fin.feedforward == 32


def test_a_layout_can_be_chosen_alone():
    """The narrow one has no room for 16 bits; a number that is given stays."""
    assert load_config(None, [("crypto.layout", "3x15")]).crypto.value_bits == 11
    assert load_config(None, [("crypto.layout", "2x20")]).crypto.value_bits == 16
    given = [("crypto.layout", "3x15"), ("crypto.value_bits", 13)]
    assert load_config(None, given).crypto.value_bits == 13
