"""The phantom: a generated data set of chest X-rays and reports that belong to nobody.

It is public by construction, so it can be shipped, published and attacked. Labels follow the rates
of CheXpert (:mod:`privfin.data.phantom_labels`). A study's truth is drawn first; image and report
each show part of it, and the labels are the truth with a little noise. What the two share (which
findings, how severe, which side) is what lets one modality be imputed from the other; what either
omits is what makes it worth having both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from privfin.data.phantom_image import StudyFacts, draw_images
from privfin.data.phantom_labels import LabelModel, add_label_noise, label_model, statistics
from privfin.data.phantom_report import write_reports
from privfin.data.records import Dataset, Record
from privfin.errors import UserInputError

#: The 14 labels, in CheXpert's order.
LABELS: tuple[str, ...] = statistics().names
SMALLEST_IMAGE, LARGEST_IMAGE = 16, 64

# Patients are drawn in blocks of this size, so that patient i does not depend on how many there
# are. Changing it changes every generated data set.
_BLOCK = 128
# Chance of 1, 2, ... studies: CheXpert's quantiles (median 1, upper quartile 3) with the long
# tail cut at 5 and thinned, so that a data set of a few thousand patients stays small.
_STUDIES = (0.68, 0.17, 0.09, 0.04, 0.02)
# Share of the latent variance that a patient's studies have in common.
_SAME_PATIENT = 0.6
# Chance that a finding is on both sides; findings that are not listed are on one.
_BILATERAL = {
    "Edema": 1.0,
    "Pleural Effusion": 0.35,
    "Lung Opacity": 0.25,
    "Atelectasis": 0.35,
    "Pneumonia": 0.15,
    "Pleural Other": 0.15,
}


@dataclass(frozen=True)
class _Block:
    patient: npt.NDArray[np.int64]
    study: npt.NDArray[np.int64]
    images: npt.NDArray[np.uint8]
    texts: list[str]
    labels: npt.NDArray[np.float32]


def generate_phantom(patients: int, image_size: int = 32, seed: int = 0) -> Dataset:
    """Generate a data set of ``patients`` patients with 1 to 5 studies each.

    Every record has a uint8 ``image`` (``image_size``, ``image_size``), a ``text`` and 14 labels in
    {0, 1} in CheXpert's order. Equal arguments give the same records, and patient i is the same
    whatever the number of patients. ``seed`` is public and >= 0: nothing here is private.

    Raises :class:`UserInputError` if ``patients`` < 1, ``image_size`` is not in [16, 64] or
    ``seed`` < 0.
    """
    if patients < 1:
        raise UserInputError(f"the phantom needs at least 1 patient, got {patients}")
    if not SMALLEST_IMAGE <= image_size <= LARGEST_IMAGE:
        raise UserInputError(
            f"the phantom's image size must lie in [{SMALLEST_IMAGE}, {LARGEST_IMAGE}], "
            f"got {image_size}"
        )
    if seed < 0:
        raise UserInputError(f"the phantom's seed must not be negative, got {seed}")
    model = label_model()
    records = []
    for block in range(-(-patients // _BLOCK)):
        drawn = _draw_block(model, block, image_size, seed)
        for i, patient in enumerate(drawn.patient.tolist()):
            if patient >= patients:
                break
            name = f"phantom-{patient:06d}"
            records.append(
                Record(
                    record_id=f"{name}-{drawn.study[i]}",
                    patient_id=name,
                    inputs={"image": drawn.images[i], "text": drawn.texts[i]},
                    labels=drawn.labels[i],
                )
            )
    return Dataset("phantom", model.names, tuple(records))


def _draw_block(model: LabelModel, block: int, image_size: int, seed: int) -> _Block:
    """All studies of one block of patients, in the order of patients."""

    def stream(purpose: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, block, purpose])))

    rng = stream(0)
    counts = 1 + np.searchsorted(np.cumsum(_STUDIES)[:-1], rng.random(_BLOCK), side="right")
    body = rng.random((_BLOCK, 8))
    owner = np.repeat(np.arange(_BLOCK), counts)
    study = np.arange(owner.size) - np.repeat(np.cumsum(counts) - counts, counts) + 1

    findings = model.names[1:]
    k = len(findings)

    def correlated() -> npt.NDArray[np.float64]:
        common, own = rng.standard_normal((_BLOCK, k)), rng.standard_normal((owner.size, k))
        return np.asarray(np.sqrt(_SAME_PATIENT) * common[owner] + np.sqrt(1 - _SAME_PATIENT) * own)

    present = correlated() @ model.factor.T > model.thresholds
    severity = np.asarray(ndtr(correlated()))
    bilateral = np.array([_BILATERAL.get(name, 0.0) for name in findings])
    side = np.where(rng.random((_BLOCK, k)) < 0.5, -1, 1)
    side = np.where(rng.random((_BLOCK, k)) < bilateral, 0, side)[owner]

    labelled = add_label_noise(present, model.prevalence[1:], rng.random((owner.size, k)))
    devices = labelled[:, -1].astype(np.int64)
    healthy = ~labelled[:, :-1].any(axis=1)
    no_finding = healthy & (rng.random(owner.size) < model.no_finding[devices])
    # A study without a labelled pathology that is not "No Finding" shows something unlisted.
    minor_rate = np.where(no_finding, 0.04, np.where(healthy, 0.9, 0.2))
    minor = np.where(rng.random(owner.size) < minor_rate, rng.integers(1, 4, owner.size), 0)

    facts = StudyFacts(findings, present, severity, side, minor, body[owner])
    return _Block(
        patient=owner + block * _BLOCK,
        study=study,
        images=draw_images(facts, image_size, stream(1), stream(2)),
        texts=write_reports(facts, no_finding, model.prevalence[1:], stream(3)),
        labels=np.column_stack([no_finding, labelled]).astype(np.float32),
    )
