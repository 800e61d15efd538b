"""Attacks with a modality dropped find what answers to whole records hide."""

from __future__ import annotations

import numpy as np
import torch

from attacks.limits import FloatArray
from privfin.auditing.dropped import dropped_attempts, with_every_modality
from privfin.auditing.membership import Answers, attempts
from privfin.models.multimodal import Batch

MODELS, PATIENTS, LABELS = 24, 400, 3


def area(scores: FloatArray, members: np.ndarray) -> float:
    inside, outside = scores[members], scores[~members]
    return float((inside[:, None] > outside).mean() + 0.5 * (inside[:, None] == outside).mean())


class Models:
    """Models that answer whole records alike, and those without text worse if trained on them."""

    def __init__(self, leak: float) -> None:
        rng = np.random.default_rng(0)
        self.coins = rng.random((MODELS + 1, PATIENTS)) < 0.5
        self.labels = (rng.random((PATIENTS, LABELS)) < 0.5).astype(float)
        self._sign = 2 * self.labels - 1
        self._hard = rng.normal(0, 2, (PATIENTS, LABELS))
        self._rng = rng
        self._leak = leak
        present = torch.ones(PATIENTS, dtype=torch.bool)
        inputs = torch.zeros(PATIENTS, 1)
        self.batch = Batch(
            {"image": inputs, "text": inputs},
            {"image": present, "text": present},
            torch.from_numpy(self.labels),
        )

    def ask(self, batch: Batch) -> FloatArray:
        """(1 + MODELS, records, labels)."""
        has_text = batch.present["text"].numpy()[None, :, None]
        fall = np.where(has_text, 0.0, self._leak * self.coins[..., None])
        noise = self._rng.normal(0, 0.3, (MODELS + 1, PATIENTS, LABELS))
        return self._sign * (self._hard - fall) + noise

    def answers(self) -> Answers:
        logits = self.ask(self.batch)
        rows = [[i] for i in range(PATIENTS)]
        return Answers(self.labels, logits[0], logits[1:], self.coins[1:], rows, self.coins[0])


def found(models: Models) -> dict[str, float]:
    answers = models.answers()
    everyone = np.ones(PATIENTS, dtype=bool)
    made = dropped_attempts(models.ask, models.batch, answers, everyone, "both")
    return {one.attack: area(one.scores, one.members) for one in made}


def test_a_leak_that_whole_records_hide_shows_in_the_gap() -> None:
    models = Models(leak=-1.0)  # a member is answered better without its text than a stranger
    areas = found(models)
    assert set(areas) == {
        "lira without image", "lira gap of image", "lira without text", "lira gap of text",
    }  # fmt: skip
    (whole,) = attempts(models.answers(), ["lira"], "both")
    assert abs(area(whole.scores, whole.members) - 0.5) < 0.15
    assert areas["lira without text"] > 0.9
    assert abs(areas["lira gap of image"] - 0.5) < 0.15
    assert areas["lira gap of text"] > 0.9  # although a member's gap is the smaller one


def test_without_a_leak_all_are_at_chance() -> None:
    for name, value in found(Models(leak=0.0)).items():
        assert abs(value - 0.5) < 0.15, name  # 5.2 standard deviations


def test_only_patients_whose_every_record_is_whole() -> None:
    models = Models(leak=0.0)
    text = torch.ones(PATIENTS, dtype=torch.bool)
    text[3] = False
    batch = Batch(
        models.batch.inputs, {"image": torch.ones_like(text), "text": text}, models.batch.labels
    )
    answers = models.answers()
    assert np.flatnonzero(~with_every_modality(batch, answers)).tolist() == [3]
    one = Batch({"image": models.batch.inputs["image"]}, {"image": text}, models.batch.labels)
    assert not with_every_modality(one, answers).any()
