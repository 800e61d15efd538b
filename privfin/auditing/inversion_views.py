"""What an attacker may see of one site's training: gradients of its records, and its updates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from privfin.config import RunConfig
from privfin.federation.local_training import LocalTrainer, SiteData
from privfin.federation.plan import SitePlan
from privfin.models.multimodal import Batch
from privfin.models.segments import Vector, assign, freeze_untrained, initial_model
from privfin.randomness import RandomStream

#: A noise multiplier that stands for no noise where the mechanism wants one above zero.
_NO_NOISE = 1e-12


@dataclass(frozen=True)
class View:
    """One thing seen.

    Attributes:
        name: in words.
        rows: positions of the targets that took part.
        gradient: by parameter, up to one positive factor.
    """

    name: str
    rows: tuple[int, ...]
    gradient: dict[str, Tensor] = field(repr=False)


class Observed:
    """A site's training as it is seen by whoever gets its plain messages.

    Args:
        config: the run's configuration.
        site: the site's part of the plan. With shared noise its noise multiplier is that of the
            sum of all sites: then the views with noise are of that sum, in which only the targets
            took part.
        start: the global parameters that the site starts from.
        targets: the records, one a patient, with what the site trains on.
        public: the public records of ``imputer = "retrieval"``.
        seed: of the noise of this imitation. It protects nobody, and nothing of it leaves.
    """

    def __init__(
        self,
        config: RunConfig,
        site: SitePlan,
        start: Vector,
        targets: Batch,
        public: Batch | None,
        seed: int,
    ) -> None:
        self._config, self._site, self._start = config, site, start
        self._targets, self._public, self._seed = targets, public, seed
        self.model = initial_model(config, targets.labels.shape[1])
        self.model.use_public(public)
        assign(self.model, start)
        freeze_untrained(self.model, site.modalities, config.model.imputer)
        self._names = [n for n, p in self.model.named_parameters() if p.requires_grad]

    def views(self) -> Iterator[View]:
        """The plain gradients first, and what the site would send at last.

        A round takes the run's own steps with the run's own optimiser, clipping, noise and fixed
        divisor; only the drawing of patients is replaced: the targets take part in every step, and
        nobody else does. No round of the run shows more of them.
        """
        rows = range(len(self._targets))
        every = tuple(rows)
        private = self._config.privacy.is_private
        for row in rows:
            yield View("one record", (row,), self._gradient((row,)))
        if private:
            for row in rows:
                yield View("one record, clipped", (row,), self._clipped(row))
            for row in rows:
                yield View("one record, round without noise", (row,), self._round((row,), False))
        for row in rows:
            yield View(f"one record, {self._sent}", (row,), self._round((row,), True))
        yield View("batch", every, self._gradient(every))
        yield View(f"batch, {self._sent}", every, self._round(every, True))

    @property
    def _sent(self) -> str:
        return "round as sent" if self._config.privacy.is_private else "round (no DP)"

    def _gradient(self, rows: tuple[int, ...]) -> dict[str, Tensor]:
        trained = [p for p in self.model.parameters() if p.requires_grad]
        batch = self._targets.rows(torch.tensor(rows))
        loss = self.model.per_record_loss(batch, self._config.training.imputation_weight).mean()
        found = torch.autograd.grad(loss, trained, materialize_grads=True)
        return dict(zip(self._names, found, strict=True))

    def _clipped(self, row: int) -> dict[str, Tensor]:
        plain = self._gradient((row,))
        norm = torch.stack([g.square().sum() for g in plain.values()]).sum().sqrt()
        factor = (self._config.privacy.clip_norm / norm.clamp(min=1e-12)).clamp(max=1.0)
        return {name: g * factor for name, g in plain.items()}

    def _round(self, rows: tuple[int, ...], noised: bool) -> dict[str, Tensor]:
        """The change of a round against the start, turned round: a sum of gradients times a
        factor."""
        site = replace(self._site, sampling_rate=1.0)
        if not noised:
            site = replace(site, noise_multiplier=_NO_NOISE)

        def streams(purpose: str, number: int) -> RandomStream:
            return RandomStream.reproducible(self._seed, "inversion", purpose, number, *rows)

        data = SiteData(
            self._targets.rows(torch.tensor(rows)), [[i] for i in range(len(rows))], fingerprint=""
        )
        trainer = LocalTrainer(self._config, site, data, streams, self._public)
        change = trainer.train(self._start, 1, site.local_steps)
        against = torch.from_numpy(np.negative(change))
        found, at = {}, 0
        for name, parameter in self.model.named_parameters():
            piece = against[at : at + parameter.numel()].view_as(parameter)
            at += parameter.numel()
            if parameter.requires_grad:
                found[name] = piece
        return found
