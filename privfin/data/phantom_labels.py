"""The phantom's labels: 14 CheXpert findings that occur, and occur together, as in CheXpert.

The 13 findings other than "No Finding" are signs of one multivariate normal vector (a Gaussian
copula). Its correlations are tetrachoric: each pair's correlation is the one whose quadrant
probability equals the pair's published joint rate. "No Finding" is drawn among the studies without
a labelled pathology, at the rates that make its own published joint rates come out.

Source of the numbers: ``chexpert_statistics.json``, counts over the frontal images of CheXpert's
public ``train.csv`` (Irvin et al., AAAI 2019).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

Floats = npt.NDArray[np.float64]

#: Share of positive labels that are flipped; negatives are flipped to 1 at the rate that leaves
#: the prevalence as it was, so that rare labels are not drowned by false positives.
LABEL_NOISE = 0.03

_CALIBRATION_SAMPLES = 200_000


@dataclass(frozen=True)
class LabelStatistics:
    """Published rates: names in order, ``prevalence`` (14,) and ``joint`` (14, 14), both in [0, 1].

    ``joint[i, j]`` is the share of images on which labels i and j are both positive; index 0 is
    "No Finding" and the last index is "Support Devices".
    """

    names: tuple[str, ...]
    prevalence: Floats
    joint: Floats


@dataclass(frozen=True)
class LabelModel:
    """What :func:`draw_findings` needs, fitted once from the statistics.

    ``thresholds`` (13,) and ``factor`` (13, 13) describe the copula; ``no_finding`` (2,) is the
    probability of "No Finding" for a study without labelled pathology, without and with devices.
    """

    names: tuple[str, ...]
    prevalence: Floats
    thresholds: Floats
    factor: Floats
    no_finding: Floats


@lru_cache(maxsize=1)
def statistics() -> LabelStatistics:
    """The published CheXpert label rates that ship with the package."""
    path = resources.files("privfin.data") / "chexpert_statistics.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    names = tuple(str(name) for name in raw["labels"])
    return LabelStatistics(
        names=names,
        prevalence=np.array([raw["prevalence"][name] for name in names], dtype=np.float64),
        joint=np.array(raw["joint"], dtype=np.float64),
    )


def both_positive(first: Floats, second: Floats, correlation: Floats) -> Floats:
    """P(X > first, Y > second) for standard normals with this correlation, element by element.

    Uses d/dr P = bivariate density at r (Plackett 1954), integrated from 0 by 40-point
    Gauss-Legendre quadrature. ``correlation`` in (-1, 1).
    """
    nodes, weights = np.polynomial.legendre.leggauss(40)
    r = correlation[..., None] * (nodes + 1.0) / 2.0
    rest = 1.0 - r**2
    a, b = first[..., None], second[..., None]
    density = np.exp(-(a**2 - 2.0 * r * a * b + b**2) / (2.0 * rest)) / (2 * np.pi * np.sqrt(rest))
    integral = (density * weights).sum(-1) * correlation / 2.0
    return np.asarray(ndtr(-first) * ndtr(-second) + integral, dtype=np.float64)


def tetrachoric(prevalence: Floats, joint: Floats) -> Floats:
    """Correlation matrix (k, k) whose pairs have the joint rates, made positive semi-definite.

    ``prevalence`` (k,) in (0, 1), ``joint`` (k, k). Bisection on each pair, then negative
    eigenvalues are raised to 1e-4 and the diagonal is scaled back to 1.
    """
    cut = -ndtri(prevalence)
    first, second = np.meshgrid(cut, cut, indexing="ij")
    low, high = np.full(joint.shape, -0.99), np.full(joint.shape, 0.99)
    for _ in range(50):
        middle = (low + high) / 2.0
        too_small = both_positive(first, second, middle) < joint
        low, high = np.where(too_small, middle, low), np.where(too_small, high, middle)
    correlation = (low + high) / 2.0
    correlation = (correlation + correlation.T) / 2.0
    np.fill_diagonal(correlation, 1.0)
    values, vectors = np.linalg.eigh(correlation)
    nearest_psd = (vectors * np.maximum(values, 1e-4)) @ vectors.T
    scale = np.sqrt(np.diag(nearest_psd))
    return np.asarray(nearest_psd / np.outer(scale, scale), dtype=np.float64)


@lru_cache(maxsize=1)
def label_model() -> LabelModel:
    """The copula and the "No Finding" rates fitted to the shipped statistics (about 0.1 s)."""
    facts = statistics()
    prevalence, joint = facts.prevalence[1:], facts.joint[1:, 1:]
    thresholds = -ndtri(prevalence)
    factor: Floats = np.asarray(
        np.linalg.cholesky(tetrachoric(prevalence, joint)), dtype=np.float64
    )
    rng = np.random.Generator(np.random.PCG64(0))
    truth = rng.standard_normal((_CALIBRATION_SAMPLES, 13)) @ factor.T > thresholds
    labelled = add_label_noise(truth, prevalence, rng.random(truth.shape))
    healthy = ~labelled[:, :-1].any(axis=1)
    devices = labelled[:, -1]
    with_devices = facts.joint[0, -1]
    wanted = np.array([facts.prevalence[0] - with_devices, with_devices])
    found = np.array([(healthy & ~devices).mean(), (healthy & devices).mean()])
    return LabelModel(
        names=facts.names,
        prevalence=facts.prevalence,
        thresholds=thresholds,
        factor=factor,
        no_finding=np.minimum(wanted / found, 1.0),
    )


def add_label_noise(
    truth: npt.NDArray[np.bool_], prevalence: Floats, uniform: Floats
) -> npt.NDArray[np.bool_]:
    """Flip labels (n, k) so that each label's prevalence (k,) stays; ``uniform`` (n, k) decides."""
    rate = np.where(truth, LABEL_NOISE, LABEL_NOISE * prevalence / (1.0 - prevalence))
    return np.asarray(truth ^ (uniform < rate), dtype=np.bool_)
