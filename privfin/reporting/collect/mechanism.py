"""The mechanism: how the guarantee comes about at each site."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from privfin.reporting.blocks_privacy import Mechanism, Segment, SiteMechanism
from privfin.reporting.collect.reading import EVENTS, MANIFEST, PRIVACY, number
from privfin.reporting.evidence import Evidence
from privfin.reporting.facts import Fact, declared, derived, measured, not_applicable, not_assessed


def mechanism_block(evidence: Evidence) -> Mechanism:
    """What each site ran, how sites are weighted, and where noise comes from."""
    stated = evidence.privacy
    return Mechanism(
        trust=measured(str(stated["trust"]), PRIVACY),
        target_epsilon=declared(number(stated["target"]["epsilon"]), f"{MANIFEST}: configuration"),
        sites=measured(tuple(map(_site, stated["sites"])), f"{PRIVACY}: sites"),
        aggregation=measured(str(stated["aggregation"]), PRIVACY),
        segments=measured(tuple(map(_segment, stated["segments"])), f"{PRIVACY}: segments"),
        fine_tuning=_fine_tuning(evidence),
        randomness=randomness(evidence),
        rounds=_rounds(evidence),
    )


def randomness(evidence: Evidence) -> Fact[str]:
    """Where noise and sampling come from, as the run's assumptions say; never a seed."""
    source = f"{PRIVACY}: assumptions"
    for one in evidence.privacy["assumptions"]:
        if one["id"] == "secret-noise":
            if one["status"] == "checked":
                return derived(f"{one['text']} (checked: {one['by']})", source)
            return derived(f"{one['by']} (assumed was: {one['text']})", source)
    return not_assessed(f"{PRIVACY} does not say where noise and sampling come from", source)


def _rounds(evidence: Evidence) -> Fact[int]:
    started = max(evidence.run.spent_rounds().values(), default=0)
    finished = int(evidence.metrics["rounds"])
    notes = []
    if evidence.config.privacy.trust == "shared":
        notes.append("each is one joint step of all sites")
    if started != finished:
        notes.append(f"{finished} of them were finished and are in the model")
    return measured(started, f"{EVENTS}: rounds that a site started", "; ".join(notes))


def _fine_tuning(evidence: Evidence) -> Fact[str]:
    stated = evidence.privacy.get("fine_tuning")
    if stated is None:
        return not_applicable("no fine-tuning was asked for", MANIFEST)
    return measured(
        f"{int(stated['steps'])} steps a site: {stated['seen_by']}", f"{PRIVACY}: fine_tuning"
    )


def _site(stated: Mapping[str, Any]) -> SiteMechanism:
    clip_norm, divisor = stated["clip_norm"], stated["divisor"]
    return SiteMechanism(
        site=str(stated["site"]),
        mechanism=str(stated["mechanism"]),
        noise_multiplier=number(stated["noise_multiplier"]),
        clip_norm=None if clip_norm is None else number(clip_norm),
        sampling_rate=number(stated["sampling_rate"]),
        sampler=str(stated["sampler"]),
        divisor=None if divisor is None else number(divisor),
        steps=int(stated["steps"]),
        steps_planned=int(stated["steps_planned"]),
        epsilon=number(stated["epsilon"]),
        delta=number(stated["delta"]),
    )


def _segment(stated: Mapping[str, Any]) -> Segment:
    return Segment(
        segment=str(stated["segment"]),
        parameters=int(stated["parameters"]),
        sites_training_it=int(stated["sites_training_it"]),
        is_summed=bool(stated["is_summed"]),
    )
