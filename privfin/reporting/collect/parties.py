"""Block ``parties``: who takes part, and in which role."""

from __future__ import annotations

from privfin.reporting.answers.answers import Answers
from privfin.reporting.answers.questions import answered
from privfin.reporting.blocks_people import Departure, Parties, Site
from privfin.reporting.evidence import Evidence
from privfin.reporting.facts import measured


def parties_block(evidence: Evidence, answers: Answers) -> Parties:
    """The block: sites by the manifest, departures by the events, roles by people.

    Raises:
        UserInputError: a file of the run is damaged.
    """
    with evidence.reading("manifest.json"):
        sites = tuple(
            Site(
                site=one["site"], modalities=tuple(one["modalities"]), patients=int(one["patients"])
            )
            for one in evidence.manifest["sites"]
        )
    left = tuple(Departure(**one) for one in evidence.run.sites_left())
    return Parties(
        sites=measured(sites, "manifest.json"),
        sites_left=measured(left, "events.jsonl"),
        roles=answered(evidence, answers, "parties.roles"),
        coordinator=answered(evidence, answers, "parties.coordinator"),
        recipients=answered(evidence, answers, "parties.recipients"),
        trust=measured(str(evidence.privacy["trust"]), "privacy.json"),
    )
