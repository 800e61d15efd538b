"""What every site does with the decrypted average: add it, or take a step of an optimiser with it.

The coordinator sees ciphertexts only, so what is called a server-side optimiser elsewhere runs at
every site alike. It may use nothing but element-wise +, -, *, / and square root of float64, which
IEEE 754 rounds correctly: equal averages then give equal bits on any machine. It works on released
numbers alone (post-processing), so it costs no privacy.

With Delta the average, x the model and eta ``server.learning_rate``:

==========  ======================================================================================
average     x <- x + eta Delta (McMahan et al. 2017, FedAvg, for eta = 1)
momentum    m <- beta1 m + Delta,  x <- x + eta m (Hsu, Qi and Brown 2019, FedAvgM)
adam, yogi  m <- beta1 m + (1 - beta1) Delta,  x <- x + eta m / (sqrt(v) + tau), where
  adam      v <- beta2 v + (1 - beta2) Delta^2
  yogi      v <- v - (1 - beta2) Delta^2 sign(v - Delta^2)
==========  ======================================================================================

The last three lines are Reddi et al. 2021, "Adaptive Federated Optimization" (arXiv:2003.00295),
Algorithm 2: no correction of the first steps' bias, m starts at 0 and v at tau^2.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from privfin.config import ServerConfig
from privfin.errors import UserInputError
from privfin.models.segments import Vector

_State = npt.NDArray[np.float64]
_HAS_MOMENTUM = ("momentum", "adam", "yogi")
_HAS_SECOND_MOMENT = ("adam", "yogi")


class ServerOptimizer:
    """The rule and its state.

    Args:
        config: which rule, with its constants.
        size: number of parameters.

    Attributes:
        momentum: m, (size,) float64, or (0,) where the rule has none.
        second_moment: v, likewise.
    """

    def __init__(self, config: ServerConfig, size: int) -> None:
        self._config = config
        kind = config.optimizer
        self.momentum: _State = np.zeros(size if kind in _HAS_MOMENTUM else 0)
        start = config.floor * config.floor
        self.second_moment: _State = np.full(size if kind in _HAS_SECOND_MOMENT else 0, start)

    def copy(self) -> ServerOptimizer:
        """An independent copy, for another site."""
        made = ServerOptimizer(self._config, 0)
        made.momentum, made.second_moment = self.momentum.copy(), self.second_moment.copy()
        return made

    def restore(self, momentum: _State, second_moment: _State) -> None:
        """Go on from the state of a checkpoint.

        Raises:
            UserInputError: the state is that of another rule or model.
        """
        wanted = (self.momentum.shape, self.second_moment.shape)
        if (momentum.shape, second_moment.shape) != wanted:
            raise UserInputError(
                f"the checkpoint does not hold the state of training.server.optimizer = "
                f"'{self._config.optimizer}': it was made by another version or run; "
                "start a new run"
            )
        self.momentum, self.second_moment = momentum.copy(), second_moment.copy()

    def apply(self, vector: Vector, average: _State, at: slice) -> Vector:
        """The next model, float32, from the present one and a round's average update, at a place.

        Args:
            vector: the model's parameters at ``at``.
            average: the average update there.
            at: the place; every place once a round.
        """
        step = (self._config.learning_rate * self._direction(average, at)).astype(np.float32)
        return (vector + step).astype(np.float32)

    def _direction(self, average: _State, at: slice) -> _State:
        kind, beta1 = self._config.optimizer, self._config.momentum
        if kind == "average":
            return average
        if kind == "momentum":
            self.momentum[at] = beta1 * self.momentum[at] + average
            return self.momentum[at]
        beta2, before = self._config.second_moment, self.second_moment[at]
        squares = average * average
        self.momentum[at] = beta1 * self.momentum[at] + (1.0 - beta1) * average
        if kind == "adam":
            self.second_moment[at] = beta2 * before + (1.0 - beta2) * squares
        else:
            sign = np.sign(before - squares)
            self.second_moment[at] = before - (1.0 - beta2) * squares * sign
        # Yogi's v stays positive: it is lowered only while v > Delta^2, by less than Delta^2.
        return self.momentum[at] / (np.sqrt(self.second_moment[at]) + self._config.floor)
