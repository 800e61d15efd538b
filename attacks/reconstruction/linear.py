"""What the gradient of a linear layer gives away without any optimisation.

For one record, ``y = W x + b`` has the gradients ``dW = g x^T`` and ``db = g`` with
``g = dL/dy``: the input is any row of dW over its entry of db (Phong et al. 2018, "Privacy-
Preserving Deep Learning via Additively Homomorphic Encryption", section 3; Geiping et al. 2020,
arXiv:2003.14053, proposition 3.1). With noise the best estimate is that of least squares: the
leading singular vector of ``[dW, db]``, which is ``g [x, 1]^T``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class LinearInput:
    """The input of a linear layer as its gradient shows it.

    Attributes:
        direction: (inputs,) of unit norm, all zero where the gradient is zero.
        scale: its norm; NaN without a bias, when the sign of ``direction`` is unknown too.
        share: of the squared gradient that this one input explains, in [0, 1]: 1 for one record
            without noise.
    """

    direction: Tensor = field(repr=False)
    scale: float
    share: float

    @property
    def value(self) -> Tensor:
        """The input itself, (inputs,). Raises ValueError without a bias."""
        if self.scale != self.scale:
            raise ValueError("without a bias only the direction of the input is known")
        return self.direction * self.scale


def linear_input(weight_gradient: Tensor, bias_gradient: Tensor | None = None) -> LinearInput:
    """The one input that explains a linear layer's gradient best.

    Args:
        weight_gradient: (outputs, inputs); any positive multiple gives the same answer.
        bias_gradient: (outputs,), by the same factor; None for a layer without bias.

    Raises:
        ValueError: the shapes do not fit, or a value is not finite.
    """
    together = weight_gradient.detach().double()
    if together.dim() != 2:
        raise ValueError("the gradient of a linear layer has two dimensions")
    if bias_gradient is not None:
        if bias_gradient.shape != together.shape[:1]:
            raise ValueError("the bias needs one value for each output")
        together = torch.cat([together, bias_gradient.detach().double()[:, None]], dim=1)
    if not bool(torch.isfinite(together).all()):
        raise ValueError("the gradient holds values that are not finite")
    total = float(together.square().sum())
    inputs = weight_gradient.shape[1]
    if total == 0.0:
        return LinearInput(torch.zeros(inputs), float("nan"), 0.0)
    _, strengths, right = torch.linalg.svd(together, full_matrices=False)
    leading, share = right[0], float(strengths[0] ** 2) / total
    length = float(leading[:inputs].norm())
    direction = leading[:inputs] / max(length, 1e-300)
    if bias_gradient is None:
        return LinearInput(direction.float(), float("nan"), share)
    last = float(leading[inputs])
    # [x, 1] ends in a positive number; a singular vector has no sign of its own.
    direction = direction if last >= 0 else -direction
    return LinearInput(direction.float(), length / max(abs(last), 1e-300), share)


def inferred_labels(bias_gradient: Tensor, tolerance: float = 1e-8) -> Tensor:
    """Labels of one record from the gradient of the last bias (after Zhao et al. 2020, iDLG).

    With cross-entropy on each label the gradient is ``(p - y)`` over the known labels, and
    0 < p < 1: negative for 1, positive for 0, exactly zero for an unknown label.

    Args:
        bias_gradient: (labels,), times any positive factor.
        tolerance: what counts as zero, as a share of the largest entry.

    Returns:
        (labels,) with 1, 0 or NaN.
    """
    g = bias_gradient.detach()
    known = g.abs() > tolerance * g.abs().max()
    return torch.where(known, (g < 0).to(g.dtype), torch.full_like(g, float("nan")))
