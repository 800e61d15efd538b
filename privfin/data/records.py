"""What every data source delivers: records of patients, with labels that may be unknown."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from privfin.errors import DataError

#: What a front end reads: a grey image (height, width) of uint8, a text, or the values of a
#: table's row (columns,) of float32 with NaN where one is missing.
LoadedInput = npt.NDArray[np.uint8] | npt.NDArray[np.float32] | str


class LazyInput(Protocol):
    """An input that stays in its file until a front end asks for it."""

    def load(self) -> LoadedInput:
        """Read it. Raises DataError, naming file or row, if it cannot be read."""
        ...

    def content(self) -> bytes:
        """The bytes that decide what :meth:`load` returns, for fingerprints."""
        ...


RawInput = LoadedInput | LazyInput


def load_input(raw: RawInput) -> LoadedInput:
    """The input itself, read from its file if it still lies there."""
    return raw if isinstance(raw, str | np.ndarray) else raw.load()


def input_content(raw: RawInput) -> bytes:
    """The bytes that an input consists of: equal bytes, equal input."""
    if isinstance(raw, str):
        return raw.encode()
    if isinstance(raw, np.ndarray):
        return repr((raw.shape, raw.dtype.str)).encode() + raw.tobytes()
    return raw.content()


@dataclass(frozen=True, slots=True)
class Record:
    """One study of one patient.

    ``inputs`` maps a modality's name to its raw input; an absent modality is simply not in it.
    ``labels`` has one entry a label: 1, 0, or NaN for unknown. ``origin`` is the natural site
    (a place or hospital) when the source names one. ``sex`` is "M", "F" or "" and ``age`` is in
    years or NaN; both serve for results by group only.
    """

    record_id: str
    patient_id: str
    inputs: Mapping[str, RawInput]
    labels: npt.NDArray[np.float32]
    origin: str = ""
    sex: str = ""
    age: float = math.nan


@dataclass(frozen=True)
class Dataset:
    """Records with common labels. ``notices`` says what was left out and why."""

    name: str
    label_names: tuple[str, ...]
    records: tuple[Record, ...]
    notices: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for record in self.records:
            if record.labels.shape != (len(self.label_names),):
                raise DataError(
                    f"record {record.record_id} has {record.labels.size} labels, "
                    f"{self.name} has {len(self.label_names)}"
                )
            if record.record_id in seen:
                raise DataError(f"record {record.record_id} appears twice in {self.name}")
            seen.add(record.record_id)

    def patients(self) -> dict[str, list[int]]:
        """Record positions of each patient, patients in order of first appearance."""
        groups: dict[str, list[int]] = {}
        for position, record in enumerate(self.records):
            groups.setdefault(record.patient_id, []).append(position)
        return groups

    def of_patients(self, patient_ids: Iterable[str], name: str | None = None) -> Dataset:
        """The data set of these patients only, records in their present order."""
        wanted = set(patient_ids)
        records = tuple(r for r in self.records if r.patient_id in wanted)
        return replace(self, name=name or self.name, records=records)

    def with_modalities(self, names: Iterable[str]) -> Dataset:
        """The data set as a site holding only these modalities sees it."""
        kept = set(names)
        records = tuple(
            replace(r, inputs={m: x for m, x in r.inputs.items() if m in kept})
            for r in self.records
        )
        return replace(self, records=tuple(r for r in records if r.inputs))

    def fingerprint(self) -> str:
        """SHA-256 over every record's identifiers, inputs and labels, in order."""
        digest = hashlib.sha256(repr(self.label_names).encode())
        for record in self.records:
            digest.update(f"\x1e{record.record_id}\x1f{record.patient_id}".encode())
            for modality in sorted(record.inputs):
                raw = input_content(record.inputs[modality])
                digest.update(f"\x1f{modality}{len(raw)}\x1f".encode())
                digest.update(raw)
            digest.update(np.ascontiguousarray(record.labels, dtype="<f4").tobytes())
        return digest.hexdigest()
