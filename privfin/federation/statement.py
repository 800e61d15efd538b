"""What a run guarantees, in a form that can be checked: ``privacy.json``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from privfin.config import RunConfig
from privfin.federation.assumptions import assumptions
from privfin.federation.guarantee import (
    against_an_observer,
    against_colluding,
    alternatives,
    colluding_sites,
    population,
)
from privfin.federation.plan import SitePlan, TrainingPlan
from privfin.federation.shared_plan import SharedPlan
from privfin.models.frozen import is_frozen
from privfin.privacy.accounting import accountant_name
from privfin.privacy.composition import Spend, total_epsilon

NOT_PRIVATE = "NOT PRIVATE"

#: Format of ``privacy.json``.
FORMAT = 2

#: Sites that must train a segment before its sum hides the update of each of them.
FEWEST_TRAINERS = 3

#: What is computed from patients outside DP-SGD, whatever the configuration.
_NOT_COVERED = (
    "the number of patients of each site, which sampling rate and delta depend on, is public",
    "which modalities each site holds is public",
    "the held-out patients: loss, metrics and counts of them, by group too, are without noise",
    "the choice of configuration: tuning and earlier runs are in a ledger if any, not in epsilon",
    "how patients are divided into training, test and, when dealt, sites: uses all patients",
    "rounding: the proof is for real numbers, noise and sums are floating point",
    "a person whom the data list as several patients (Open-I: a report each, MedMNIST: an image)",
    "two records of one person under two names at one site: overlap within a site is not checked",
    "the manifest's fingerprints of the data and its counts of records: exact, without noise",
    "timing, file sizes and the number of rounds",
)


_AGGREGATION = {
    "uniform": "every site that trains a segment counts the same",
    "size": "by the declared number of patients of each site, which is public",
    "uncertainty": (
        "by size and by how sure a site's imputer is; that is learned inside DP-SGD, so it is "
        "covered by the site's epsilon; weights are sent encrypted, and every site sees their sum "
        "for each segment, from which differences between segments can show a single site's "
        "weight; a site that lies about its certainty gets the weight 1 at most"
    ),
}


def claim(config: RunConfig) -> str:
    """``dp``, or why the run is not private."""
    if not config.privacy.is_private:
        return f"{NOT_PRIVATE}: trained without differential privacy (epsilon = inf)"
    if config.privacy.reproducible:
        return f"{NOT_PRIVATE}: test mode, the noise can be computed from the public seed"
    return "dp"


def narrow_segments(plan: TrainingPlan) -> list[str]:
    """Segments that only one or two sites train, so that their sum shows a single update.

    With one trainer the sum is its update; with two, each of them can subtract its own. With shared
    noise there is none: the sum of every segment holds the noise of all sites.
    """
    if plan.shared is not None:
        return []
    return [s.name for s in plan.segments if 0 < s.trained_by < FEWEST_TRAINERS]


def privacy_statement(
    config: RunConfig,
    plan: TrainingPlan,
    rounds_started: Mapping[str, int],
    fine_tunings_started: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """The privacy statement of a run.

    Args:
        config: the run's configuration.
        plan: its plan.
        rounds_started: by site, rounds started in all attempts. Each counts in full, whether it
            was finished or not.
        fine_tunings_started: likewise for fine-tuning after the last round.
    """
    tuned = fine_tunings_started or {}
    steps = {
        site.name: rounds_started.get(site.name, 0) * site.local_steps
        + tuned.get(site.name, 0) * plan.fine_tune_steps
        for site in plan.sites
    }
    is_private = claim(config) == "dp"
    headline = population(config, plan, steps, is_private=is_private)
    encrypted = config.crypto.encryption == "bfv"
    readable = narrow_segments(plan)
    shown = f"; single updates of {', '.join(readable)} can be read off the sum" if readable else ""
    if plan.shared is None:
        seen = _observers(shown, encrypted)
        # Every site adds the full noise to its own training: no observer sees more than that.
        same = against_an_observer(
            headline, alternatives(config, plan, steps), is_private=is_private
        )
        guarantees = dict.fromkeys(seen, same)
    else:
        seen = _observers_of_joint_steps(plan.shared.collusion)
        guarantees = {
            name: (against_colluding(headline, plan, steps, _SHARES_KNOWN_TO[name](plan.shared)))
            for name in seen
        }
    return {
        "format": FORMAT,
        "claim": claim(config),
        "unit": "patient",
        "adjacency": "add or remove one patient, with all of that patient's records",
        "trust": _TRUST[config.privacy.trust],
        "target": {"epsilon": config.privacy.epsilon, "delta": config.privacy.delta},
        "accountant": accountant_name(),
        "population": headline,
        "sites": [_site_statement(config, site, steps[site.name]) for site in plan.sites],
        **({"fine_tuning": _fine_tuning(plan)} if plan.fine_tune_steps else {}),
        "observers": {
            name: {"sees": seen[name], **guarantee} for name, guarantee in guarantees.items()
        },
        **(
            {"colluding_sites": colluding_sites(plan, steps)}
            if plan.shared is not None and is_private
            else {}
        ),
        "assumptions": assumptions(config),
        "encryption": {
            "scheme": "BFV, N 8192, 128-bit security, pairwise masks" if encrypted else "none",
            "layout": config.crypto.layout if encrypted else None,
            "value_bits": config.crypto.value_bits,
        },
        "aggregation": _AGGREGATION[config.training.aggregation],
        "segments": [
            {
                "segment": s.name,
                "parameters": s.stop - s.start,
                "sites_training_it": s.trained_by,
                "divisor": None if plan.carries_weights else s.divisor,
            }
            for s in plan.segments
        ],
        "not_covered": [
            *_always_not_covered(config),
            *_frozen_encoders(config),
            *_also_not_covered(config),
        ],
    }


def _observers(shown: str, encrypted: bool) -> dict[str, str]:
    """What each observer sees; ``shown`` names single updates that the sum does not hide."""
    return {
        "outsider": "sees the final model: at most the epsilon of each site",
        "another site": f"sees the sum of every round{shown}: at most the epsilon of each site",
        "coordinator": (
            "sees ciphertexts, signatures, sizes and times; holds no key and no model"
            if encrypted
            else "can read every update, because encryption is off: at most the epsilon of each "
            "site"
        ),
        "coordinator with a site": (
            "can decrypt sums; pairwise masks hide single updates unless all other sites "
            f"take part too{shown}; at most the epsilon of each site in any case"
            if encrypted
            else "can read every update: at most the epsilon of each site"
        ),
    }


def _observers_of_joint_steps(collusion: int) -> dict[str, str]:
    """What each observer sees when the sites share the noise of every step."""
    return {
        "outsider": "sees the final model",
        "another site": "sees the noisy sum of every step, and knows its own share of the noise",
        "coordinator": (
            "sees ciphertexts, signatures, sizes and times; holds no key and no model, and knows "
            "no share of the noise"
        ),
        "coordinator with a site": (
            f"with {max(1, collusion)} sites: can decrypt sums, and knows the shares of those "
            "sites; single contributions, which have too little noise, are hidden by pairwise "
            "masks alone, unless all other sites take part too"
        ),
    }


#: How many shares of the noise an observer knows.
_SHARES_KNOWN_TO: dict[str, Callable[[SharedPlan], int]] = {
    "outsider": lambda _: 0,
    "another site": lambda _: 1,
    "coordinator": lambda _: 0,
    "coordinator with a site": lambda shared: max(1, shared.collusion),
}

_TRUST = {
    "local": "local: every site adds the full noise to its own training",
    "shared": "shared: the sites' shares of the noise add up inside the encrypted sum of a step; "
    "the guarantee needs all sites but privacy.collusion of them to add theirs",
}


def _always_not_covered(config: RunConfig) -> list[str]:
    exact = config.privacy.trust == "shared"  # noise and sums of whole numbers
    return [text for text in _NOT_COVERED if not (exact and text.startswith("rounding:"))]


def _also_not_covered(config: RunConfig) -> list[str]:
    """What this configuration computes from patients without noise, beyond what every run does."""
    found = []
    if config.data.source == "mix":
        found.append(
            "a person in two parts of a mix who is two patients of one site: counted there once"
        )
    if config.evaluation.choose_round == "validation":
        found.append(
            "the validation patients: the round to report is chosen by AUROC on them, without "
            "noise; they are neither trained nor tested on"
        )
    if config.model.imputer == "retrieval":
        found.append(
            "the public records that missing features are taken from: their features are in the "
            "model's file; that they are public is declared, and that none of them is a patient "
            "of a site is checked by comparing images and longer texts only"
        )
    return found


def _fine_tuning(plan: TrainingPlan) -> dict[str, Any]:
    return {
        "steps": plan.fine_tune_steps,
        "seen_by": (
            "a fine-tuned model stays at its site: no other site and not the coordinator sees "
            "it. Only the mean, least and greatest AUROC of these models on the held-out patients "
            "are reported. Its steps are inside the site's epsilon all the same"
        ),
    }


def _frozen_encoders(config: RunConfig) -> list[str]:
    """What public weights have seen is nothing that a run could check."""
    names = [m for m, c in config.modalities.items() if is_frozen(c)]
    return [
        f"the weights of the frozen {name} encoder: taken to be public, so patients that they were "
        "trained on have no guarantee, and no patient of the sites may be among them"
        for name in names
    ]


def _mechanism(site: SitePlan, private: bool) -> str:
    if not private:
        return "SGD without noise"
    if site.shared is not None:
        return "joint DP-SGD of all sites, Poisson-subsampled Skellam"
    return "DP-SGD, Poisson-subsampled Gaussian"


def _site_statement(config: RunConfig, site: SitePlan, steps: int) -> dict[str, Any]:
    private = config.privacy.is_private
    spent = total_epsilon([Spend(((site.event(steps),),))], site.delta) if private else math.inf
    simulated = {"epsilon_simulated": spent} if private and config.privacy.reproducible else {}
    return {
        "site": site.name,
        "modalities": list(site.modalities),
        "unit": "patient",
        "adjacency": "add/remove",
        "mechanism": _mechanism(site, private),
        "epsilon": spent if claim(config) == "dp" else math.inf,
        **simulated,
        "delta": site.delta,
        "noise_multiplier": site.noise_multiplier,
        "clip_norm": config.privacy.clip_norm if private else None,
        "sampling_rate": site.sampling_rate,
        "sampler": "Poisson over patients, one record of each at random",
        "divisor": config.training.batch_size,
        "steps": steps,
        "steps_planned": site.steps,
        "patients_declared": site.patients,
    }
