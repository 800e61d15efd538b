"""A model to audit, whatever made it: what it and its shadows say of records, and who was in.

``Target.from_predict_proba`` takes scikit-learn's ``predict_proba``, ``Target.from_module`` a torch
module, and ``Target(...)`` the outputs themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from attacks import scores
from attacks.attempt import Attempt
from attacks.errors import AuditRefusedError
from attacks.guards import check_blind, check_disjoint, check_evaluation_mode
from attacks.limits import BoolArray, FloatArray
from attacks.patients import How, by_patient, members_by_patient

#: Probabilities nearer to 0 or 1 than this count as this near: a forest says exactly 0 and 1.
SMALLEST_PROBABILITY = 1e-6
# Below this many shadows a side, a record's own variance is worse than the pooled one.
_OWN_VARIANCE = 32
_ROWS = 256


@dataclass(frozen=True)
class Target:
    """Outputs of a model and of its shadows on the same records; refuses what cannot be compared.

    Attributes:
        logits: (records, outputs): one a class (softmax), or one a finding (sigmoid).
        labels: (records,) classes 0 to C - 1, or (records, outputs) findings: 1, 0, or NaN where
            unknown. Which of the two decides whether outputs are classes or findings.
        members: (records,) whether the model was trained on that record.
        shadows: (models, records, outputs) of models trained as the target, each on its own draw.
        inside: (models, records) whether that shadow was trained on that record.
        patients: (records,) whose they are; every record is its own patient when left out.
        inputs: (records, ...) numbers that describe the records, for the blind classifier.
        not_blind_checked: why members need not be compared with non-members by their inputs. One of
            this and ``inputs`` must be given; the reason becomes the note of every attempt.
        how: a patient's score from those of the records.

    Raises:
        AuditRefusedError: patients on both sides, members that differ on sight, or neither inputs
            nor a reason.
        ValueError: shapes or values do not fit.
    """

    logits: npt.ArrayLike = field(repr=False)
    labels: npt.ArrayLike = field(repr=False)
    members: npt.ArrayLike = field(repr=False)
    shadows: npt.ArrayLike | None = field(default=None, repr=False)
    inside: npt.ArrayLike | None = field(default=None, repr=False)
    patients: npt.ArrayLike | None = field(default=None, repr=False)
    inputs: npt.ArrayLike | None = field(default=None, repr=False)
    not_blind_checked: str = ""
    how: How = "mean"

    def __post_init__(self) -> None:
        inside = np.asarray(self.members)
        owner = self._owner()
        if inside.shape != owner.shape or not np.isin(inside, (0, 1)).all():
            raise ValueError("members must be 0 or 1 and name one patient a record")
        if (self.shadows is None) != (self.inside is None):
            raise ValueError("shadows and inside go together")
        chosen = inside.astype(bool)
        check_disjoint(map(str, owner[chosen]), map(str, owner[~chosen]))
        if self.inputs is None:
            if not self.not_blind_checked.strip():
                raise AuditRefusedError(
                    "give inputs, so that a blind classifier can compare members with "
                    "non-members, or say in not_blind_checked why it need not"
                )
            return
        if not self.not_blind_checked:
            table = np.asarray(self.inputs, dtype=np.float64).reshape(len(chosen), -1)
            check_blind(table, chosen, patients=owner)

    @classmethod
    def from_module(
        cls,
        model: torch.nn.Module,
        inputs: npt.ArrayLike,
        labels: npt.ArrayLike,
        members: npt.ArrayLike,
        *,
        shadows: Sequence[torch.nn.Module] = (),
        inside: npt.ArrayLike | None = None,
        patients: npt.ArrayLike | None = None,
        not_blind_checked: str = "",
        how: How = "mean",
    ) -> Target:
        """Of torch modules that take (rows, ...) float32 and return (rows, outputs) logits.

        Raises:
            AuditRefusedError: a module is in training mode, or as :class:`Target`.
        """
        for module in (model, *shadows):
            check_evaluation_mode(module)
        rows = np.asarray(inputs)
        return cls(
            _logits_of(model, rows),
            labels,
            members,
            np.stack([_logits_of(s, rows) for s in shadows]) if shadows else None,
            inside,
            patients,
            rows,
            not_blind_checked,
            how,
        )

    @classmethod
    def from_predict_proba(
        cls,
        predict: Callable[[npt.ArrayLike], npt.ArrayLike],
        inputs: npt.ArrayLike,
        labels: npt.ArrayLike,
        members: npt.ArrayLike,
        *,
        shadows: Sequence[Callable[[npt.ArrayLike], npt.ArrayLike]] = (),
        inside: npt.ArrayLike | None = None,
        patients: npt.ArrayLike | None = None,
        not_blind_checked: str = "",
        how: How = "mean",
    ) -> Target:
        """Of functions that give (rows, outputs) probabilities.

        Probabilities are kept :data:`SMALLEST_PROBABILITY` away from 0 and 1.

        Raises:
            AuditRefusedError, ValueError: as :class:`Target`.
        """
        one_of_many = np.ndim(labels) == 1

        def said(function: Callable[[npt.ArrayLike], npt.ArrayLike]) -> FloatArray:
            p = np.asarray(function(inputs), dtype=np.float64)
            if p.ndim != 2 or not ((p >= 0.0) & (p <= 1.0)).all():
                raise ValueError("probabilities must be (rows, outputs), each from 0 to 1")
            p = np.clip(p, SMALLEST_PROBABILITY, 1.0 - SMALLEST_PROBABILITY)
            logits: FloatArray = np.log(p) if one_of_many else np.log(p) - np.log1p(-p)
            return logits

        return cls(
            said(predict),
            labels,
            members,
            np.stack([said(s) for s in shadows]) if shadows else None,
            inside,
            patients,
            inputs,
            not_blind_checked,
            how,
        )

    def attempts(self) -> list[Attempt]:
        """Every attack that can be carried out, one score a patient.

        ``loss``, ``entropy`` and ``modified-entropy`` always; ``lira`` (offline, one-sided),
        ``rmia`` (offline, a tuned on the shadows) and ``calibrated-loss`` with shadows;
        ``lira-online`` where every record has two shadows on each side. With fewer than 32 shadows
        a side, LiRA pools its variance.

        Raises:
            ValueError: shapes or values do not fit; a record has too few shadows without it.
        """
        found = self._alone()
        if self.shadows is not None and self.inside is not None:
            found |= self._with_shadows(self.shadows, np.asarray(self.inside).astype(bool))
        owner = self._owner()
        members = members_by_patient(self.members, owner)
        note = self.not_blind_checked and f"members not compared by input: {self.not_blind_checked}"
        return [
            Attempt(name, "outsider", "all", by_patient(s, owner, self.how), members, note)
            for name, s in found.items()
        ]

    def _owner(self) -> npt.NDArray[np.generic]:
        if self.patients is None:
            return np.arange(len(np.asarray(self.members)))
        return np.asarray(self.patients)

    def _signals(self, logits: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """LiRA's signals and log p(y|x)."""
        if np.ndim(self.labels) == 1:
            return scores.class_logit(logits, self.labels), scores.class_log_probability(
                logits, self.labels
            )
        return scores.label_signals(logits, self.labels), scores.joint_log_probability(
            logits, self.labels
        )

    def _losses(self, logits: npt.ArrayLike) -> FloatArray:
        if np.ndim(self.labels) == 1:
            return -scores.class_log_probability(logits, self.labels)
        return scores.mean_loss(scores.label_losses(logits, self.labels))

    def _alone(self) -> dict[str, FloatArray]:
        found = {"loss": scores.loss(self._losses(self.logits))}
        if np.ndim(self.labels) == 1:
            found["entropy"] = scores.entropy(self.logits)
            found["modified-entropy"] = scores.modified_entropy(self.logits, self.labels)
        else:
            found["entropy"] = scores.label_entropy(self.logits, self.labels)
            found["modified-entropy"] = scores.label_modified_entropy(self.logits, self.labels)
        return found

    def _with_shadows(self, shadows: npt.ArrayLike, coins: BoolArray) -> dict[str, FloatArray]:
        own, log_p = self._signals(self.logits)
        others, other_log_p = self._signals(shadows)
        sides = (int((~coins).sum(axis=0).min()), int(coins.sum(axis=0).min()))
        found = {
            "calibrated-loss": scores.calibrated_loss(
                self._losses(self.logits), self._losses(shadows), coins
            ),
            "lira": scores.lira(
                own, others, coins,
                variance="record" if sides[0] >= _OWN_VARIANCE else "pooled",
            ),
            "rmia": scores.rmia_log_ratio(
                log_p, other_log_p, coins, a=scores.tune_rmia(other_log_p, coins)
            ),
        }  # fmt: skip
        if min(sides) >= 2:
            found["lira-online"] = scores.lira(
                own, others, coins, mode="online",
                variance="record" if min(sides) >= _OWN_VARIANCE else "pooled",
            )  # fmt: skip
        return found


def _logits_of(model: torch.nn.Module, rows: npt.NDArray[np.generic]) -> FloatArray:
    parts = []
    with torch.no_grad():
        for first in range(0, len(rows), _ROWS):
            chunk = torch.as_tensor(rows[first : first + _ROWS], dtype=torch.float32)
            parts.append(model(chunk).double().cpu().numpy())
    return np.concatenate(parts)
