"""Block ``data``: which patients, how many, and what is protected as one."""

from __future__ import annotations

from privfin.reporting.answers.answers import Answers
from privfin.reporting.answers.questions import answered, is_simulated
from privfin.reporting.blocks_people import Count, Data
from privfin.reporting.collect.utility import cell_entries
from privfin.reporting.evidence import Evidence
from privfin.reporting.facts import Fact, derived, measured, not_assessed

_MANIFEST, _METRICS = "manifest.json", "metrics.json"
#: Sources that name no patients, and what counts as one there.
_NO_PATIENTS = {"openi": "each report", "medmnist": "each image"}
#: The cell of all held-out records, which some runs have.
_EVERYBODY = "as is"


def data_block(evidence: Evidence, answers: Answers) -> Data:
    """The block."""
    manifest = evidence.manifest
    patients = sum(int(one["patients"]) for one in manifest["sites"])
    known = str(evidence.privacy["population"]["no_person_at_two_sites"])
    return Data(
        source=measured(_source(evidence), _MANIFEST),
        is_simulated=derived(is_simulated(evidence), _MANIFEST),
        unit=measured(_unit(evidence), "privacy.json"),
        training_patients=derived(
            patients,
            f"{_MANIFEST}, the sum over sites",
            ""
            if known == "checked"
            else f"a person at two sites counts twice; that nobody is: {known}",
        ),
        held_out_patients=_held_out(evidence),
        notices=measured(tuple(map(str, manifest["notices"])), _MANIFEST),
        fingerprints=measured(dict(manifest["data_sha256"]), _MANIFEST),
        period=answered(evidence, answers, "data.period"),
        label_origin=answered(evidence, answers, "data.label_origin"),
        consent=answered(evidence, answers, "data.consent"),
    )


def _sources(evidence: Evidence) -> list[tuple[str, str]]:
    """Name and source of every part; one part without a mix."""
    data = evidence.config.data
    if data.source == "mix":
        return [(part.name, part.source) for part in data.part]
    return [(data.source, data.source)]


def _source(evidence: Evidence) -> str:
    parts = _sources(evidence)
    if len(parts) == 1:
        return parts[0][1]
    return "mix of " + ", ".join(f"{name} ({source})" for name, source in parts)


def _unit(evidence: Evidence) -> str:
    """The protected unit in words, and where a patient is not a person."""
    found = f"one {evidence.privacy['unit']} with all records"
    odd = {
        source: _NO_PATIENTS[source] for _, source in _sources(evidence) if source in _NO_PATIENTS
    }
    for source, one in odd.items():
        found += f"; {source} names no patients, so {one} counts as a patient there"
    return found


def _held_out(evidence: Evidence) -> Fact[Count]:
    """How many patients were held out, as far as the cells tell.

    A cell counts patients with at least its modalities. One that holds everybody, or single
    modalities that all have the same patients and records as the fullest cell, give the number;
    otherwise the largest cell is a lower bound.
    """
    cells = cell_entries(evidence.metrics)
    if not cells:
        return not_assessed("no cell was measured, so nobody was counted", _METRICS)
    if _EVERYBODY in cells:
        return measured(int(cells[_EVERYBODY]["patients"]), _METRICS)
    counts = {(int(one["records"]), int(one["patients"])) for one in cells.values()}
    if len(counts) == 1 and len(cells) == 2 ** len(evidence.config.modalities) - 1:
        return measured(counts.pop()[1], _METRICS)
    return derived(f"at least {max(patients for _, patients in counts)}", f"{_METRICS}, cells")
