"""What every reader of a data source returns."""

from __future__ import annotations

from dataclasses import dataclass

from privfin.data.records import Dataset


@dataclass(frozen=True)
class LoadedData:
    """A data set and, when its source prescribes one, the patients of its official test split.

    ``test_patients`` is None when the source has no official split.
    """

    dataset: Dataset
    test_patients: frozenset[str] | None = None
