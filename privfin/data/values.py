"""Numbers from the cells of a table: values of a tabular modality, and a patient's sex and age."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from privfin.data.tables import Row
from privfin.errors import DataError

#: What sex is as a number. It is the one category that may stand in a table as a word.
SEX_VALUES: Mapping[str, float] = {"F": 0.0, "M": 1.0}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
#: Beyond every range that makes sense, and far from where float32 ends.
_LARGEST = 1e30


def number(text: str, column: str, *, sex: str | None = None) -> float:
    """A cell as a number, NaN if blank; M is 1 and F is 0 in the column of the sex.

    That is the column called "sex" in any spelling, or the one that ``sex`` names.

    Raises:
        DataError: naming the column; the caller names the row.
    """
    text = text.strip()
    if not text:
        return math.nan
    is_sex = column == sex or column.casefold() == "sex"
    if is_sex and text.upper() in SEX_VALUES:
        return SEX_VALUES[text.upper()]
    if _NUMBER.fullmatch(text) is None:
        words = "M, F, a number" if is_sex else "a number"
        raise DataError(f"column '{column}' is '{text}'; a value is {words} or blank")
    return min(max(float(text), -_LARGEST), _LARGEST)


def row_values(
    row: Row, columns: Sequence[str], *, sex: str | None = None
) -> npt.NDArray[np.float32] | None:
    """Values (columns,) of a row with NaN where a cell is blank; None if all are.

    Raises:
        DataError: naming row and column of a cell that is no number.
    """
    try:
        values = [number(row[column], column, sex=sex) for column in columns]
    except DataError as error:
        raise DataError(f"{row.place}: {error}") from error
    if all(math.isnan(value) for value in values):
        return None
    return np.array(values, dtype=np.float32)
