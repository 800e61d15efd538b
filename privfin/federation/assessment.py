"""How the global model is measured on held-out patients, one availability cell at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from privfin.config import EvaluationConfig
from privfin.evaluation.cells import CellResult, evaluate_cell
from privfin.evaluation.groups import GroupResult, Groups, group_names, in_order
from privfin.federation.prepare import Progress, TestData, silent
from privfin.models.multimodal import Batch, MultimodalModel, masked_bce

_ROWS = 512
#: The cell of all held-out records as they are, where the configuration took inputs from some.
AS_IS = "as is"


def cells(modalities: Sequence[str]) -> dict[str, frozenset[str]]:
    """Availability cells by name, the fullest first: ``both``, ``image only``, ``text only``."""
    found: dict[str, frozenset[str]] = {}
    for size in range(len(modalities), 0, -1):
        for group in combinations(modalities, size):
            if size == len(modalities):
                name = {1: f"{group[0]} only", 2: "both"}.get(size, "all")
            else:
                name = " + ".join(group) + " only"
            found[name] = frozenset(group)
    return found


def predict_scores(model: MultimodalModel, batch: Batch) -> npt.NDArray[np.float64]:
    """Probabilities (n, L) of every label; absent modalities are imputed."""
    model.eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(batch), _ROWS):
            rows = batch.rows(torch.arange(start, min(start + _ROWS, len(batch))))
            parts.append(torch.sigmoid(model(rows).double()))
    return torch.cat(parts).numpy()


def held_out_loss(model: MultimodalModel, test: TestData) -> float:
    """Mean cross-entropy over the held-out records with what each of them has."""
    model.eval()
    with torch.no_grad():
        return float(masked_bce(model(test.batch), test.batch.labels).mean())


def cell_rows(test: TestData) -> Iterator[tuple[str, Tensor, Batch]]:
    """Every cell that has records: its name, their positions in the test data, and their rows."""
    for name, held in cells(tuple(test.batch.inputs)).items():
        have = torch.stack([test.batch.present[m] for m in sorted(held)]).all(dim=0)
        index = torch.nonzero(have).flatten()
        if len(index):
            yield name, index, test.batch.rows(index).only(held)
    if test.is_thinned:
        yield AS_IS, torch.arange(len(test.batch)), test.batch


def assess(
    model: MultimodalModel,
    test: TestData,
    label_names: Sequence[str],
    config: EvaluationConfig,
    seed: int,
    progress: Progress = silent,
) -> dict[str, CellResult]:
    """Results per availability cell. A cell without records is left out.

    A cell is made of the held-out records that have at least its modalities; the others are
    taken away from them. Where ``missingness.test`` took inputs away before that, :data:`AS_IS`
    is every held-out record with what it still has.
    """
    results: dict[str, CellResult] = {}
    total = len(cells(tuple(test.batch.inputs)))
    for name, scored in _score_cells(model, test):
        progress("measuring on held-out patients", len(results), total)
        results[name] = _evaluate(scored, label_names, config, seed)
    return results


def assess_groups(
    model: MultimodalModel,
    test: TestData,
    label_names: Sequence[str],
    config: EvaluationConfig,
    seed: int,
    progress: Progress = silent,
) -> Groups:
    """Results by sex, age band and source, each through all availability cells.

    A cell in which a group has fewer than ``config.smallest_group`` patients is named and not
    shown. Nothing is returned by what the held-out records do not state.
    """
    bands = config.age_bands
    by_kind = dict(group_names(test.sex, test.age, test.source, bands))
    if not by_kind:
        return {}
    cells_scored = list(_score_cells(model, test))
    results: Groups = {}
    total = sum(len(set(names)) for names in by_kind.values())
    for by, names in by_kind.items():
        of_record = np.array(names)
        results[by] = {}
        for group in in_order(by, names, bands):
            progress("measuring groups", sum(map(len, results.values())), total)
            shown, left_out = {}, {}
            for cell, scored in cells_scored:
                part = scored.of_records(of_record == group)
                patients = len(set(part.patient_ids))
                if patients >= config.smallest_group:
                    shown[cell] = _evaluate(part, label_names, config, seed)
                elif patients:
                    left_out[cell] = f"fewer than {config.smallest_group} patients"
            results[by][group] = GroupResult(shown, left_out)
    return results


@dataclass(frozen=True)
class _Scored:
    """Scores and labels (n, L) of a cell's records, and where each stands in the test data."""

    scores: npt.NDArray[np.float64]
    labels: npt.NDArray[np.float32]
    patient_ids: list[str]
    index: npt.NDArray[np.int64]

    def of_records(self, chosen: npt.NDArray[np.bool_]) -> _Scored:
        """Those of the chosen test records only; ``chosen`` has an entry a test record."""
        rows = np.flatnonzero(chosen[self.index])
        return _Scored(
            self.scores[rows],
            self.labels[rows],
            [self.patient_ids[row] for row in rows.tolist()],
            self.index[rows],
        )


def _score_cells(model: MultimodalModel, test: TestData) -> Iterator[tuple[str, _Scored]]:
    for name, index, rows in cell_rows(test):
        ids = [test.patient_ids[i] for i in index.tolist()]
        yield name, _Scored(predict_scores(model, rows), rows.labels.numpy(), ids, index.numpy())


def _evaluate(
    scored: _Scored, label_names: Sequence[str], config: EvaluationConfig, seed: int
) -> CellResult:
    return evaluate_cell(
        scored.scores,
        scored.labels,
        scored.patient_ids,
        label_names=tuple(label_names),
        bootstrap=config.bootstrap,
        confidence=config.confidence,
        calibration_bins=config.calibration_bins,
        seed=seed,
    )
