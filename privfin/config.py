"""A run's configuration: what every option means, which values are valid, and how TOML is read.

The configuration is public. Everything in it may be sent to every site and stored with the run,
so nothing in it may be computed from patients.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from privfin.errors import ConfigError, nearest

Encoder = Literal["scattering", "cnn", "hashed-ngrams", "transformer"]
ImputerKind = Literal["fin", "zero", "zero-fair"]

#: Attention heads of the text transformer; they must divide ``model.width``.
TRANSFORMER_HEADS = 4


class Section(BaseModel):
    """A group of options: unknown keys are refused and values cannot change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=True)


class ManifestConfig(Section):
    """Column roles of a CSV file that lists the records (``data.source = "manifest"``)."""

    file: str = Field(default="manifest.csv", description="the CSV file, relative to the data root")
    patient: str = Field(default="patient_id", description="column of the patient's identifier")
    record: str | None = Field(
        default=None, description="column of the record's identifier, if any"
    )
    inputs: dict[str, str] = Field(
        default_factory=lambda: {"image": "image", "text": "text"},
        description="modality -> column: an image's path under the data root, or the text itself",
    )
    site: str | None = Field(
        default=None, description="column naming the place a record comes from"
    )
    split: str | None = Field(default=None, description="column with 'train' or 'test'")


class DataConfig(Section):
    """Where the records come from, and how they are divided into training and test patients."""

    source: Literal["phantom", "covid-cxr", "manifest"] = Field(
        default="phantom", description="phantom (built in), covid-cxr, or manifest"
    )
    root: Path | None = Field(
        default=None, description="folder of the data (not needed for phantom)"
    )
    patients: int = Field(
        default=6000, ge=20, le=10**6, description="phantom: how many patients to make"
    )
    image_size: int = Field(
        default=32, ge=16, le=256, description="images are read as squares this wide"
    )
    labels: tuple[str, ...] = Field(
        default=(), description="labels to learn; empty means all that the source has by default"
    )
    test_fraction: float = Field(
        default=0.25, gt=0, lt=1, description="share of patients kept for tests"
    )
    skip_bad: bool = Field(default=False, description="leave out images that cannot be decoded")
    mask_words: tuple[str, ...] | None = Field(
        default=None,
        description="covid-cxr: words blanked in the notes; unset means the diagnosis words",
    )
    manifest: ManifestConfig = Field(default_factory=ManifestConfig)


class ModalityConfig(Section):
    """How one modality is read and encoded."""

    encoder: Encoder = Field(description="scattering or cnn (images), hashed-ngrams or transformer")
    kind: Literal["image", "text"] = Field(description="what the raw input is")
    features: int = Field(default=512, ge=16, le=65536, description="text: hashing buckets")
    order: Literal[1, 2] = Field(
        default=1, description="scattering: 1 (400 numbers) or 2 (3,472 numbers)"
    )
    length: int = Field(default=48, ge=4, le=512, description="transformer: tokens read of a text")

    @model_validator(mode="after")
    def _encoder_reads_kind(self) -> ModalityConfig:
        reads = "image" if self.encoder in ("scattering", "cnn") else "text"
        if reads != self.kind:
            raise ValueError(f"encoder '{self.encoder}' reads {reads}s, not {self.kind}s")
        return self


