"""From scores of records to one score a patient: the patient is the unit that a claim protects.

Where a patient has several records, scores of records are not independent, so that limits on rates
would be too narrow, and a patient with many would count many times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from attacks.limits import BoolArray, FloatArray, IntArray

How = Literal["mean", "max"]


def owners(patients: Sequence[Sequence[int]], records: int) -> IntArray:
    """Whose each record is, from the records that each patient has.

    Args:
        patients: for each patient, the positions of that patient's records.
        records: how many records there are.

    Returns:
        (records,) positions of patients.

    Raises:
        ValueError: when a record belongs to no patient or to two, or a patient has none.
    """
    owner = np.full(records, -1, dtype=np.int64)
    for at, own in enumerate(patients):
        if not own:
            raise ValueError(f"patient {at} has no record")
        for record in own:
            if not 0 <= record < records or owner[record] >= 0:
                raise ValueError(f"record {record} must exist and belong to one patient")
            owner[record] = at
    if (owner < 0).any():
        raise ValueError(f"record {int(np.argmax(owner < 0))} belongs to no patient")
    return owner


def by_patient(scores: npt.ArrayLike, patients: npt.ArrayLike, how: How = "mean") -> FloatArray:
    """One score a patient, in the order of ``np.unique(patients)``.

    The order of the rows changes no digit, and equal scores stay equal: a mean of equal numbers is
    that number, so that no tie is broken by rounding.

    ``max`` grows with the number of a patient's records whatever the model has learned. It is fair
    between members and non-members with as many records a patient, as a random split makes them.

    Args:
        scores: (..., records) finite; leading axes, if any, are models.
        patients: (records,) identities of any type that sorts, or :func:`owners`, with which the
            result has the order of the patients given there.
        how: ``mean`` or ``max`` of a patient's records.

    Returns:
        (..., patients).

    Raises:
        ValueError: when shapes differ, a score is not finite, or ``how`` is something else.
    """
    if how not in ("mean", "max"):
        raise ValueError(f"how must be mean or max, got {how!r}")
    values = np.asarray(scores, dtype=np.float64)
    identities = _identities(patients)
    if values.shape[-1:] != identities.shape:
        raise ValueError(f"scores {values.shape} need one patient a record, got {identities.shape}")
    if not np.isfinite(values).all():
        raise ValueError("scores must be finite")
    codes = np.unique(identities, return_inverse=True)[1]
    order = np.lexsort((values, np.broadcast_to(codes, values.shape)), axis=-1)
    rising = np.take_along_axis(values, order, axis=-1)
    counts = np.bincount(codes)
    starts = np.cumsum(counts) - counts
    if how == "max":
        return rising[..., starts + counts - 1]
    smallest = rising[..., starts]
    above = rising - np.repeat(smallest, counts, axis=-1)
    mean: FloatArray = smallest + np.add.reduceat(above, starts, axis=-1) / counts
    return mean


def members_by_patient(members: npt.ArrayLike, patients: npt.ArrayLike) -> BoolArray:
    """Whether each patient is a member, in the order of ``np.unique(patients)``.

    Args:
        members: (..., records) of False and True, or 0 and 1; leading axes, if any, are models.
        patients: (records,), as in :func:`by_patient`.

    Returns:
        (..., patients).

    Raises:
        ValueError: when shapes differ, or a patient has records on both sides.
    """
    values = by_patient(members, patients)
    if not np.isin(values, (0.0, 1.0)).all():
        raise ValueError(
            "a patient has records among the members and among the non-members: split by patient"
        )
    inside: BoolArray = values == 1.0
    return inside


def _identities(patients: npt.ArrayLike) -> npt.NDArray[np.generic]:
    identities = np.asarray(patients)
    if identities.ndim != 1 or not identities.size:
        raise ValueError(f"patients must name one patient a record, got {identities.shape}")
    return identities
