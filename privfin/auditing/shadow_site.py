"""One site's part in the training of many shadow models: what each model's patients do to it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attacks.shadows import StackedGradients
from attacks.shadows.parameters import Place
from privfin.auditing.population import BoolArray, SitePool
from privfin.auditing.shadow_modules import LossOfRows, rows_of, stacked_banks
from privfin.config import RunConfig
from privfin.errors import PrivfinError
from privfin.federation.local import StreamSource
from privfin.federation.plan import TrainingPlan
from privfin.models.multimodal import Batch
from privfin.models.segments import freeze_untrained, initial_model
from privfin.privacy.joint import JointStepSettings, round_sum
from privfin.privacy.noise import gaussian_noise
from privfin.privacy.sampling import one_record_each, poisson_patients
from privfin.privacy.skellam_noise import SkellamSampler
from privfin.randomness import RandomStream

Vectors = npt.NDArray[np.float32]


class ShadowSite:
    """Takes a site's steps for M models, each on the patients that its coins deal to the site.

    Args:
        config: the run's configuration.
        plan: its plan.
        pool: the site's patients.
        coins: (M, patients) whether a model trains on a patient.
        streams: of each model at this site, M.
        public: the public records of ``imputer = "retrieval"``.
        device: where gradients are computed.
    """

    def __init__(
        self,
        config: RunConfig,
        plan: TrainingPlan,
        pool: SitePool,
        coins: BoolArray,
        streams: Sequence[StreamSource],
        *,
        public: Batch | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._config = config
        self._own = plan.site(pool.name)
        self._streams = streams
        self._public = public
        self._device = torch.device(device)
        self._model = initial_model(config, pool.batch.labels.shape[1])
        self._model.use_public(public)
        freeze_untrained(self._model, self._own.modalities, config.model.imputer)
        loss = LossOfRows(self._model, config.training.imputation_weight)
        trained = [name for name, p in loss.named_parameters() if p.requires_grad]
        self._gradients = StackedGradients(loss, trained, device=device)
        self._places = [p for p in self._gradients.places if p.name in set(trained)]
        self._trained = _runs(self._places)
        self._copies = pool.copies
        self._rows = {name: x.to(self._device) for name, x in rows_of(pool.batch).items()}
        self._patients = [
            [pool.patients[at] for at in np.flatnonzero(row).tolist()] for row in coins
        ]

    def train(self, starts: Vectors, round_number: int) -> Vectors:
        """The change of each model, (M, P), in the steps of a round; see ``LocalTrainer``.

        Args:
            starts: (M, P).
            round_number: of the streams.

        Raises:
            PrivfinError: a model's parameters are no longer finite numbers.
        """
        training = self._config.training
        private = self._config.privacy.is_private
        rate = training.learning_rate if private else training.learning_rate_without_privacy
        start = torch.from_numpy(starts).to(self._device)
        sampling = [streams("sampling", round_number) for streams in self._streams]
        noise = [streams("noise", round_number) for streams in self._streams] if private else []
        banks = stacked_banks(self._model, start, self._public, self._device)
        vectors, velocity = start.clone(), torch.zeros_like(start)
        for _ in range(self._own.local_steps):
            rows, weights = self._drawn(sampling, self._own.sampling_rate)
            if private:
                gradient = self._noisy(vectors, rows, weights, banks, noise)
            else:
                gradient = self._gradients.mean(
                    vectors, rows, weights, copies=self._copies, buffers=banks
                )
            if training.proximal:
                # Zero where nothing is trained: there a vector stays as it was.
                gradient += training.proximal * (vectors - start)
            before = velocity
            velocity = training.momentum * velocity + gradient
            moved = vectors - rate * velocity
            if not private:
                # Without privacy an empty batch takes no step.
                took = weights.sum(dim=1, keepdim=True) > 0
                velocity = torch.where(took, velocity, before)
                moved = torch.where(took, moved, vectors)
            vectors = moved
            if not bool(torch.isfinite(vectors).all()):
                raise PrivfinError(
                    "training of a shadow model diverged: its parameters are not finite; audit a "
                    "run with a lower learning rate"
                )
        return (vectors - start).cpu().numpy()

    def contribute(
        self,
        starts: Vectors,
        number: int,
        settings: JointStepSettings,
        share_variance: int,
    ) -> npt.NDArray[np.int64]:
        """Each model's integers (M, P) of a joint step, noise share included; see ``JointStep``.

        Args:
            starts: (M, P).
            number: of the step, for the streams.
            settings: of the joint step.
            share_variance: of one site's noise.
        """
        vectors = torch.from_numpy(starts).to(self._device)
        sampling = [streams("sampling", number) for streams in self._streams]
        banks = stacked_banks(self._model, vectors, self._public, self._device)
        rows, weights = self._drawn(sampling, settings.sampling_rate)
        sums = self._clipped(vectors, rows, weights, banks).cpu().double().numpy()
        noise = SkellamSampler(share_variance)
        made = np.empty(sums.shape, dtype=np.int64)
        for at, streams in enumerate(self._streams):
            levels = round_sum(sums[at], settings, streams("rounding", number))
            made[at] = levels + noise.sample(streams("noise", number), levels.size)
        return made

    def _drawn(
        self, sampling: Sequence[RandomStream], rate: float
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The rows (M, n * copies, ...) that a step draws, padded, and their weights (M, n)."""
        drawn = []
        for stream, patients in zip(sampling, self._patients, strict=True):
            chosen = poisson_patients(stream, len(patients), rate)
            drawn.append(one_record_each(stream, patients, chosen))
        longest = max(1, *(len(records) for records in drawn))
        index = np.zeros((len(drawn), longest), dtype=np.int64)
        weights = np.zeros((len(drawn), longest), dtype=np.float32)
        for at, records in enumerate(drawn):
            index[at, : len(records)] = records
            weights[at, : len(records)] = 1.0
        copies = np.arange(self._copies)
        places = (index[:, :, None] * self._copies + copies).reshape(len(drawn), -1)
        at_rows = torch.from_numpy(places).to(self._device)
        rows = {name: x[at_rows] for name, x in self._rows.items()}
        return rows, torch.from_numpy(weights).to(self._device)

    def _clipped(
        self,
        vectors: Tensor,
        rows: dict[str, Tensor],
        weights: Tensor,
        banks: dict[str, Tensor],
    ) -> Tensor:
        return self._gradients.clipped_sum(
            vectors,
            rows,
            weights,
            self._config.privacy.clip_norm,
            copies=self._copies,
            buffers=banks,
        )

    def _noisy(
        self,
        vectors: Tensor,
        rows: dict[str, Tensor],
        weights: Tensor,
        banks: dict[str, Tensor],
        noise: Sequence[RandomStream],
    ) -> Tensor:
        """Clipped sums with noise, over the expected batch size; added in float64 as in DpSgd."""
        total = self._clipped(vectors, rows, weights, banks).cpu()
        std = self._own.noise_multiplier * self._config.privacy.clip_norm
        drawn = torch.from_numpy(np.stack([self._noise(stream) for stream in noise])) * std
        first = 0
        for at in self._trained:
            after = first + at.stop - at.start
            total[:, at] = (total[:, at].double() + drawn[:, first:after]).float()
            first = after
        return (total / self._config.training.batch_size).to(self._device)

    def _noise(self, stream: RandomStream) -> npt.NDArray[np.float64]:
        """Normal noise of all trained parameters, in order."""
        sizes = [place.stop - place.start for place in self._places]
        if not stream.is_reproducible:
            return gaussian_noise(stream, sum(sizes))
        # One draw a parameter, as the run itself, so that equal streams give equal noise. Elsewhere
        # the many small draws would only cost time.
        return np.concatenate([gaussian_noise(stream, size) for size in sizes])


def _runs(places: Sequence[Place]) -> list[slice]:
    """The stretches of a vector that places without a gap between them cover, in order."""
    found: list[slice] = []
    for place in places:
        if found and found[-1].stop == place.start:
            found[-1] = slice(found[-1].start, place.stop)
        else:
            found.append(slice(place.start, place.stop))
    return found
