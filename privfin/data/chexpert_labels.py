"""The 14 CheXpert labels, which the chest X-ray sources share, and what their values mean.

Published files write 1 (present), 0 (absent), -1 (uncertain) and nothing at all (not mentioned).
Columns are always found by name: CheXpert and MIMIC-CXR order them differently.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from privfin.data.phantom_labels import statistics
from privfin.data.tables import Row
from privfin.errors import DataError, nearest

#: What becomes of a label of -1.
UncertainPolicy = Literal["unknown", "zero", "one"]

#: The 14 labels, in CheXpert's order.
CHEXPERT_LABELS: tuple[str, ...] = statistics().names

_UNCERTAIN: dict[str, float] = {"unknown": math.nan, "zero": 0.0, "one": 1.0}


def choose_labels(wanted: Sequence[str]) -> tuple[str, ...]:
    """The labels asked for, or all 14 if none is. Raises DataError for one unknown or repeated."""
    for name, times in Counter(wanted).items():
        if name not in CHEXPERT_LABELS:
            raise DataError(
                f"'{name}' is not one of the 14 CheXpert labels{nearest(name, CHEXPERT_LABELS)} "
                f"(known: {', '.join(CHEXPERT_LABELS)})"
            )
        if times > 1:
            raise DataError(f"label '{name}' is asked for twice")
    return tuple(wanted) or CHEXPERT_LABELS


def label_value(text: str, uncertain: UncertainPolicy, where: str) -> float:
    """The label behind one cell: 1, 0, or NaN where it is unknown.

    Args:
        text: "1", "0", "-1", each perhaps with ".0", or "" for not mentioned, which is unknown.
        uncertain: what -1 becomes.
        where: names row and column in the error.

    Raises:
        DataError: any other text.
    """
    if not text:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if value == -1.0:
        return _UNCERTAIN[uncertain]
    if value not in (0.0, 1.0):
        raise DataError(f"{where} is '{text}'; a label is 1, 0, -1 or blank")
    return value


def row_labels(
    row: Row, names: tuple[str, ...], uncertain: UncertainPolicy
) -> npt.NDArray[np.float32]:
    """The labels (L,) of a row whose columns are named after them. Raises DataError."""
    values = [label_value(row[n], uncertain, f"{row.place}: column '{n}'") for n in names]
    return np.array(values, dtype=np.float32)
