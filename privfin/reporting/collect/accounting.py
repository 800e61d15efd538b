"""The accounting: epsilon calculated again from plan and events, and by a second accountant."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from privfin.errors import UserInputError
from privfin.federation.plan import SitePlan
from privfin.federation.statement import privacy_statement
from privfin.privacy.accounting import SubsampledGaussianEvent, epsilon, epsilon_prv
from privfin.reporting.blocks_privacy import Accounting, Assumption
from privfin.reporting.collect.guarantee import is_private
from privfin.reporting.collect.reading import (
    EVENTS,
    MANIFEST,
    PRIVACY,
    counted_steps,
    number,
    rounded_up,
)
from privfin.reporting.evidence import Evidence
from privfin.reporting.facts import Extended, Fact, derived, measured, not_applicable, not_assessed

#: Numerical libraries of another version may give a last digit that differs; mu is rounded to five.
_TOLERANCE = 1e-6
_TOLERANCE_OF_MU = 1e-3
#: Above it Opacus' accountant takes very long, and such an epsilon protects nobody.
_LARGEST_CHECKED_TWICE = 100.0


def accounting_block(evidence: Evidence) -> Accounting:
    """How epsilon was calculated, and what two calculations find now.

    Raises:
        UserInputError: ``privacy.json`` promises more than the plan and the events give, or claims
            something else.
        ConfigError: the plan is not the one that the run was started with.
    """
    again = _recomputed(evidence)
    _refuse_overstated(evidence, again)
    return Accounting(
        accountant=_accountant(evidence),
        recomputed_epsilon=derived(
            number(again["population"]["epsilon"]),
            f"{MANIFEST}: plan, and the rounds and fine-tunings in {EVENTS}",
            "calculated when this report was made",
        ),
        second_accountant=_second_accountant(evidence),
        assumptions=measured(
            tuple(
                Assumption(
                    assumption_id=str(one["id"]),
                    text=str(one["text"]),
                    status=one["status"],
                    by=str(one["by"]),
                )
                for one in evidence.privacy["assumptions"]
            ),
            f"{PRIVACY}: assumptions",
        ),
    )


def _recomputed(evidence: Evidence) -> dict[str, Any]:
    """The privacy statement again, from the plan and the events alone."""
    run = evidence.run
    return privacy_statement(
        evidence.config, evidence.plan, run.spent_rounds(), run.fine_tunings(), run.sites_left()
    )


def _refuse_overstated(evidence: Evidence, again: Mapping[str, Any]) -> None:
    """Refuse a ``privacy.json`` that promises more than can be calculated again.

    Raises:
        UserInputError: naming the first figure.
    """
    path = evidence.run.path / PRIVACY
    advice = "the file was changed, or made by other versions than this report (manifest.json)"
    claims = (evidence.privacy.get("claim"), evidence.manifest.get("claim"), again["claim"])
    if len(set(claims)) != 1:
        raise UserInputError(
            f"{path} claims '{claims[0]}', manifest.json '{claims[1]}', and the configuration "
            f"gives '{claims[2]}': {advice}"
        )
    _refuse_left_out(evidence.privacy, again, f"{path}: {advice}")
    try:
        stated = dict(_figures(evidence.privacy))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserInputError(f"{path} lacks figures of a privacy statement: {advice}") from error
    for name, least in _figures(again):
        if name not in stated:
            raise UserInputError(f"{path} does not state {name}: {advice}")
        found = stated[name]
        if not _is_enough(name, found, least):
            raise UserInputError(
                f"{path} states {name} = {found:g}, but the plan and events.jsonl give {least:g}: "
                f"{advice}"
            )


def _refuse_left_out(stated: Mapping[str, Any], again: Mapping[str, Any], advice: str) -> None:
    """Refuse a statement that names another unit, fewer gaps, or surer assumptions."""
    for key in ("unit", "adjacency", "trust"):
        if stated.get(key) != again[key]:
            raise UserInputError(f"{advice}; it states another {key}")
    missing = set(again["not_covered"]) - set(map(str, stated.get("not_covered", ())))
    if missing:
        raise UserInputError(f"{advice}; not_covered lacks '{min(missing)}'")
    known = {(one.get("id"), one.get("status")) for one in stated.get("assumptions", ())}
    for one in again["assumptions"]:
        if (one["id"], one["status"]) not in known:
            raise UserInputError(f"{advice}; it does not state {one['id']} as {one['status']}")


def _is_enough(name: str, found: float, least: float) -> bool:
    """Whether a stated figure promises no more than the one calculated again."""
    if name.endswith("steps") or math.isinf(least):
        return found == least
    if name.endswith("delta"):
        # A larger delta goes with a smaller epsilon, so it may not differ either way.
        return math.isclose(found, least, rel_tol=_TOLERANCE)
    tolerance = _TOLERANCE_OF_MU if name.endswith("mu") else _TOLERANCE
    return found >= least - tolerance * max(1.0, least)


def _figures(statement: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """What a statement promises, by name: figures that may be too large, never too small."""
    for key in ("delta", "epsilon", "epsilon_at_one_site", "epsilon_at_every_site"):
        yield f"population {key}", number(statement["population"][key])
    is_dp = statement["claim"] == "dp"
    for site in statement["sites"]:
        # Test mode repeats the same numbers, so its steps are those of one attempt.
        for key in ("delta", "epsilon", *(["steps"] if is_dp else [])):
            yield f"site {site['site']} {key}", number(site[key])
    for name, one in statement["observers"].items():
        for key in ("delta", "epsilon", "best_accuracy", "certainty_of_epsilon_alone"):
            yield f"observer {name} {key}", number(one[key])
        yield f"observer {name} mu", number(one["gdp"]["mu"])
        for point in one["trade_off"]:
            rate = number(point["false_positive_rate"])
            yield f"observer {name} trade-off at {rate:g}", number(point["true_positive_rate"])
    for one in statement.get("colluding_sites", []):
        yield f"{one['sites']} colluding sites epsilon", number(one["epsilon"])


def _accountant(evidence: Evidence) -> Fact[str]:
    stated = evidence.privacy["accountant"]
    if evidence.config.privacy.trust == "shared":
        made_by = evidence.manifest["versions"]["privfin"]
        return derived(
            f"Rényi divergences of subsampled Skellam steps, privfin {made_by}",
            f"{PRIVACY}: mechanism of each site",
        )
    return measured(f"{stated['accountant']} {stated['version']}", f"{PRIVACY}: accountant")


def _second_accountant(evidence: Evidence) -> Fact[Extended]:
    source = f"Opacus PRV {version('opacus')}"
    if evidence.config.privacy.trust == "shared":
        return not_applicable(
            "Opacus' accountants know Gaussian noise only; shared noise is Skellam", source
        )
    if not is_private(evidence):
        return not_applicable("nothing is promised, so there is no epsilon to check", source)
    largest = max(evidence.plan.sites, key=lambda site: site.patients)
    return _by_opacus(largest, counted_steps(evidence)[largest.name], source)


def _by_opacus(site: SitePlan, steps: int, source: str) -> Fact[Extended]:
    events = [SubsampledGaussianEvent(site.noise_multiplier, site.sampling_rate, steps)]
    first = epsilon(events, site.delta)
    if first > _LARGEST_CHECKED_TWICE:
        return not_assessed(
            f"not calculated for an epsilon above {_LARGEST_CHECKED_TWICE:g}: it takes too long",
            source,
        )
    try:
        second = epsilon_prv(events, site.delta)
    except (RuntimeError, ValueError) as error:
        return not_assessed(f"Opacus gave no figure for {site.name}: {error}", source)
    return derived(
        second,
        f"{source}, {site.name}",
        f"at the largest site, where the first accountant gives {rounded_up(first)}; Opacus gives "
        "the upper end of its error interval, usually 0.01 to 0.02 more",
    )
