"""All imputers of a model behind one interface: features that are there in, estimates out.

A set's children are its segments: one for every ordered pair of modalities, or one for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import cast

import torch
from torch import Tensor, nn

from privfin.models.imputers.base import Estimate, PairImputer
from privfin.models.imputers.fin import AnyToAnyFin

#: The one segment of an imputer that serves all pairs.
ANY = "any"


def pair_name(source: str, target: str) -> str:
    """Name of the imputer from one modality to another."""
    return f"{source}_to_{target}"


@dataclass(frozen=True)
class Imputations:
    """What is said of n rows.

    Attributes:
        estimates: for a target, what the row's *other* modalities say of it; whether the row has
            the target itself makes no difference.
        said: (n,) bool for a target: whether there is another modality to say anything.
        loss: (n,) how wrong the imputers were where the target is there too; 0 elsewhere.
    """

    estimates: Mapping[str, Estimate]
    said: Mapping[str, Tensor]
    loss: Tensor


class ImputerSet(nn.ModuleDict):
    """Imputes nothing: what zero-filling and the rivals that impute nothing use."""

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Imputations:
        """Estimates for n rows.

        Args:
            features: (n, width) of every modality, cut off the graph by the set, not the caller;
                zero rows where it is absent.
            present: (n,) bool of every modality.
        """
        first = next(iter(features.values()))
        return Imputations({}, {}, first.new_zeros(len(first)))


class PairSet(ImputerSet):
    """One imputer for every ordered pair; what several sources say is averaged."""

    def __init__(self, widths: Mapping[str, int], make: Callable[[int, int], PairImputer]) -> None:
        pairs = permutations(widths, 2)
        super().__init__({pair_name(s, t): make(widths[s], widths[t]) for s, t in pairs})

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Imputations:
        """See :class:`ImputerSet`."""
        loss = super().forward(features, present).loss
        estimates, said = {}, {}
        for target in features:
            parts = []
            for source in features:
                if source == target:
                    continue
                imputer = self[pair_name(source, target)]
                estimate: Estimate = imputer(features[source].detach())
                both = (present[source] & present[target]).float()
                missed = cast(PairImputer, imputer).loss(estimate, features[target].detach())
                loss = loss + both * missed
                parts.append((present[source], estimate))
            if parts:
                estimates[target], said[target] = _average(parts)
        return Imputations(estimates, said, loss)


class AnySet(ImputerSet):
    """One any-to-any FIN. It is trained to write each modality from all others of the record."""

    def __init__(self, fin: AnyToAnyFin) -> None:
        super().__init__({ANY: fin})

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Imputations:
        """See :class:`ImputerSet`."""
        loss = super().forward(features, present).loss
        estimates = self[ANY](features, present)
        said = {}
        for target, estimate in estimates.items():
            others = [present[m] for m in features if m != target]
            said[target] = torch.stack(others).any(dim=0)
            both = (said[target] & present[target]).float()
            distance = (estimate.mean - features[target].detach()).square().sum(dim=1)
            loss = loss + both * distance
        return Imputations(estimates, said, loss)


def _average(parts: list[tuple[Tensor, Estimate]]) -> tuple[Estimate, Tensor]:
    """The mean of the estimates whose source is there, and whether any is."""
    weights = [there.float()[:, None] for there, _ in parts]
    total = torch.stack(weights).sum(dim=0).clamp(min=1.0)

    def mean(values: list[Tensor]) -> Tensor:
        weighted = [w * v for w, v in zip(weights, values, strict=True)]
        return torch.stack(weighted).sum(dim=0) / total

    variances = [e.variance for _, e in parts if e.variance is not None]
    return (
        Estimate(
            mean([e.feature for _, e in parts]),
            mean([e.mean for _, e in parts]),
            mean(variances) if variances else None,
        ),
        torch.stack([there for there, _ in parts]).any(dim=0),
    )
