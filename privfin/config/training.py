"""Options of the federation, of training, and of how both are protected and measured."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

from pydantic import Field, field_serializer, field_validator, model_validator

from privfin.config.base import Section

#: What can be measured on held-out patients; ``groups`` are results by sex, age and part.
Metric = Literal["loss", "auroc", "auprc", "brier", "calibration", "groups"]
METRICS: tuple[Metric, ...] = get_args(Metric)

#: How updates are encrypted.
Encryption = Literal["bfv", "ckks", "none"]


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
    shards: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="sites that its patients are dealt to, NAME-1, NAME-2, ...; each declares "
        "`patients`",
    )

    @property
    def names(self) -> tuple[str, ...]:
        """Its name, or with shards NAME-1, NAME-2 and so on."""
        if self.shards == 1:
            return (self.name,)
        return tuple(f"{self.name}-{i + 1}" for i in range(self.shards))


class FederationConfig(Section):
    """Who takes part."""

    sites: int = Field(default=10, ge=1, le=1000, description="number of sites")
    modalities: str = Field(
        default="4:4:2",
        description="sites with image only : text only : both, in proportion; or any modalities, "
        "as 'image=4, text=4, image+text=2'",
    )
    patients: int | None = Field(
        default=None,
        ge=1,
        description="declared number of training patients in all, for plans without data",
    )
    smallest_cohort: int | None = Field(
        default=None,
        ge=2,
        description="fewest sites that a round goes on with when others drop out; all but two if "
        "left out",
    )
    disjoint: bool = Field(
        default=False,
        description="declared: no patient is at two sites; without it epsilon also adds up over "
        "the sites",
    )
    alpha: float = Field(
        default=1.0, gt=0, description="label skew between sites (Dirichlet; inf = none)"
    )
    site: tuple[SiteConfig, ...] = Field(
        default=(), description="named sites, by place, instead of these"
    )

    @model_validator(mode="after")
    def _unique_names(self) -> FederationConfig:
        names = [name for s in self.site for name in s.names]
        if len(set(names)) != len(names):
            raise ValueError("two sites have the same name")
        return self


class ServerConfig(Section):
    """How every site applies the decrypted average to the model (Reddi et al. 2021)."""

    optimizer: Literal["average", "momentum", "adam", "yogi"] = Field(
        default="average", description="average adds it as it is (FedAvg)"
    )
    learning_rate: float = Field(
        default=1.0, gt=0, allow_inf_nan=False, description="times the average or its step"
    )
    momentum: float = Field(
        default=0.9, ge=0, lt=1, description="share of the last direction kept (beta 1)"
    )
    second_moment: float = Field(
        default=0.99, ge=0, lt=1, description="adam, yogi: share of the last squares kept (beta 2)"
    )
    floor: float = Field(
        default=1e-3, gt=0, allow_inf_nan=False, description="adam, yogi: added to the root (tau)"
    )


class UncertaintyConfig(Section):
    """Weights of sites by how sure their imputer is (Fed-UQ-Avg, arXiv 2604.12970)."""

    share: float = Field(
        default=0.6, ge=0, le=1, description="alpha: weight of certainty; the rest goes by size"
    )
    temperature: float = Field(
        default=0.2, gt=0, allow_inf_nan=False, description="T: lower separates sites more"
    )


class TrainingConfig(Section):
    """How a site trains and how the rounds go."""

    rounds: int = Field(default=30, ge=1, le=100_000, description="exchanges of encrypted updates")
    local_steps: int = Field(
        default=20, ge=1, le=100_000, description="DP-SGD steps a site takes a round"
    )
    local_epochs: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="passes over a site's patients a round, instead of local_steps",
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
    proximal: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="FedProx: pull towards the global model (mu)",
    )
    augmentations: int = Field(
        default=1,
        ge=1,
        le=64,
        description="shifted and turned copies of an image inside a record's one gradient",
    )
    fine_tune_steps: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="steps a site takes for itself after the last round, inside the budget",
    )
    aggregation: Literal["uniform", "size", "uncertainty"] = Field(
        default="uniform", description="how much a site's update counts"
    )
    server: ServerConfig = Field(default_factory=ServerConfig)
    uncertainty: UncertaintyConfig = Field(default_factory=UncertaintyConfig)
    average_from: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="the final model is the mean of the rounds after this share; without effect "
        "where a round is chosen on validation patients",
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
    trust: Literal["local", "shared"] = Field(
        default="local",
        description="local: every site adds the full noise to its own training; shared: the sites' "
        "noise adds up inside the encrypted sum of every step",
    )
    collusion: int = Field(
        default=1,
        ge=0,
        le=999,
        description="with trust = 'shared': sites that may reveal or leave out their noise",
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

    encryption: Encryption = Field(
        default="bfv",
        description="bfv (with masks), ckks (no masks: a site together with the coordinator reads "
        "single updates), or none",
    )
    layout: Literal["2x20", "3x15", "2x28"] = Field(
        default="2x20", description="fields a slot x bits a field"
    )
    value_bits: int = Field(
        default=16,
        ge=4,
        le=19,
        description="bits of one quantised value; 11 if left out with layout 3x15",
    )
    update_bound: float = Field(
        default=8.0,
        allow_inf_nan=False,
        gt=0,
        description="largest change of one parameter in a round; more is cut",
    )
    min_owners: int = Field(
        default=1,
        ge=1,
        le=64,
        description="with trust = 'local': parts of the model that fewer sites of a round train "
        "are not summed; with 1 another site can read such an update, which has its full noise",
    )

    @model_validator(mode="before")
    @classmethod
    def _bits_of_the_layout(cls, content: Any) -> Any:
        """Let a layout be chosen alone: narrow fields leave room for 11 bits and 16 sites."""
        if isinstance(content, dict) and content.get("layout") == "3x15":
            return {"value_bits": 11, **content}
        return content


class EvaluationConfig(Section):
    """How the final model is measured."""

    choose_round: Literal["last", "validation"] = Field(
        default="last",
        description="last reports the mean of the last rounds' models; validation the round with "
        "the best macro AUROC on validation patients, who are read without noise",
    )
    metrics: tuple[Metric, ...] = Field(
        default=METRICS, description="what is measured on held-out patients and written down"
    )
    secure: bool = Field(
        default=False,
        description="let each site measure its own held-out patients and read the encrypted sum "
        "of their counts only: figures with bounds, no intervals, no groups",
    )
    bootstrap: int = Field(default=500, ge=0, le=100_000, description="resamples of patients")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="level of the intervals")
    calibration_bins: int = Field(
        default=10, ge=2, le=100, description="bins of the expected calibration error"
    )
    age_bands: tuple[int, ...] = Field(
        default=(40, 60, 80), description="ages at which a new age group starts"
    )
    smallest_group: int = Field(
        default=20, ge=1, description="groups with fewer patients are not shown"
    )

    @model_validator(mode="after")
    def _a_round_is_chosen_by_what_is_measured(self) -> EvaluationConfig:
        if self.choose_round == "validation" and "auroc" not in self.metrics:
            raise ValueError("choose_round = 'validation' needs 'auroc' among the metrics")
        return self
