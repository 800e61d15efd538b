"""Whether a run directory is still what a report was made from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from privfin.errors import PrivfinError, UserInputError
from privfin.privacy.accounting import SubsampledGaussianEvent
from privfin.privacy.composition import Spend, total_epsilon
from privfin.reporting.numbers import delta_text
from privfin.reporting.release.coarse import digits_up, power_of_ten_up
from privfin.reporting.release.release import GUESSABLE_FILES
from privfin.reporting.schema import Report
from privfin.reporting.sealing.checks import Check, read_object, sha256_of
from privfin.reporting.sealing.seal import Statement

#: Another version of a numerical library may give a last digit that differs.
_TOLERANCE = 1e-6
_GAUSSIAN = "DP-SGD, Poisson-subsampled Gaussian"


def check_run(sealed: Statement, report: Report | None, run: Path) -> list[Check]:
    """Every file of the run that is sealed, the run's identifier, and epsilon calculated again.

    Args:
        sealed: the seal's statement.
        report: the report, None if it is not there or cannot be read.
        run: the run directory.
    """
    files = [_file(run / name, name, expected) for name, expected in sealed.run_files.items()]
    if not files:
        files = [Check("run", None, "the seal names no file of the run")]
    elif (run / "audit.json").exists() and "audit.json" not in sealed.run_files:
        files.append(
            Check("run/audit.json", False, "the run was audited since: make the report again")
        )
    if report is not None and report.report.release_class.value == "public":
        files += [
            Check(f"run/{name}", None, "a public copy names no hash of it, so not compared")
            for name in GUESSABLE_FILES
            if name not in sealed.run_files
        ]
    is_whole = all(one.holds is not False for one in files)
    return [_run_id(sealed, run), *files, _epsilon(report, run, is_whole)]


def _file(path: Path, name: str, expected: str) -> Check:
    subject = f"run/{name}"
    try:
        found = sha256_of(path)
    except UserInputError as error:
        return Check(subject, False, str(error))
    if found is None:
        return Check(subject, False, "missing: it was there when the report was made")
    if found != expected:
        return Check(subject, False, "changed since the report was made")
    return Check(subject, True, "as it was when the report was made")


def _run_id(sealed: Statement, run: Path) -> Check:
    expected = sealed.predicate.run_id
    try:
        found = read_object(run / "manifest.json").get("run_id")
    except UserInputError as error:
        return Check("run id", False, str(error))
    if found != expected:
        return Check("run id", False, f"the report is about run {expected}, this is {found}")
    return Check("run id", True, f"the report is about this run, {expected}")


def _epsilon(report: Report | None, run: Path, is_whole: bool) -> Check:
    if report is None:
        return Check("epsilon", None, "needs the report's JSON file")
    if not is_whole:
        return Check("epsilon", None, "not calculated again: the run is not the sealed one")
    if not report.guarantee.epsilon.is_known:
        return Check("epsilon", None, f"the report states none: {report.guarantee.epsilon.note}")
    try:
        privacy = read_object(run / "privacy.json")
        claim, again = privacy["claim"], _recomputed(privacy, run)
        delta = float(privacy["population"]["delta"])
    except PrivfinError as error:
        return Check("epsilon", False, f"cannot be calculated again: {error}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Check("epsilon", False, f"privacy.json is malformed ({type(error).__name__})")
    stated = report.guarantee.epsilon.get()
    is_public = report.report.release_class.value == "public"
    if report.guarantee.claim.value != claim:
        return Check("epsilon", False, "report and privacy.json do not claim the same")
    if report.guarantee.delta.value != (power_of_ten_up(delta) if is_public else delta):
        return Check("epsilon", False, "report and privacy.json do not state the same delta")
    where = f"at delta {delta_text(delta)} for one patient"
    if not (_is_rounded_up(stated, again) if is_public else _is_same(stated, again)):
        words = f"the report states {stated:.7g}, calculated again it is {again:.7g}, {where}"
        return Check("epsilon", False, words)
    coarse = f", which this public copy states as {stated:.7g}" if is_public else ""
    return Check(
        "epsilon", True, f"calculated again from the run: {again:.7g} {where}{coarse}; {claim}"
    )


def _is_same(stated: float, again: float) -> bool:
    return math.isclose(stated, again, rel_tol=_TOLERANCE)


def _is_rounded_up(stated: float, again: float) -> bool:
    """Whether a public copy states what it makes of ``again``, or of a number a hair from it."""
    nearby = (again, again * (1 - _TOLERANCE), again * (1 + _TOLERANCE))
    return any(stated == digits_up(one) for one in nearby)


def _recomputed(privacy: dict[str, Any], run: Path) -> float:
    """The headline epsilon: from the noise, rates and steps in privacy.json where each site adds
    the full noise; from plan and events with shared noise, of which privacy.json says less.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: privacy.json is malformed.
        PrivfinError: a number is out of range, or the plan cannot be made again.
    """
    if privacy["claim"] != "dp":
        return math.inf
    sites, headline = privacy["sites"], privacy["population"]
    if any(site["mechanism"] != _GAUSSIAN for site in sites):
        # Only here: whoever verifies a report need not wait for a training library to load.
        from privfin.federation.guarantee import population
        from privfin.reporting.evidence import read_evidence

        evidence = read_evidence(run)
        rounds, tuned = evidence.run.spent_rounds(), evidence.run.fine_tunings()
        steps = {
            one.name: rounds.get(one.name, 0) * one.local_steps
            + tuned.get(one.name, 0) * evidence.plan.fine_tune_steps
            for one in evidence.plan.sites
        }
        again = population(evidence.config, evidence.plan, steps, is_private=True)
        return float(again["epsilon"])
    events = [
        SubsampledGaussianEvent(site["noise_multiplier"], site["sampling_rate"], site["steps"])
        for site in sites
    ]
    if headline["no_person_at_two_sites"] == "unknown":
        return total_epsilon([Spend((tuple(events),))], max(site["delta"] for site in sites))
    pairs = {(event, float(site["delta"])) for event, site in zip(events, sites, strict=True)}
    return max(total_epsilon([Spend(((event,),))], delta) for event, delta in pairs)
