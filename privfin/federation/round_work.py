"""What a site sends in a round and does with the sum: some steps of its own, or one joint step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from privfin.config import RunConfig
from privfin.crypto.ckks import clip
from privfin.crypto.quantize import Quantizer
from privfin.federation.aggregation import Aggregation
from privfin.federation.global_model import Step
from privfin.federation.joint_training import JointSum
from privfin.federation.messages import Numbers
from privfin.federation.plan import TrainingPlan
from privfin.models.segments import Vector
from privfin.randomness import RandomStream


class RoundWork(Protocol):
    """One site's work in a round, between the global model and the encryption."""

    def codes(self, start: Vector, number: int, cohort: tuple[str, ...]) -> Numbers:
        """What the site sends in round ``number``, from the parameters ``start``.

        Args:
            start: (parameters,).
            number: of the round.
            cohort: names of the sites that take part.

        Returns:
            (plan.values,) codes of ``crypto.value_bits`` bits; with CKKS, real numbers of at most
            ``crypto.update_bound``.
        """
        ...

    def incoming(self, total: Numbers, cohort: tuple[str, ...]) -> Iterator[Step]:
        """From the sum of what a cohort sent (plan.values,) to average updates, slice by slice."""
        ...


class Trainer(Protocol):
    """Trains at one site; see ``LocalTrainer``."""

    def train(self, start: Vector, round_number: int, steps: int) -> Vector:
        """The change that ``steps`` steps from ``start`` make."""
        ...


class Contributor(Protocol):
    """Makes contributions to joint steps; see ``JointTrainer``."""

    def contribute(self, start: Vector, number: int, cohort: int) -> npt.NDArray[np.int64]:
        """The integers of one step, noise share included."""
        ...


class LocalRound:
    """``privacy.trust = "local"``: the change of some DP-SGD steps with the full noise.

    Args:
        config: the run's configuration.
        plan: its plan.
        site: the site's name.
        trainer: trains on the site's patients.
        rounding: gives the random stream for the stochastic rounding of a round.
    """

    def __init__(
        self,
        config: RunConfig,
        plan: TrainingPlan,
        site: str,
        trainer: Trainer,
        rounding: Callable[[int], RandomStream],
    ) -> None:
        own = plan.site(site)
        self._plan = plan
        self._trainer = trainer
        self._rounding = rounding
        self._steps = own.local_steps
        self._trained = plan.trained_mask(own.modalities, config.model.imputer)
        self._aggregation = Aggregation(config, plan, site)
        self._quantizer = Quantizer(config.crypto.update_bound, config.crypto.value_bits)
        self._is_real = config.crypto.encryption == "ckks"

    def codes(self, start: Vector, number: int, cohort: tuple[str, ...]) -> Numbers:
        """See :class:`RoundWork`."""
        change = self._trainer.train(start, number, self._steps)
        # Exact zeros outside the trained segments, whatever floating point did.
        sent = self._trained & self._plan.open_mask(cohort)
        change = np.where(sent, change, np.float32(0)).astype(np.float32)
        update = self._aggregation.outgoing(start, change, cohort)
        if self._is_real:
            return clip(update, self._quantizer.bound)
        return self._quantizer.encode(update, self._rounding(number))

    def incoming(self, total: Numbers, cohort: tuple[str, ...]) -> Iterator[Step]:
        """See :class:`RoundWork`."""
        tail = self._decoded(total[self._plan.parameters :], len(cohort))
        divisors = self._aggregation.divisors(tail, cohort)
        for segment, divisor in zip(self._plan.segments, divisors, strict=True):
            for at in segment.slices():
                yield at, self._decoded(total[at], len(cohort)) / divisor

    def _decoded(self, total: Numbers, count: int) -> npt.NDArray[np.float64]:
        if self._is_real:
            return np.asarray(total, dtype=np.float64)
        return self._quantizer.decode_sum(np.asarray(total, dtype=np.uint32), count)


class JointRound:
    """``privacy.trust = "shared"``: one step's clipped gradients with a share of the noise."""

    def __init__(self, trainer: Contributor, joint: JointSum) -> None:
        self._trainer = trainer
        self._joint = joint

    def codes(self, start: Vector, number: int, cohort: tuple[str, ...]) -> Numbers:
        """See :class:`RoundWork`."""
        return self._joint.encode(self._trainer.contribute(start, number, len(cohort)))

    def incoming(self, total: Numbers, cohort: tuple[str, ...]) -> Iterator[Step]:
        """See :class:`RoundWork`."""
        return self._joint.decode(total.astype(np.uint32, copy=False), cohort)
