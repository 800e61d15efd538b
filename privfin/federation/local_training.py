"""What a site does with its own patients in a round: some DP-SGD steps from the global model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from privfin.config import RunConfig
from privfin.federation.local_optimizer import local_optimizer
from privfin.federation.plan import SitePlan
from privfin.models.multimodal import Batch, MultimodalModel
from privfin.models.segments import Vector, assign, flatten, freeze_untrained, initial_model
from privfin.privacy.dpsgd import DpSgd, DpSgdSettings
from privfin.privacy.plain import PlainSgd
from privfin.randomness import RandomStream

#: Builds private steps from what :class:`DpSgd` takes.
StepMaker = Callable[..., DpSgd]


@dataclass(frozen=True)
class SiteData:
    """A site's training data after the front ends.

    Attributes:
        batch: its rows; rows ``i * copies`` to ``i * copies + copies - 1`` belong to record i.
        patients: for each patient, the positions of that patient's records.
        fingerprint: SHA-256 of the records, before copies are made of them.
        copies: rows a record has (``training.augmentations`` where there are images).
    """

    batch: Batch
    patients: list[list[int]]
    fingerprint: str
    copies: int = 1

    def __post_init__(self) -> None:
        records = sum(len(positions) for positions in self.patients)
        if len(self.batch) != records * self.copies:
            raise ValueError(
                f"{records} records of {self.copies} rows do not make {len(self.batch)} rows"
            )


class RecordLosses:
    """Losses of a site's records, each of its own record only; see ``RecordLoss``."""

    def __init__(self, model: MultimodalModel, data: SiteData, imputation_weight: float) -> None:
        self._model, self._data, self._weight = model, data, imputation_weight

    def __call__(self, records: npt.NDArray[np.int64]) -> Tensor:
        """Losses of the records at these positions, ``data.copies`` for each."""
        copies = self._data.copies
        rows = (records[:, None] * copies + np.arange(copies)).reshape(-1)
        batch = self._data.batch.rows(torch.from_numpy(rows))
        return self._model.per_record_loss(batch, self._weight)


class LocalTrainer:
    """Trains at one site.

    ``streams(purpose, round)`` gives a fresh random stream; ``public`` holds the public records
    that ``imputer = "retrieval"`` takes features from. ``make_step`` builds the private steps: an
    audit gives a subclass of ``DpSgd`` that watches them.
    """

    def __init__(
        self,
        config: RunConfig,
        plan: SitePlan,
        data: SiteData,
        streams: Callable[[str, int], RandomStream],
        public: Batch | None = None,
        *,
        make_step: StepMaker = DpSgd,
    ) -> None:
        self._config = config
        self._make_step = make_step
        self._plan = plan
        self._data = data
        self._streams = streams
        self._model = initial_model(config, data.batch.labels.shape[1])
        self._model.use_public(public)
        freeze_untrained(self._model, plan.modalities, config.model.imputer)
        self._losses = RecordLosses(self._model, data, config.training.imputation_weight)

    def train(self, start: Vector, round_number: int, steps: int) -> Vector:
        """Take ``steps`` steps from the parameters ``start`` and return the change.

        Parameters of segments that the site does not train come back as exact zeros.
        """
        return self._take_steps(start, round_number, steps)

    def fine_tune(self, start: Vector, steps: int) -> Vector:
        """Steps after the last round; returns the change like `train`."""
        # Its random streams have a number of their own, which no round has.
        return self._take_steps(start, self._config.training.rounds + 1, steps)

    def _take_steps(self, start: Vector, stream: int, steps: int) -> Vector:
        training = self._config.training
        assign(self._model, start)
        sampling = self._streams("sampling", stream)
        if self._config.privacy.is_private:
            noise = self._streams("noise", stream)
            private = self._make_step(
                self._model,
                self._losses,
                self._data.patients,
                self._settings(),
                self._optimizer(training.learning_rate),
                noise=noise,
                sampling=sampling,
            )
            try:
                for _ in range(steps):
                    private.step()
            finally:
                private.close()
        else:
            plain = PlainSgd(
                self._model,
                self._losses,
                self._data.patients,
                self._plan.sampling_rate,
                self._optimizer(training.learning_rate_without_privacy),
                sampling=sampling,
            )
            for _ in range(steps):
                plain.step()
        return flatten(self._model) - start

    def _settings(self) -> DpSgdSettings:
        return DpSgdSettings(
            clip_norm=self._config.privacy.clip_norm,
            noise_multiplier=self._plan.noise_multiplier,
            sampling_rate=self._plan.sampling_rate,
            batch_size=self._config.training.batch_size,
            physical_batch=self._config.training.physical_batch,
            copies=self._data.copies,
        )

    def _optimizer(self, rate: float) -> Callable[[list[nn.Parameter]], torch.optim.Optimizer]:
        training = self._config.training
        return local_optimizer(rate, training.momentum, training.proximal)
