"""Poisson sampling of patients, and one random record of each patient drawn.

The accountant's amplification by sampling holds for Poisson sampling: every patient is in a batch
independently of all others, so the batch's size varies and can be zero. Shuffled or fixed-size
batches do not earn it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from privfin.errors import DataError
from privfin.randomness import RandomStream


def poisson_patients(stream: RandomStream, count: int, rate: float) -> npt.NDArray[np.int64]:
    """Draw a batch: each of ``count`` patients with probability ``rate``, independently.

    The uniform numbers have 53 bits, so a patient's true probability is ``rate`` to within 2^-53.

    Args:
        stream: where the randomness comes from.
        count: patients at the site, at least 0.
        rate: sampling rate q, 0 < q <= 1; 1 draws everyone.

    Returns:
        The chosen patients' indices in [0, ``count``), ascending. May be empty.

    Raises:
        ValueError: when ``count`` or ``rate`` is out of range.
    """
    if count < 0:
        raise ValueError(f"count must be at least 0, got {count}")
    if not 0.0 < rate <= 1.0:
        raise ValueError(f"rate must lie in (0, 1], got {rate}")
    return np.flatnonzero(stream.uniform(count) < rate).astype(np.int64, copy=False)


def one_record_each(
    stream: RandomStream,
    groups: Sequence[Sequence[int]],
    chosen: Sequence[int] | npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Draw one record of each chosen patient, uniformly among that patient's records.

    Args:
        stream: where the randomness comes from.
        groups: for every patient, the indices of the patient's records.
        chosen: indices into ``groups``, as from :func:`poisson_patients`.

    Returns:
        One record index for each entry of ``chosen``, in its order.

    Raises:
        DataError: when a chosen patient has no record.
        IndexError: when ``chosen`` names a patient that ``groups`` does not have.
    """
    patients = [int(patient) for patient in chosen]
    if patients and min(patients) < 0:
        raise IndexError(f"a patient's index must be at least 0, got {min(patients)}")
    sizes = np.array([len(groups[patient]) for patient in patients], dtype=np.int64)
    if (sizes == 0).any():
        patient = patients[int(np.argmin(sizes))]
        raise DataError(
            f"patient number {patient} has no record to draw; leave out patients without records"
        )
    picks = (stream.uniform(sizes.size) * sizes).astype(np.int64)
    records = [
        groups[patient][pick] for patient, pick in zip(patients, picks.tolist(), strict=True)
    ]
    return np.array(records, dtype=np.int64)
