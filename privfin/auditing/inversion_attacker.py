"""The attacker of gradient inversion: from one view at a time to pictures, features and words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from attacks.errors import AuditRefusedError
from attacks.reconstruction.linear import inferred_labels, linear_input
from attacks.reconstruction.matching import (
    Search,
    feature_distance,
    find_pictures,
    gradient_distance,
    nothing_seen,
)
from attacks.reconstruction.priors import commonest, largest, nearest_pictures
from attacks.reconstruction.similarity import psnr, ssim
from attacks.reconstruction.words import buckets_of, phrases_in, recovery
from privfin.auditing.inversion_public import Public, grey, hashed_text
from privfin.auditing.inversion_result import PRIOR, Picture, Words
from privfin.auditing.inversion_views import Observed, View
from privfin.config import RunConfig
from privfin.models.multimodal import Batch
from privfin.models.scattering import scattering_features

#: Encoders that a picture's gradient goes through.
_SEEN_THROUGH = ("cnn", "scattering")
_Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Effort:
    """How hard the attacker tries.

    Attributes:
        steps: of the optimisation of a picture, from each start.
        restarts: starts; the first is the public mean picture.
        smoothness: weight of total variation beside the cosine distance of one record's gradient.
        batch_smoothness: the same for a batch, whose gradient says less of each picture.
        feature_smoothness: the same beside that of features.
    """

    steps: int = 300
    restarts: int = 1
    smoothness: float = 2e-4
    batch_smoothness: float = 1e-3
    feature_smoothness: float = 0.05

    def search(self, seed: int, *, records: int = 1, features: bool = False) -> Search:
        """The search for this many pictures, by their features or by their gradient."""
        weight = self.smoothness if records == 1 else self.batch_smoothness
        weight = self.feature_smoothness if features else weight
        return Search(self.steps, smoothness=weight, restarts=self.restarts, seed=seed)


@dataclass(frozen=True)
class Targets:
    """Records of one site, one a patient.

    Attributes:
        site: its name.
        records: as the site trains on them, one row each, not augmented.
        pictures: (n, 1, side, side), standardised; None where only their fixed features are known.
    """

    site: str
    records: Batch = field(repr=False)
    pictures: Tensor | None = field(repr=False, default=None)


def image_modality(config: RunConfig) -> str:
    """The first modality of images. Raises AuditRefusedError if there is none."""
    found = [m for m, c in config.modalities.items() if c.kind == "image"]
    if not found:
        raise AuditRefusedError("the run has no images, so there is none to reconstruct")
    return found[0]


class Attacker:
    """Reconstructs from one view at a time, and measures against the truth."""

    def __init__(
        self,
        config: RunConfig,
        observed: Observed,
        targets: Targets,
        public: Public,
        effort: Effort,
        seed: int,
    ) -> None:
        self._model, self._records, self._public = observed.model, targets.records, public
        self._effort, self._seed = effort, seed
        self._image, self._text = image_modality(config), hashed_text(config)
        modality = config.modalities[self._image]
        self._order = modality.order if modality.encoder == "scattering" else None
        self._fixed = modality.encoder != "cnn"
        self._truth = targets.pictures
        if modality.encoder == "cnn":  # its front end is the standardised picture
            self._truth = self._records.inputs[self._image]
        self._optimises = modality.encoder in _SEEN_THROUGH and public.pictures is not None
        self._mean: Tensor | None = None
        if public.pictures is not None:
            self._mean = public.pictures.mean(dim=0, keepdim=True)

    # Pictures.

    def priors(self) -> list[Picture]:
        """What there is without a gradient."""
        rows = range(len(self._records))
        pictures, mean_feature = self._public.pictures, None
        if self._fixed:
            public = self._public.batch
            there = public.inputs[self._image][public.present[self._image]]
            mean_feature = there.mean(dim=0) if len(there) else None
        found = [self._picture(PRIOR, row, self._mean, mean_feature) for row in rows]
        if pictures is not None and self._truth is not None:
            shape = (1, 1, *pictures.shape[-2:])
            smooth = find_pictures(nothing_seen, shape, self._effort.search(self._seed)).pictures
            nearest = nearest_pictures(grey(pictures[:, 0]), grey(self._truth[:, 0])).tolist()
            found += [self._picture("prior: smoothness alone", row, smooth) for row in rows]
            found += [
                self._picture("oracle: nearest public", row, pictures[at : at + 1])
                for row, at in zip(rows, nearest, strict=True)
            ]
        return found

    def pictures(self, view: View) -> list[Picture]:
        """What a view gives away of its targets' images, and of their labels."""
        if len(view.rows) > 1:
            return self._from_batch(view)
        (row,) = view.rows
        feature = self._feature(view) if self._fixed else None
        picture = self._optimised(view, feature)
        return [self._picture(view.name, row, picture, feature, self._labels(view, row))]

    def _from_batch(self, view: View) -> list[Picture]:
        if not self._optimises:
            return []
        made = self._optimised(view, None)
        assert made is not None  # noqa: S101 - told by _optimises
        order = list(range(len(made)))
        if self._truth is not None:
            # Which is whose is not told by a sum; the best match is to the attacker's favour.
            a, b = grey(made).flatten(1), grey(self._truth[list(view.rows)]).flatten(1)
            order = linear_sum_assignment(torch.cdist(b, a).square().numpy())[1].tolist()
        features = self._encoded(made) if self._fixed else None
        return [
            self._picture(
                view.name, row, made[at : at + 1], None if features is None else features[at]
            )
            for row, at in zip(view.rows, order, strict=True)
        ]

    def _encoded(self, pictures: Tensor) -> Tensor:
        return pictures if self._order is None else scattering_features(pictures, self._order)

    def _optimised(self, view: View, feature: Tensor | None) -> Tensor | None:
        if not self._optimises or self._mean is None:
            return None
        if feature is None:
            distance = self._gradients(view)
        else:
            distance = feature_distance(self._encoded, feature[None])
        count = len(view.rows)
        search = self._effort.search(self._seed, records=count, features=feature is not None)
        shape = (count, 1, *self._mean.shape[-2:])
        first = self._mean.expand(shape)
        if count > 1:
            # Equal pictures would have equal gradients for ever.
            generator = torch.Generator().manual_seed(self._seed)
            first = first + 0.1 * torch.randn(shape, generator=generator)
        return find_pictures(distance, shape, search, start=first).pictures

    def _gradients(self, view: View) -> Callable[[Tensor], Tensor]:
        known = self._records.rows(torch.tensor(view.rows))
        # The head and the bias, whose gradients are the longest, say least about a picture.
        at = f"{self._image}."
        names = [n for n in view.gradient if n.startswith(f"encoder.{at}")]
        names = names or [n for n in view.gradient if n.startswith(f"head.{at}")]
        parameters = dict(self._model.named_parameters())

        def loss(pictures: Tensor) -> Tensor:
            inputs = {**known.inputs, self._image: self._encoded(pictures)}
            batch = Batch(inputs, known.present, known.labels)
            return self._model.per_record_loss(batch, 0.0).mean()

        return gradient_distance(
            loss, [parameters[n] for n in names], [view.gradient[n] for n in names]
        )

    def _feature(self, view: View) -> Tensor:
        """The fixed feature that the trained layer above it saw, of unit norm."""
        weight = view.gradient.get(f"encoder.{self._image}.project.weight")
        if weight is not None:
            return linear_input(
                weight, view.gradient[f"encoder.{self._image}.project.bias"]
            ).direction
        head = view.gradient[f"head.{self._image}.weight"]
        direction = linear_input(head).direction
        # The head's weights got (p - y) x and the bias (p - y): together they show the sign.
        sign = float((head @ direction) @ self._bias(view))
        return direction if sign >= 0 else -direction

    def _bias(self, view: View) -> Tensor:
        name = f"head.{self._image}.bias" if self._model.is_late else "bias.weight"
        return view.gradient[name].reshape(-1)

    def _labels(self, view: View, row: int) -> float:
        truth = self._records.labels[row]
        known = ~torch.isnan(truth)
        said = inferred_labels(self._bias(view))
        return float((said == truth)[known].float().mean())

    def _picture(
        self,
        view: str,
        row: int,
        picture: Tensor | None,
        feature: Tensor | None = None,
        labels: float | None = None,
    ) -> Picture:
        dots, likeness, cosine = None, None, None
        shown: npt.NDArray[np.float32] | None = None
        if picture is not None:
            shown = grey(picture[0, 0]).numpy().astype(np.float32)
            if self._truth is not None:
                truth = grey(self._truth[row, 0]).numpy()
                dots, likeness = float(psnr(truth, shown)), float(ssim(truth, shown))
        if feature is not None:
            there = self._records.inputs[self._image][row]
            cosine = float(torch.cosine_similarity(feature, there, dim=0))
        if labels is None and view == PRIOR:
            truth_labels = self._records.labels[row]
            labels = float((truth_labels[~torch.isnan(truth_labels)] == 0).float().mean())
        return Picture(view, row, dots, likeness, cosine, labels, shown)

    # Words.

    def _reports(self) -> _Bools | None:
        """Which buckets each target's report holds, (targets, buckets)."""
        if self._text is None or not bool(self._records.present[self._text].all()):
            return None
        return np.asarray(self._records.inputs[self._text].numpy() != 0)

    def prior_words(self) -> list[Words]:
        """The commonest buckets of public reports, as many as a public report holds."""
        reports = self._reports()
        if reports is None or self._text is None:
            return []
        public = self._public.batch.inputs[self._text].numpy()
        each = commonest(public, round(float((public != 0).sum(axis=1).mean())))
        union = commonest(public, self._expected_union(len(reports)))
        name = "prior: commonest words"
        own = [_union(reports[row : row + 1]) for row in range(len(reports))]
        alone = [self._measured(name, row, each, truth) for row, truth in enumerate(own)]
        return [*alone, self._measured(f"{name}, batch", None, union, _union(reports))]

    def words(self, view: View) -> list[Words]:
        """Buckets of the targets' reports that the gradient of their projection shows."""
        reports = self._reports()
        if reports is None or self._text is None:
            return []
        weight = view.gradient[f"encoder.{self._text}.project.weight"]
        if len(view.rows) == 1:
            bias = view.gradient[f"encoder.{self._text}.project.bias"]
            said = buckets_of(linear_input(weight, bias).direction)
            (row,) = view.rows
            return [self._measured(view.name, row, said, _union(reports[row : row + 1]))]
        said = largest(weight.norm(dim=0).numpy(), self._expected_union(len(view.rows)))
        return [self._measured(view.name, None, said, _union(reports))]

    def _expected_union(self, reports: int) -> int:
        """Buckets that this many public reports hold between them."""
        assert self._text is not None  # noqa: S101 - asked only where there are reports
        public = self._public.batch.inputs[self._text].numpy() != 0
        return int(public[:reports].any(axis=0).sum())

    def _measured(self, view: str, row: int | None, said: _Bools, truth: _Bools) -> Words:
        phrases = None
        if self._public.phrases is not None:
            candidates = self._public.phrases.numpy()
            phrases = recovery(phrases_in(said, candidates), phrases_in(truth, candidates))
        return Words(view, row, recovery(said, truth), phrases)


def _union(reports: _Bools) -> _Bools:
    """Buckets that any of the reports (n, buckets) holds."""
    held: _Bools = np.logical_or.reduce(reports, axis=0)
    return held
