"""Attacks on a run's imputers: reconstruction error, retrieval of the pair, canary reports."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attacks import imputers, scores
from attacks.attempt import Attempt
from attacks.limits import BoolArray, FloatArray
from attacks.patients import by_patient, owners
from privfin.auditing.population import SitePool
from privfin.config import RunConfig
from privfin.data.records import Dataset, Record
from privfin.errors import PlanError
from privfin.federation.encoding import encode
from privfin.federation.local_training import SiteData
from privfin.federation.prepare import PreparedData
from privfin.models.multimodal import Batch, MultimodalModel


def imputations(model: MultimodalModel, batch: Batch) -> dict[str, tuple[FloatArray, FloatArray]]:
    """For each modality, (records, d) what the others say of it, and the real feature.

    Empty for a model that imputes nothing. The real feature is zero where it is absent.
    """
    model.eval()
    with torch.no_grad():
        features = model.encode(batch)
        said = model.imputer(features, batch.present)
    return {
        m: (estimate.mean.double().numpy(), features[m].double().numpy())
        for m, estimate in said.estimates.items()
    }


def paired(pool: SitePool) -> tuple[Batch, list[list[int]], BoolArray]:
    """The queries that have every modality, their rows by patient, and those patients' membership.

    Raises:
        PlanError: there is none among members or among non-members.
    """
    has_all = torch.stack(list(pool.queries.present.values())).all(dim=0).numpy()
    rows = np.flatnonzero(has_all)
    number = {int(row): at for at, row in enumerate(rows)}
    kept = [[number[r] for r in own if r in number] for own in pool.patients]
    members = np.array([m for m, own in zip(pool.members, kept, strict=True) if own], dtype=bool)
    if members.all() or not members.any():
        raise PlanError(f"site '{pool.name}' has no paired records on both sides to attack")
    return pool.queries.rows(torch.from_numpy(rows)), [own for own in kept if own], members


def error_attempts(
    model: MultimodalModel,
    pool: SitePool,
    shadows: Sequence[MultimodalModel] = (),
    inside: npt.ArrayLike | None = None,
) -> list[Attempt]:
    """``imputer-error`` and, with shadow models, ``imputer-error-lira`` on a site's pairs.

    Args:
        model: the audited one.
        pool: of a paired site.
        shadows: trained as the target was.
        inside: (models, patients of the pool) whether that shadow was trained on that patient.

    Raises:
        PlanError: the model imputes nothing, or no pairs on both sides.
    """
    batch, groups, members = paired(pool)
    owner = owners(groups, len(batch))
    coins = None
    if inside is not None:
        has_pair = _has_pair(pool)
        coins = np.asarray(inside)[:, has_pair][:, owner]
    return imputers.error_attempts(
        _signals(model, batch),
        owner,
        members,
        shadows=np.stack([_signals(s, batch) for s in shadows]) if shadows else None,
        inside=coins,
    )


def retrieval_attempt(
    model: MultimodalModel, pool: SitePool, source: str = "image", target: str = "text"
) -> Attempt:
    """Whether what is imputed from the image finds the patient's own report among strangers'.

    Features of two modalities live in spaces of their own, so the imputation from ``source`` is
    compared with features of ``target``. Every second non-member's reports are the strangers, and
    those patients are not attacked.

    Raises:
        PlanError: the model imputes nothing, or too few pairs.
    """
    batch, groups, members = paired(pool)
    alone = batch.only(frozenset({source}))
    said = imputations(model, alone)
    if target not in said:
        raise PlanError(f"the model imputes no {target}: there is nothing to retrieve by")
    guessed, real = said[target][0], imputations(model, batch)[target][1]
    strangers = set(np.flatnonzero(~members)[::2].tolist())
    kept = [i for i in range(len(groups)) if i not in strangers]
    if not strangers or members[kept].all():
        raise PlanError(f"site '{pool.name}' has too few paired non-members for retrieval")
    foreign = [row for i in strangers for row in groups[i]]
    rows = [row for i in kept for row in groups[i]]
    owner = np.repeat(np.arange(len(kept)), [len(groups[i]) for i in kept])
    rank = scores.retrieval_rank(guessed[rows], real[rows], real[foreign])
    return Attempt("retrieval-rank", "outsider", "both", by_patient(rank, owner), members[kept])


@dataclass(frozen=True)
class TextCanaries:
    """Training data with canary reports in it.

    Attributes:
        data: what to train on. A canary that is in keeps its image and has the canary's report; the
            patient of one that is out is not in the training at all.
        inside: (m,) the coins.
        reports: one row a canary with the report alone, in or out.
    """

    data: PreparedData = field(repr=False)
    inside: BoolArray = field(repr=False)
    reports: Batch = field(repr=False)


def plant_reports(
    config: RunConfig, data: PreparedData, site: str, count: int, seed: int, name: str = "text"
) -> TextCanaries:
    """Give the first ``count`` patients of ``site`` that have only pairs unique reports, by coins.

    Reports are made of words that no one else writes; their coins come from ``seed``, which must
    not be shown to whoever guesses.

    Raises:
        PlanError: the site has fewer such patients.
    """
    own = data.sites[site]
    whole = torch.stack(list(own.batch.present.values())).all(dim=0).numpy()
    copies = own.copies
    eligible = [
        at for at, records in enumerate(own.patients) if all(whole[r * copies] for r in records)
    ][:count]
    if len(eligible) < count:
        raise PlanError(f"site '{site}' has {len(eligible)} paired patients for {count} canaries")
    rng = np.random.default_rng(seed)
    inside = rng.random(count) < 0.5
    labels = np.zeros(own.batch.labels.shape[1], dtype=np.float32)
    records = tuple(
        Record(f"canary-{i}", f"canary-{i}", {name: _report(rng)}, labels) for i in range(count)
    )
    names = tuple(f"label {i}" for i in range(len(labels)))
    reports = encode(Dataset("canaries", names, records), config)
    texts = own.batch.inputs[name].clone()
    for i, patient in enumerate(eligible):
        for record in own.patients[patient]:
            texts[record * copies : (record + 1) * copies] = reports.inputs[name][i]
    changed = Batch({**own.batch.inputs, name: texts}, own.batch.present, own.batch.labels)
    gone = {p for p, is_in in zip(eligible, inside, strict=True) if not is_in}
    changed_site = _without(replace(own, batch=changed), gone, seed)
    sites = {**data.sites, site: changed_site}
    return TextCanaries(replace(data, sites=sites), inside, reports)


def canary_attempt(
    model: MultimodalModel, canaries: TextCanaries, others: Batch, top: int = 1, name: str = "text"
) -> Attempt:
    """Whether canary reports are heard in what is imputed for other patients' images.

    Args:
        model: trained on ``canaries.data``.
        canaries: of :func:`plant_reports`.
        others: records of patients that hold no canary, such as ``data.test.batch``; their reports
            are taken away.
        top: of :func:`attacks.imputers.echoes`.
        name: the modality.

    Raises:
        PlanError: the model imputes no ``name``, or no other patient has anything else.
    """
    asked = others.only(frozenset(m for m in others.inputs if m != name))
    rows = torch.stack(list(asked.present.values())).any(dim=0).nonzero()[:, 0]
    said = imputations(model, asked.rows(rows))
    if name not in said or not len(rows):
        raise PlanError(f"nothing is imputed for {name}: there is nothing to look for canaries in")
    with torch.no_grad():
        own: Tensor = model.encode(canaries.reports)[name]
    heard = imputers.echoes(said[name][0], own.double().numpy(), top)
    return Attempt(
        "imputer-canary", "outsider", "both", heard, canaries.inside,
        "canary reports in other patients' imputations",
    )  # fmt: skip


def _signals(model: MultimodalModel, batch: Batch) -> FloatArray:
    said = imputations(model, batch)
    if not said:
        raise PlanError("the model imputes nothing: there is no imputer to attack")
    return np.stack([imputers.error_signal(a, b) for a, b in said.values()], axis=1)


def _has_pair(pool: SitePool) -> BoolArray:
    whole = torch.stack(list(pool.queries.present.values())).all(dim=0).numpy()
    return np.array([bool(whole[own].any()) for own in pool.patients])


def _without(site: SiteData, gone: set[int], seed: int) -> SiteData:
    """The site without some patients."""
    kept = [own for at, own in enumerate(site.patients) if at not in gone]
    records = np.array([r for own in kept for r in own], dtype=np.int64)
    rows = (records[:, None] * site.copies + np.arange(site.copies)).reshape(-1)
    ends = np.cumsum([len(own) for own in kept]).tolist()
    renumbered = [list(range(e - len(own), e)) for own, e in zip(kept, ends, strict=True)]
    mark = hashlib.sha256(f"{site.fingerprint} canaries {seed}".encode()).hexdigest()
    return SiteData(site.batch.rows(torch.from_numpy(rows)), renumbered, mark, site.copies)


def _report(rng: np.random.Generator) -> str:
    """Twelve made-up words."""
    letters = np.array(list("bcdfghjklmnpqrstvwxz"))
    return " ".join("".join(rng.choice(letters, 8)) for _ in range(12))
