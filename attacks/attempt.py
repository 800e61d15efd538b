"""One membership attack, carried out: a score for each patient, beside the truth."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from attacks.limits import BoolArray, FloatArray, check_scores


@dataclass(frozen=True)
class Attempt:
    """What an attack says of patients, and whether the model was trained on them.

    Attributes:
        attack: its name, as ``lira`` or ``loss``.
        observer: whose view it used: ``outsider``, ``site``, ``coordinator`` and so on.
        stratum: which patients, as ``all``, ``both``, ``image only``, ``imputed``.
        scores: (n,) finite, one a patient; higher means more likely a member.
        members: (n,) whether the model was trained on that patient.
        note: a line on what the scores rest on, or nothing.
    """

    attack: str
    observer: str
    stratum: str
    scores: FloatArray = field(repr=False)
    members: BoolArray = field(repr=False)
    note: str = ""

    def __post_init__(self) -> None:
        scores, members = check_scores(self.scores, self.members)
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "members", members)

    def of(self, chosen: npt.NDArray[np.bool_], stratum: str) -> Attempt:
        """The same attack on some of the patients."""
        return Attempt(
            self.attack, self.observer, stratum, self.scores[chosen], self.members[chosen],
            self.note,
        )  # fmt: skip
