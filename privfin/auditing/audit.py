"""``privfin audit RUN``: every attack of a suite on one finished run, with its guards.

Shadow models, tapped rounds and canary trainings use real patients outside the run. None of them
leaves this machine: tapped and canary models are removed, shadow models are kept for the auditor.
What is reported are numbers computed without noise, which differential privacy does not cover.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from attacks.attempt import Attempt
from attacks.errors import AuditRefusedError
from attacks.guards import BlindResult, check_blind, check_disjoint, check_evaluation_mode
from attacks.measure import Measured, measure
from privfin.auditing.attributes import attribute_results
from privfin.auditing.canaries import audit_canaries
from privfin.auditing.canary_results import CanaryResult
from privfin.auditing.inversion import audit_inversion
from privfin.auditing.inversion_public import phantom_public
from privfin.auditing.membership import WITH_SHADOWS
from privfin.auditing.options import AuditOptions
from privfin.auditing.outsider import outsider_view
from privfin.auditing.patients import (
    described,
    shadow_coins,
)
from privfin.auditing.population import BoolArray, Population, read_population
from privfin.auditing.report import AuditReport, Claim, claims_of
from privfin.auditing.report_canaries import audit_reports
from privfin.auditing.risk import passed
from privfin.auditing.shadow_cache import ShadowCache, cached_shadows
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
from privfin.runs import Run

#: Rounds that are trained again for the coordinator's view.
_TAPPED = 3
#: Invented patients of a canary training.
_CANARIES = 500
#: Bounds of the canary trainings: the black-box one, the white-box one, and that of reports.
_CANARY_BOUNDS = 3


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
            found += outsider_view(
                self.config, self.data, self.population, self.model, shadow_vectors, coins,
                options.attacks, left, next_stage=self._next, progress=self.progress,
            )  # fmt: skip
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
            each = 1.0 - (1.0 - options.confidence) / tests
            canaries = [*self._canaries(each), *self._reports(claims["outsider"], each)]
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
            self.run.model_sha256(),
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

    def _reports(self, claim: Claim, confidence: float) -> list[CanaryResult]:
        self._next("canary reports")
        try:
            found = audit_reports(
                self.config, self.plan, self.data, claim=claim, confidence=confidence,
                progress=self.progress, should_stop=self.should_stop,
            )  # fmt: skip
        except PlanError as error:
            self.left_out.append(f"canary reports: {error}")
            return []
        return [] if found is None else [found]

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
