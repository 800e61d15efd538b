"""The multimodal classifier: encoders, imputers and one linear head, and its per-record loss.

Modalities are names. Nothing below knows what an image is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor, nn

from privfin.config import RunConfig
from privfin.errors import ConfigError
from privfin.models.encoders import make_encoder
from privfin.models.imputers import FeatureImputationNetwork


@dataclass(frozen=True)
class Batch:
    """Rows for the model.

    ``inputs[m]`` is (n, ...) with zero rows where modality m is absent, ``present[m]`` is (n,)
    bool, ``labels`` is (n, L) with 1, 0 or NaN for unknown.
    """

    inputs: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, index: Tensor) -> Batch:
        """The batch of these rows."""
        return Batch(
            {m: x[index] for m, x in self.inputs.items()},
            {m: x[index] for m, x in self.present.items()},
            self.labels[index],
        )

    def only(self, names: frozenset[str]) -> Batch:
        """The same rows as seen by someone who holds only these modalities."""
        return Batch(
            {m: x if m in names else torch.zeros_like(x) for m, x in self.inputs.items()},
            {m: p if m in names else torch.zeros_like(p) for m, p in self.present.items()},
            self.labels,
        )


def pair_name(source: str, target: str) -> str:
    """Name of the imputer from one modality to another."""
    return f"{source}_to_{target}"


class MultimodalModel(nn.Module):
    """Encoders, imputers and head for the modalities of a configuration.

    The head over concatenated features is kept as one weight block a modality
    (``head[m]``) and a shared bias, because each block is averaged over its own sites. Every
    top-level entry (``encoder.m``, ``imputer.a_to_b``, ``head.m``, ``bias``) is one *segment*.
    """

    def __init__(self, config: RunConfig, labels: int) -> None:
        super().__init__()
        self.modalities = tuple(config.modalities)
        taken = [m for m in self.modalities if hasattr(nn.ModuleDict(), m)]
        if taken:
            raise ConfigError(f"'{taken[0]}' cannot be the name of a modality: choose another")
        width = config.model.width
        # A unit vector has entries of about 1/sqrt(d); the head sees them at about 1, so that it
        # and the bias learn at one pace.
        self.scale = math.sqrt(width)
        self.encoder = nn.ModuleDict(
            {m: make_encoder(c, width) for m, c in config.modalities.items()}
        )
        self.imputer = nn.ModuleDict()
        if config.model.imputer == "fin":
            for source, target in permutations(self.modalities, 2):
                network = FeatureImputationNetwork(width, config.model.fin)
                self.imputer[pair_name(source, target)] = network
        self.head = nn.ModuleDict(
            {m: nn.Linear(width, labels, bias=False) for m in self.modalities}
        )
        # A linear layer fed with ones, because Opacus takes gradients per module.
        self.bias = nn.Linear(1, labels, bias=False)
        nn.init.zeros_(self.bias.weight)
        for weight in self.head.parameters():
            nn.init.zeros_(weight)

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """Features (n, width) of every modality, zero where it is absent.

        Every row goes through every encoder and is masked afterwards: skipping a module for
        some rows would break per-sample gradients.
        """
        return {
            m: self.encoder[m](batch.inputs[m]) * batch.present[m][:, None].float()
            for m in self.modalities
        }

    def impute(self, features: Mapping[str, Tensor]) -> dict[tuple[str, str], Tensor]:
        """Imputed features for every ordered pair, from source features cut off the graph."""
        return {
            (s, t): self.imputer[pair_name(s, t)](features[s].detach())
            for s, t in permutations(self.modalities, 2)
            if pair_name(s, t) in self.imputer
        }

    def complete(
        self,
        batch: Batch,
        features: Mapping[str, Tensor],
        imputed: Mapping[tuple[str, str], Tensor],
    ) -> dict[str, Tensor]:
        """Features with absent modalities filled by the mean of what is imputed, or zero.

        Imputed features are cut off the graph: the imputer learns from its own loss only.
        """
        full = {}
        for m in self.modalities:
            known = batch.present[m][:, None].float()
            filled = torch.zeros_like(features[m])
            count = torch.zeros_like(known)
            for (source, target), feature in imputed.items():
                if target == m:
                    there = batch.present[source][:, None].float()
                    filled = filled + feature.detach() * there
                    count = count + there
            full[m] = features[m] * known + (1 - known) * filled / count.clamp(min=1.0)
        return full

    def classify(self, full: Mapping[str, Tensor]) -> Tensor:
        """Logits (n, L) of the linear head over all modalities' features."""
        ones = torch.ones(len(next(iter(full.values()))), 1)
        logits: Tensor = self.bias(ones)
        for m in self.modalities:
            logits = logits + self.scale * self.head[m](full[m])
        return logits

    def forward(self, batch: Batch) -> Tensor:
        """Logits (n, L); absent modalities are imputed."""
        features = self.encode(batch)
        return self.classify(self.complete(batch, features, self.impute(features)))

    def per_record_loss(self, batch: Batch, imputation_weight: float) -> Tensor:
        """All losses of a record in one scalar, (n,).

        Binary cross-entropy averaged over the labels that are known, plus, on records with both
        modalities of a pair, ``imputation_weight`` times the squared distance between imputed
        and real feature (the paper's MSE times d; both features are cut off the graph).
        """
        features = self.encode(batch)
        imputed = self.impute(features)
        logits = self.classify(self.complete(batch, features, imputed))
        loss = masked_bce(logits, batch.labels)
        for (source, target), feature in imputed.items():
            both = (batch.present[source] & batch.present[target]).float()
            distance = (feature - features[target].detach()).square().sum(dim=1)
            loss = loss + imputation_weight * both * distance
        return loss


def masked_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy (n,) averaged over a record's known labels; 0 if none is known."""
    known = ~torch.isnan(labels)
    target = torch.where(known, labels, torch.zeros_like(labels))
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (each * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)
