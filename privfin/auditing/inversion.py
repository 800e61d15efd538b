"""Gradient inversion of a run: what one site's plain messages would show of its patients.

The attacker is told more than a real one knows (the labels, the targets' other modalities, that
nobody else took part), and is measured against what the same attacker has without any gradient.
With encryption on the coordinator sees none of these messages, and another site only their sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from attacks.errors import AuditRefusedError
from attacks.reconstruction.linear import inferred_labels, linear_input
from attacks.reconstruction.matching import (
    Found,
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
from privfin.auditing.inversion_result import InversionResult, Picture, Words
from privfin.auditing.inversion_views import Observed, View
from privfin.auditing.population import Population
from privfin.config import RunConfig
from privfin.federation.plan import TrainingPlan
from privfin.models.multimodal import Batch
from privfin.models.scattering import scattering_features
from privfin.models.segments import Vector

#: Encoders that a picture's gradient goes through.
_SEEN_THROUGH = ("cnn", "scattering")
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Effort:
    """How hard the attacker tries.

    Attributes:
        steps: of the optimisation of a picture, from each start.
        restarts: starts; the first is the public mean picture.
        smoothness: weight of total variation beside the cosine distance of gradients.
        feature_smoothness: the same beside that of features.
    """

    steps: int = 300
    restarts: int = 1
    smoothness: float = 2e-4
    feature_smoothness: float = 0.05

    def search(self, seed: int, *, features: bool = False) -> Search:
        """The search with these settings."""
        weight = self.feature_smoothness if features else self.smoothness
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


def audit_inversion(
    config: RunConfig,
    plan: TrainingPlan,
    start: Vector,
    population: Population,
    public: Public,
    *,
    targets: int = 8,
    seed: int = 0,
    retrieval: Batch | None = None,
    pictures: Mapping[str, Tensor] | None = None,
    effort: Effort | None = None,
    progress: Progress = lambda done, total: None,
) -> InversionResult:
    """Attack some patients that a run trained on.

    Args:
        config, plan: the run's.
        start: a global model of the run, (parameters,). The first one has a head of zeros, so
            that encoders get no gradient: a later one shows more.
        population: its patients by site. The site with most modalities is attacked.
        public: what the attacker has besides.
        targets: how many patients at most, each with one record; they are drawn by ``seed``.
        seed: of the choice of targets, of starts and of the imitated noise.
        retrieval: the public records of ``imputer = "retrieval"``.
        pictures: by site, (records, 1, side, side) standardised pictures of its records, where the
            image encoder reads fixed features.
        effort: how hard to try.
        progress: told of views done and views in all.

    Raises:
        AuditRefusedError: no site trains on images, or no member of it has one.
    """
    name = _image(config)
    pools = [p for p in population.sites if bool(p.queries.present[name].any())]
    if not pools:
        raise AuditRefusedError("no site trains on images, so there is none to reconstruct")
    pool = max(pools, key=lambda p: sum(bool(x.any()) for x in p.queries.present.values()))
    with_image = [
        next((r for r in records if bool(pool.queries.present[name][r])), None)
        for records, member in zip(pool.patients, pool.members, strict=True)
        if member
    ]
    records = [r for r in with_image if r is not None]
    if not records:
        raise AuditRefusedError(f"no member of site '{pool.name}' has an image")
    # Records with everything first: they have the most to lose.
    held = torch.stack(list(pool.queries.present.values())).sum(dim=0)
    shuffled = np.random.default_rng(seed).permutation(records).tolist()
    rows = torch.tensor(sorted(shuffled, key=lambda r: -int(held[r]))[:targets])
    seen = None if pictures is None else pictures[pool.name][rows]
    chosen = Targets(pool.name, pool.queries.rows(rows), seen)
    return invert(
        config, plan, start, chosen, public,
        seed=seed, retrieval=retrieval, effort=effort, progress=progress,
    )  # fmt: skip


def invert(
    config: RunConfig,
    plan: TrainingPlan,
    start: Vector,
    targets: Targets,
    public: Public,
    *,
    seed: int = 0,
    retrieval: Batch | None = None,
    effort: Effort | None = None,
    progress: Progress = lambda done, total: None,
) -> InversionResult:
    """Attack these targets; see :func:`audit_inversion`."""
    observed = Observed(config, plan.site(targets.site), start, targets.records, retrieval, seed)
    attacker = _Attacker(config, observed, targets, public, effort or Effort(), seed)
    found: list[Picture] = attacker.priors()
    words: list[Words] = attacker.prior_words()
    views = list(observed.views())
    for done, view in enumerate(views, start=1):
        found += attacker.pictures(view)
        words += attacker.words(view)
        progress(done, len(views))
    encoder = config.modalities[_image(config)].encoder
    return InversionResult(targets.site, encoder, len(targets.records), seed, found, words)


def _image(config: RunConfig) -> str:
    """The first modality of images. Raises AuditRefusedError if there is none."""
    found = [m for m, c in config.modalities.items() if c.kind == "image"]
    if not found:
        raise AuditRefusedError("the run has no images, so there is none to reconstruct")
    return found[0]


class _Attacker:
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
        self._image, self._text = _image(config), hashed_text(config)
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
        found = [self._picture("prior: mean", row, self._mean, mean_feature) for row in rows]
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
        search = self._effort.search(self._seed, features=feature is not None)
        shape = (len(view.rows), 1, *self._mean.shape[-2:])
        first = self._mean.expand(shape)
        if len(view.rows) > 1:
            # Equal pictures would have equal gradients for ever.
            generator = torch.Generator().manual_seed(self._seed)
            first = first + 0.1 * torch.randn(shape, generator=generator)
        found: Found = find_pictures(distance, shape, search, start=first)
        return found.pictures

    def _gradients(self, view: View) -> Callable[[Tensor], Tensor]:
        known = self._records.rows(torch.tensor(view.rows))
        prefix = f"encoder.{self._image}."
        names = [n for n in view.gradient if n.startswith(prefix)]
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
        if labels is None and view == "prior: mean":
            truth_labels = self._records.labels[row]
            labels = float((truth_labels[~torch.isnan(truth_labels)] == 0).float().mean())
        return Picture(view, row, dots, likeness, cosine, labels, shown)

    # Words.

    def _reports(self) -> npt.NDArray[np.bool_] | None:
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
        alone = [
            self._measured("prior: commonest words", r, each, t) for r, t in enumerate(reports)
        ]
        return [
            *alone,
            self._measured("prior: commonest words, batch", None, union, reports.any(0)),
        ]

    def words(self, view: View) -> list[Words]:
        """Buckets of the targets' reports that the gradient of their projection shows."""
        reports = self._reports()
        if reports is None or self._text is None:
            return []
        weight = view.gradient[f"encoder.{self._text}.project.weight"]
        if len(view.rows) == 1:
            bias = view.gradient[f"encoder.{self._text}.project.bias"]
            said = buckets_of(linear_input(weight, bias).direction)
            return [self._measured(view.name, view.rows[0], said, reports[view.rows[0]])]
        said = largest(weight.norm(dim=0).numpy(), self._expected_union(len(view.rows)))
        return [self._measured(view.name, None, said, np.asarray(reports.any(axis=0)))]

    def _expected_union(self, reports: int) -> int:
        """Buckets that this many public reports hold between them."""
        assert self._text is not None  # noqa: S101 - asked only where there are reports
        public = self._public.batch.inputs[self._text].numpy() != 0
        return int(public[:reports].any(axis=0).sum())

    def _measured(
        self, view: str, row: int | None, said: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]
    ) -> Words:
        phrases = None
        if self._public.phrases is not None:
            candidates = self._public.phrases.numpy()
            phrases = recovery(phrases_in(said, candidates), phrases_in(truth, candidates))
        return Words(view, row, recovery(said, truth), phrases)
