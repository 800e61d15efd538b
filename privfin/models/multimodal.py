"""The multimodal classifier: encoders, imputers and one linear head, and its per-record loss.

Modalities are names. Nothing below knows what an image is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from privfin.config import RunConfig
from privfin.errors import ConfigError
from privfin.models.encoders import feature_width, make_encoder
from privfin.models.imputers import Imputations, RetrievalSet, make_imputers

#: An imputed variance above this counts as this much: 1 is as good as a guess.
LARGEST_VARIANCE = 4.0


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


class MultimodalModel(nn.Module):
    """Encoders, imputers and head for the modalities of a configuration.

    The head over concatenated features is kept as one weight block a modality
    (``head[m]``) and a shared bias, because each block is averaged over its own sites. Every
    top-level entry (``encoder.m``, ``imputer.a_to_b``, ``head.m``, ``bias``) is one *segment*.
    With ``late`` fusion there is a head with its own bias for each modality instead.
    """

    def __init__(self, config: RunConfig, labels: int) -> None:
        super().__init__()
        self.modalities = tuple(config.modalities)
        taken = [m for m in self.modalities if hasattr(nn.ModuleDict(), m)]
        if taken:
            raise ConfigError(f"'{taken[0]}' cannot be the name of a modality: choose another")
        self.dropout = config.model.dropout
        self.is_late = config.model.imputer == "late"
        widths = {m: feature_width(c, config.model.width) for m, c in config.modalities.items()}
        # A unit vector has entries of about 1/sqrt(d); the head sees them at about 1, so that it
        # and the bias learn at one pace.
        self.scale = {m: math.sqrt(width) for m, width in widths.items()}
        self.encoder = nn.ModuleDict(
            {m: make_encoder(c, widths[m]) for m, c in config.modalities.items()}
        )
        self.imputer = make_imputers(config.model, widths)
        self.head = nn.ModuleDict(
            {m: nn.Linear(widths[m], labels, bias=self.is_late) for m in self.modalities}
        )
        if not self.is_late:
            # A linear layer fed with ones, because Opacus takes gradients per module.
            self.bias = nn.Linear(1, labels, bias=False)
            nn.init.zeros_(self.bias.weight)
        for weight in self.head.parameters():
            nn.init.zeros_(weight)
        if config.training.aggregation == "uncertainty":
            # Learns the mean variance of what is imputed, inside the same clipped gradient.
            self.uncertainty = nn.Linear(1, 1, bias=False)
            nn.init.ones_(self.uncertainty.weight)
        self._public: Batch | None = None

    def use_public(self, batch: Batch | None) -> None:
        """Give ``retrieval`` its public records; every other imputer has no use for them."""
        self._public = batch
        self.refresh()

    def refresh(self) -> None:
        """Encode the public records anew: to be called whenever the encoders have changed."""
        if isinstance(self.imputer, RetrievalSet) and self._public is not None:
            with torch.no_grad():
                self.imputer.fill(self.encode(self._public), self._public.present)

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """Features (n, width) of every modality, zero where it is absent.

        Every row goes through every encoder and is masked afterwards: skipping a module for
        some rows would break per-sample gradients.
        """
        return {
            m: self.encoder[m](batch.inputs[m]) * batch.present[m][:, None].float()
            for m in self.modalities
        }

    def complete(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor], said: Imputations
    ) -> dict[str, Tensor]:
        """Features with absent modalities filled by what is imputed, or zero.

        Imputed features are cut off the graph: the imputer learns from its own loss only.
        """
        full = {}
        for m in self.modalities:
            known = present[m][:, None].float()
            full[m] = features[m] * known + (1 - known) * _filling(said, m, features[m])
        return full

    def classify(self, full: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Logits (..., L) of features (..., width): one linear head over all modalities.

        With late fusion the mean of the logits of the modalities that are present (..., bool).
        """
        each = {m: self.head[m](self.scale[m] * full[m]) for m in self.modalities}
        if self.is_late:
            there = {m: present[m][..., None].float() for m in self.modalities}
            total = torch.stack([each[m] * there[m] for m in self.modalities]).sum(dim=0)
            return total / torch.stack(list(there.values())).sum(dim=0).clamp(min=1.0)
        first = next(iter(full.values()))
        logits: Tensor = self.bias(torch.ones(*first.shape[:-1], 1))
        for m in self.modalities:
            logits = logits + each[m]
        return logits

    def forward(self, batch: Batch) -> Tensor:
        """Logits (n, L); absent modalities are imputed."""
        features = self.encode(batch)
        said = self.imputer(features, batch.present)
        return self.classify(self.complete(features, batch.present, said), batch.present)

    def imputed_variance(self, batch: Batch) -> dict[str, Tensor]:
        """How unsure the imputer is of each modality that a row lacks, (n,); NaN where it is there.

        The mean over the feature's entries; 1 is as good as a guess. Empty for an imputer that
        states no variance.
        """
        said = self.imputer(self.encode(batch), batch.present)
        return {
            m: torch.where(said.said[m] & ~batch.present[m], e.variance.mean(dim=1), math.nan)
            for m, e in said.estimates.items()
            if e.variance is not None
        }

    def per_record_loss(self, batch: Batch, imputation_weight: float) -> Tensor:
        """All losses of a record in one scalar, (n,).

        Binary cross-entropy averaged over the labels that are known, plus ``imputation_weight``
        times the imputers' loss on modalities that the record has (for ``fin`` the squared
        distance between imputed and real feature: the paper's MSE times d; both features are cut
        off the graph). With modality dropout p, the cross-entropy of a record with several
        modalities is 1 - p times that of the whole record plus p times the mean over the record
        with one of them taken away: the expectation over random dropout, in one gradient.
        """
        features = self.encode(batch)
        said: Imputations = self.imputer(features, batch.present)
        loss = self._classification_loss(features, batch, said)
        loss = loss + imputation_weight * said.loss
        if hasattr(self, "uncertainty"):
            loss = loss + self._uncertainty_loss(said, batch.present)
        return loss

    def _classification_loss(
        self, features: Mapping[str, Tensor], batch: Batch, said: Imputations
    ) -> Tensor:
        full = self.complete(features, batch.present, said)
        if self.is_late:
            return self._late_loss(full, batch)
        if not self.dropout or len(self.modalities) < 2:
            return masked_bce(self.classify(full, batch.present), batch.labels)
        held = torch.stack([batch.present[m] for m in self.modalities], dim=1)
        removable = held & (held.sum(dim=1, keepdim=True) > 1)
        share = self.dropout * removable.float() / removable.sum(dim=1, keepdim=True).clamp(min=1)
        weights = torch.cat([1 - share.sum(dim=1, keepdim=True), share], dim=1)
        # One view a row of the second axis, so that the head is called once.
        views = {m: [full[m]] for m in self.modalities}
        for removed in self.modalities:
            for m in self.modalities:
                taken = _filling(said, m, features[m]) if m == removed else full[m]
                views[m].append(taken)
        stacked = {m: torch.stack(v, dim=1) for m, v in views.items()}
        logits = self.classify(stacked, batch.present)
        losses = masked_bce(logits, batch.labels[:, None].expand_as(logits))
        loss: Tensor = (weights * losses).sum(dim=1)
        return loss

    def _late_loss(self, full: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """The mean over the record's modalities of each unimodal head's own loss."""
        total = torch.zeros(len(batch))
        count = torch.zeros(len(batch))
        for m in self.modalities:
            there = batch.present[m].float()
            total = total + there * masked_bce(self.head[m](self.scale[m] * full[m]), batch.labels)
            count = count + there
        return total / count.clamp(min=1.0)

    def _uncertainty_loss(self, said: Imputations, present: Mapping[str, Tensor]) -> Tensor:
        """Half the squared distance of the learned scalar to the row's mean imputed variance.

        Its minimum is the mean variance over a site's patients, reached by DP-SGD like everything
        else: what a site derives from it costs no further privacy.
        """
        rows = len(next(iter(present.values())))
        learned = self.uncertainty(torch.ones(rows, 1))[:, 0]
        total, count = torch.zeros(rows), torch.zeros(rows)
        for m, estimate in said.estimates.items():
            if estimate.variance is not None:
                there = said.said[m].float()
                # Bounded, so that a single odd record cannot fill its clipped gradient with this.
                total = total + there * estimate.variance.detach().mean(dim=1).clamp(
                    max=LARGEST_VARIANCE
                )
                count = count + there
        target = total / count.clamp(min=1.0)
        loss: Tensor = 0.5 * (count > 0).float() * (learned - target).square()
        return loss


def _filling(said: Imputations, modality: str, like: Tensor) -> Tensor:
    """What is imputed for a modality, cut off the graph, and zero where nothing is said."""
    if modality not in said.estimates:
        return torch.zeros_like(like)
    return said.estimates[modality].feature.detach() * said.said[modality][:, None].float()


def masked_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy (...) of (..., L), averaged over the known labels; 0 if none is."""
    known = ~torch.isnan(labels)
    target = torch.where(known, labels, torch.zeros_like(labels))
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (each * known).sum(dim=-1) / known.sum(dim=-1).clamp(min=1)
