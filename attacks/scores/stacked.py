"""The stacked attack: several signals, weighed by a classifier that has only seen shadow models."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from attacks.scores.checks import FloatArray, booleans, floats
from attacks.scores.shadows import refuse_the_target_among


def stacked(
    target: npt.ArrayLike,
    shadows: npt.ArrayLike,
    membership: npt.ArrayLike,
    *,
    regularization: float = 1.0,
) -> FloatArray:
    """The log-odds of membership given several scores of a record.

    Logistic regression of the shadows' coins on the shadows' scores, after Shokri et al. 2017
    (arXiv:1610.05820: the attack model is trained on shadow models alone), applied to the target's
    scores. The target's coins are not an argument.

    The scores of a shadow must be made as the target's are: by attacking that shadow with all
    *other* shadows (:func:`attacks.scores.leave_one_out`). Coins must be independent: if every
    record is in exactly half of the shadows, the other shadows' coins give away the one left out,
    and the classifier may learn that instead.

    Args:
        target: (records, f) scores of the target, of any kind and unit.
        shadows: (models, records, f) the same scores of every shadow.
        membership: (models, records): whether that shadow was trained on that record.
        regularization: strength of the penalty on the squared weights of the standardised scores.

    Returns:
        (records,); larger means member. All 0 when no score says anything and half were members.

    Raises:
        ValueError: when shapes differ, a score is not finite, the shadows hold only members or
            only non-members, or one of them is the target.
    """
    own, others = floats("target", target, 2), floats("shadows", shadows, 3)
    if others.shape[1:] != own.shape:
        raise ValueError(f"shadows must be of shape (models, *{own.shape}), not {others.shape}")
    inside = booleans("membership", membership, others.shape[:2])
    if not regularization > 0.0:
        raise ValueError(f"regularization must be above 0, not {regularization}")
    if inside.all() or not inside.any():
        raise ValueError("membership must hold members and non-members")
    refuse_the_target_among(own, others)
    rows = others.reshape(-1, others.shape[2])
    centre, spread = rows.mean(axis=0), rows.std(axis=0)
    # A score that is always the same is left at 0, whatever it is for the target.
    varies = spread > 1e-9 * np.maximum(1.0, np.abs(centre))
    spread = np.where(varies, spread, np.inf)
    model = LogisticRegression(C=1.0 / regularization, max_iter=1000, tol=1e-8)
    model.fit((rows - centre) / spread, inside.reshape(-1))
    score: FloatArray = np.asarray(model.decision_function((own - centre) / spread))
    return score
