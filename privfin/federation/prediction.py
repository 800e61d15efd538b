"""Scores for one new study from a finished run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from privfin.config import RunConfig
from privfin.data.images import read_grey_image
from privfin.data.records import Dataset, RawInput, Record
from privfin.data.values import number
from privfin.errors import UserInputError, nearest
from privfin.federation.assessment import predict_scores
from privfin.federation.encoding import encode
from privfin.federation.public_weights import check_same_weights
from privfin.runs import Run


@dataclass(frozen=True)
class Prediction:
    """Probability of every label, how sure the imputer was, and what was done to given values.

    Attributes:
        scores: probability by label.
        uncertainty: variance by modality that was imputed, where the imputer states one (pfin);
            1 is as good as a guess.
        notes: values that were cut to their range.
    """

    scores: dict[str, float]
    uncertainty: dict[str, float]
    notes: tuple[str, ...] = ()


def predict_study(
    run: Run,
    *,
    image: Path | None = None,
    text: str | None = None,
    values: Mapping[str, str] | None = None,
) -> Prediction:
    """Score one study; modalities not given are imputed.

    ``values`` maps columns of tabular modalities to numbers as they are written (M or F for the
    sex); columns not given are missing. What lies outside a column's public range is cut off, as
    in training, and noted.

    Raises:
        UserInputError: nothing was given, or a modality or column that the run does not have.
        DataError: the image cannot be decoded, or a value is no number.
    """
    config = run.config
    check_same_weights(run, config)
    inputs: dict[str, RawInput] = {}
    notes: list[str] = []
    if image is not None:
        name = _modality(run, "image")
        inputs[name] = read_grey_image(image, config.data.image_size, advice="give another file")
    if text is not None and text.strip():  # a blank text is no text, as in training
        inputs[_modality(run, "text")] = text
    if values:
        _modality(run, "tabular")
        numbers = _numbers(config, values)
        for name, modality in config.modalities.items():
            row = [numbers.get(column, math.nan) for column in modality.columns]
            if not all(math.isnan(value) for value in row):
                inputs[name] = np.array(row, dtype=np.float32)
        notes = _out_of_range(config, numbers)
    if not inputs:
        raise UserInputError("nothing to score: give --image, --text or --value, or several")
    labels = np.full(len(run.label_names), np.nan, dtype=np.float32)
    study = Record("study", "patient", inputs, labels)
    batch = encode(Dataset("study", run.label_names, (study,)), config)
    model = run.model()
    scores = predict_scores(model, batch)[0]
    named = {name: float(score) for name, score in zip(run.label_names, scores, strict=True)}
    with torch.no_grad():
        variance = {m: float(v[0]) for m, v in model.imputed_variance(batch).items()}
    stated = {m: v for m, v in variance.items() if not math.isnan(v)}
    return Prediction(named, stated, tuple(notes))


def _modality(run: Run, kind: str) -> str:
    """The run's first modality of a kind."""
    for name, modality in run.config.modalities.items():
        if modality.kind == kind:
            return name
    raise UserInputError(f"{run.path} was trained without a modality of kind '{kind}'")


def _numbers(config: RunConfig, given: Mapping[str, str]) -> dict[str, float]:
    known = sorted({column for m in config.modalities.values() for column in m.columns})
    for column in given:
        if column not in known:
            raise UserInputError(
                f"the run has no column '{column}'{nearest(column, known)} "
                f"(known: {', '.join(known)})"
            )
    sex = config.data.manifest.sex
    return {column: number(text, column, sex=sex) for column, text in given.items()}


def _out_of_range(config: RunConfig, numbers: Mapping[str, float]) -> list[str]:
    notes = []
    for name, modality in config.modalities.items():
        for column in modality.columns:
            low, high = modality.ranges[column]
            value = numbers.get(column, math.nan)
            if value < low or value > high:
                end = low if value < low else high
                notes.append(
                    f"{column} = {value:g} is outside the range of {name}, {low:g} to {high:g}: "
                    f"read as {end:g}"
                )
    return notes
