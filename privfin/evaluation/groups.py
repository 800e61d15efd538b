"""Groups of held-out records by sex, age band and source, and the rule of the smallest group."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from privfin.evaluation.cells import CellResult

NOT_STATED = "not stated"
_SEXES = {"M": "male", "F": "female"}


@dataclass(frozen=True)
class GroupResult:
    """One group's results per availability cell.

    Attributes:
        cells: the cells with enough patients of the group.
        left_out: the group's other cells, each with the reason and without figures: too few
            patients for any to mean much. It hides nothing: whoever has the whole cell's counts can
            subtract the other groups'.
    """

    cells: dict[str, CellResult]
    left_out: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, ready for JSON."""
        return {
            "cells": {name: cell.to_dict() for name, cell in self.cells.items()},
            "left_out": self.left_out,
        }


#: What groups are made by -> the group's name -> its results.
Groups = dict[str, dict[str, GroupResult]]


def age_band(age: float, bands: Sequence[int]) -> str:
    """The name of the band an age in years falls into.

    Args:
        age: years, or NaN when it is not known.
        bands: ages at which a new band starts, rising; empty makes one band.

    Returns:
        ``under 40``, ``40 to 59``, ``80 and over``, or ``not stated``.
    """
    if math.isnan(age):
        return NOT_STATED
    starts = sorted(bands)
    at = sum(age >= start for start in starts)
    if not starts:
        return "all ages"
    if at == 0:
        return f"under {starts[0]}"
    if at == len(starts):
        return f"{starts[-1]} and over"
    return f"{starts[at - 1]} to {starts[at] - 1}"


def sex_name(sex: str) -> str:
    """``male``, ``female`` or ``not stated``."""
    return _SEXES.get(sex, NOT_STATED)


def group_names(
    sex: Sequence[str], age: Sequence[float], source: Sequence[str] | None, bands: Sequence[int]
) -> Iterator[tuple[str, list[str]]]:
    """The group of every record, by sex, by age band and by source.

    Args:
        sex: (n,) of M, F or blank.
        age: (n,) years, NaN when not known.
        source: (n,) names of the records' sources, or None when there is only one.
        bands: ages at which a new age band starts.

    Yields:
        What the groups are made by, and (n,) names of groups. What no record states is left out,
        and so is what would make a single group.
    """
    found = {
        "sex": [sex_name(one) for one in sex],
        "age": [age_band(one, bands) for one in age],
        "source": [one or NOT_STATED for one in source or ()],
    }
    for by, names in found.items():
        if len(set(names)) > 1:
            yield by, names


def in_order(by: str, names: Sequence[str], bands: Sequence[int]) -> list[str]:
    """The different groups, ages from young to old, others by name, ``not stated`` last."""
    place = {}
    if by == "age":
        starts = sorted(bands)
        ages = [starts[0] - 1, *starts] if starts else [0]
        place = {age_band(age, starts): at for at, age in enumerate(ages)}
    return sorted(set(names), key=lambda name: (name == NOT_STATED, place.get(name, 0), name))
