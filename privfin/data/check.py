"""Looks through a data set before a run: what it holds, and what would stop a run.

Numbers are exact counts of patients, without noise: they are for the screen of the site that holds
the data, and not for anybody else.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from privfin.config import RunConfig
from privfin.data.images import ArrayImage
from privfin.data.load import load_source
from privfin.data.records import LazyInput, Record
from privfin.data.sources import LoadedData
from privfin.data.tables import watch_tables
from privfin.errors import DataError

#: Called with what is being done, the steps done and the steps in all.
Progress = Callable[[str, int, int], None]

#: Unreadable files that are named; more of them are counted.
NAMED_FILES = 10_000
#: Records between two calls of a progress.
_COUNT_EVERY = 1000


@dataclass(frozen=True)
class LabelCount:
    """Records in which a label is known, and in which it is 1."""

    known: int
    positive: int


@dataclass(frozen=True)
class DataCheck:
    """What was found, and what is wrong.

    ``test_patients`` is None without an official split. ``modalities`` counts records,
    ``places`` the patients of each place a record comes from. ``notes`` is what the reader left
    out or assumed. ``files`` is the number of files that were opened, None if none was meant to
    be; ``unreadable`` names the first of the ``unreadable_files``. ``problems`` would stop a run
    and ``warnings`` would not; each says what to do.
    """

    source: str
    record_is: Literal["study", "image"] = "study"
    patients: int = 0
    records: int = 0
    test_patients: int | None = None
    sex_known: int = 0
    age_known: int = 0
    modalities: dict[str, int] = field(default_factory=dict)
    labels: dict[str, LabelCount] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    files: int | None = None
    unreadable_files: int = 0
    unreadable: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether a run could start with it."""
        return not self.problems


def _silent(stage: str, done: int, total: int) -> None:
    pass


def check_source(
    config: RunConfig, *, files: bool = True, progress: Progress = _silent
) -> DataCheck:
    """Read the source of a configuration; with ``files``, also every image and report file.

    All unreadable files are collected, whatever ``data.skip_bad`` is. Anything else that makes
    the source unreadable is the only problem of the result, since reading ends there.

    Raises:
        ConfigError: an option that does not fit the source, or no ``data.root``.
    """

    def reading(name: str, done: int, size: int) -> None:
        progress(f"reading {name}", done, size)

    try:
        with watch_tables(reading):
            loaded = load_source(_with_every_record(config))
    except DataError as error:
        return DataCheck(config.data.source, problems=(str(error),))
    found = _counted(config, loaded, progress)
    return _with_files(config, found, loaded, progress) if files else found


def _with_every_record(config: RunConfig) -> RunConfig:
    """The same configuration, but no reader opens files to leave records out: a check does it."""
    data = config.data
    parts = tuple(part.model_copy(update={"skip_bad": False}) for part in data.part)
    data = data.model_copy(update={"skip_bad": False, "part": parts})
    return config.model_copy(update={"data": data})


def _counted(config: RunConfig, loaded: LoadedData, progress: Progress) -> DataCheck:
    dataset = loaded.dataset
    modalities = Counter(dict.fromkeys(config.modalities, 0))
    known = np.zeros(len(dataset.label_names), dtype=np.int64)
    positive = np.zeros_like(known)
    origins: dict[str, str] = {}
    sexes = ages = 0
    for number, record in enumerate(dataset.records):
        if number % _COUNT_EVERY == 0:
            progress("counting records", number, len(dataset.records))
        origins.setdefault(record.patient_id, record.origin)
        modalities.update(record.inputs.keys())
        known += ~np.isnan(record.labels)
        positive += record.labels == 1
        sexes += bool(record.sex)
        ages += not math.isnan(record.age)
    counts = zip(dataset.label_names, known.tolist(), positive.tolist(), strict=True)
    labels = {name: LabelCount(k, p) for name, k, p in counts}
    given = loaded.test_patients
    test = None if given is None else len(given & origins.keys())
    problems, warnings = _judged(len(origins), test, labels)
    return DataCheck(
        source=config.data.source,
        record_is="image" if config.data.views == "all" else "study",
        patients=len(origins),
        records=len(dataset.records),
        test_patients=test,
        sex_known=sexes,
        age_known=ages,
        modalities=dict(modalities),
        labels=labels,
        places=dict(Counter(origin for origin in origins.values() if origin).most_common()),
        notes=dataset.notices,
        problems=tuple(problems),
        warnings=tuple(warnings),
    )


def _judged(
    patients: int, test: int | None, labels: Mapping[str, LabelCount]
) -> tuple[list[str], list[str]]:
    """What would stop a run, and what would not, as far as numbers tell."""
    problems, warnings = [], []
    if patients < 2:
        problems.append("one patient is not enough: training and test need different ones")
    if test == 0:
        problems.append(
            "the official split has no test patient with a record: use data.split = 'random'"
        )
    elif test == patients:
        problems.append(
            "the official split has no training patient with a record: use data.split = 'random'"
        )
    for name, count in labels.items():
        if not count.known:
            warnings.append(f"label '{name}' is known in no record: leave it out of data.labels")
        elif count.positive in (0, count.known):
            value = int(count.positive > 0)
            warnings.append(
                f"label '{name}' is {value} in every record that knows it, so that it cannot be "
                "learned: leave it out of data.labels"
            )
    return problems, warnings


def _with_files(
    config: RunConfig, found: DataCheck, loaded: LoadedData, progress: Progress
) -> DataCheck:
    """Open every file; see :func:`check_source`."""
    total = sum(1 for _ in _stored_inputs(loaded))
    lenient = {part.name for part in config.data.part if part.skip_bad}
    named: list[str] = []
    unreadable = refused = 0
    for opened, (record, stored) in enumerate(_stored_inputs(loaded)):
        progress("opening files", opened, total)
        try:
            stored.load()
        except DataError as error:
            unreadable += 1
            # A mix puts the part's name before its patients'.
            part = record.patient_id.partition(":")[0]
            refused += not (config.data.skip_bad or part in lenient)
            if len(named) < NAMED_FILES:
                named.append(str(error))
    progress("opening files", total, total)
    problems, warnings = list(found.problems), list(found.warnings)
    if total and unreadable == total:
        problems.append(
            f"none of the {total} files can be read: is {config.data.root} their folder?"
        )
    elif refused:
        problems.append(
            f"{refused} files cannot be read: get them again, or leave their records out with "
            "data.skip_bad = true"
        )
    if unreadable > refused:
        warnings.append(f"{unreadable - refused} records will be left out (skip_bad)")
    return replace(
        found,
        files=total,
        unreadable_files=unreadable,
        unreadable=tuple(named),
        problems=tuple(problems),
        warnings=tuple(warnings),
    )


def _stored_inputs(loaded: LoadedData) -> Iterator[tuple[Record, LazyInput]]:
    """Every input that lies in a file of its own, with its record."""
    for record in loaded.dataset.records:
        for raw in record.inputs.values():
            if not isinstance(raw, str | np.ndarray | ArrayImage):
                yield record, raw
