"""Takes inputs and labels away from records, to see what missing modalities do.

What happens to a patient's records depends on the public seed and on that patient's own records,
never on another patient: data sets that differ by one patient still do afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Literal

import numpy as np

from privfin.data.partition import public_rng
from privfin.data.records import Dataset, Record
from privfin.errors import ConfigError, nearest


def check_label(label: str | None, names: Sequence[str]) -> None:
    """Refuse a label that missingness depends on and the run does not have.

    Raises:
        ConfigError: with the nearest name.
    """
    if label is not None and label not in names:
        raise ConfigError(
            f"missingness.label '{label}' is no label of the run{nearest(label, names)}"
        )


def rate_with_odds(rate: float, odds: float) -> float:
    """The probability whose odds are ``odds`` times those of ``rate``, in [0, 1)."""
    return odds * rate / (1.0 - rate + odds * rate)


def effective_rate(rates: Mapping[str, float], modality: str, held: Collection[str]) -> float:
    """How often a record that holds ``held`` loses ``modality``, once its last input is kept.

    All inputs would go with probability P (the product of their rates, 0 if one has none); then
    one of the k inputs, each as likely, stays: rate - P / k. A record with one input loses none.
    """
    if modality not in held:
        return 0.0
    everything = prod(rates.get(m, 0.0) for m in held)
    return rates.get(modality, 0.0) - everything / len(held)


def thin(
    dataset: Dataset,
    rates: Mapping[str, float],
    *,
    split: Literal["train", "test"],
    seed: int,
    label: str | None = None,
    odds: float = 1.0,
) -> Dataset:
    """Records without some of their inputs; each keeps at least one.

    Every input of a record is lost with its modality's rate, independently. If all of a record's
    inputs would be lost, one of them, drawn at random, stays (:func:`effective_rate`). A record
    draws from its own public stream, so a larger rate takes from it what a smaller one does,
    and possibly more.

    Args:
        dataset: the records, with the inputs that can be lost.
        rates: modality -> probability in [0, 1).
        split: "train" and "test" draw differently.
        seed: public, >= 0.
        label: where this label of a record is 1, the odds of losing an input are multiplied.
        odds: by this, > 0 (missing not at random). Records where it is 0 or unknown keep ``rates``.

    Raises:
        ConfigError: the data set has no such label.
    """
    if not any(rates.values()):
        return dataset
    check_label(label, dataset.label_names)
    column = None if label is None else dataset.label_names.index(label)
    records = []
    for record in dataset.records:
        own = rates
        if column is not None and record.labels[column] == 1.0:
            own = {m: rate_with_odds(rate, odds) for m, rate in rates.items()}
        records.append(_thin_record(record, own, public_rng(seed, f"{split} {record.record_id}")))
    return replace(dataset, records=tuple(records))


def _thin_record(record: Record, rates: Mapping[str, float], rng: np.random.Generator) -> Record:
    # Every modality draws, held or not: what a record lacks must not shift its other draws.
    lost = {m for m in sorted(rates) if rng.random() < rates[m]}
    held = sorted(record.inputs)
    if lost.issuperset(held):
        lost.discard(held[int(rng.integers(len(held)))])
    return replace(record, inputs={m: x for m, x in record.inputs.items() if m not in lost})


def unlabel(
    dataset: Dataset, shares: Mapping[str, float], held: Collection[str], *, seed: int
) -> Dataset:
    """A training site's records, with the labels of some patients unknown.

    Where labels are mined from reports, a site without reports has few. For every modality in
    ``shares`` that the site does not hold (``held``), each patient loses all labels with that
    probability, drawn with the public ``seed`` for that patient alone.
    """
    lacking = sorted(m for m, share in shares.items() if share and m not in held)
    if not lacking:
        return dataset
    gone = {
        patient
        for patient in dataset.patients()
        if _loses_labels(public_rng(seed, f"labels {patient}"), [shares[m] for m in lacking])
    }
    unknown = np.full(len(dataset.label_names), np.nan, dtype=np.float32)
    records = tuple(
        replace(r, labels=unknown) if r.patient_id in gone else r for r in dataset.records
    )
    return replace(dataset, records=records)


def _loses_labels(rng: np.random.Generator, shares: Sequence[float]) -> bool:
    return bool((rng.random(len(shares)) < np.array(shares)).any())
