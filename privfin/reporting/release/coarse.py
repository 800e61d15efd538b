"""Numbers made coarser for a public copy: nobody can calculate the exact ones back.

Every function leaves alone what it has made, and none makes anything finer. Limits of a promise are
rounded so that the promise stays true: it becomes weaker.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from decimal import ROUND_HALF_UP, Decimal

from privfin.reporting.blocks_people import Count
from privfin.reporting.numbers import DOWN, NEAREST, UP, exactly, to_digits, to_places

#: Counts of people from 1 to this are not shown.
LARGEST_SMALL = 10
#: What stands for a count that is too small to be shown.
SMALL = f"1 to {LARGEST_SMALL}"
#: What stands for a count from which a small one could be calculated.
HIDDEN = "withheld"

_LEAST_ROUNDED = 20
_FINEST_PLACES = 3
_NUMBER = re.compile(
    rf"(?<![\w.,:/-])(?:{SMALL}|(?:about )?(?P<number>\d{{1,3}}(?:,\d{{3}})+|\d+))(?![\w./-]*\w)"
)
_DECIMAL = re.compile(r"(?<![\w.:/-])\d+(?:\.\d+(?:e-?\d+)?|e-?\d+)(?![\w./-]*\w)")


def coarse_count(count: Count) -> Count:
    """A number of people or records, coarse enough that differences of two show none exactly.

    Args:
        count: exact, or a text that an earlier call returned.

    Returns:
        0 as it is; ``1 to 10``; else rounded to two digits, to tens below 100 and never below 20:
        ``about 20`` are 11 to 24. Each of these stands for at least ten numbers, so that a total
        minus its other parts never tells a small part exactly.
    """
    if isinstance(count, str) or count == 0:
        return count
    if count <= LARGEST_SMALL:
        return SMALL
    size = max(1, len(str(count)) - 2)
    rounded = int(Decimal(count).quantize(Decimal(1).scaleb(size), ROUND_HALF_UP))
    return f"about {max(rounded, _LEAST_ROUNDED):,}"


def is_hidden(count: Count) -> bool:
    """Whether figures of so many people are not shown."""
    coarse = coarse_count(count)
    return coarse in (SMALL, HIDDEN)


def size_of(count: Count) -> int:
    """The number that a coarse count shows; 0 where it shows none. For choosing and ordering."""
    found = re.fullmatch(r"about ([\d,]+)", str(coarse_count(count)))
    return int(found.group(1).replace(",", "")) if found else 0


def digits_up(value: float, digits: int = 2) -> float:
    """Rounded up to so many significant digits; infinity stays."""
    return _digits(value, digits, UP)


def digits_down(value: float, digits: int = 2) -> float:
    """Rounded down to so many significant digits, towards minus infinity."""
    return _digits(value, digits, DOWN)


def digits_nearest(value: float, digits: int = 2) -> float:
    """Rounded to so many significant digits."""
    return _digits(value, digits, NEAREST)


def chance_up(value: float, digits: int = 1) -> float:
    """A chance in [0, 1] rounded up: to digits of it, or above 1/2 to those of what is left to 1.

    One digit, unless it follows from other numbers that are shown: a curve has many points, and
    each of them narrows down how many patients there can be.
    """
    if value <= 0.5:
        return digits_up(value, digits)
    return float(1 - exactly(digits_down(float(1 - exactly(value)), digits)))


def power_of_ten_up(value: float) -> float:
    """The smallest power of ten that is not below a positive value; 0 stays."""
    if value == 0.0:
        return 0.0
    exact = exactly(value)
    power = Decimal(1).scaleb(exact.adjusted())
    return float(power if power == exact else power * 10)


def places_for(patients: int) -> int:
    """Decimal places of a rate over so many patients: at most three, no step below one patient."""
    return min(_FINEST_PLACES, max(1, len(str(patients)) - 1))


def nearest(value: float, places: int) -> float:
    """Rounded to a grid."""
    return float(to_places(value, places, NEAREST))


def below(value: float, places: int) -> float:
    """The grid point at or below a value."""
    return float(to_places(value, places, DOWN))


def above(value: float, places: int) -> float:
    """The grid point at or above a value."""
    return float(to_places(value, places, UP))


def without_counts(text: str) -> str:
    """A text whose whole numbers may all be numbers of people or records, each made coarse."""
    return _NUMBER.sub(lambda found: _coarse(found, None), text)


def without(text: str, exact: Collection[int]) -> str:
    """A text in which each of these exact numbers, where it stands alone, is made coarse."""
    return _NUMBER.sub(lambda found: _coarse(found, exact), text)


def with_coarse_decimals(text: str, rounding: Callable[[float], float] = digits_up) -> str:
    """A text whose numbers with decimal places, or powers of ten, are made coarse."""

    def changed(found: re.Match[str]) -> str:
        value = float(found.group())
        return f"{power_of_ten_up(value) if 0 < value < 1e-3 else rounding(value):.12g}"

    return _DECIMAL.sub(changed, text)


def _coarse(found: re.Match[str], exact: Collection[int] | None) -> str:
    """What stands for a number in a text: itself if it is coarse, or not among ``exact``."""
    if found["number"] is None:
        return found.group()
    count = int(found["number"].replace(",", ""))
    return str(coarse_count(count)) if exact is None or count in exact else found.group()


def _digits(value: float, digits: int, rounding: str) -> float:
    return value if math.isinf(value) else float(to_digits(value, digits, rounding))
