"""The outsider's attacks: what the final model, and shadow models like it, say of each patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from attacks import scores
from attacks.attempt import Attempt
from attacks.limits import BoolArray, FloatArray
from attacks.patients import by_patient, owners

#: Attacks that need the model alone.
ALONE = ("loss", "entropy", "modified-entropy")
#: Attacks that need shadow models.
WITH_SHADOWS = (
    "calibrated-loss",
    "lira",
    "lira-online",
    "lira-covariance",
    "rmia",
    "rmia-online",
    "stacked",
    "lira-modalities",
)
ATTACKS = (*ALONE, *WITH_SHADOWS)
# Below this many shadows a side a record's own variance is worse than the pooled one.
_OWN_VARIANCE = 32
# Signals that the stacked attack weighs.
_STACKED = ("loss", "calibrated-loss", "lira", "rmia")


@dataclass(frozen=True)
class Answers:
    """What models say of the records of an audit.

    Attributes:
        labels: (records, L): 1, 0, or NaN where unknown; every record has a known one.
        target: (records, L) logits of the audited model.
        shadows: (M, records, L) logits of the shadow models; M may be 0.
        inside: (M, records) whether that shadow was trained on that record's patient.
        patients: for each patient, its records.
        members: (patients,).
    """

    labels: FloatArray = field(repr=False)
    target: FloatArray = field(repr=False)
    shadows: FloatArray = field(repr=False)
    inside: BoolArray = field(repr=False)
    patients: Sequence[Sequence[int]] = field(repr=False)
    members: BoolArray = field(repr=False)

    def of(self, chosen: BoolArray) -> Answers:
        """Those of some patients only."""
        kept = [self.patients[i] for i in np.flatnonzero(chosen).tolist()]
        rows = np.array([row for own in kept for row in own], dtype=np.int64)
        ends = np.cumsum([len(own) for own in kept])
        renumbered = [
            list(range(end - len(own), end)) for own, end in zip(kept, ends.tolist(), strict=True)
        ]
        return Answers(
            self.labels[rows],
            self.target[rows],
            self.shadows[:, rows],
            self.inside[:, rows],
            renumbered,
            self.members[chosen],
        )


def attempts(answers: Answers, names: Sequence[str], stratum: str) -> list[Attempt]:
    """Carry out attacks on the patients of a stratum.

    A patient's score is the mean over its records. An attack for which there are too few shadow
    models is left out: see :func:`too_few`. ``lira-modalities`` has answers of its own: see
    :func:`privfin.auditing.dropped.dropped_attempts`.

    Args:
        answers: of the records of this stratum.
        names: of :data:`ATTACKS`.
        stratum: what to call these patients.

    Raises:
        KeyError: an attack is unknown.
    """
    found = []
    for name in names:
        if name not in ATTACKS:
            raise KeyError(name)
        if too_few(answers, name) or name == "lira-modalities":
            continue
        by_record = record_scores(answers, name)
        found.append(
            Attempt(
                name,
                "outsider",
                stratum,
                by_patient(by_record, owners(answers.patients, len(by_record))),
                answers.members,
                shadow_note(answers) if name in WITH_SHADOWS else "",
            )
        )
    return found


def record_scores(answers: Answers, name: str) -> FloatArray:
    """The score (records,) of one attack; larger means member."""
    own, labels = answers.target, answers.labels
    if name == "loss":
        return scores.loss(scores.label_losses(own, labels))
    if name == "entropy":
        return scores.label_entropy(own, labels)
    if name == "modified-entropy":
        return scores.label_modified_entropy(own, labels)
    if name == "stacked":
        return _stacked(answers)
    return _against_shadows(name, own, answers.shadows, answers.inside, labels)


def _against_shadows(
    name: str, own: FloatArray, shadows: FloatArray, inside: BoolArray, labels: FloatArray
) -> FloatArray:
    if name == "calibrated-loss":
        losses = [scores.mean_loss(scores.label_losses(z, labels)) for z in (own, shadows)]
        return scores.calibrated_loss(losses[0], losses[1], inside)
    if name.startswith("rmia"):
        chances = [scores.joint_log_probability(z, labels) for z in (own, shadows)]
        if name == "rmia-online":
            return scores.rmia_log_ratio(chances[0], chances[1], inside, mode="online")
        a = scores.tune_rmia(chances[1], inside, references=range(min(4, len(inside))))
        return scores.rmia_log_ratio(chances[0], chances[1], inside, a=a)
    signals = [scores.label_signals(z, labels) for z in (own, shadows)]
    if name == "lira-covariance":
        return scores.lira_covariance(signals[0], signals[1], inside)
    if name == "lira-online":
        return scores.lira(
            signals[0], signals[1], inside, mode="online", variance=own_variance(inside, both=True)
        )
    return scores.lira(signals[0], signals[1], inside, variance=own_variance(inside, both=False))


def own_variance(inside: BoolArray, *, both: bool) -> scores.likelihood.Variance:
    """Each record's own where there are shadows enough, else the pooled one."""
    fewest = int((~inside).sum(axis=0).min())
    if both:
        fewest = min(fewest, int(inside.sum(axis=0).min()))
    return "record" if fewest >= _OWN_VARIANCE else "pooled"


def _stacked(answers: Answers) -> FloatArray:
    """Every shadow is attacked with the others as the target is, and they teach the weights."""
    labels, inside = answers.labels, answers.inside

    def features(own: FloatArray, others: FloatArray, coins: BoolArray) -> FloatArray:
        columns = [
            scores.loss(scores.label_losses(own, labels))
            if name == "loss"
            else _against_shadows(name, own, others, coins, labels)
            for name in _STACKED
        ]
        return np.stack(columns, axis=1)

    target = features(answers.target, answers.shadows, inside)
    taught = list(scores.leave_one_out(len(answers.shadows)))[:8]
    made = [features(answers.shadows[i], answers.shadows[o], inside[o]) for i, o in taught]
    return scores.stacked(target, np.stack(made), inside[[i for i, _ in taught]])


def too_few(answers: Answers, name: str) -> bool:
    """Whether some record lacks the shadow models that an attack needs.

    Two without it, and online two with it; one more for ``stacked``, which leaves one out.
    """
    if name not in WITH_SHADOWS:
        return False
    if not len(answers.shadows):
        return True
    least = 3 if name == "stacked" else 2
    inside = answers.inside.sum(axis=0)
    online = name in ("lira-online", "rmia-online", "lira-modalities")
    outside = len(answers.shadows) - inside
    return bool(outside.min() < least or (online and inside.min() < least))


def shadow_note(answers: Answers) -> str:
    """How many shadow models an attack rests on."""
    outside = (~answers.inside).sum(axis=0)
    return (
        f"{len(answers.shadows)} shadow models, {outside.min()} to {outside.max()} without a record"
    )
