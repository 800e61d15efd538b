"""Canaries: patients that no hospital has, put into training by coins that the auditor knows.

A canary's coin is fair and its own. What a model says of the canaries is scored, and the scores
are held against the coins (``attacks.one_run``, ``attacks.steps``). Everything here is a pure
function of numbers; ``coins`` alone draws from the operating system unless an entropy is given.
"""

from attacks.canaries.coins import seeds, throw
from attacks.canaries.directions import coordinate_directions, orthonormal_directions
from attacks.canaries.kinds import flipped_labels, outlier_image, random_labels, rare_phrase

__all__ = [
    "coordinate_directions",
    "flipped_labels",
    "orthonormal_directions",
    "outlier_image",
    "random_labels",
    "rare_phrase",
    "seeds",
    "throw",
]