class SiteConfig(Section):
    """One named site whose patients are those of certain places."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$", description="short name of the site")
    match: tuple[str, ...] = Field(description="parts of place names; '*' takes all other places")
    modalities: tuple[str, ...] = Field(
        default=(), description="what the site holds; empty means all"
    )
    patients: int | None = Field(
        default=None,
        ge=1,
        description="declared number of training patients, for plans without data",
    )


class FederationConfig(Section):
    """Who takes part."""

    sites: int = Field(default=10, ge=1, le=1000, description="number of sites")
    modalities: str = Field(
        default="4:4:2", description="sites with image only : text only : both, in proportion"
    )
    alpha: float = Field(
        default=1.0, gt=0, description="label skew between sites (Dirichlet; inf = none)"
    )
    site: tuple[SiteConfig, ...] = Field(
        default=(), description="named sites, by place, instead of these"
    )

    @model_validator(mode="after")
    def _unique_names(self) -> FederationConfig:
        names = [s.name for s in self.site]
        if len(set(names)) != len(names):
            raise ValueError("two sites have the same name")
        return self


class FinConfig(Section):
    """Size of the Feature Imputation Network (a transformer decoder, arXiv 2505.20232)."""

    layers: int = Field(default=1, ge=1, le=12, description="decoder layers (paper: 6)")
    heads: int = Field(default=4, ge=1, le=16, description="attention heads (paper: 4)")
    feedforward: int = Field(
        default=32, ge=1, le=8192, description="feed-forward width (paper: 1024)"
    )
    tokens: int = Field(
        default=2, ge=1, le=64, description="tokens a source feature is spread over"
    )


class ModelConfig(Section):
    """The shape of the model."""

    width: int = Field(default=16, ge=4, le=2048, description="width d of every modality's feature")
    imputer: ImputerKind = Field(default="fin", description="fin, zero or zero-fair")
    fin: FinConfig = Field(default_factory=FinConfig)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> ModelConfig:
        if self.width % self.fin.heads:
            raise ValueError(f"fin.heads ({self.fin.heads}) must divide width ({self.width})")
        return self


class TrainingConfig(Section):
    """How a site trains and how the rounds go."""

    rounds: int = Field(default=30, ge=1, le=100_000, description="exchanges of encrypted updates")
    local_steps: int = Field(
        default=20, ge=1, le=100_000, description="DP-SGD steps a site takes a round"
    )
    batch_size: int = Field(
        default=64, ge=1, description="expected patients in a step (the divisor)"
    )
    physical_batch: int = Field(default=16, ge=1, le=4096, description="rows computed at once")
    learning_rate: float = Field(
        default=5.0, allow_inf_nan=False, gt=0, description="step size under DP"
    )
    learning_rate_without_privacy: float = Field(
        default=2.5,
        allow_inf_nan=False,
        gt=0,
        description="step size with epsilon = inf, where nothing is clipped",
    )
    momentum: float = Field(
        default=0.0, ge=0, lt=1, description="momentum inside a round, at each site"
    )
    average_from: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="the final model is the mean of the rounds after this share",
    )
    imputation_weight: float = Field(
        default=0.1, allow_inf_nan=False, ge=0, description="weight of the imputation loss"
    )
    seed: int = Field(
        default=0, ge=0, lt=2**63, description="public seed: phantom, split, initial model"
    )


class PrivacyConfig(Section):
    """The guarantee to keep."""

    epsilon: float = Field(
        default=8.0, gt=0, description="privacy budget of the whole run; inf = no DP"
    )
    delta: Literal["auto"] | float = Field(
        default="auto",
        description="failure probability; auto = min(1e-5, 0.1 / patients of the site)",
    )
    clip_norm: float = Field(
        default=0.1, allow_inf_nan=False, gt=0, description="bound C on one patient's gradient"
    )
    reproducible: bool = Field(
        default=False, description="test mode: noise from the public seed; the run is NOT PRIVATE"
    )

    @field_validator("epsilon")
    @classmethod
    def _epsilon_is_a_number(cls, value: float) -> float:
        if math.isnan(value):
            raise ValueError("epsilon must be a number greater than 0, or inf")
        return value

    @field_validator("delta")
    @classmethod
    def _delta_in_range(cls, value: str | float) -> str | float:
        if isinstance(value, float) and not 0 < value < 1:
            raise ValueError("delta must lie between 0 and 1 (and below 1 / patients)")
        return value

    @field_serializer("epsilon", when_used="json")
    def _epsilon_as_json(self, value: float) -> float | str:
        return "inf" if math.isinf(value) else value

    @property
    def is_private(self) -> bool:
        """Whether DP noise is added at all."""
        return math.isfinite(self.epsilon)


class CryptoConfig(Section):
    """How updates are protected on their way."""

    encryption: Literal["bfv", "none"] = Field(
        default="bfv", description="bfv (with masks), or none"
    )
    layout: Literal["2x20", "3x15"] = Field(
        default="2x20", description="fields a slot x bits a field"
    )
    value_bits: int = Field(default=16, ge=4, le=19, description="bits of one quantised value")
    update_bound: float = Field(
        default=8.0,
        allow_inf_nan=False,
        gt=0,
        description="largest change of one parameter in a round; more is cut",
    )


class EvaluationConfig(Section):
    """How the final model is measured."""

    bootstrap: int = Field(default=500, ge=0, le=100_000, description="resamples of patients")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="level of the intervals")


def _default_modalities() -> dict[str, ModalityConfig]:
    return {
        "image": ModalityConfig(encoder="scattering", kind="image"),
        "text": ModalityConfig(encoder="hashed-ngrams", kind="text"),
    }


class RunConfig(Section):
    """Everything that defines a run."""

    data: DataConfig = Field(default_factory=DataConfig)
    modalities: dict[str, ModalityConfig] = Field(default_factory=_default_modalities)
    federation: FederationConfig = Field(default_factory=FederationConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    privacy: PrivacyConfig = Field(default_factory=PrivacyConfig)
    crypto: CryptoConfig = Field(default_factory=CryptoConfig)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)

    @model_validator(mode="after")
    def _names_agree(self) -> RunConfig:
        if not self.modalities:
            raise ValueError("at least one modality is needed")
        for name in self.modalities:
            if not name.isidentifier():
                raise ValueError(f"modality name '{name}' must be letters, digits and underscores")
            if "_to_" in f"_{name}_":
                # Imputers are named source_to_target.
                raise ValueError(f"modality name '{name}' must not contain the word 'to'")
        words = [name for name, m in self.modalities.items() if m.encoder == "transformer"]
        if words and self.model.width % TRANSFORMER_HEADS:
            raise ValueError(
                f"modality '{words[0]}' has a transformer of {TRANSFORMER_HEADS} heads: "
                f"model.width ({self.model.width}) must be a multiple of {TRANSFORMER_HEADS}"
            )
        for site in self.federation.site:
            unknown = set(site.modalities) - set(self.modalities)
            if unknown:
                word = sorted(unknown)[0]
                hint = nearest(word, self.modalities)
                raise ValueError(f"site '{site.name}' names an unknown modality '{word}'{hint}")
        return self

    def digest(self) -> str:
        """SHA-256 of the canonical JSON, without ``data.root`` (a path differs between sites)."""
        content = self.model_dump(mode="json")
        del content["data"]["root"]
        # Sorting must not hide the order of modalities: parameters are laid out in that order.
        content["modalities"] = list(content["modalities"].items())
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def load_config(path: Path | None, overrides: Sequence[tuple[str, Any]] = ()) -> RunConfig:
    """Read a TOML file (or the defaults) and apply ``section.key`` overrides.

    Raises:
        ConfigError: the file cannot be read, or a key or value is not valid; one line, with the
            nearest valid name where a name is unknown.
    """
    content: dict[str, Any] = {}
    if path is not None:
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not valid TOML: {error}") from error
    # An override changes one option of the built-in modalities; a file lists all that it uses.
    content.setdefault("modalities", {m: c.model_dump() for m, c in _default_modalities().items()})
    for key, value in overrides:
        set_key(content, key, value)
    _complete_modalities(content)
    return parse_config(content, str(path) if path else "the options")


def parse_config(content: dict[str, Any], origin: str) -> RunConfig:
    """Check a configuration read from JSON or TOML. Raises ConfigError with one line."""
    try:
        return RunConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{origin}: {_first_problem(error, content)}") from None


def parse_override(text: str) -> tuple[str, Any]:
    """Split ``section.key=value``; the value is read as TOML, or as plain text if it is not.

    Raises:
        ConfigError: there is no ``=`` or no section.
    """
    key, sep, value = text.partition("=")
    key = key.strip()
    if not sep or "." not in key:
        raise ConfigError(f"--set '{text}' must look like section.key=value")
    try:
        return key, tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        return key, value.strip()


def set_key(content: dict[str, Any], key: str, value: Any) -> None:
    """Set ``section.key`` in nested dictionaries. Raises ConfigError if a part is no section."""
    *path, last = key.split(".")
    for part in path:
        content = content.setdefault(part, {})
        if not isinstance(content, dict):
            raise ConfigError(f"'{key}' cannot be set: '{part}' is not a section")
    content[last] = value


def _complete_modalities(content: dict[str, Any]) -> None:
    """Let a file or ``--set`` change one option of a built-in modality, keeping the others."""
    given = content.get("modalities")
    if not isinstance(given, dict):
        return
    for name, default in _default_modalities().items():
        if isinstance(given.get(name), dict):
            given[name] = {**default.model_dump(), **given[name]}


def _first_problem(error: ValidationError, content: dict[str, Any]) -> str:
    """One plain line for the first thing that is wrong."""
    problems = error.errors(include_url=False)
    # A mistyped name comes first: it explains why a required option seems to be missing.
    unknown = (p for p in problems if p["type"] == "extra_forbidden")
    first = next(unknown, problems[0])
    location = [str(part) for part in first["loc"] if part not in ("float", "literal['auto']")]
    where = ".".join(location)
    if first["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        listed = ", ".join(sorted(known))
        hint = nearest(location[-1], known) or f" (known: {listed})"
        return f"unknown key '{where}'{hint}"
    message = str(first["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    shown = first.get("input")
    if isinstance(shown, str | int | float | bool) and first["type"] != "value_error":
        return f"{where} = {shown!r}: {message}"
    return f"{where}: {message}" if where else message


def _known_keys(path: Iterable[str]) -> set[str]:
    model: Any = RunConfig
    for part in path:
        if model is RunConfig and part == "modalities":
            model = dict
        elif model is dict:
            model = ModalityConfig
        elif part.isdigit():
            model = SiteConfig
        else:
            kind = model.model_fields[part].annotation
            model = kind if isinstance(kind, type) else model
    return set() if model is dict else set(model.model_fields)
