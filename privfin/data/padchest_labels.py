"""PadChest's own labels as the 14 CheXpert labels.

PadChest names what a report says in 193 English terms (Bustos et al., "PadChest: A large chest
x-ray image dataset with multi-label annotated reports", 2020, with a tree of terms). This map is
privfin's own proposal: a term has a place in it if it names the label's finding or a kind of it.
Terms without a place, such as "scoliosis" or "COPD signs", only say that the study was labelled.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

NO_FINDING = "No Finding"

#: Label to the terms that make it 1, in lower case.
PADCHEST_TERMS: Mapping[str, tuple[str, ...]] = {
    NO_FINDING: ("normal",),
    "Enlarged Cardiomediastinum": (
        "mediastinal enlargement",
        "superior mediastinal enlargement",
        "mediastinal mass",
    ),
    "Cardiomegaly": ("cardiomegaly",),
    "Lung Opacity": (
        "infiltrates",
        "alveolar pattern",
        "interstitial pattern",
        "reticular interstitial pattern",
        "reticulonodular interstitial pattern",
        "ground glass pattern",
        "miliary opacities",
        "increased density",
    ),
    "Lung Lesion": (
        "nodule",
        "multiple nodules",
        "pulmonary mass",
        "granuloma",
        "calcified granuloma",
        "cavitation",
        "lung metastasis",
        "lepidic adenocarcinoma",
    ),
    "Edema": ("pulmonary edema",),
    "Consolidation": ("consolidation", "air bronchogram"),
    "Pneumonia": ("pneumonia", "atypical pneumonia"),
    "Atelectasis": (
        "atelectasis",
        "atelectasis basal",
        "laminar atelectasis",
        "lobar atelectasis",
        "segmental atelectasis",
        "total atelectasis",
        "round atelectasis",
    ),
    "Pneumothorax": ("pneumothorax", "hydropneumothorax"),
    "Pleural Effusion": (
        "pleural effusion",
        "loculated pleural effusion",
        "loculated fissural effusion",
        "hydropneumothorax",
        "empyema",
        "hemothorax",
    ),
    "Pleural Other": (
        "pleural thickening",
        "apical pleural thickening",
        "calcified pleural thickening",
        "pleural plaques",
        "calcified pleural plaques",
        "pleural mass",
    ),
    "Fracture": (
        "fracture",
        "rib fracture",
        "callus rib fracture",
        "clavicle fracture",
        "humeral fracture",
        "vertebral fracture",
    ),
    "Support Devices": (
        "electrical device",
        "single chamber device",
        "dual chamber device",
        "pacemaker",
        "dai",
        "catheter",
        "central venous catheter",
        "central venous catheter via jugular vein",
        "central venous catheter via subclavian vein",
        "central venous catheter via umbilical vein",
        "reservoir central venous catheter",
        "endotracheal tube",
        "tracheostomy tube",
        "nsg tube",
        "chest drain tube",
        "gastrostomy tube",
        "nephrostomy tube",
        "double j stent",
        "ventriculoperitoneal drain tube",
        "artificial heart valve",
        "artificial mitral heart valve",
        "artificial aortic heart valve",
        "endoprosthesis",
        "aortic endoprosthesis",
        "prosthesis",
        "humeral prosthesis",
        "osteosynthesis material",
    ),
}
#: Terms that hint at a label without saying it: then it is unknown, not absent.
_UNDECIDED: Mapping[str, tuple[str, ...]] = {
    "Lung Lesion": ("mass",),
    "Edema": ("heart insufficiency", "kerley lines", "hilar congestion"),
    "Pleural Effusion": ("costophrenic angle blunting",),
    "Fracture": ("vertebral compression", "vertebral anterior compression"),
}
#: Terms that say nothing about the chest: with no other term, nothing is known.
_SAY_NOTHING = frozenset({"exclude", "suboptimal study"})
#: Nothing changed since an earlier study, whose findings need not be named again.
_UNCHANGED = "unchanged"
#: What may be there in a study without finding.
_NO_PATHOLOGY = (NO_FINDING, "Support Devices")

_WORD = r"""(?:'[^'\\]*'|"[^"\\]*")"""
_LIST = re.compile(rf"\[\s*(?:{_WORD}\s*(?:,\s*{_WORD}\s*)*,?\s*)?\]")


def parse_terms(text: str) -> frozenset[str] | None:
    """The terms of a cell such as "['pleural effusion', ' nodule']", in lower case.

    None where nothing was labelled: a blank cell, "nan" or an empty list.

    Raises:
        ValueError: the cell is not a list of quoted words. Nothing in it is ever run.
    """
    if not text or text.lower() in ("nan", "null", "none"):
        return None
    if not _LIST.fullmatch(text):
        raise ValueError("is not a list of quoted words")
    terms = frozenset(term for term in _words(text) if term)
    return terms or None


def _words(text: str) -> Iterator[str]:
    for match in re.finditer(_WORD, text):
        yield match.group()[1:-1].strip().lower()


def padchest_labels(
    terms: frozenset[str] | None, names: tuple[str, ...]
) -> npt.NDArray[np.float32]:
    """The labels ``names`` (L,) of an image with these ``terms``.

    1 where a term stands for the label. Otherwise 0, because PadChest names whatever its reports
    find; but NaN where a term only hints at it, where the study is "unchanged" since one that is
    not named, and everywhere where nothing was labelled (a null is not "normal") or the terms say
    that the image is of no use. "No Finding" needs "normal" without any term of a pathology.
    """
    if terms is None or terms <= _SAY_NOTHING:
        return np.full(len(names), math.nan, dtype=np.float32)
    present = {name for name, words in PADCHEST_TERMS.items() if terms.intersection(words)}
    hinted = {name for name, words in _UNDECIDED.items() if terms.intersection(words)} - present
    pathology = bool(hinted or present.difference(_NO_PATHOLOGY))
    if pathology:
        present.discard(NO_FINDING)
    if _UNCHANGED in terms and NO_FINDING not in present:
        hinted |= set(PADCHEST_TERMS) - present
        if pathology:
            hinted.discard(NO_FINDING)
    values = [1.0 if n in present else math.nan if n in hinted else 0.0 for n in names]
    return np.array(values, dtype=np.float32)
