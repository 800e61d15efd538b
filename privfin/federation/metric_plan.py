"""What sites send to be measured together: which numbers, in which order, as which integers.

First each site says, inside an encrypted sum, of which cells and labels it has patients at all;
then it sends its counts, with zeros for everything that too few sites have. Every number is
written in digits so small that the digits of all sites add up inside their fields, whatever the
sites hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from privfin.config import Metric, RunConfig
from privfin.crypto.bfv import ciphertext_bytes
from privfin.crypto.pack import Packing
from privfin.errors import PlanError, ProtocolError
from privfin.evaluation.histograms import (
    FRACTION_BITS,
    LARGEST_LOSS,
    FloatArray,
    IntArray,
    LabelSums,
    score_edges,
)
from privfin.federation.assessment import AS_IS, cells
from privfin.federation.held_out import largest_records

#: A count is opened only if this many sites add to it: with two, each could subtract its own.
FEWEST_SITES = 3
#: What a fixed-point sum has more bits than the number of records in it.
_VALUE_BITS = int(LARGEST_LOSS).bit_length() + FRACTION_BITS

Codes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class CellSums:
    """What is added up of one availability cell.

    Attributes:
        records: records in the cell, labels known or not.
        patients: patients among them. A patient is at one site, so sums count nobody twice.
        labels: one entry a label.
    """

    records: int
    patients: int
    labels: tuple[LabelSums, ...]


@dataclass(frozen=True)
class Opening:
    """Which sums enough sites add to. A reason is empty where the sum is opened.

    Attributes:
        cells: the reason for each cell.
        labels: the reason for each label of each cell.
    """

    cells: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]

    def only_opened(self, sums: Sequence[CellSums]) -> list[CellSums]:
        """The sums with zeros for everything that is not opened."""
        kept = []
        for cell, reason, reasons in zip(sums, self.cells, self.labels, strict=True):
            labels = tuple(
                _nothing_like(one) if why else one
                for one, why in zip(cell.labels, reasons, strict=True)
            )
            kept.append(CellSums(0, 0, labels) if reason else replace(cell, labels=labels))
        return kept


def _nothing_like(sums: LabelSums) -> LabelSums:
    return LabelSums.nothing(sums.positives.size, sums.probability.size)


@dataclass(frozen=True)
class MetricPlan:
    """The public layout of the secure metrics. Make one with :func:`plan_metrics`.

    Attributes:
        cells: availability cells, in order.
        labels: labels, in order.
        sites: how many sites are added.
        metrics: what may be measured; of anything else sites send zeros.
        calibration_bins: B, 0 without calibration.
        largest_records: the most records that a site may have.
        digit_bits: bits of a digit, as many as the packing leaves for this number of sites.
    """

    cells: tuple[str, ...]
    labels: tuple[str, ...]
    sites: int
    metrics: tuple[Metric, ...]
    calibration_bins: int
    largest_records: int
    digit_bits: int

    @property
    def edges(self) -> FloatArray:
        """(S - 1,) inner edges of the bins of a score; none where nothing needs them."""
        return score_edges(
            ranking="auroc" in self.metrics or "auprc" in self.metrics,
            calibration_bins=self.calibration_bins or None,
        )

    @property
    def owner_values(self) -> int:
        """Numbers of the first message: one a cell and two a label of it."""
        return len(self.cells) * (1 + 2 * len(self.labels))

    @property
    def values(self) -> int:
        """Numbers of the second message."""
        counts, sums = self._sizes
        of_count, of_sum = self._bits
        return counts * self._digits(of_count) + sums * self._digits(of_sum)

    def bytes_up(self, packing: Packing) -> int:
        """Bytes of ciphertext that a site sends."""
        return sum(ciphertext_bytes(n, packing) for n in (self.owner_values, self.values))

    def owner_codes(self, sums: Sequence[CellSums]) -> Codes:
        """1 where this site has a record of a cell, a positive or a negative one of a label."""
        has = [
            number > 0
            for cell in sums
            for number in (cell.records, *(n for label in cell.labels for n in label.counts))
        ]
        return np.array(has, dtype=np.uint64)

    def opening(self, owners: Codes) -> Opening:
        """What enough sites have, from the sum of :meth:`owner_codes`.

        Raises:
            ProtocolError: more sites than there are.
        """
        if owners.shape != (self.owner_values,) or (owners > self.sites).any():
            raise ProtocolError("a sum of metrics is not that of the cohort")
        table = owners.astype(np.int64).reshape(len(self.cells), -1)
        few = f"fewer than {FEWEST_SITES} sites have"
        found = []
        for row in table:
            cell = "no record" if not row[0] else f"{few} any record" if _few(row[0]) else ""
            reasons = []
            for positive, negative in row[1:].reshape(-1, 2):
                why = cell
                if not why and not positive and not negative:
                    why = "no record where it is known"
                elif not why and _few(positive):
                    why = f"{few} positive records"
                elif not why and _few(negative):
                    why = f"{few} negative records"
                reasons.append(why)
            found.append((cell, tuple(reasons)))
        return Opening(tuple(cell for cell, _ in found), tuple(labels for _, labels in found))

    def allowed(self, sums: LabelSums) -> LabelSums:
        """The sums with zeros for what no allowed metric needs."""
        changes: dict[str, int] = {}
        if "brier" not in self.metrics:
            changes["squared_error"] = 0
        if "loss" not in self.metrics:
            changes.update(loss=0, beyond=0)
        return replace(sums, **changes)  # type: ignore[arg-type]

    def encode(self, sums: Sequence[CellSums]) -> Codes:
        """The sums of one site as (values,) codes of ``digit_bits`` bits.

        Raises:
            PlanError: more records in a cell than the layout has room for.
        """
        counts: list[IntArray | list[int]] = []
        totals: list[IntArray | list[int]] = []
        for cell in sums:
            if cell.records > self.largest_records:
                raise PlanError(
                    f"a site has more than {self.largest_records} held-out records, the most "
                    "that secure metrics can count here"
                )
            counts.append([cell.records, cell.patients])
            for one in cell.labels:
                counts += [one.positives, one.negatives, [one.beyond]]
                totals += [[one.squared_error, one.loss], one.probability]
        of_count, of_sum = self._bits
        return np.concatenate(
            [
                self._to_digits(np.concatenate(counts), of_count),
                self._to_digits(np.concatenate(totals), of_sum),
            ]
        )

    def decode(self, total: Codes) -> list[CellSums]:
        """From the sum of all sites' codes to the sums over all sites.

        Raises:
            ProtocolError: codes that the sites cannot have sent.
        """
        most = self.sites * (2**self.digit_bits - 1)
        if total.shape != (self.values,) or (total > most).any():
            raise ProtocolError("a sum of metrics is not that of the cohort")
        n_counts, _ = self._sizes
        of_count, of_sum = self._bits
        cut = n_counts * self._digits(of_count)
        counts = iter(self._from_digits(total[:cut], of_count).reshape(len(self.cells), -1))
        sums = iter(self._from_digits(total[cut:], of_sum).reshape(len(self.cells), -1))
        bins = self.edges.size + 1
        found = []
        for _ in self.cells:
            of_cell = next(counts)
            of_labels = of_cell[2:].reshape(len(self.labels), -1)
            totals = next(sums).reshape(len(self.labels), -1)
            labels = tuple(
                LabelSums(
                    positives=row[:bins],
                    negatives=row[bins : 2 * bins],
                    beyond=int(row[-1]),
                    squared_error=int(fixed[0]),
                    loss=int(fixed[1]),
                    probability=fixed[2:],
                )
                for row, fixed in zip(of_labels, totals, strict=True)
            )
            found.append(CellSums(int(of_cell[0]), int(of_cell[1]), labels))
        return found

    @property
    def _sizes(self) -> tuple[int, int]:
        """How many counts and how many fixed-point sums there are."""
        labels, bins = len(self.labels), self.edges.size + 1
        counts = len(self.cells) * (2 + labels * (2 * bins + 1))
        return counts, len(self.cells) * labels * (2 + self.calibration_bins)

    @property
    def _bits(self) -> tuple[int, int]:
        """Bits of a site's counts, and of its fixed-point sums."""
        of_count = self.largest_records.bit_length()
        return of_count, of_count + _VALUE_BITS

    def _digits(self, bits: int) -> int:
        return -(-bits // self.digit_bits)

    def _to_digits(self, numbers: IntArray, bits: int) -> Codes:
        """(n,) numbers as (n * digits,) codes: all lowest digits, then all next ones."""
        low = 2**self.digit_bits - 1
        shifts = [self.digit_bits * place for place in range(self._digits(bits))]
        return np.concatenate([(numbers >> shift) & low for shift in shifts]).astype(np.uint64)

    def _from_digits(self, codes: Codes, bits: int) -> IntArray:
        digits = codes.astype(np.int64).reshape(self._digits(bits), -1)
        weights = 1 << (self.digit_bits * np.arange(len(digits), dtype=np.int64))
        found: IntArray = (weights[:, np.newaxis] * digits).sum(axis=0)
        return found


def _few(owners: np.int64) -> bool:
    return bool(0 < owners < FEWEST_SITES)


def plan_metrics(
    config: RunConfig, label_names: Sequence[str], patients: Sequence[int]
) -> MetricPlan:
    """The layout for a run. It depends on nothing but what is public.

    Args:
        config: the run's configuration.
        label_names: the labels.
        patients: declared training patients by site.

    Raises:
        PlanError: the packing has no room for the digits of so many sites.
    """
    packing = Packing.named(config.crypto.layout)
    sites = len(patients)
    packing.check_headroom(sites, 1)
    metrics = config.evaluation.metrics
    names = tuple(cells(tuple(config.modalities)))
    if any(config.missingness.test.values()):
        names = (*names, AS_IS)
    bins = config.evaluation.calibration_bins if "calibration" in metrics else 0
    plan = MetricPlan(
        cells=names,
        labels=tuple(label_names),
        sites=sites,
        metrics=metrics,
        calibration_bins=bins,
        largest_records=largest_records(patients),
        digit_bits=packing.largest_value_bits(sites),
    )
    packing.check_headroom(sites, plan.digit_bits)
    return plan
