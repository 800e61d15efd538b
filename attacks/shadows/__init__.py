"""Many small models trained and evaluated at once: what shadow-model attacks are made of.

Parameters of M models are one (M, P) tensor, in the order of ``module.named_parameters()``. A
module must be safe to evaluate: no BatchNorm and no dropout, no row may see another row.
"""

from attacks.shadows.gradients import StackedGradients
from attacks.shadows.outputs import stacked_outputs
from attacks.shadows.parameters import ParameterPlaces, Rows

__all__ = ["ParameterPlaces", "Rows", "StackedGradients", "stacked_outputs"]
