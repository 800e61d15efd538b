"""Open-I's MeSH codes as the 14 CheXpert labels.

People coded the reports of Open-I with terms such as "Opacity/lung/base/left": a head, then
qualifiers (Demner-Fushman et al. 2016). This map from heads to labels is privfin's own proposal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from privfin.data.chexpert_labels import CHEXPERT_LABELS

NO_FINDING = "No Finding"
#: Nobody coded it: no head stands for it.
_WITHOUT_HEAD = "Enlarged Cardiomediastinum"

#: Head of a term, in lower case, to the labels that it makes 1.
MESH_LABELS: Mapping[str, tuple[str, ...]] = {
    "normal": (NO_FINDING,),
    "cardiomegaly": ("Cardiomegaly",),
    "opacity": ("Lung Opacity",),
    "airspace disease": ("Lung Opacity",),
    "infiltrate": ("Lung Opacity",),
    "density": ("Lung Opacity",),
    "nodule": ("Lung Lesion",),
    "mass": ("Lung Lesion",),
    "granuloma": ("Lung Lesion",),
    "calcified granuloma": ("Lung Lesion",),
    "pulmonary edema": ("Edema",),
    "pulmonary congestion": ("Edema",),
    "consolidation": ("Consolidation",),
    "pneumonia": ("Pneumonia",),
    "pulmonary atelectasis": ("Atelectasis",),
    "pneumothorax": ("Pneumothorax",),
    "pleural effusion": ("Pleural Effusion",),
    "hydropneumothorax": ("Pneumothorax", "Pleural Effusion"),
    "pleural thickening": ("Pleural Other",),
    "fractures, bone": ("Fracture",),
    "catheters, indwelling": ("Support Devices",),
    "implanted medical device": ("Support Devices",),
    "medical device": ("Support Devices",),
    "surgical instruments": ("Support Devices",),
    "tube, inserted": ("Support Devices",),
}
#: Heads that hint at a label without saying it: it is unknown then, not absent.
_UNDECIDED: Mapping[str, str] = {"cardiac shadow": "Cardiomegaly"}
#: Terms that say nothing about the chest: a report with no other has no labels.
_SAY_NOTHING = ("no indexing", "technical quality of image unsatisfactory")


def mesh_labels(terms: Sequence[str], names: Sequence[str]) -> npt.NDArray[np.float32]:
    """The labels ``names`` (L,) of a report coded with these major ``terms``.

    1 where a term's head stands for the label (case does not matter), 0 for the others once the
    report is coded at all. All are NaN where it is not. Enlarged Cardiomediastinum, which no head
    stands for, is 0 in normal reports and NaN in the rest.

    Raises:
        KeyError: a name that is not one of the 14 labels.
    """
    split = [[part.strip().casefold() for part in term.split("/")] for term in terms]
    heads = [_head(parts) for parts in split if parts[0] and parts[0] not in _SAY_NOTHING]
    coded = 0.0 if heads else math.nan
    values = dict.fromkeys(CHEXPERT_LABELS, coded)
    if "normal" not in heads:
        values[_WITHOUT_HEAD] = math.nan
    for head in heads:
        if head in _UNDECIDED:
            values[_UNDECIDED[head]] = math.nan
    for head in heads:
        values.update(dict.fromkeys(MESH_LABELS.get(head, ()), 1.0))
    return np.array([values[name] for name in names], dtype=np.float32)


def _head(parts: Sequence[str]) -> str:
    """The head; "Thickening/pleura" is how the codes write pleural thickening."""
    if parts[0] == "thickening" and "pleura" in parts[1:]:
        return "pleural thickening"
    return " ".join(parts[0].split())
