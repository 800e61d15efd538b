"""Options of the model: modalities with their encoders, and how what is missing is imputed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from privfin.config.base import Section

#: Encoders that ship with privfin, with the kind of input each reads.
BUILT_IN_ENCODERS: dict[str, str] = {
    "scattering": "image",
    "cnn": "image",
    "hashed-ngrams": "text",
    "transformer": "text",
    "values": "tabular",
}
#: Encoders with weights from a local path: ``timm:NAME`` and ``transformers:FOLDER``.
FROZEN_ENCODERS: dict[str, str] = {"timm": "image", "transformers": "text"}

ImputerKind = Literal[
    "fin",
    "fin-any",
    "pfin",
    "mlp",
    "linear",
    "prototype",
    "mean",
    "retrieval",
    "zero",
    "zero-fair",
    "none",
    "late",
]

#: Attention heads of the text transformer; they must divide ``model.width``.
TRANSFORMER_HEADS = 4


class ModalityConfig(Section):
    """How one modality is read and encoded."""

    encoder: str = Field(
        description="scattering or cnn or timm:NAME (images), hashed-ngrams or transformer or "
        "transformers:FOLDER (text), values (tabular)"
    )
    kind: Literal["image", "text", "tabular"] = Field(description="what the raw input is")
    projection: Literal["linear", "none"] = Field(
        default="linear",
        description="what is trained on fixed features: a linear map to model.width, or nothing",
    )
    features: int = Field(default=512, ge=16, le=65536, description="text: hashing buckets")
    order: Literal[1, 2] = Field(
        default=1, description="scattering: 1 (400 numbers) or 2 (3,472 numbers)"
    )
    length: int = Field(
        default=48, ge=4, le=512, description="text encoders: tokens read of a text"
    )
    weights: Path | None = Field(
        default=None, description="timm: file with the weights (safetensors); nothing is downloaded"
    )
    ranges: dict[str, tuple[float, float]] = Field(
        default_factory=dict,
        description="tabular: column -> lowest and highest value; public, never read off the data",
    )

    @model_validator(mode="after")
    def _encoder_reads_kind(self) -> ModalityConfig:
        family = self.encoder.partition(":")[0]
        reads = BUILT_IN_ENCODERS.get(self.encoder) or FROZEN_ENCODERS.get(family)
        if reads is None or (family in FROZEN_ENCODERS and not self.encoder.partition(":")[2]):
            known = [*BUILT_IN_ENCODERS, "timm:NAME", "transformers:FOLDER"]
            raise ValueError(f"encoder '{self.encoder}' is not one of {', '.join(known)}")
        if reads != self.kind:
            raise ValueError(f"encoder '{self.encoder}' reads {reads}s, not {self.kind}s")
        if family == "timm" and self.weights is None:
            raise ValueError("a timm encoder needs weights = FILE: nothing is downloaded")
        if self.kind == "tabular" and not self.ranges:
            raise ValueError("a tabular modality needs ranges = { column = [lowest, highest] }")
        for column, (low, high) in self.ranges.items():
            if not low < high:
                raise ValueError(f"range of column '{column}' must be [lowest, highest]")
        if self.projection == "none" and self.encoder in ("cnn", "transformer"):
            raise ValueError(f"encoder '{self.encoder}' is trained: projection must be linear")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """tabular: the columns in the order of an input's values, which no file's order changes."""
        return tuple(sorted(self.ranges))


class FinConfig(Section):
    """Size of the Feature Imputation Network (a transformer decoder, arXiv 2505.20232)."""

    preset: Literal["small", "paper"] = Field(
        default="small",
        description="what the sizes below are unless given; paper: 6, 4, 1024 and 1",
    )
    layers: int = Field(default=1, ge=1, le=12, description="decoder layers (paper: 6)")
    heads: int = Field(default=4, ge=1, le=16, description="attention heads (paper: 4)")
    feedforward: int = Field(
        default=32, ge=1, le=8192, description="feed-forward width (paper: 1024)"
    )
    tokens: int = Field(
        default=2, ge=1, le=64, description="tokens a source feature is spread over"
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("preset") == "paper":
            return {"layers": 6, "heads": 4, "feedforward": 1024, "tokens": 1, **given}
        return given


class RetrievalConfig(Section):
    """The public set that ``imputer = "retrieval"`` takes features from (CAR-MFL)."""

    source: Literal["phantom", "manifest", "openi", "covid-cxr"] | None = Field(
        default=None, description="what the public records are read as; needed for retrieval"
    )
    root: Path | None = Field(default=None, description="folder of the public records")
    records: int = Field(default=256, ge=1, le=100_000, description="public records used at most")
    neighbours: int = Field(default=10, ge=1, le=1000, description="nearest public records mixed")
    seed: int = Field(
        default=1_000_003, ge=0, lt=2**63, description="phantom: seed of the public patients"
    )


class ModelConfig(Section):
    """The shape of the model."""

    width: int = Field(default=16, ge=4, le=2048, description="width d of every modality's feature")
    imputer: ImputerKind = Field(
        default="fin",
        description="fin, fin-any, pfin, mlp, linear, prototype, mean, retrieval, zero, zero-fair, "
        "none or late",
    )
    hidden: int = Field(
        default=32, ge=1, le=8192, description="mlp, pfin: width of the hidden layer"
    )
    prototypes: int = Field(
        default=14, ge=1, le=4096, description="prototype: learned prototypes an imputer mixes"
    )
    modality_dropout: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="weight of the views with one modality taken away in the loss of a record "
        "that has several; unset means 0.5 for none, else 0",
    )
    fin: FinConfig = Field(default_factory=FinConfig)
    retrieval: RetrievalConfig = Field(default_factory=RetrievalConfig)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> ModelConfig:
        if self.width % self.fin.heads:
            raise ValueError(f"fin.heads ({self.fin.heads}) must divide width ({self.width})")
        if self.imputer == "late" and self.modality_dropout:
            raise ValueError("imputer 'late' has no joint view to drop modalities from")
        if self.imputer == "retrieval" and self.retrieval.source is None:
            raise ValueError(
                "imputer = 'retrieval' needs a public set: give model.retrieval.source"
            )
        return self

    @property
    def dropout(self) -> float:
        """The weight of views with a modality taken away."""
        if self.modality_dropout is None:
            return 0.5 if self.imputer == "none" else 0.0
        return self.modality_dropout
