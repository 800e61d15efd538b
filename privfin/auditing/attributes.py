"""What a final model adds to what an observer knows of a patient: sex, age band, site, a report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from attacks.attributes import AttributeResult, infer_attribute
from attacks.limits import BoolArray, FloatArray
from attacks.patients import owners
from privfin.auditing.population import Population
from privfin.evaluation.groups import NOT_STATED, age_band
from privfin.models.multimodal import Batch, MultimodalModel

#: Attributes that are tried.
ATTRIBUTES = ("sex", "age band", "site", "had a report")
# A value that fewer patients have cannot be learned.
_FEWEST = 10


def released(model: MultimodalModel, batch: Batch) -> FloatArray:
    """(records, k) features, imputed where absent, and logits of each record."""
    model.eval()
    with torch.no_grad():
        features = model.encode(batch)
        said = model.imputer(features, batch.present)
        full = model.complete(features, batch.present, said)
        logits = model.classify(full, batch.present)
        parts = [full[m] for m in model.modalities]
        found: FloatArray = torch.cat([*parts, logits], dim=1).double().numpy()
    return found


def attribute_results(
    model: MultimodalModel,
    population: Population,
    age_bands: Sequence[int],
    *,
    report: str = "text",
    resamples: int = 400,
    seed: int = 0,
) -> tuple[list[AttributeResult], list[str]]:
    """Every attribute of :data:`ATTRIBUTES` that enough patients have.

    The observer has the model's features and logits of a record. Without the model it has the
    labels and which modalities are there, and for sex the age and for age the sex. For "had a
    report" every record is asked with the other modalities alone, so that nothing shows the report
    but what the model learned from it; which modalities a record has is then not known.

    Args:
        model: the final one.
        population: of the run.
        age_bands: as ``evaluation.age_bands``.
        report: the modality whose presence is guessed.
        resamples: of the bootstrap.
        seed: of the folds.

    Returns:
        results, and a line for each attribute that was left out.
    """
    batch = population.queries()
    owner = owners(population.records, len(batch))
    sex = np.array([s for site in population.sites for s in site.sex])
    age = np.array([a for site in population.sites for a in site.age], dtype=np.float64)
    band = np.array([age_band(a, age_bands) for a in age])
    place = np.repeat(
        [site.name for site in population.sites], [len(site.patients) for site in population.sites]
    )
    labels = _with_unknown(batch.labels.double().numpy())
    present = np.stack([batch.present[m].numpy() for m in batch.present], axis=1).astype(float)
    sees = released(model, batch)
    years, woman = _with_unknown(age[:, None])[owner], (sex == "F").astype(float)[owner, None]
    known = np.hstack([labels, present])
    results: list[AttributeResult] = []
    left_out: list[str] = []

    def guess(
        name: str,
        values: npt.NDArray[np.str_],
        stated: BoolArray,
        seen: FloatArray,
        without: FloatArray,
    ) -> None:
        """``values`` and ``stated`` are by record."""
        for value in np.unique(values[stated]):
            rare = stated & (values == value)
            if np.unique(owner[rare]).size < _FEWEST:
                stated = stated & ~rare
        if np.unique(values[stated]).size < 2:
            left_out.append(f"{name}: fewer than two values with {_FEWEST} patients each")
            return
        results.append(
            infer_attribute(
                name,
                values[stated],
                seen[stated],
                without[stated],
                owner[stated],
                resamples=resamples,
                seed=seed,
            )
        )

    everyone = np.ones(len(owner), dtype=bool)
    guess("sex", sex[owner], (sex != "")[owner], sees, np.hstack([known, years]))
    guess("age band", band[owner], (band != NOT_STATED)[owner], sees, np.hstack([known, woman]))
    guess("site", place[owner], everyone, sees, known)
    others = frozenset(m for m in batch.inputs if m != report)
    if report in batch.present and others:
        alone = batch.only(others)
        first = np.array([rows[0] for rows in population.records])
        asked = np.zeros(len(owner), dtype=bool)
        asked[first] = True  # one record a patient, since only some may have had a report
        asked &= np.stack([alone.present[m].numpy() for m in others]).any(axis=0)
        had = np.where(batch.present[report].numpy(), "yes", "no")
        without = np.hstack([labels, years, woman])
        guess("had a report", had, asked, released(model, alone), without)
    else:
        left_out.append(f"had a report: there is no modality '{report}' beside another")
    return results, left_out


def _with_unknown(values: FloatArray) -> FloatArray:
    """Numbers with NaN as zeros, beside columns that say where they were."""
    return np.hstack([np.nan_to_num(values), np.isnan(values).astype(np.float64)])
