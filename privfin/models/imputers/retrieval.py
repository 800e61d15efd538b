"""Retrieval: the feature of similar records of a public set (CAR-MFL, MICCAI 2024).

CAR-MFL takes, among the nearest public records, the one whose labels fit best. Labels are not known
when a model is used, so here the nearest records' features are averaged, at training and at use
alike. Nothing of a site's own patients is ever in the bank: a patient's imputed feature depends on
that patient's own feature and on public records.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from privfin.config import RetrievalConfig
from privfin.errors import ConfigError
from privfin.models.imputers.base import Estimate
from privfin.models.imputers.sets import Imputations, ImputerSet


class RetrievalSet(ImputerSet):
    """Mean feature of the nearest public records. It has a bank of features and no parameters.

    The bank is encoded anew whenever the encoders change (:meth:`fill`), and is kept in the
    model's file, so that a finished model needs no public set beside it.
    """

    def __init__(self, widths: Mapping[str, int], config: RetrievalConfig) -> None:
        super().__init__({})
        self.names = tuple(widths)
        self.neighbours = config.neighbours
        for name, width in widths.items():
            self.register_buffer(f"bank_{name}", torch.zeros(config.records, width))
            self.register_buffer(f"has_{name}", torch.zeros(config.records, dtype=torch.bool))

    def fill(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> None:
        """Replace the bank by these features (p, width) of public records; p rows at most."""
        for name in self.names:
            rows = len(present[name])
            bank, has = self.get_buffer(f"bank_{name}"), self.get_buffer(f"has_{name}")
            if rows > len(bank):
                raise ValueError(f"the bank holds {len(bank)} public records, got {rows}")
            bank.zero_()
            has.zero_()
            bank[:rows] = features[name]
            has[:rows] = present[name]

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Imputations:
        """See :class:`ImputerSet`. Raises ConfigError while the bank is empty."""
        loss = super().forward(features, present).loss
        estimates, said = {}, {}
        for target in self.names:
            total, count = torch.zeros_like(features[target]), loss.new_zeros(len(loss), 1)
            for source in self.names:
                if source != target:
                    there = present[source].float()[:, None]
                    total = total + there * self._nearest(source, target, features[source])
                    count = count + there
            if len(self.names) > 1:
                estimates[target] = Estimate.plain(total / count.clamp(min=1.0))
                said[target] = count[:, 0] > 0
        return Imputations(estimates, said, loss)

    def _nearest(self, source: str, target: str, query: Tensor) -> Tensor:
        """Mean target feature (n, width) of the public records nearest in the source feature."""
        both = self.get_buffer(f"has_{source}") & self.get_buffer(f"has_{target}")
        known, wanted = (
            self.get_buffer(f"bank_{source}")[both],
            self.get_buffer(f"bank_{target}")[both],
        )
        if not len(known):
            raise ConfigError(f"the public set has no record with both {source} and {target}")
        distance = torch.cdist(query.detach(), known)
        nearest = distance.topk(min(self.neighbours, len(known)), largest=False).indices
        return wanted[nearest].mean(dim=1)
