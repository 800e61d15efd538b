"""Which data sets a configuration reads, known without reading any of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from privfin.config import RunConfig
from privfin.errors import ConfigError

PHANTOM = "phantom"


@dataclass(frozen=True, order=True)
class DatasetKey:
    """A data set as a source in one place; kept in the home and nowhere else.

    Attributes:
        source: the name of a source.
        root: its folder, absolute and without symbolic links; empty for simulated patients.
    """

    source: str
    root: str

    @property
    def simulated(self) -> bool:
        """Whether its patients are invented."""
        return self.source == PHANTOM


def dataset_keys(config: RunConfig) -> list[DatasetKey]:
    """The data sets of a run: one a part of a mix, in the order of the parts, else one.

    Raises:
        ConfigError: a folder is needed and not given.
    """
    data = config.data
    if data.source != "mix":
        return [_key(data.source, data.root, Path())]
    return [_key(part.source, data.root, part.folder) for part in data.part]


def patients_by_dataset(config: RunConfig, patient_ids: Iterable[str]) -> list[set[str]]:
    """The patients of each data set of :func:`dataset_keys`, by their own identifiers.

    In a mix a patient's identifier starts with the name of the part.
    """
    patients = set(patient_ids)
    if config.data.source != "mix":
        return [patients]
    starts = [f"{part.name}:" for part in config.data.part]
    return [{p.removeprefix(s) for p in patients if p.startswith(s)} for s in starts]


def _key(source: str, root: Path | None, folder: Path) -> DatasetKey:
    if source == PHANTOM:
        return DatasetKey(PHANTOM, "")
    if root is None:
        raise ConfigError(f"{source} needs a folder: give --data-root DIR")
    return DatasetKey(source, str((root / folder).expanduser().resolve()))
