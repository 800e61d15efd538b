"""The patients of an audit: those a run trained on, and held-out ones dealt to sites likewise."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from privfin.models.multimodal import Batch

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SitePool:
    """Patients that a site trained on, and held-out ones that it could as well have trained on.

    Attributes:
        name: of the site.
        batch: what training reads: rows ``i * copies`` to ``i * copies + copies - 1`` belong to
            record i, with the modalities that the site holds (and what missingness left).
        copies: rows a record has.
        patients: for each patient, the positions of that patient's records.
        members: (patients,) whether the run trained on that patient.
        queries: one row a record, not augmented, with the modalities it is trained with.
        full: the same records with every modality that the study has.
        patient_ids: one a patient.
        sex: one a patient, ``F``, ``M`` or empty.
        age: (patients,) years, NaN where unknown.
    """

    name: str
    batch: Batch
    copies: int
    patients: list[list[int]]
    members: BoolArray
    queries: Batch
    full: Batch
    patient_ids: tuple[str, ...] = field(repr=False, default=())
    sex: tuple[str, ...] = ()
    age: tuple[float, ...] = ()


@dataclass(frozen=True)
class Population:
    """All patients of an audit, by site."""

    sites: tuple[SitePool, ...]
    label_names: tuple[str, ...]
