"""Signals and strata of records that have an image, a report, or both."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from attacks.scores.checks import BoolArray, FloatArray, booleans, floats


def strata(
    has_image: npt.ArrayLike, has_text: npt.ArrayLike, imputed: npt.ArrayLike | None = None
) -> dict[str, BoolArray]:
    """Which records belong to each stratum of an audit.

    Args:
        has_image: (records,): whether the record has an image of its own.
        has_text: (records,): whether it has a report of its own.
        imputed: (records,): whether an imputer stood in for what is missing when the target was
            trained; nobody when left out.

    Returns:
        Masks (records,) named "both", "image_only", "text_only" (one of which holds every record)
        and "imputed" (some of the records of the two before it). Any may be empty.

    Raises:
        ValueError: when shapes differ, a record has neither, or one that has both is imputed.
    """
    image = booleans("has_image", has_image, np.shape(has_image))
    text = booleans("has_text", has_text, image.shape)
    filled = booleans("imputed", np.zeros(image.shape) if imputed is None else imputed, image.shape)
    if image.ndim != 1:
        raise ValueError(f"has_image must have 1 axis, not {image.ndim}")
    if not (image | text).all():
        raise ValueError(f"record {int(np.argmin(image | text))} has neither an image nor a report")
    if (filled & image & text).any():
        wrong = int(np.argmax(filled & image & text))
        raise ValueError(f"record {wrong} is imputed but has both modalities")
    return {
        "both": image & text,
        "image_only": image & ~text,
        "text_only": text & ~image,
        "imputed": filled,
    }


@dataclass(frozen=True)
class ModalitySignals:
    """One model's signals when a record is queried whole and in parts: (..., records) each.

    Attributes:
        as_trained: with all that the record has.
        without_text: with the report dropped; NaN unless the record has both.
        without_image: with the image dropped; NaN unless the record has both.
        text_gap: ``as_trained - without_text``: what the report adds. A model that has seen the
            pair together needs the pair; NaN unless the record has both.
        image_gap: ``as_trained - without_image``.
    """

    as_trained: FloatArray = field(repr=False)
    without_text: FloatArray = field(repr=False)
    without_image: FloatArray = field(repr=False)
    text_gap: FloatArray = field(repr=False)
    image_gap: FloatArray = field(repr=False)

    def queries(self) -> FloatArray:
        """(..., records, 3): whole, without text, without image; NaN where there is no such query.

        For :func:`attacks.scores.lira_covariance`, as a target's and as shadows' signals. The gaps
        are differences of these, so that the covariance knows them already.
        """
        return np.stack([self.as_trained, self.without_text, self.without_image], axis=-1)


def modality_signals(
    as_trained: npt.ArrayLike,
    without_text: npt.ArrayLike,
    without_image: npt.ArrayLike,
    has_image: npt.ArrayLike,
    has_text: npt.ArrayLike,
) -> ModalitySignals:
    """Signals of the record as trained, with each modality dropped, and the gaps between them.

    Our own definition: s(both) - s(one) is a membership signal of a fusion model, like any other
    signal a matter for shadows (:func:`attacks.scores.lira`). What stands at a query that a record
    cannot have (it lacks that modality, or would be left with nothing) reaches no signal.

    Args:
        as_trained: (..., records) signals with all that each record has; leading axes are models.
        without_text: of the same shape, with the report dropped.
        without_image: of the same shape, with the image dropped.
        has_image: (records,).
        has_text: (records,).

    Raises:
        ValueError: when shapes differ, a record has neither modality, or a signal of a possible
            query is not finite.
    """
    both = strata(has_image, has_text)["both"]
    whole = floats("as_trained", as_trained, max(1, np.ndim(as_trained)))
    if whole.shape[-1:] != both.shape:
        raise ValueError(f"as_trained must be of shape (..., {both.size}), not {whole.shape}")
    parts = []
    for name, values in (("without_text", without_text), ("without_image", without_image)):
        array = np.asarray(values, dtype=np.float64)
        if array.shape != whole.shape:
            raise ValueError(f"{name} must be of shape {whole.shape}, not {array.shape}")
        if not np.isfinite(array[..., both]).all():
            raise ValueError(f"{name} must be finite for records that have both modalities")
        parts.append(np.where(both, array, np.nan))
    image, text = parts
    return ModalitySignals(whole, image, text, whole - image, whole - text)


def retrieval_rank(
    images: npt.ArrayLike, texts: npt.ArrayLike, strangers: npt.ArrayLike
) -> FloatArray:
    """How high a record's own report ranks among strangers' for its image.

    score = share of the strangers' reports that are less similar to the image than its own is, ties
    counting half; similarity is the cosine. A model that was trained on the pair links it. The
    strangers are fixed, so that no record's score depends on which other records are audited.

    Args:
        images: (records, d) embeddings of the images.
        texts: (records, d) embeddings of the same records' reports.
        strangers: (s, d) embeddings of reports that the model was not trained on.

    Returns:
        (records,) in [0, 1]; larger means member.

    Raises:
        ValueError: when shapes differ, a value is not finite, an embedding is zero, or there is no
            stranger.
    """
    left, right = _unit("images", images), _unit("texts", texts)
    foreign = _unit("strangers", strangers)
    if left.shape != right.shape or foreign.shape[1] != left.shape[1] or not len(foreign):
        raise ValueError(
            f"images {left.shape} and texts {right.shape} must have the same shape, and strangers "
            f"{foreign.shape} at least one row of the same width"
        )
    own = (left * right).sum(axis=1, keepdims=True)
    others = left @ foreign.T
    # A report that is in both sets differs in its last digit only.
    same = np.isclose(others, own, rtol=0.0, atol=1e-9)
    score: FloatArray = np.where(same, 0.5, others < own).mean(axis=1)
    return score


def _unit(name: str, rows: npt.ArrayLike) -> FloatArray:
    """Rows of length 1."""
    array = floats(name, rows, 2)
    length = np.linalg.norm(array, axis=1, keepdims=True)
    if (length == 0.0).any():
        raise ValueError(f"{name}: embedding {int(np.argmin(length))} is zero")
    unit: FloatArray = array / length
    return unit
