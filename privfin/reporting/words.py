"""Numbers in sentences: rounded towards the side that promises less."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

from privfin.reporting.blocks_people import Count

_UNITS = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))


def exactly(value: float) -> Decimal:
    """The decimal number that ``repr`` shows: what people read as the value."""
    return Decimal(repr(float(value)))


def at_most(value: float, places: int = 2) -> str:
    """Rounded up: a limit that is still true; ``inf`` for infinity."""
    return _text(value, places, ROUND_CEILING)


def at_least(value: float, places: int = 2) -> str:
    """Rounded down: what is shown or left, and no more; ``inf`` for infinity."""
    return _text(value, places, ROUND_FLOOR)


def percent(share: float, places: int = 1, rounding: str = ROUND_HALF_EVEN) -> str:
    """A share in [0, 1] as ``2.1 %``."""
    return f"{_rounded(100 * exactly(share), places, rounding)} %"


def percent_at_most(share: float, places: int = 1) -> str:
    """A share in [0, 1] as a percentage, rounded up."""
    return percent(share, places, ROUND_CEILING)


def counted(count: Count) -> str:
    """A number of people or records: ``1,125``, or the text that stands for it."""
    return count if isinstance(count, str) else f"{count:,}"


def number_of(count: Count, one: str, many: str | None = None) -> str:
    """``1 patient``, ``2 patients``, ``about 1,100 patients``."""
    return f"{counted(count)} {one if count == 1 else many or one + 's'}"


def data_size(size: int) -> str:
    """A number of bytes in the largest unit that it fills: ``14.3 MB``."""
    for unit, scale in _UNITS:
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return number_of(size, "byte")


def listed(parts: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _text(value: float, places: int, rounding: str) -> str:
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return _rounded(exactly(value), places, rounding)


def _rounded(value: Decimal, places: int, rounding: str) -> str:
    return f"{value.quantize(Decimal(1).scaleb(-places), rounding):f}"
