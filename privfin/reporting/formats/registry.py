"""An entry for the OpenDP Deployments Registry: YAML with the keys of its schema.

The keys and their choices are those of ``schemas/deployments-schema.yaml`` in the repository
``opendp/deployments-registry-data`` (revision 3e9c812, July 2026). The registry shows every text
as Markdown with formulas, so texts are escaped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import yaml

from privfin.errors import UserInputError
from privfin.reporting.blocks_privacy import SiteMechanism
from privfin.reporting.facts import Fact
from privfin.reporting.formats.markdown import gap, inline
from privfin.reporting.numbers import at_most, delta_text, percent_at_most, significant
from privfin.reporting.schema import Report

#: Stands where the registry requires a text that the report does not know.
UNKNOWN = "Unknown: to be filled in by a person"


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as literal blocks: the registry refuses folded ones."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def registry_entry(report: Report) -> str:
    """The entry, as a draft of tier 3 that a person has to complete.

    What the report does not know is left out; where the registry requires a text, it is marked
    with :data:`UNKNOWN`.

    Raises:
        UserInputError: the run promises nothing: it is no deployment of differential privacy.
    """
    if not report.guarantee.is_private.value or not math.isfinite(_epsilon(report)):
        raise UserInputError(
            "the registry lists deployments of differential privacy, and this run promises none: "
            "leave out the format registry"
        )
    basic = _basic(report)
    entry = {
        "url_slug": _slug(basic),
        "status": "Draft",
        "tier": 3,
        "deployment": {
            "basic": basic,
            "dp_variant": _variant(report),
            "privacy_loss": _privacy_loss(report),
            "deployment_model": _deployment_model(report),
            "accounting": _accounting(report),
            "implementation": _implementation(report),
            "administrative": _administrative(report),
        },
    }
    return yaml.dump(
        _without_gaps(entry), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6
    )


def _epsilon(report: Report) -> float:
    epsilon = report.guarantee.epsilon
    return epsilon.get() if epsilon.is_known else math.inf


def _basic(report: Report) -> dict[str, Any]:
    purpose = report.purpose
    created = report.report.run_created
    about = ["A model trained over several sites; their data stay there."]
    if report.data.is_simulated.value:
        about.append("All patients are made up.")
    about += _named(("Task", purpose.task), ("Whose data", purpose.people))
    return {
        "name": inline(f"Model of run {report.report.run_name.value or 'unknown'}"),
        "data_curators": [UNKNOWN],
        "intended_use": _known(purpose.intended_use) or UNKNOWN,
        "data_product_type": "Machine learning model",
        "data_product_region": UNKNOWN,
        "description": _lines(about),
        "publication_date": (created if created.is_known else report.report.created).get()[:10],
        "data_product_sector": "Healthcare",
    }


def _slug(basic: dict[str, Any]) -> str:
    """Made of name, curators and year, as the registry makes it."""
    parts = (basic["name"], "-".join(basic["data_curators"]), basic["publication_date"][:4])
    return "-".join(re.sub(r"\W+|_", "-", part.lower()) for part in parts)


def _variant(report: Report) -> dict[str, Any]:
    data, others = report.data, report.other_releases
    unprotected = [*(others.not_covered.value or ())]
    unprotected += [f"{one.what} (seen by {one.seen_by})" for one in others.releases.value or ()]
    return {
        "variant_name": "Approximate DP",
        "data_domain": _lines(
            _named(("Unit", data.unit), ("Patients", report.purpose.people), ("Years", data.period))
        ),
        "unprotected_quantities": _lines(unprotected),
    }


def _privacy_loss(report: Report) -> dict[str, Any]:
    guarantee = report.guarantee
    details = _named(
        ("Statement", guarantee.statement),
        ("Epsilon is", guarantee.headline),
        ("No person is a patient of two sites", guarantee.no_person_at_two_sites),
        (
            "Epsilon, at the same delta, of a person who is a patient of every site",
            guarantee.epsilon_at_every_site,
        ),
    )
    details += [
        f"{one.observer} ({one.sees}): epsilon {at_most(one.epsilon)} at delta "
        f"{delta_text(one.delta)}; from 50:50 to at most {percent_at_most(one.best_accuracy)} "
        f"right guesses; Gaussian mu {at_most(one.mu)}"
        for one in guarantee.observers.value or ()
    ]
    return {
        "privacy_unit": _known(guarantee.unit),
        "privacy_unit_details": _lines(
            _named(("Unit", report.data.unit), ("Neighbouring data sets", guarantee.adjacency))
        ),
        "privacy_parameters": {
            "epsilon": guarantee.epsilon.get(),
            "delta": guarantee.delta.value,
        },
        "privacy_parameters_details": _lines(details),
    }


def _deployment_model(report: Report) -> dict[str, Any]:
    guarantee, parties, exchange = report.guarantee, report.parties, report.exchange
    actors = [
        f"Site {one.site}: trains on {', '.join(one.modalities)}"
        for one in parties.sites.value or ()
    ]
    actors += _named(
        ("Coordinator", parties.coordinator),
        ("Roles", parties.roles),
        ("Recipients of the model", parties.recipients),
        ("Trust", parties.trust),
        ("Who could read a single update", exchange.single_updates),
    )
    return {
        "model_name": "Federated",
        "model_name_details": _lines(
            _named(
                ("Who adds the noise", report.mechanism.trust),
                ("Encryption", exchange.encryption),
            )
        ),
        "actors": _lines(actors),
        "release_type": "One release",
        "release_type_details": _lines(_named(("Outputs that are covered", guarantee.outputs))),
        "data_source_type": "Static",
        "data_source_type_details": _lines(_named(("Years", report.data.period))),
        "access_type": "Non-interactive",
        "access_type_details": _lines(
            ["Whoever has the model has its weights; asking it costs no further privacy."]
        ),
    }


def _accounting(report: Report) -> dict[str, Any]:
    accounting, ledger = report.accounting, report.ledger
    composition = _named(
        ("Accountant", accounting.accountant),
        ("Epsilon at the same delta, recomputed for the report", accounting.recomputed_epsilon),
        ("Epsilon at the same delta by a second accountant", accounting.second_accountant),
        ("Rounds", report.mechanism.rounds),
        ("Ledger over all runs", ledger.meaning),
    )
    composition += [
        f"Population {one.population}: epsilon {at_most(one.before)} spent before, "
        f"{at_most(one.this_run)} by this run, "
        + (
            "no cap"
            if one.cap_epsilon is None or one.cap_delta is None
            else f"cap {significant(one.cap_epsilon, 6)} at delta {delta_text(one.cap_delta)}"
        )
        for one in ledger.budgets.value or ()
    ]
    composition += [
        f"Assumption ({one.status}): {one.text}" for one in accounting.assumptions.value or ()
    ]
    return {
        "post_processing": _lines(
            _named(
                ("How the reported model was chosen", report.tuning.chosen_by),
                ("Steps that sites take for themselves", report.mechanism.fine_tuning),
            )
        ),
        "composition": _lines(composition),
    }


def _implementation(report: Report) -> dict[str, Any]:
    tuning, code = report.tuning, report.implementation
    mechanisms = list(dict.fromkeys(map(_mechanism, report.mechanism.sites.value or ())))
    mechanisms += _named(
        ("Random numbers", report.mechanism.randomness), ("Floating point", code.floating_point)
    )
    mechanisms += [f"Side channel: {text}" for text in code.side_channels.value or ()]
    packages = ", ".join(f"{one.name} {one.version}" for one in code.components.value or ())
    return {
        "preprocessing_and_hyperparameter_tuning": _lines(
            _named(
                ("Trials to choose the settings", tuning.trials),
                ("Whether they were counted", tuning.is_counted),
                ("Uses of the data that are covered", report.guarantee.accesses),
            )
        ),
        "mechanisms": _lines([*mechanisms, *([f"Software: {packages}"] if packages else [])]),
        "justification": _lines(
            _named(
                ("Why releases without noise are acceptable", report.other_releases.justification)
            )
        ),
    }


def _mechanism(one: SiteMechanism) -> str:
    numbers = (
        ("noise multiplier", one.noise_multiplier),
        ("clipping norm", one.clip_norm),
        ("sampling rate", one.sampling_rate),
    )
    settings = [f"{name} {significant(value, 5)}" for name, value in numbers if value is not None]
    return ", ".join([f"{one.mechanism}: {one.sampler}", *settings, f"{one.steps} steps"])


def _administrative(report: Report) -> dict[str, Any]:
    about = report.report
    notes = _named(
        ("Made by", about.tool),
        ("Report", about.report_id),
        ("Release class", about.release_class),
        ("Attacks on the model found", report.audit.verdict),
        ("Most that these attacks could have shown, as epsilon", report.audit.largest_ceiling),
    )
    notes += [f"Withheld or made coarser: {text}" for text in about.withheld.value or ()]
    return {"notes": _lines(notes), "registry_authors": [UNKNOWN]}


def _known(fact: Fact[str]) -> str | None:
    return inline(fact.get()) if fact.is_known else None


def _named(*facts: tuple[str, Fact[Any]]) -> list[str]:
    """A line a fact with how it is known; a gap is a line too, so that it shows."""
    return [
        f"{name}: " + (f"{_value(fact.get())} ({fact.status})" if fact.is_known else gap(fact))
        for name, fact in facts
    ]


def _value(value: object) -> str:
    return at_most(value) if isinstance(value, float) else str(value)


def _lines(texts: Iterable[str]) -> str | None:
    """Texts as a Markdown list; None if there are none."""
    return "\n".join(f"- {inline(text)}" for text in texts) or None


def _without_gaps(value: Any) -> Any:
    """The mapping without keys that have no value."""
    if not isinstance(value, dict):
        return value
    kept = {key: _without_gaps(one) for key, one in value.items()}
    return {key: one for key, one in kept.items() if one not in (None, {})}
