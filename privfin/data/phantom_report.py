"""Writes the phantom's radiology reports: findings named, hedged, denied, or left out.

A report carries part of what is true: a present finding is mentioned at a rate that grows with its
severity, some mentions are only suspected, some absent findings are suspected, and some present
ones are denied.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from privfin.data.phantom_image import StudyFacts

#: Chance that a present finding of the highest severity is mentioned; the mildest has half of it.
MENTIONED = {
    "Enlarged Cardiomediastinum": 0.80,
    "Cardiomegaly": 0.80,
    "Lung Opacity": 0.75,
    "Lung Lesion": 0.85,
    "Edema": 0.80,
    "Consolidation": 0.80,
    "Pneumonia": 0.80,
    "Atelectasis": 0.80,
    "Pneumothorax": 0.85,
    "Pleural Effusion": 0.80,
    "Pleural Other": 0.80,
    "Fracture": 0.85,
    "Support Devices": 0.80,
}
#: Chance that an absent finding, or a present one that is missed, is denied in so many words.
_DENIED = {
    "Cardiomegaly": 0.10,
    "Edema": 0.20,
    "Consolidation": 0.30,
    "Pneumonia": 0.10,
    "Pneumothorax": 0.45,
    "Pleural Effusion": 0.40,
    "Fracture": 0.12,
    "Lung Lesion": 0.06,
}
_MISSED_DENIED = 0.35
#: A mention is hedged with this chance; an absent finding is suspected about as often as hedged
#: mentions of it occur, so that a hedge is weak evidence.
_HEDGED = 0.22
_SUSPECTED = 0.16

_DENIAL_NOUNS = {
    "Cardiomegaly": "cardiomegaly",
    "Edema": "pulmonary edema",
    "Consolidation": "focal consolidation",
    "Pneumonia": "evidence of pneumonia",
    "Pneumothorax": "pneumothorax",
    "Pleural Effusion": "pleural effusion",
    "Fracture": "acute fracture",
    "Lung Lesion": "suspicious nodule",
}
# {s} becomes "right", "left" or "bilateral"; {w} a word for the severity.
_POSITIVE: dict[str, tuple[str, ...]] = {
    "Enlarged Cardiomediastinum": (
        "Mediastinal widening, {w}.",
        "Widening of the cardiomediastinal silhouette.",
        "Enlarged cardiomediastinal contours.",
        "Prominent superior mediastinum.",
    ),
    "Cardiomegaly": (
        "The heart is enlarged.",
        "Cardiomegaly, {w}.",
        "Cardiac silhouette is enlarged.",
        "Increased cardiothoracic ratio.",
        "Enlarged heart size, {w}.",
    ),
    "Lung Opacity": (
        "Hazy opacity in the {s} lung.",
        "{s} mid and lower lung opacities.",
        "Patchy {s} airspace opacity.",
        "Increased density over the {s} lung field.",
        "Ill-defined {s} opacification.",
    ),
    "Lung Lesion": (
        "Nodule in the {s} upper lobe.",
        "Rounded {s} lung mass.",
        "A nodular density projects over the {s} lung.",
        "{s} pulmonary nodule, follow up with CT.",
    ),
    "Edema": (
        "Pulmonary edema, {w}.",
        "Interstitial edema with Kerley lines.",
        "Pulmonary vascular congestion.",
        "Perihilar haze compatible with edema.",
        "Findings of fluid overload.",
    ),
    "Consolidation": (
        "Dense consolidation at the {s} base.",
        "{s} lower lobe consolidation.",
        "Confluent {s} airspace opacity.",
        "Lobar consolidation on the {s}.",
    ),
    "Pneumonia": (
        "{s} lung pneumonia.",
        "Findings consistent with infection on the {s}.",
        "Infectious infiltrate in the {s} lung.",
        "Patchy {s} airspace disease, likely pneumonia.",
    ),
    "Atelectasis": (
        "{s} basilar atelectasis.",
        "Linear opacities at the {s} base.",
        "Plate-like atelectasis at the {s} base.",
        "Low lung volumes with {s} volume loss.",
        "Subsegmental {s} atelectatic change.",
    ),
    "Pneumothorax": (
        "{w} {s} apical pneumothorax.",
        "{s} pneumothorax is present.",
        "Pleural line at the {s} apex.",
        "Residual {s} pneumothorax, {w}.",
    ),
    "Pleural Effusion": (
        "{w} {s} pleural effusion.",
        "Blunting of the {s} costophrenic angle.",
        "{s} pleural fluid.",
        "Layering {s} effusion.",
        "{w} effusion on the {s}.",
    ),
    "Pleural Other": (
        "{s} pleural thickening.",
        "{s} pleural scarring.",
        "Calcified {s} pleural plaque.",
    ),
    "Fracture": (
        "{s} rib fracture.",
        "Deformity of a {s} lateral rib.",
        "Healing {s} rib fractures.",
        "Cortical step-off of a {s} rib.",
    ),
    "Support Devices": (
        "Central venous catheter in place.",
        "Endotracheal tube above the carina.",
        "{s} PICC tip in the superior vena cava.",
        "{s} pacemaker with leads in expected position.",
        "Stable lines and tubes.",
        "Enteric tube courses below the diaphragm.",
    ),
}
_SUSPICIONS: dict[str, tuple[str, ...]] = {
    "Enlarged Cardiomediastinum": ("The mediastinum may be widened by projection.",),
    "Cardiomegaly": ("Heart size is borderline.", "Heart size is accentuated by AP technique."),
    "Lung Opacity": ("Subtle density may represent overlapping structures.",),
    "Lung Lesion": ("Possible nodule versus nipple shadow.",),
    "Edema": (
        "Possible mild vascular congestion.",
        "Interstitial markings are slightly prominent.",
    ),
    "Consolidation": ("Basilar opacity may represent atelectasis or consolidation.",),
    "Pneumonia": ("Infection cannot be excluded.", "Opacity may reflect pneumonia or aspiration."),
    "Atelectasis": ("Basilar opacity, likely atelectasis.", "Possible minor volume loss."),
    "Pneumothorax": ("Small pneumothorax is difficult to exclude.",),
    "Pleural Effusion": ("Trace effusion cannot be excluded.", "Possible small effusion."),
    "Pleural Other": ("Apical capping or pleural thickening is possible.",),
    "Fracture": ("Possible nondisplaced rib fracture.",),
    "Support Devices": ("Overlying wires and external leads.",),
}
_MINOR = (
    (),
    ("Calcified granuloma.", "Sequela of old granulomatous disease."),
    ("Tortuous aorta.", "Prominent aortic knob with calcification."),
    ("Hyperinflated lungs with flattened diaphragms.", "Emphysematous change."),
)
_OPENINGS = (
    "Single frontal view of the chest.",
    "AP portable chest radiograph.",
    "Comparison to prior study.",
    "Frontal radiograph of the chest.",
    "Limited by patient rotation.",
    "",
)
_NORMAL = (
    "No acute cardiopulmonary process.",
    "The lungs are clear.",
    "Normal chest radiograph.",
    "Heart size is normal and the lungs are clear.",
    "Unremarkable study.",
)
_NOT_NORMAL = ("No significant interval change.", "Clinical correlation is recommended.", "")
_SIDES = ("right", "bilateral", "left")
_WORDS = ("minimal", "mild", "moderate", "marked", "severe")


def write_reports(
    facts: StudyFacts,
    no_finding: npt.NDArray[np.bool_],
    prevalence: npt.NDArray[np.float64],
    rng: np.random.Generator,
) -> list[str]:
    """One report for each of the n studies.

    ``no_finding`` (n,) marks studies labelled "No Finding"; ``prevalence`` (13,) of the findings
    sets how often an absent one is suspected.
    """
    n, k = facts.present.shape
    draws = rng.random((n, k, 4))
    order = np.argsort(rng.random((n, k)), axis=1)
    general = rng.random((n, 5)).tolist()
    mentioned = np.array([MENTIONED[name] for name in facts.findings])
    suspected = np.minimum(_SUSPECTED * prevalence / (1.0 - prevalence), 0.12)
    denied = np.array([_DENIED.get(name, 0.0) for name in facts.findings])

    named = facts.present & (draws[..., 0] < mentioned * (0.5 + 0.5 * facts.severity))
    # A missed finding can be denied, but not suspected: that would be a mention.
    doubted = (named & (draws[..., 1] < _HEDGED)) | (~facts.present & (draws[..., 0] < suspected))
    denial = np.where(facts.present, denied * _MISSED_DENIED, denied)
    denies = ~named & ~doubted & (draws[..., 1] < denial)

    reports = []
    for i in range(n):
        told = [int(j) for j in order[i] if named[i, j] or doubted[i, j]]
        sentences = [
            _mention(facts, i, j, doubted=bool(doubted[i, j]), draws=draws[i, j]) for j in told
        ]
        refused = [_DENIAL_NOUNS[facts.findings[j]] for j in order[i] if denies[i, j]]
        reports.append(
            _report(sentences, refused, int(facts.minor[i]), bool(no_finding[i]), general[i])
        )
    return reports


def _pick(options: Sequence[str], uniform: float) -> str:
    return options[int(uniform * len(options))]


def _mention(
    facts: StudyFacts, i: int, j: int, *, doubted: bool, draws: npt.NDArray[np.float64]
) -> str:
    """The sentence naming finding ``j`` of study ``i``."""
    name = facts.findings[j]
    if doubted:
        return _pick(_SUSPICIONS[name], draws[2])
    sentence = _pick(_POSITIVE[name], draws[2])
    # The word for the size is the reader's impression: one step off at times.
    word = _pick(_WORDS, min(max(facts.severity[i, j] + 0.4 * (draws[3] - 0.5), 0.0), 0.999))
    filled = sentence.format(s=_SIDES[int(facts.side[i, j]) + 1], w=word)
    return filled[0].upper() + filled[1:]


def _report(
    sentences: list[str], refused: list[str], minor: int, healthy: bool, general: Sequence[float]
) -> str:
    """Put a report together: opening, findings, denials, a minor finding and a closing."""
    parts = [_pick(_OPENINGS, general[0]), *sentences]
    if len(refused) > 1:
        parts.append(f"No {', '.join(refused[:-1])} or {refused[-1]}.")
    elif refused:
        parts.append(f"No {refused[0]}.")
    if minor and general[1] < 0.6:
        parts.append(_pick(_MINOR[minor], general[2]))
    looks_normal = general[3] < (0.55 if healthy else 0.12) and not sentences
    parts.append(_pick(_NORMAL if looks_normal else _NOT_NORMAL, general[4]))
    # A report that would say nothing at all still says what was taken.
    return " ".join(part for part in parts if part) or _OPENINGS[0]
