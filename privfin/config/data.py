"""Options of the data: where records come from, and which of their inputs are taken away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from privfin.config.base import Section

Source = Literal[
    "phantom",
    "manifest",
    "covid-cxr",
    "mimic-cxr",
    "openi",
    "chexpert",
    "chexpert-plus",
    "padchest",
    "medmnist",
]
ReportSection = Literal["findings", "impression", "indication"]
Rate = Annotated[float, Field(ge=0, le=1)]


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
    sex: str | None = Field(default=None, description="column with M or F, for results by group")
    age: str | None = Field(default=None, description="column with years, for results by group")


class SourceOptions(Section):
    """How one source is read. What a source has no use for is ignored by it."""

    skip_bad: bool = Field(default=False, description="leave out images that cannot be decoded")
    mask_words: tuple[str, ...] | None = Field(
        default=None,
        description="covid-cxr: words blanked in the notes; unset means the diagnosis words",
    )
    sections: tuple[ReportSection, ...] = Field(
        default=("findings",),
        description="parts of a report used as text; labels are mined from the impression, so it "
        "is left out",
    )
    uncertain: Literal["unknown", "zero", "one"] = Field(
        default="unknown", description="what a label of -1 (uncertain) becomes"
    )
    views: Literal["frontal", "all"] = Field(
        default="frontal", description="which X-rays of a study are read"
    )
    split: Literal["official", "random"] = Field(
        default="official", description="official uses the source's own test patients if it has any"
    )
    manifest: ManifestConfig = Field(default_factory=ManifestConfig)


class PartConfig(SourceOptions):
    """One source of a mix (``data.source = "mix"``)."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]{0,31}$",
        description="short name; the place that sites match, and the prefix of its patients",
    )
    source: Source = Field(description="what the part is read as")
    folder: Path = Field(default=Path(), description="its folder, relative to data.root")
    labels: tuple[str, ...] = Field(
        default=(), description="labels read from it; empty means those of the run that it has"
    )
    rename: dict[str, str] = Field(
        default_factory=dict, description="the part's own label -> the run's label"
    )
    patients: int = Field(
        default=1000, ge=20, le=10**6, description="phantom: how many patients to make"
    )


class DataConfig(SourceOptions):
    """Where the records come from, and how they are divided into training and test patients."""

    source: Source | Literal["mix"] = Field(
        default="phantom", description="a source of `privfin data list`, or mix"
    )
    root: Path | None = Field(
        default=None, description="folder of the data (not needed for phantom)"
    )
    patients: int = Field(
        default=6000, ge=20, le=10**6, description="phantom: how many patients to make"
    )
    image_size: int = Field(
        default=32, ge=16, le=512, description="images are read as squares this wide"
    )
    labels: tuple[str, ...] = Field(
        default=(), description="labels to learn; empty means all that the source has by default"
    )
    test_fraction: float = Field(
        default=0.25, gt=0, lt=1, description="share of patients kept for tests"
    )
    validation_fraction: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="share of the training patients kept aside to choose a round, if "
        "evaluation.choose_round is validation",
    )
    part: tuple[PartConfig, ...] = Field(default=(), description="the sources of a mix")

    @model_validator(mode="after")
    def _parts_belong_to_a_mix(self) -> DataConfig:
        if self.source == "mix" and not self.part:
            raise ValueError("a mix needs [[data.part]] entries, one a source")
        if self.part and self.source != "mix":
            raise ValueError(f"[[data.part]] needs source = 'mix', not '{self.source}'")
        names = [part.name for part in self.part]
        if len(set(names)) != len(names):
            raise ValueError("two parts of the mix have the same name")
        # One person must not become two patients of a mix: clipping bounds each patient once.
        places = [
            (p.source, p.folder) for p in self.part if p.source not in ("phantom", "manifest")
        ]
        if len(set(places)) != len(places):
            raise ValueError("two parts of the mix read the same folder as the same source")
        if {"chexpert", "chexpert-plus"} <= {p.source for p in self.part}:
            raise ValueError("chexpert and chexpert-plus are the same patients: mix only one")
        return self


class MissingnessConfig(Section):
    """Which inputs are taken away from records, beyond what a site does not hold.

    What is taken is drawn with the run's public seed, for each record by itself. A record keeps
    at least one input: one of those that it would lose, at random.
    """

    train: dict[str, Rate] = Field(
        default_factory=dict, description="modality -> share of training records that lose it"
    )
    test: dict[str, Rate] = Field(
        default_factory=dict, description="modality -> share of held-out records that lose it"
    )
    label: str | None = Field(
        default=None, description="missing not at random: the label that missingness depends on"
    )
    odds: float = Field(
        default=1.0,
        gt=0,
        allow_inf_nan=False,
        description="times the odds of losing a modality where that label is 1",
    )
    unlabelled_without: dict[str, Rate] = Field(
        default_factory=dict,
        description="modality -> share of patients without labels at sites that lack it",
    )

    @field_validator("train", "test")
    @classmethod
    def _below_one(cls, rates: dict[str, float]) -> dict[str, float]:
        full = [name for name, rate in rates.items() if rate >= 1]
        if full:
            raise ValueError(f"rate of '{full[0]}' must be below 1; leave the modality out instead")
        return rates

    @model_validator(mode="after")
    def _odds_of_a_label(self) -> MissingnessConfig:
        if self.odds != 1.0 and self.label is None:
            raise ValueError("odds needs label: which label does missingness depend on?")
        return self

    @property
    def is_empty(self) -> bool:
        """Whether nothing is taken away."""
        rates = (*self.train.values(), *self.test.values(), *self.unlabelled_without.values())
        return not any(rates)
