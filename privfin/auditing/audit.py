"""``privfin audit RUN``: every attack of a suite on one finished run, with its guards.

Shadow models, tapped rounds and canary trainings use real patients outside the run. None of them
leaves this machine: tapped and canary models are removed, shadow models are kept for the auditor.
What is reported are numbers computed without noise, which differential privacy does not cover.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from attacks.attempt import Attempt
from attacks.errors import AuditRefusedError
from attacks.guards import BlindResult, check_blind, check_disjoint, check_evaluation_mode
from attacks.measure import Measured, measure
from attacks.patients import owners
from privfin.auditing.attributes import attribute_results
from privfin.auditing.canaries import audit_canaries
from privfin.auditing.canary_results import CanaryResult
from privfin.auditing.imputer_attacks import error_attempts, retrieval_attempt
from privfin.auditing.inversion import audit_inversion
from privfin.auditing.inversion_public import phantom_public
from privfin.auditing.membership import WITH_SHADOWS, Answers, attempts, too_few
from privfin.auditing.patients import (
    described,
    shadow_coins,
    site_slices,
    strata,
    with_known_labels,
)
from privfin.auditing.population import BoolArray, Population, SitePool, read_population
from privfin.auditing.report import AuditReport, Claim, claims_of
from privfin.auditing.risk import Rule, passed
from privfin.auditing.shadow_cache import ShadowCache, cached_shadows
from privfin.auditing.shadow_modules import stacked_logits
from privfin.auditing.shadow_training import StoppedError
from privfin.auditing.views import coordinator_view, site_view
from privfin.config import RunConfig
from privfin.errors import DataError, PlanError, UserInputError
from privfin.federation.local import start_state
from privfin.federation.plan import TrainingPlan, make_plan
from privfin.federation.prepare import PreparedData, Progress, prepare, silent
from privfin.federation.training_run import check_same_data, check_same_plan
from privfin.files import cache_folder
from privfin.models.feature_cache import FeatureCache
from privfin.models.multimodal import MultimodalModel
from privfin.models.segments import assign, flatten, initial_model
from privfin.runs import Run

Suite = Literal["quick", "full"]
Observer = Literal["all", "outsider", "site", "coordinator"]

#: What a suite does unless told otherwise.
QUICK_ATTACKS = ("loss", "modified-entropy", "calibrated-loss", "lira", "rmia")
FULL_ATTACKS = (
    *("loss", "entropy", "modified-entropy"),
    *("calibrated-loss", "lira", "lira-online", "lira-covariance"),
    *("rmia", "rmia-online", "stacked"),
)
SHADOWS = {"quick": 16, "full": 64}
#: Rounds that are trained again for the coordinator's view.
_TAPPED = 3
#: Invented patients of a canary training.
_CANARIES = 500
#: Bounds of a canary training: the black-box one and the white-box one.
_CANARY_BOUNDS = 2
# Strata with fewer patients on a side say nothing.
_FEWEST = 20


@dataclass(frozen=True)
class AuditOptions:
    """What to do.

    Attributes:
        suite: ``quick`` takes the outsider's and the site's view with few shadow models; ``full``
            adds the coordinator's view, canaries, attributes and gradient inversion.
        attacks: of :data:`privfin.auditing.membership.ATTACKS`.
        shadows: number of shadow models; 0 leaves out the attacks that need them.
        observer: whose view, or all.
        confidence: of every interval, and of all bounds together, in (0.5, 1).
        rules: of ``--fail-on``.
    """

    suite: Suite
    attacks: tuple[str, ...]
    shadows: int
    observer: Observer = "all"
    confidence: float = 0.95
    rules: tuple[Rule, ...] = ()

    def looks_as(self, observer: str) -> bool:
        """Whether this observer's view is asked for."""
        return self.observer in ("all", observer)


def audit_run(
    run: Run,
    config: RunConfig,
    options: AuditOptions,
    *,
    cache: FeatureCache | None = None,
    progress: Progress = silent,
    should_stop: Callable[[], bool] = lambda: False,
) -> AuditReport:
    """Attack a run.

    Args:
        run: finished.
        config: its configuration, with the data root.
        options: what to do.
        cache: where features of fixed front ends are kept.
        progress: told what is being done.
        should_stop: asked between groups and rounds of shadow models, and between attacks.

    Raises:
        AuditRefusedError: the numbers would not mean what they seem to mean.
        UserInputError: the run has not finished, or its data are others now.
        StoppedError: ``should_stop`` said so; shadow models so far are kept.
    """
    return _Audit(run, config, options, cache, progress, should_stop).report()


