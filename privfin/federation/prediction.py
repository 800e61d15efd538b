"""Scores for one new study from a finished run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from privfin.data.images import read_grey_image
from privfin.data.records import Dataset, RawInput, Record
from privfin.errors import UserInputError
from privfin.federation.assessment import predict_scores
from privfin.federation.encoding import encode
from privfin.federation.public_weights import check_same_weights
from privfin.runs import Run


def predict_study(
    run: Run, *, image: Path | None = None, text: str | None = None
) -> dict[str, float]:
    """Probability of every label for one study; modalities not given are imputed.

    Raises:
        UserInputError: nothing was given, or a modality that the run does not have.
        DataError: the image cannot be decoded.
    """
    config = run.config
    check_same_weights(run, config)
    given: dict[str, object] = {}
    if image is not None:
        given["image"] = image
    if text is not None:
        given["text"] = text
    if not given:
        raise UserInputError("give --image, --text, or both")
    inputs: dict[str, RawInput] = {}
    for kind, value in given.items():
        names = [m for m, c in config.modalities.items() if c.kind == kind]
        if not names:
            raise UserInputError(f"{run.path} was trained without a modality of kind '{kind}'")
        if isinstance(value, Path):
            inputs[names[0]] = read_grey_image(value, config.data.image_size)
        else:
            inputs[names[0]] = str(value)
    labels = np.full(len(run.label_names), np.nan, dtype=np.float32)
    study = Record("study", "patient", inputs, labels)
    batch = encode(Dataset("study", run.label_names, (study,)), config)
    scores = predict_scores(run.model(), batch)[0]
    return {name: float(score) for name, score in zip(run.label_names, scores, strict=True)}
