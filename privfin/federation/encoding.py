"""Records through the front ends, a part at a time, leaving out what cannot be read if asked to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from privfin.config import RunConfig
from privfin.data.records import Dataset, Record
from privfin.errors import DataError
from privfin.models.feature_cache import FeatureCache
from privfin.models.frontends import read_inputs
from privfin.models.frozen import is_frozen, load_frozen
from privfin.models.multimodal import Batch


@dataclass(frozen=True)
class Encoded:
    """Records that could be read, their tensors, and a line for each that was left out."""

    dataset: Dataset
    batch: Batch
    notices: tuple[str, ...]


def encode(dataset: Dataset, config: RunConfig) -> Batch:
    """All records as front-end tensors: computed once, because nothing in a front end learns.

    Raises:
        DataError: an input cannot be read; its file and row are named.
    """
    return Encoding(config).strictly(dataset)


def encoder_notices(config: RunConfig) -> list[str]:
    """What is frozen, one line a modality.

    Raises:
        ConfigError: a frozen encoder cannot be loaded.
    """
    frozen = {m: c for m, c in config.modalities.items() if is_frozen(c)}
    return [f"{name}: {load_frozen(c).description()}" for name, c in frozen.items()]


class Encoding:
    """Encodes the data sets of one run.

    Args:
        config: the run's configuration.
        cache: where features of frozen encoders are kept, if anywhere.
        advance: called with the number of inputs (one a record and modality) just done.
    """

    def __init__(
        self,
        config: RunConfig,
        cache: FeatureCache | None = None,
        advance: Callable[[int], None] = lambda inputs: None,
    ) -> None:
        self._config = config
        self._cache = cache
        self._advance = advance
        data = config.data
        self._lenient_parts = {part.name for part in data.part if part.skip_bad}

    def strictly(self, dataset: Dataset) -> Batch:
        """All records. Raises DataError at the first input that cannot be read."""
        return self._batch(dataset, lambda row, error: _refuse(error))

    def readable(self, dataset: Dataset, rows: Dataset, copies: int = 1) -> Encoded:
        """The records that can be read, if ``data.skip_bad`` (or that of their part) is set.

        Args:
            dataset: the records.
            rows: every one of them ``copies`` times in a row.
            copies: how often.

        Raises:
            DataError: an input cannot be read and may not be left out.
        """
        lost: dict[int, str] = {}

        def note(row: int, error: DataError) -> None:
            record = row // copies
            if not self._may_skip(dataset.records[record]):
                raise error
            lost.setdefault(record, str(error))

        batch = self._batch(rows, note)
        if not lost:
            return Encoded(dataset, batch, ())
        kept = [i for i in range(len(dataset.records)) if i not in lost]
        index = torch.tensor(
            [i * copies + k for i in kept for k in range(copies)], dtype=torch.long
        )
        records = tuple(dataset.records[i] for i in kept)
        rest = Dataset(dataset.name, dataset.label_names, records, dataset.notices)
        # Names of files stay out of the manifest by this first word (training_run.py).
        notices = tuple(f"skipped {lost[i]}" for i in sorted(lost))
        return Encoded(rest, batch.rows(index), notices)

    def _may_skip(self, record: Record) -> bool:
        return self._config.data.skip_bad or record.origin in self._lenient_parts

    def _batch(self, dataset: Dataset, unreadable: Callable[[int, DataError], None]) -> Batch:
        inputs, present = {}, {}
        for name, modality in self._config.modalities.items():
            inputs[name], present[name] = read_inputs(
                dataset.records,
                name,
                modality,
                self._config.data.image_size,
                cache=self._cache,
                unreadable=unreadable,
                advance=self._advance,
            )
        return Batch(inputs, present, _labels(dataset.records, len(dataset.label_names)))


def _refuse(error: DataError) -> None:
    raise error


def _labels(records: Sequence[Record], width: int) -> torch.Tensor:
    labels = np.array([r.labels for r in records], dtype=np.float32).reshape(-1, width)
    return torch.from_numpy(labels)
