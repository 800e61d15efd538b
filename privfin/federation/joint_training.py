"""What a site computes in a joint step: its integers, before they are masked and encrypted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from privfin.config import RunConfig
from privfin.crypto.quantize import Quantizer
from privfin.errors import PrivfinError
from privfin.federation.global_model import Step
from privfin.federation.local_training import RecordLosses, SiteData
from privfin.federation.plan import SegmentPlan, SitePlan
from privfin.federation.shared_plan import SharedPlan
from privfin.models.multimodal import Batch
from privfin.models.segments import Vector, assign, freeze_untrained, initial_model
from privfin.privacy.joint import JointStep, JointStepSettings
from privfin.randomness import RandomStream


class JointTrainer:
    """Makes one site's contributions to joint steps.

    Args:
        config: the run's configuration.
        plan: this site's plan.
        shared: the joint mechanism.
        data: the site's training data.
        streams: ``streams(purpose, number)`` gives a fresh random stream.
        public: the public records that ``imputer = "retrieval"`` takes features from.
    """

    def __init__(
        self,
        config: RunConfig,
        plan: SitePlan,
        shared: SharedPlan,
        data: SiteData,
        streams: Callable[[str, int], RandomStream],
        public: Batch | None = None,
    ) -> None:
        self._shared = shared
        self._streams = streams
        self._model = initial_model(config, data.batch.labels.shape[1])
        self._model.use_public(public)
        freeze_untrained(self._model, plan.modalities, config.model.imputer)
        self._step = JointStep(
            self._model,
            RecordLosses(self._model, data, config.training.imputation_weight),
            data.patients,
            JointStepSettings(
                clip_norm=config.privacy.clip_norm,
                sampling_rate=shared.sampling_rate,
                scale=shared.noise.scale,
                largest_value=shared.noise.largest_value,
                physical_batch=config.training.physical_batch,
                copies=data.copies,
            ),
        )

    def contribute(self, start: Vector, number: int, cohort: int) -> npt.NDArray[np.int64]:
        """The integers of one step from the parameters ``start``, with this site's noise share.

        Args:
            start: the global parameters, (parameters,).
            number: the step's number, for the streams of the reproducible mode.
            cohort: sites that take part; fewer sites add larger shares.
        """
        assign(self._model, start)
        return self._step.contribution(
            self._shared.share_variance(cohort),
            sampling=self._streams("sampling", number),
            rounding=self._streams("rounding", number),
            noise=self._streams("noise", number),
        )


class JointSum:
    """How contributions become codes, and how their sum becomes a step of the model.

    Args:
        config: the run's configuration.
        shared: the joint mechanism.
        segments: of the plan, with the expected patients that divide each.
    """

    def __init__(
        self,
        config: RunConfig,
        shared: SharedPlan,
        segments: Sequence[SegmentPlan],
    ) -> None:
        bits = config.crypto.value_bits
        # One level of the code is one step of the lattice.
        self._codes = Quantizer(float(2 ** (bits - 1) - 1), bits)
        self._scale = shared.noise.scale
        self._rate = config.training.learning_rate
        self._segments = segments

    def encode(self, contribution: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
        """Codes of a contribution.

        Raises:
            PrivfinError: a value does not fit. The plan rules it out, and cutting it here would
                change the noise.
        """
        if np.abs(contribution).max(initial=0) > self._codes.top_level:
            raise PrivfinError("a contribution does not fit its code; nothing was sent")
        return self._codes.shift(contribution)

    def decode(self, total: npt.NDArray[np.uint32], cohort: tuple[str, ...]) -> Iterator[Step]:
        """The sum of a cohort's codes as a step against the gradient, slice by slice."""
        for segment in self._segments:
            divisor = np.float32(segment.divisor(cohort))
            for at in segment.slices():
                gradient = self._codes.decode_sum(total[at], len(cohort)) / self._scale
                yield at, -self._rate * gradient / divisor
