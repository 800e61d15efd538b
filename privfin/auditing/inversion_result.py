"""What gradient inversion recovered, view by view, and whether it is better than the prior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from attacks.reconstruction.words import Recovery

PRIOR = "prior: mean"
#: Guesses that need no gradient and no knowledge of the answer.
_PRIORS = (PRIOR, "prior: smoothness alone")
_DRAWS = 2000
#: With fewer targets all may lie on one side by chance, and the bootstrap would not notice.
FEWEST_TARGETS = 6


@dataclass(frozen=True)
class Picture:
    """A reconstruction of one target's image from one view.

    Attributes:
        view: what it was made from; ``prior: ...`` and ``oracle: ...`` used no gradient.
        target: its number.
        psnr: in dB, of grey values from 0 to 1 of standardised pictures; None without the truth.
        ssim: in [-1, 1], or None.
        feature_cosine: of the recovered fixed feature with the true one; None for ``cnn``.
        labels_right: share of the known labels named right; the prior names all of them absent.
        shown: (side, side) from 0 to 1; kept in memory only.
    """

    view: str
    target: int
    psnr: float | None
    ssim: float | None
    feature_cosine: float | None
    labels_right: float | None
    shown: npt.NDArray[np.float32] | None = field(repr=False)


@dataclass(frozen=True)
class Words:
    """Buckets and phrases of a report (of all reports of a batch if ``target`` is None)."""

    view: str
    target: int | None
    buckets: Recovery
    phrases: Recovery | None


@dataclass(frozen=True)
class Gain:
    """How much better than the best prior a view is, over the same targets.

    Attributes:
        measure: ``psnr`` (dB), ``ssim`` or ``feature_cosine``.
        mean: of the differences, with ``low`` and ``high``, a 95 % percentile bootstrap over
            targets.
        better: targets on which the view is better.
        targets: how many there are.
    """

    view: str
    measure: str
    mean: float
    low: float
    high: float
    better: int
    targets: int

    @property
    def verdict(self) -> str:
        """In words."""
        unit, digits = (" dB", 1) if self.measure == "psnr" else ("", 2)
        size = f"{abs(self.mean):.{digits}f}{unit}"
        limits = f"95 % interval {self.low:+.{digits}f} to {self.high:+.{digits}f}"
        count = f"better on {self.better} of {self.targets} targets"
        if self.targets < FEWEST_TARGETS:
            return f"{self.mean:+.{digits}f}{unit}, {count}: too few for a verdict"
        if self.low > 0:
            return f"better than the prior by {size} ({limits}; {count})"
        if self.high < 0:
            return f"worse than the prior by {size} ({limits}; {count})"
        return f"not distinguishable from the prior ({limits}; {count})"


@dataclass(frozen=True)
class InversionResult:
    """All reconstructions of one site's targets; see :func:`audit_inversion`."""

    site: str
    image_encoder: str
    targets: int
    seed: int
    pictures: list[Picture] = field(repr=False)
    words: list[Words] = field(repr=False)

    @property
    def views(self) -> tuple[str, ...]:
        """Names of what was looked at, priors first."""
        return tuple(dict.fromkeys(p.view for p in self.pictures))

    def values(self, view: str, measure: str) -> list[float]:
        """A measure of each target's picture, in the order of targets; those without are left
        out."""
        found = sorted((p for p in self.pictures if p.view == view), key=lambda p: p.target)
        each = [getattr(p, measure) for p in found]
        return [float(v) for v in each if v is not None]

    def gains(self) -> list[Gain]:
        """Every view that used a gradient against the best guess without one, target by target."""
        found = []
        for measure in ("psnr", "ssim", "feature_cosine"):
            priors = [v for name in _PRIORS if (v := self.values(name, measure))]
            if not priors:
                continue
            # Judged by its mean: an attacker chooses a prior once, not by the answer.
            best = max(priors, key=lambda values: float(np.mean(values)))
            for view in self.views:
                each = self.values(view, measure)
                if ":" not in view and each:
                    found.append(_gain(view, measure, each, best, self.seed))
        return found

    def to_dict(self) -> dict[str, Any]:
        """For ``audit.json``: figures only, no picture."""
        return {
            "site": self.site,
            "image_encoder": self.image_encoder,
            "targets": self.targets,
            "seed": self.seed,
            "views": [self._view(name) for name in self.views],
            "words": [self._words(name) for name in dict.fromkeys(w.view for w in self.words)],
            "gains": [
                {
                    "view": g.view, "measure": g.measure, "mean": g.mean, "low": g.low,
                    "high": g.high, "better": g.better, "targets": g.targets,
                    "verdict": g.verdict,
                }
                for g in self.gains()
            ],
        }  # fmt: skip

    def _view(self, name: str) -> dict[str, Any]:
        measures = ("psnr", "ssim", "feature_cosine", "labels_right")
        values = {m: self.values(name, m) for m in measures}
        return {"view": name, **{m: v or None for m, v in values.items()}}

    def word_means(self, name: str) -> dict[str, float]:
        """Mean precision and recall of buckets and phrases in a view."""
        own = [w for w in self.words if w.view == name]
        means = {
            "bucket_precision": _mean([w.buckets.precision for w in own]),
            "bucket_recall": _mean([w.buckets.recall for w in own]),
        }
        phrases = [w.phrases for w in own if w.phrases is not None]
        if phrases:
            means["phrase_precision"] = _mean([p.precision for p in phrases])
            means["phrase_recall"] = _mean([p.recall for p in phrases])
        return means

    def _words(self, name: str) -> dict[str, Any]:
        return {"view": name, **self.word_means(name)}


def _gain(
    view: str, measure: str, each: Sequence[float], prior: Sequence[float], seed: int
) -> Gain:
    difference = np.array(each) - np.array(prior)
    n = len(difference)
    rng = np.random.default_rng(seed)
    means = difference[rng.integers(0, n, (_DRAWS, n))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    better = int((difference > 0).sum())
    return Gain(view, measure, float(difference.mean()), float(low), float(high), better, n)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
