"""privfin's model as the plain modules that stacked training takes: tensors by name in and out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from attacks.shadows import stacked_outputs
from privfin.models.imputers import RetrievalSet
from privfin.models.multimodal import Batch, MultimodalModel

_INPUT, _PRESENT, _LABELS = "input.", "present.", "labels"


def rows_of(batch: Batch) -> dict[str, Tensor]:
    """The tensors of a batch by name, (n, ...) each."""
    return {
        **{_INPUT + m: x for m, x in batch.inputs.items()},
        **{_PRESENT + m: p for m, p in batch.present.items()},
        _LABELS: batch.labels,
    }


def batch_of(rows: Mapping[str, Tensor]) -> Batch:
    """The batch that :func:`rows_of` took apart."""
    return Batch(
        {n.removeprefix(_INPUT): x for n, x in rows.items() if n.startswith(_INPUT)},
        {n.removeprefix(_PRESENT): x for n, x in rows.items() if n.startswith(_PRESENT)},
        rows[_LABELS],
    )


class LossOfRows(nn.Module):
    """Every row's training loss, (n,)."""

    def __init__(self, model: MultimodalModel, imputation_weight: float) -> None:
        super().__init__()
        self.model = model
        self._weight = imputation_weight

    def forward(self, rows: Mapping[str, Tensor]) -> Tensor:
        """Rows as of :func:`rows_of`."""
        return self.model.per_record_loss(batch_of(rows), self._weight)


class LogitsOfRows(nn.Module):
    """Every row's logits, (n, L)."""

    def __init__(self, model: MultimodalModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, rows: Mapping[str, Tensor]) -> Tensor:
        """Rows as of :func:`rows_of`."""
        logits: Tensor = self.model(batch_of(rows))
        return logits


class FeaturesOfRows(nn.Module):
    """Every row's feature of one modality, (n, width)."""

    def __init__(self, model: MultimodalModel, modality: str) -> None:
        super().__init__()
        self.model = model
        self._modality = modality

    def forward(self, rows: Mapping[str, Tensor]) -> Tensor:
        """Rows as of :func:`rows_of`."""
        return self.model.encode(batch_of(rows))[self._modality]


def stacked_banks(
    model: MultimodalModel, vectors: Tensor, public: Batch | None, device: torch.device | str
) -> dict[str, Tensor]:
    """Each model's features of the public records, as ``RetrievalSet`` keeps them.

    Args:
        model: of these parameters; it has been given the public records (``use_public``).
        vectors: (M, P).
        public: the public records, None where there are none.
        device: where to compute.

    Returns:
        buffers (M, records, width) by their name in a module that holds ``model``; empty for every
        other imputer.
    """
    if not isinstance(model.imputer, RetrievalSet) or public is None:
        return {}
    found = {}
    for m in model.modalities:
        size, width = model.imputer.get_buffer(f"bank_{m}").shape
        bank = torch.zeros(len(vectors), size, width, device=device)
        module = FeaturesOfRows(model, m)
        bank[:, : len(public)] = stacked_outputs(
            module, vectors, rows_of(public), device=device
        ).to(device)
        found[f"model.imputer.bank_{m}"] = bank
    return found


def stacked_logits(
    model: MultimodalModel,
    vectors: npt.NDArray[np.float32],
    batch: Batch,
    *,
    public: Batch | None = None,
    device: torch.device | str = "cpu",
) -> npt.NDArray[np.float32]:
    """Logits of many models, (M, records, L).

    Args:
        model: ``initial_model`` of the run, for its shape; left as it is but for the public
            records that it is given.
        vectors: (M, P) parameters.
        batch: the records; absent modalities are imputed.
        public: the public records of ``imputer = "retrieval"``.
        device: where to compute.
    """
    model.use_public(public)
    stacked = torch.from_numpy(np.ascontiguousarray(vectors)).to(device)
    buffers = stacked_banks(model, stacked, public, device)
    module = LogitsOfRows(model)
    return stacked_outputs(module, stacked, rows_of(batch), buffers=buffers, device=device).numpy()
