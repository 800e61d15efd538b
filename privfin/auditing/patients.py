"""Patients of an audit: strata, how they look without a model, and the coins of shadows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from privfin.auditing.population import BoolArray, Population
from privfin.config import RunConfig
from privfin.federation.assessment import cells

_COINS = 0x5AD0
# Shadow models with, and without, every patient.
_EACH_SIDE = 2


def shadow_coins(population: Population, models: int, seed: int) -> BoolArray:
    """(models, patients): each patient in or out by a coin of its own.

    A site's coin is as likely to be in as its patients are to be members, so that a shadow trains
    on about as many as the run did. A patient's coins are thrown again until two models have the
    patient and two do not: attacks need both. The coins are public: they have nothing to do with
    who is a member.

    Raises:
        ValueError: fewer than four models.
    """
    if models < 2 * _EACH_SIDE:
        raise ValueError(f"it takes {2 * _EACH_SIDE} shadow models or more, not {models}")
    rates = np.concatenate(
        [np.full(len(site.patients), site.members.mean()) for site in population.sites]
    )
    rng = np.random.default_rng([seed, _COINS])
    coins: BoolArray = rng.random((models, rates.size)) < rates
    while True:
        inside = coins.sum(axis=0)
        again = np.flatnonzero(np.minimum(inside, models - inside) < _EACH_SIDE)
        if not again.size:
            return coins
        coins[:, again] = rng.random((models, again.size)) < rates[again]


def described(population: Population) -> npt.NDArray[np.float64]:
    """(patients, k) what a patient's first record is without any model: for the blind guard."""
    rows = torch.tensor([own[0] for own in population.records])
    batch = population.queries().rows(rows)
    rng = np.random.default_rng(0)
    columns = [np.stack([p.numpy() for p in batch.present.values()], axis=1).astype(np.float64)]
    columns.append(np.nan_to_num(batch.labels.numpy().astype(np.float64), nan=-1.0))
    for inputs in batch.inputs.values():
        flat = inputs.reshape(len(rows), -1).numpy().astype(np.float64)
        # A fixed random projection: as many columns as a forest can use.
        columns.append(flat @ rng.standard_normal((flat.shape[1], 8)) / np.sqrt(flat.shape[1]))
    sizes = [len(site.patients) for site in population.sites]
    columns.append(np.eye(len(sizes))[np.repeat(np.arange(len(sizes)), sizes)])
    return np.concatenate(columns, axis=1)


def strata(population: Population, config: RunConfig) -> dict[str, BoolArray]:
    """Masks of patients by what they were trained with: all, each cell, and the imputed ones."""
    rows = torch.tensor([own[0] for own in population.records])
    present = {m: p[rows].numpy() for m, p in population.queries().present.items()}
    found: dict[str, BoolArray] = {"all": np.ones(len(rows), dtype=bool)}
    named = cells(tuple(present)) if len(present) > 1 else {}
    for name, held in named.items():
        found[name] = _all([present[m] == (m in held) for m in present])
    if named and config.model.imputer not in ("none", "zero", "zero-fair", "late"):
        found["imputed"] = ~_all(list(present.values()))
    return {name: mask for name, mask in found.items() if mask.any()}


def with_known_labels(population: Population) -> BoolArray:
    """(patients,) those of whose every record some label is known: others have no loss."""
    known = ~torch.isnan(population.queries().labels).all(dim=1).numpy()
    return np.array([bool(known[rows].all()) for rows in population.records])


def site_slices(population: Population) -> list[slice]:
    """Each site's patients among all of them."""
    ends = np.cumsum([len(site.patients) for site in population.sites]).tolist()
    return [
        slice(end - len(site.patients), end)
        for site, end in zip(population.sites, ends, strict=True)
    ]


def _all(masks: list[BoolArray]) -> BoolArray:
    """Where all of them are true."""
    together: BoolArray = np.logical_and.reduce(masks)
    return together
