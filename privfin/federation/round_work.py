"""What a site sends in a round and does with the sum: some steps of its own, or one joint step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from privfin.config import RunConfig
from privfin.crypto.quantize import Quantizer
from privfin.federation.aggregation import Aggregation
from privfin.federation.global_model import Step
from privfin.federation.joint_training import JointSum
from privfin.federation.plan import TrainingPlan
from privfin.models.segments import Vector
from privfin.randomness import RandomStream


class RoundWork(Protocol):
    """One site's work in a round, between the global model and the encryption."""

    def codes(self, start: Vector, number: int, cohort: tuple[str, ...]) -> npt.NDArray[np.uint32]:
        """What the site sends in round ``number``, from the parameters ``start``.

        Args:
            start: (parameters,).
            number: of the round.
            cohort: names of the sites that take part.

        Returns:
            (plan.values,) codes of ``crypto.value_bits`` bits.
        """
        ...

    def incoming(self, total: npt.NDArray[np.uint32], cohort: tuple[str, ...]) -> Iterator[Step]:
        """From the sum of a cohort's codes (plan.values,) to average updates, slice by slice."""
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

    def codes(self, start: Vector, number: int, cohort: tuple[str, ...]) -> npt.NDArray[np.uint32]:
        """See :class:`RoundWork`."""
        change = self._trainer.train(start, number, self._steps)
        # Exact zeros outside the trained segments, whatever floating point did.
        sent = self._trained & self._plan.open_mask(cohort)
        change = np.where(sent, change, np.float32(0)).astype(np.float32)
        update = self._aggregation.outgoing(start, change, cohort)
        return self._quantizer.encode(update, self._rounding(number))

    def incoming(self, total: npt.NDArray[np.uint32], cohort: tuple[str, ...]) -> Iterator[Step]:
        """See :class:`RoundWork`."""
        tail = self._quantizer.decode_sum(total[self._plan.parameters :], len(cohort))
        divisors = self._aggregation.divisors(tail, cohort)
        for segment, divisor in zip(self._plan.segments, divisors, strict=True):
            for at in segment.slices():
                yield at, self._quantizer.decode_sum(total[at], len(cohort)) / divisor


class JointRound:
    """``privacy.trust = "shared"``: one step's clipped gradients with a share of the noise."""

    def __init__(self, trainer: Contributor, joint: JointSum) -> None:
        self._trainer = trainer
        self._joint = joint

    def codes(self, start: Vector, number: int, cohort: tuple[str, ...]) -> npt.NDArray[np.uint32]:
        """See :class:`RoundWork`."""
        return self._joint.encode(self._trainer.contribute(start, number, len(cohort)))

    def incoming(self, total: npt.NDArray[np.uint32], cohort: tuple[str, ...]) -> Iterator[Step]:
        """See :class:`RoundWork`."""
        return self._joint.decode(total, cohort)