class _Audit:
    """One audit: what is read once and used by all attacks."""

    def __init__(
        self,
        run: Run,
        config: RunConfig,
        options: AuditOptions,
        cache: FeatureCache | None,
        progress: Progress,
        should_stop: Callable[[], bool],
    ) -> None:
        self.run, self.config, self.options = run, config, options
        self.progress, self.should_stop = progress, should_stop
        self.model = run.model()
        check_evaluation_mode(self.model)
        self.data: PreparedData = prepare(config, progress, cache)
        check_same_data(run, self.data)
        self.plan: TrainingPlan = make_plan(config, self.data.declarations)
        check_same_plan(run, self.plan)
        torch.set_num_threads(1)
        self.population: Population = read_population(config, cache, progress)
        self.left_out: list[str] = []

    def report(self) -> AuditReport:
        options = self.options
        claims = claims_of(self.run.privacy)
        left = self.left_out
        self._next("blind classifier")
        blind = self._guards()
        shadow_vectors, coins = self._shadows()
        found: list[Attempt] = []
        if options.looks_as("outsider"):
            found += self._outsider(shadow_vectors, coins)
        if options.looks_as("site"):
            self._next("the site's view")
            found += site_view(self.run, self.population, public=self.data.public)
        views: dict[str, Any] = {}
        full = options.suite == "full"
        if full and options.looks_as("coordinator"):
            found += self._coordinator(views)
        canaries: Sequence[CanaryResult] = ()
        attributes: list[dict[str, Any]] = []
        inversion = None
        tests = self._tests(found)
        if full and options.looks_as("outsider"):
            self._next("canaries")
            tests += _CANARY_BOUNDS
            canaries = self._canaries(1.0 - (1.0 - options.confidence) / tests)
            self._next("attribute inference")
            results, notes = attribute_results(
                self.model, self.population, self.config.evaluation.age_bands
            )
            attributes = [one.to_dict() for one in results]
            left += notes
        if full and options.looks_as("coordinator"):
            self._next("gradient inversion")
            inversion = self._inversion()
        measured = self._measure(found, claims, tests)
        return AuditReport(
            self.run.run_id,
            options.suite,
            options.confidence,
            len(shadow_vectors),
            claims,
            blind,
            measured,
            canaries,
            views,
            attributes,
            inversion,
            left,
            passed(options.rules, measured),
        )

    def _next(self, stage: str) -> None:
        """Begin another part, unless the auditor has asked to stop."""
        if self.should_stop():
            raise StoppedError
        self.progress(stage, 0, 1)

    def _tests(self, found: Sequence[Attempt]) -> int:
        """How many attacks state a bound: those on all patients, if membership was a coin."""
        if self.population.is_random_split:
            return sum(one.stratum == "all" for one in found)
        self.left_out.append(
            "bounds of membership attacks: the data set names its own held-out patients, so "
            "membership was no coin"
        )
        return 0

    def _measure(
        self, found: Sequence[Attempt], claims: dict[str, Claim], tests: int
    ) -> list[Measured]:
        """All ``tests`` bounds of the audit, canaries' included, share the error."""
        stated = self.population.is_random_split
        return [
            measure(
                one,
                delta=claims[one.observer].delta,
                confidence=self.options.confidence,
                tests=tests if stated and one.stratum == "all" else 0,
            )
            for one in found
        ]

    def _guards(self) -> BlindResult:
        ids = [patient for site in self.population.sites for patient in site.patient_ids]
        members = self.population.members
        check_disjoint(
            [p for p, m in zip(ids, members, strict=True) if m],
            [p for p, m in zip(ids, members, strict=True) if not m],
        )
        return check_blind(described(self.population), members)

    def _shadows(self) -> tuple[npt.NDArray[np.float32], BoolArray]:
        """(M, P) parameters and (M, patients) coins; M is 0 where none are needed."""
        wanted = self.options.shadows
        patients = len(self.population.members)
        nothing = np.empty((0, self.plan.parameters), np.float32), np.empty((0, patients), bool)
        needed = set(self.options.attacks) & set(WITH_SHADOWS)
        if not wanted or not needed or not self.options.looks_as("outsider"):
            return nothing
        if self.run.sites_left():
            raise AuditRefusedError(
                "the run lost sites on the way, which shadow models cannot repeat: "
                "audit it with --shadows 0"
            )
        coins = shadow_coins(self.population, wanted, self.config.training.seed)
        with _shadow_folder() as folder:
            shadows = cached_shadows(
                self.config,
                self.plan,
                self.population.sites,
                coins,
                ShadowCache(Path(folder)),
                public=self.data.public,
                rounds=int(self.run.metrics["rounds"]),
                progress=self.progress,
                should_stop=self.should_stop,
            )
        return shadows.final, coins

    def _outsider(self, vectors: npt.NDArray[np.float32], coins: BoolArray) -> list[Attempt]:
        queries, records = self.population.queries(), self.population.records
        self._next("asking the models")
        progress = self.progress
        own = initial_model(self.config, len(self.population.label_names))
        every = np.concatenate([flatten(self.model)[None], vectors])
        logits = stacked_logits(own, every, queries, public=self.data.public).astype(np.float64)
        owner = owners(records, len(queries))
        answers = Answers(
            queries.labels.numpy().astype(np.float64),
            logits[0],
            logits[1:],
            coins[:, owner],
            records,
            self.population.members,
        )
        kept = with_known_labels(self.population)
        answers = answers.of(kept)
        self.left_out += [
            f"{name}: too few shadow models"
            for name in self.options.attacks
            if too_few(answers, name)
        ]
        parts = strata(self.population, self.config)
        found: list[Attempt] = []
        for number, (name, chosen) in enumerate(parts.items()):
            progress("membership attacks", number, len(parts))
            part = answers.of(chosen[kept])
            if min(part.members.sum(), (~part.members).sum()) >= _FEWEST:
                found += attempts(part, self.options.attacks, name)
            else:
                self.left_out.append(f"patients '{name}': fewer than {_FEWEST} on a side")
        models = self._models(vectors)
        for pool, at in zip(self.population.sites, site_slices(self.population), strict=True):
            found += self._imputer(pool, models, coins[:, at])
        return _joined(found)

    def _imputer(
        self, pool: SitePool, shadows: Sequence[MultimodalModel], coins: BoolArray
    ) -> list[Attempt]:
        """Imputer and retrieval attacks at a site that has pairs; none elsewhere."""
        present = list(pool.queries.present.values())
        if len(present) < 2 or not bool(torch.stack(present).all(dim=0).any()):
            return []
        try:
            return [
                *error_attempts(self.model, pool, shadows, coins if shadows else None),
                retrieval_attempt(self.model, pool),
            ]
        except PlanError as error:
            self.left_out.append(f"imputer attacks at {pool.name}: {error}")
            return []

    def _models(self, vectors: npt.NDArray[np.float32]) -> list[MultimodalModel]:
        """Shadow models one by one, for attacks on what is inside them."""
        made = []
        for vector in vectors:
            model = initial_model(self.config, len(self.population.label_names))
            model.use_public(self.data.public)
            assign(model, vector)
            made.append(model.eval())
        return made

    def _coordinator(self, views: dict[str, Any]) -> list[Attempt]:
        found: list[Attempt] = []
        rounds = min(_TAPPED, self.config.training.rounds)
        for kind in dict.fromkeys((self.config.crypto.encryption, "none")):
            self._next(f"the coordinator's view, encryption {kind}")
            try:
                view = coordinator_view(
                    self.config, self.plan, self.data, self.population,
                    rounds=rounds, encryption=kind,
                )  # fmt: skip
            except (UserInputError, DataError) as error:
                self.left_out.append(f"coordinator's view: {error}")
                return found
            found += view.attempts
            views[f"coordinator, encryption {kind}"] = {
                "rounds": rounds,
                "bytes_by_site": view.message_bytes,
                "sizes_tell_sites_apart": view.sizes_tell_sites_apart,
            }
        return found

    def _canaries(self, confidence: float) -> list[CanaryResult]:
        return audit_canaries(
            self.run, self.config, self.plan, self.data,
            canaries=_CANARIES, confidence=confidence, level="patient",
            progress=self.progress, should_stop=self.should_stop,
        )  # fmt: skip

    def _inversion(self) -> dict[str, Any] | None:
        if self.config.data.source != "phantom":
            self.left_out.append(
                "gradient inversion: needs public images of the same kind, as the phantom has"
            )
            return None
        start = start_state(self.run, self.config, self.plan).vector
        progress = self.progress
        try:
            result = audit_inversion(
                self.config, self.plan, start, self.population, phantom_public(self.config),
                retrieval=self.data.public,
                progress=lambda done, total: progress("gradient inversion", done, total),
            )  # fmt: skip
        except AuditRefusedError as error:
            self.left_out.append(f"gradient inversion: {error}")
            return None
        return result.to_dict()


def _shadow_folder() -> AbstractContextManager[Any]:
    """Where shadow models are kept, or a folder that is removed where nothing may be kept."""
    base = cache_folder()
    if base is None:
        return tempfile.TemporaryDirectory(prefix="privfin-audit-")
    return nullcontext(base / "shadows")


def _joined(found: Sequence[Attempt]) -> list[Attempt]:
    """Attempts of one attack at several sites as one attempt on all of their patients."""
    groups: dict[tuple[str, str, str], list[Attempt]] = {}
    for one in found:
        groups.setdefault((one.attack, one.observer, one.stratum), []).append(one)
    return [
        Attempt(
            *key,
            np.concatenate([one.scores for one in same]),
            np.concatenate([one.members for one in same]),
            same[0].note,
        )
        for key, same in groups.items()
    ]
