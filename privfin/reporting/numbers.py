"""Numbers of a report as text, the same in every format.

What promises something is rounded towards the side that promises less: epsilons that are claimed or
spent up, bounds that a test showed and what is left of a budget down, both to two decimal places.
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Final

from privfin.reporting.blocks_people import Count

#: Ways to round.
UP: Final = ROUND_CEILING
DOWN: Final = ROUND_FLOOR
NEAREST: Final = ROUND_HALF_EVEN

_OPPOSITE = {UP: DOWN, DOWN: UP, NEAREST: NEAREST}
_UNITS = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))


def exactly(value: float) -> Decimal:
    """The decimal number that ``repr`` shows: what people read as the value."""
    return Decimal(repr(float(value)))


def to_places(value: float | Decimal, places: int, rounding: str = NEAREST) -> Decimal:
    """A finite value rounded to decimal places."""
    exact = value if isinstance(value, Decimal) else exactly(value)
    return exact.quantize(Decimal(1).scaleb(-places), rounding)


def to_digits(value: float | Decimal, digits: int, rounding: str = NEAREST) -> Decimal:
    """A finite value rounded to significant digits."""
    exact = value if isinstance(value, Decimal) else exactly(value)
    return to_places(exact, digits - 1 - exact.adjusted(), rounding) if exact else exact


def at_most(value: float, places: int = 2) -> str:
    """Rounded up: a limit that is still true, ``8.00``; infinity is ``infinite``."""
    return _endless(value) or f"{to_places(value, places, UP):f}"


def at_least(value: float, places: int = 2) -> str:
    """Rounded down: what is shown or left, and no more, ``0.20``; infinity is ``infinite``."""
    return _endless(value) or f"{to_places(value, places, DOWN):f}"


def significant(value: float, digits: int = 4, rounding: str = NEAREST) -> str:
    """Significant digits: ``0.6854``, ``12``, ``1e-05``, ``infinite``."""
    return _endless(value) or f"{float(to_digits(value, digits, rounding)):.{digits}g}"


def delta_text(delta: float) -> str:
    """A delta, rounded up to four digits: ``1e-05``."""
    return significant(delta, rounding=UP)


def percent(share: float, rounding: str = NEAREST) -> str:
    """A share in [0, 1] with three digits: ``2.1 %``; 100 % for all only (``99.97 %``)."""
    shown = 100 * exactly(share)
    missing = 100 - shown
    if 0 < missing < Decimal("0.5"):
        # As many digits as the first that is not a nine needs.
        left = to_digits(missing, 1, _OPPOSITE[rounding])
        return f"{(100 - left).normalize():f} %"
    return f"{to_digits(shown, 3, rounding).normalize():f} %"


def percent_at_most(share: float) -> str:
    """A share in [0, 1] as a percentage, rounded up."""
    return percent(share, UP)


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


def exact_size(size: int) -> str:
    """A number of bytes, and what is easier to read: ``14,328,774 bytes (14.3 MB)``."""
    exact = number_of(size, "byte")
    return exact if size < _UNITS[-1][1] else f"{exact} ({data_size(size)})"


def listed(parts: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _endless(value: float) -> str:
    if math.isinf(value):
        return "infinite" if value > 0 else "-infinite"
    return ""
