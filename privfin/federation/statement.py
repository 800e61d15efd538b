"""What a run guarantees, in a form that can be checked: ``privacy.json``."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from privfin.config import Encryption, RunConfig
from privfin.federation.assumptions import assumptions
from privfin.federation.encryption_statement import encryption_statement
from privfin.federation.guarantee import (
    against_an_observer,
    by_colluding_sites,
    population,
)
from privfin.federation.plan import SitePlan, TrainingPlan
from privfin.federation.shared_plan import SharedPlan
from privfin.models.frozen import is_frozen
from privfin.privacy.accounting import accountant_name
from privfin.privacy.composition import Spend, total_epsilon
from privfin.privacy.shared_calibration import CLIP_TOLERANCE

NOT_PRIVATE = "NOT PRIVATE"

#: Format of ``privacy.json``.
FORMAT = 2

#: Sites that must train a segment before its sum hides the update of each of them.
FEWEST_TRAINERS = 3

#: What a run shows by how it goes rather than by what it sends; one of those not covered.
SIDE_CHANNELS = "timing, file sizes and the number of rounds"

#: What is computed from patients outside DP-SGD, whatever the configuration.
_NOT_COVERED = (
    "the number of patients of each site, which sampling rate and delta depend on, is public",
    "which modalities each site holds is public",
    "the held-out patients: loss, metrics and counts of them, by group too, are without noise",
    "the choice of configuration: tuning and earlier runs are in a ledger if any, not in epsilon",
    "how patients are divided into training, test and, when dealt, sites: uses all patients",
    "a person whom the data list as several patients (Open-I: a report each, MedMNIST: an image)",
    "two records of one person under two names at one site: overlap within a site is not checked",
    "the manifest's fingerprints of the data and its counts of records: exact, without noise",
    SIDE_CHANNELS,
    "what `privfin audit` finds: computed from training and held-out patients, without noise",
)


#: What the machine's numbers do to the proof, by ``privacy.trust``.
_ROUNDING = {
    "local": "rounding: the proof is for real numbers, noise and sums are floating point",
    "shared": (
        "rounding: clipped gradients are added in floating point before they become integers; "
        f"the noise covers {CLIP_TOLERANCE:.1%} more than the clip norm for it, which is "
        "tested, not proven; from there on all is exact integers"
    ),
}

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


def narrow_segments(plan: TrainingPlan, cohort: Collection[str] | None = None) -> list[str]:
    """Segments that only one or two sites train, so that their sum shows a single update.

    With one trainer the sum is its update; with two, each of them can subtract its own. With shared
    noise there is none: the sum of every segment holds the noise of all sites.

    Args:
        plan: the run's plan.
        cohort: names of the sites that are summed, all if None.
    """
    if plan.shared is not None:
        return []
    summed = plan.cohort if cohort is None else cohort
    return [
        s.name
        for s in plan.segments
        if 0 < s.owners(summed) < FEWEST_TRAINERS and plan.is_open(s, summed)
    ]


def readable_segments(plan: TrainingPlan, left: Sequence[Mapping[str, Any]] = ()) -> list[str]:
    """Segments that were narrow at some time of a run: with all sites, or after some had left.

    Args:
        plan: the run's plan.
        left: the sites that dropped out, in that order, each with its ``site``.
    """
    cohort = list(plan.cohort)
    found = dict.fromkeys(narrow_segments(plan))
    for one in left:
        cohort = [site for site in cohort if site != one["site"]]
        found.update(dict.fromkeys(narrow_segments(plan, cohort)))
    return list(found)


def closed_segments(plan: TrainingPlan) -> list[str]:
    """Segments that some sites train, but too few to be summed: they stay as they began."""
    return [s.name for s in plan.segments if s.trained_by and not plan.is_open(s, plan.cohort)]


def steps_taken(
    plan: TrainingPlan,
    rounds_started: Mapping[str, int],
    fine_tunings_started: Mapping[str, int],
) -> dict[str, int]:
    """The steps that count by site; the arguments are those of :func:`privacy_statement`."""
    return {
        site.name: rounds_started.get(site.name, 0) * site.local_steps
        + fine_tunings_started.get(site.name, 0) * plan.fine_tune_steps
        for site in plan.sites
    }


def privacy_statement(
    config: RunConfig,
    plan: TrainingPlan,
    rounds_started: Mapping[str, int],
    fine_tunings_started: Mapping[str, int] | None = None,
    left: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The privacy statement of a run.

    Args:
        config: the run's configuration.
        plan: its plan.
        rounds_started: by site, rounds started in all attempts. Each counts in full, whether it
            was finished or not.
        fine_tunings_started: likewise for fine-tuning after the last round.
        left: the sites that dropped out, each with the ``round`` and ``attempt`` that it was lost
            in; the run went on without it.
    """
    steps = steps_taken(plan, rounds_started, fine_tunings_started or {})
    is_private = claim(config) == "dp"
    headline = population(config, plan, steps, is_private=is_private)
    readable = readable_segments(plan, left)
    shown = f"; single updates of {', '.join(readable)} can be read off the sum" if readable else ""
    observers = (
        _observers(shown, config.crypto.encryption)
        if plan.shared is None
        else _joint_observers(plan.shared)
    )
    return {
        "format": FORMAT,
        "claim": claim(config),
        "unit": "patient",
        "adjacency": "add or remove one patient, with all of that patient's records",
        "trust": _trust(plan),
        "target": {"epsilon": config.privacy.epsilon, "delta": config.privacy.delta},
        "accountant": accountant_name(),
        "population": headline,
        "sites": [_site_statement(config, site, steps[site.name]) for site in plan.sites],
        "sites_left": [dict(one) for one in left],
        **({"fine_tuning": _fine_tuning(plan)} if plan.fine_tune_steps else {}),
        "observers": {
            name: {
                "sees": sees,
                **against_an_observer(
                    config, plan, steps, is_private=is_private, colluding=colluding
                ),
            }
            for name, (sees, colluding) in observers.items()
        },
        **(
            {"colluding_sites": by_colluding_sites(plan, steps)}
            if plan.shared and is_private
            else {}
        ),
        "assumptions": assumptions(config),
        "encryption": encryption_statement(config.crypto),
        "aggregation": (
            _AGGREGATION[config.training.aggregation]
            if plan.shared is None
            else "every patient counts the same, whatever the site"
        ),
        "segments": [
            {
                "segment": s.name,
                "parameters": s.stop - s.start,
                "sites_training_it": s.trained_by,
                "is_summed": plan.is_open(s, plan.cohort),
                "divisor": None if plan.carries_weights else s.divisor(),
            }
            for s in plan.segments
        ],
        "not_covered": [
            *_NOT_COVERED,
            _ROUNDING[config.privacy.trust],
            *_frozen_encoders(config),
            *_also_not_covered(config),
        ],
    }


