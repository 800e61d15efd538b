"""Canary patients beside the real ones: made, dealt to sites, put into their training data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from attacks.canaries import flipped_labels, outlier_image, random_labels, rare_phrase
from attacks.scores import label_signals
from privfin.config import RunConfig
from privfin.data.records import Dataset, RawInput, Record
from privfin.errors import UserInputError
from privfin.federation.encoding import encode
from privfin.federation.local_training import SiteData
from privfin.federation.plan import TrainingPlan
from privfin.federation.prepare import PreparedData
from privfin.models.multimodal import Batch, MultimodalModel

#: What one coin decides about: a patient of one record, a patient of several, all of a site's.
Level = Literal["record", "patient", "site"]
#: Records of a canary patient.
RECORDS = {"record": 1, "patient": 3, "site": 1}
MISLABELLED, OUTLIER, PHRASE = "mislabelled", "outlier image", "rare phrase"
# Rows through the model at once.
_ROWS = 256


@dataclass(frozen=True)
class CanarySet:
    """Canary patients; who of them takes part is not said here.

    Attributes:
        kinds: (canaries,) names.
        sites: (canaries,) the site that each would be a patient of.
        records: of every canary.
        batch: rows ``i * records`` to ``i * records + records - 1`` are canary i's.
    """

    kinds: tuple[str, ...]
    sites: tuple[str, ...]
    records: int
    batch: Batch = field(repr=False)

    def __len__(self) -> int:
        return len(self.kinds)

    def put_into(self, data: PreparedData, inside: npt.NDArray[np.bool_]) -> PreparedData:
        """The sites' training data with the canaries in it that are ``inside`` (canaries,).

        They come after the real patients, each record with as many equal rows as the site's
        records have copies. A site without a canary inside keeps its data as it is.
        """
        sites = dict(data.sites)
        for name, own in data.sites.items():
            chosen = [i for i in np.flatnonzero(inside).tolist() if self.sites[i] == name]
            if chosen:
                sites[name] = self._added(own, chosen)
        return replace(data, sites=sites)

    def _added(self, own: SiteData, chosen: Sequence[int]) -> SiteData:
        rows = [i * self.records + k for i in chosen for k in range(self.records)]
        repeated = torch.tensor(rows, dtype=torch.long).repeat_interleave(own.copies)
        first = len(own.batch) // own.copies
        patients = [
            list(range(first + at * self.records, first + (at + 1) * self.records))
            for at in range(len(chosen))
        ]
        return replace(
            own,
            batch=_joined([own.batch, self.batch.rows(repeated)]),
            patients=[*own.patients, *patients],
        )

    def signals(self, model: MultimodalModel) -> npt.NDArray[np.float64]:
        """How sure a model is of each canary's labels, (canaries,).

        The mean over a canary's records of the sum over its known labels of (2y - 1) z, the logit
        of LiRA label by label.
        """
        model.eval()
        with torch.no_grad():
            parts = [
                model(self.batch.rows(torch.arange(at, min(at + _ROWS, len(self.batch))))).double()
                for at in range(0, len(self.batch), _ROWS)
            ]
        found = label_signals(torch.cat(parts).numpy(), self.batch.labels.numpy())
        each = np.nansum(found, axis=1).reshape(len(self), self.records)
        return np.asarray(each.mean(axis=1), dtype=np.float64)


def make_canaries(
    config: RunConfig, plan: TrainingPlan, data: PreparedData, count: int, level: Level
) -> CanarySet:
    """``count`` canaries, dealt to the sites in turn, each site's of every kind that it can hold.

    A mislabelled canary is a held-out record with its labels turned round, with the modalities
    that the site holds; no record is used twice. When they run out the other kinds go on.

    Raises:
        UserInputError: there are no such records left, and the site holds neither images nor texts.
    """
    records = RECORDS[level]
    pool = _Pool(data)
    kinds: list[str] = []
    sites: list[str] = []
    parts: list[Batch] = []
    made = _Made(config, plan.label_names)
    for number in range(count):
        site = plan.sites[number % len(plan.sites)]
        ways = [MISLABELLED, *made.kinds(site.modalities)]
        kind = ways[(number // len(plan.sites)) % len(ways)]
        rows = pool.take(site.modalities, records) if kind == MISLABELLED else None
        if kind == MISLABELLED and rows is None:
            if len(ways) == 1:
                raise UserInputError(
                    f"the held-out records do not suffice for {count} canaries: ask for fewer"
                )
            kind = ways[1 + number % (len(ways) - 1)]
        kinds.append(kind)
        sites.append(site.name)
        if rows is None:
            rows = made.batch(kind, site.modalities, number, records)
        parts.append(rows)
    return CanarySet(tuple(kinds), tuple(sites), records, _joined(parts))


class _Pool:
    """Held-out records, each handed out once, with its labels turned round."""

    def __init__(self, data: PreparedData) -> None:
        self._batch = data.test.batch
        known = ~torch.isnan(self._batch.labels).all(dim=1)
        self._left = torch.nonzero(known).flatten().tolist()

    def take(self, held: Sequence[str], count: int) -> Batch | None:
        """The next ``count`` records that have something that a site holds, or None."""
        fitting = [at for at in self._left if any(self._batch.present[m][at] for m in held)]
        if len(fitting) < count:
            return None
        taken = fitting[:count]
        self._left = [at for at in self._left if at not in taken]
        rows = self._batch.rows(torch.tensor(taken)).only(frozenset(held))
        return replace(rows, labels=torch.from_numpy(flipped_labels(rows.labels.numpy())))


class _Made:
    """Canaries that are made from a number and go through the run's own front ends."""

    def __init__(self, config: RunConfig, label_names: tuple[str, ...]) -> None:
        self._config = config
        self._label_names = label_names

    def kinds(self, held: Sequence[str]) -> list[str]:
        """Kinds that a site with these modalities can hold."""
        named = {"image": OUTLIER, "text": PHRASE}
        found = [self._config.modalities[m].kind for m in held]
        return [named[kind] for kind in named if kind in found]

    def batch(self, kind: str, held: Sequence[str], number: int, records: int) -> Batch:
        """The records of canary ``number``, all with the same labels of chance."""
        wanted = "image" if kind == OUTLIER else "text"
        modality = next(m for m in held if self._config.modalities[m].kind == wanted)
        labels = random_labels(number, len(self._label_names))
        made = tuple(
            Record(f"canary-{at}", f"canary-{number}", {modality: raw}, labels)
            for at, raw in self._inputs(kind, number * records, records)
        )
        return encode(Dataset("canaries", self._label_names, made), self._config)

    def _inputs(self, kind: str, first: int, count: int) -> Iterator[tuple[int, RawInput]]:
        side = self._config.data.image_size
        for at in range(first, first + count):
            yield at, outlier_image(at, side) if kind == OUTLIER else rare_phrase(at)


def _joined(parts: Sequence[Batch]) -> Batch:
    """All rows of several batches, in order."""
    first = parts[0]
    return Batch(
        {m: torch.cat([part.inputs[m] for part in parts]) for m in first.inputs},
        {m: torch.cat([part.present[m] for part in parts]) for m in first.present},
        torch.cat([part.labels for part in parts]),
    )
