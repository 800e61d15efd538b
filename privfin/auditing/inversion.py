"""Gradient inversion of a run: what one site's plain messages would show of its patients.

The attacker is told more than a real one knows (the labels, the targets' other modalities, that
nobody else took part), and is measured against what the same attacker has without any gradient.
With encryption on the coordinator sees none of these messages, and another site only their sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from attacks.errors import AuditRefusedError
from privfin.auditing.inversion_attacker import Attacker, Effort, Targets, image_modality
from privfin.auditing.inversion_public import Public
from privfin.auditing.inversion_result import InversionResult
from privfin.auditing.inversion_views import Observed
from privfin.auditing.population import Population
from privfin.config import RunConfig
from privfin.federation.plan import TrainingPlan
from privfin.models.multimodal import Batch
from privfin.models.segments import Vector

Progress = Callable[[int, int], None]


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
    name = image_modality(config)
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
    attacker = Attacker(config, observed, targets, public, effort or Effort(), seed)
    found = attacker.priors()
    words = attacker.prior_words()
    views = list(observed.views())
    for done, view in enumerate(views, start=1):
        found += attacker.pictures(view)
        words += attacker.words(view)
        progress(done, len(views))
    encoder = config.modalities[image_modality(config)].encoder
    return InversionResult(targets.site, encoder, len(targets.records), seed, found, words)