def _trust(plan: TrainingPlan) -> str:
    if plan.shared is None:
        return "local: every site adds the full noise to its own training"
    shared = plan.shared
    return (
        f"shared: the noise of {shared.sites} sites adds up inside the encrypted sum of every "
        f"step; it suffices while at most {shared.collusion} of them reveal or leave out their "
        "share. What one site sends has only one share: encryption and masks protect it, so the "
        "guarantee also rests on them"
    )


def _joint_observers(shared: SharedPlan) -> dict[str, tuple[str, int]]:
    """What each observer sees of joint steps, and how many sites' noise shares it knows."""
    most = shared.collusion
    found = {
        "outsider": ("sees the final model: at most the epsilon of the joint steps", 0),
        "coordinator": (
            "sees ciphertexts, signatures, sizes and times; holds no key and no model. Could it "
            "break the encryption, masks would still show it sums only",
            0,
        ),
        "another site": (
            "sees the sum of every step and knows its own share of the noise: "
            + (
                "the other sites' shares suffice"
                if most
                else "the other sites' shares give less than was planned, because "
                "privacy.collusion = 0 counts on every share"
            ),
            1,
        ),
    }
    if most:
        found[f"coordinator with up to {most} sites"] = (
            "can decrypt sums and subtract these sites' contributions; masks hide those of the "
            "others, whose shares suffice",
            most,
        )
    return found


def _observers(shown: str, encryption: Encryption) -> dict[str, tuple[str, None]]:
    """What each observer sees; ``shown`` names single updates that the sum does not hide.

    Every site adds the full noise to its own training, so that whatever an observer sees of it, the
    guarantee is the same.
    """
    return {
        "outsider": (
            "sees the final model: at most the epsilon of each site"
            + (
                ". An outsider who also recorded ciphertexts might learn of the key from decrypted "
                "sums, which must therefore not be shared (IND-CPA^D)"
                if encryption == "ckks"
                else ""
            ),
            None,
        ),
        "another site": (
            f"sees the sum of every round{shown}: at most the epsilon of each site",
            None,
        ),
        "coordinator": (
            "sees ciphertexts, signatures, sizes and times; holds no key and no model"
            if encryption != "none"
            else "can read every update, because encryption is off: at most the epsilon of each "
            "site",
            None,
        ),
        "coordinator with a site": (
            "can decrypt sums; pairwise masks hide single updates unless all other sites "
            f"take part too{shown}; at most the epsilon of each site in any case"
            if encryption == "bfv"
            else "can read every update"
            + (", because ckks has no masks" if encryption == "ckks" else "")
            + ": at most the epsilon of each site",
            None,
        ),
    }


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
    if config.evaluation.secure:
        found.append(
            "the sums of the secure metrics: exact numbers of held-out patients and of records for "
            "each cell, label and bin of scores, without noise; every site reads them, and sites "
            "that put their own counts together read the sum over the others"
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


def _mechanism(site: SitePlan) -> str:
    if site.shared is None:
        return "DP-SGD, Poisson-subsampled Gaussian"
    return "joint DP-SGD over all sites, Poisson-subsampled Skellam on integers (RDP)"


def _site_statement(config: RunConfig, site: SitePlan, steps: int) -> dict[str, Any]:
    private = config.privacy.is_private
    spent = total_epsilon([Spend(((site.event(steps),),))], site.delta) if private else math.inf
    simulated = {"epsilon_simulated": spent} if private and config.privacy.reproducible else {}
    return {
        "site": site.name,
        "modalities": list(site.modalities),
        "unit": "patient",
        "adjacency": "add/remove",
        "mechanism": _mechanism(site) if private else "SGD without noise",
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
