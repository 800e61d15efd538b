"""Pieces of a chart as SVG: the same numbers give the same bytes.

Every shape carries its colour twice: as an attribute, for readers without the page's style sheet
(a PDF writer), and as a class, with which the style sheet follows the light or dark theme.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

#: The palette of Okabe and Ito ("Color Universal Design", 2008), darker where it has to stand out
#: from white by 3:1. ``style.css`` has the same names for both themes.
COLOURS = {
    "ink": "#1b1f24",
    "muted": "#4d5661",
    "line": "#d0d4d9",
    "warn": "#a8071a",
    "series-0": "#0072b2",
    "series-1": "#c65300",
    "series-2": "#00805d",
    "series-3": "#b8558f",
    "series-4": "#946200",
    "series-5": "#2a7fb0",
}
SERIES = 6
DASHES = ("none", "7 3", "2 3", "9 3 2 3", "4 2", "1 2")
FONT = 12


def shape(name: str, *, stroke: str = "", fill: str = "none", **attributes: object) -> Markup:
    """An element in colours of the theme; ``_`` in names of attributes stands for ``-``.

    Args:
        name: of the element.
        stroke: name of a colour, or empty.
        fill: name of a colour, ``none``, or ``url(#pattern)``.
        attributes: numbers are written with one digit after the point.
    """
    classes = [f"s-{stroke}"] if stroke else []
    classes += [f"f-{fill}"] if fill in COLOURS else []
    written = {"class": " ".join(classes)} if classes else {}
    if stroke:
        written["stroke"] = COLOURS[stroke]
    written["fill"] = COLOURS.get(fill, fill)
    for key, value in attributes.items():
        written[key.replace("_", "-")] = _digits(value) if isinstance(value, float) else str(value)
    return Markup("<{} {}/>").format(name, _attributes(written))


def text(x: float, y: float, words: str, *, anchor: str = "start", colour: str = "ink") -> Markup:
    """Words at a place; ``anchor`` is ``start``, ``middle`` or ``end``."""
    return Markup(
        '<text x="{}" y="{}" text-anchor="{}" class="f-{}" fill="{}" font-size="{}">{}</text>'
    ).format(_digits(x), _digits(y), anchor, colour, COLOURS[colour], FONT, words)


def line(points: Iterable[tuple[float, float]], colour: str, dash: str = "none") -> Markup:
    """A line through points of the picture."""
    path = " ".join(f"{_digits(x)},{_digits(y)}" for x, y in points)
    return shape(
        "polyline", stroke=colour, points=path, stroke_width="1.8", stroke_dasharray=dash,
        stroke_linejoin="round",
    )  # fmt: skip


def marker(x: float, y: float, series: int) -> Markup:
    """A mark whose shape tells series apart without colour."""
    colour, r = f"series-{series % SERIES}", 4.5
    match series % SERIES:
        case 0:
            return shape("circle", fill=colour, cx=x, cy=y, r=r)
        case 1:
            return shape("rect", fill=colour, x=x - r, y=y - r, width=2 * r, height=2 * r)
        case 2:
            corners: tuple[tuple[float, float], ...] = ((x, y - r), (x + r, y + r), (x - r, y + r))
        case 3:
            corners = ((x, y - r - 1), (x + r + 1, y), (x, y + r + 1), (x - r - 1, y))
        case 4:
            corners = ((x - r, y - r), (x + r, y - r), (x, y + r))
        case _:
            return shape("circle", stroke=colour, cx=x, cy=y, r=r, stroke_width="2")
    path = " ".join(f"{_digits(a)},{_digits(b)}" for a, b in corners)
    return shape("polygon", fill=colour, points=path)


@dataclass(frozen=True)
class Chart:
    """A picture with its title, which stands over it."""

    title: str
    picture: Markup


def picture(
    ident: str, width: float, height: float, title: str, told: str, parts: Iterable[Markup]
) -> Chart:
    """A whole picture with the name and the description that a screen reader says."""
    drawn = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="{0}-t {0}-d" '
        'viewBox="0 0 {1} {2}" width="{1}" height="{2}" font-family="sans-serif">'
        '<title id="{0}-t">{3}</title><desc id="{0}-d">{4}</desc>{5}</svg>'
    ).format(ident, _digits(width), _digits(height), title, told, Markup("").join(parts))
    return Chart(title, drawn)


def shortened(words: str, letters: int = 28) -> str:
    """Words that fit beside a plot; the table under it has them whole."""
    return words if len(words) <= letters else words[: letters - 1] + "…"


@dataclass(frozen=True)
class Scale:
    """From values to places in a picture, linear or logarithmic; values outside are clipped."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value."""
        value = min(max(value, self.low), self.high)
        low, high, at = self.low, self.high, value
        if self.is_log:
            low, high, at = math.log10(low), math.log10(high), math.log10(value)
        return self.start + (self.end - self.start) * (at - low) / (high - low)

    def ticks(self) -> tuple[float, ...]:
        """Round values on the scale: whole decades, or steps of 1, 2 or 5."""
        if self.is_log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            return tuple(10.0**power for power in range(first, last + 1))
        rough = (self.high - self.low) / 5
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return tuple(round(step * k, 10) for k in range(first, last + 1))


@dataclass(frozen=True)
class Plot:
    """A square-cornered area with two scales, grid and words along both."""

    x: Scale
    y: Scale
    x_words: str
    y_words: str

    def grid(self) -> list[Markup]:
        """Lines and words of the area."""
        left, right, bottom, top = self.x.start, self.x.end, self.y.start, self.y.end
        parts = []
        for at in self.x.ticks():
            place = self.x(at)
            parts.append(shape("line", stroke="line", x1=place, x2=place, y1=top, y2=bottom))
            parts.append(text(place, bottom + 16, f"{at:g}", anchor="middle", colour="muted"))
        for at in self.y.ticks():
            place = self.y(at)
            parts.append(shape("line", stroke="line", x1=left, x2=right, y1=place, y2=place))
            parts.append(text(left - 7, place + 4, f"{at:g}", anchor="end", colour="muted"))
        parts.append(text((left + right) / 2, bottom + 36, self.x_words, anchor="middle"))
        parts.append(text(left, top - 10, self.y_words))
        return parts

    def curve(
        self, points: Sequence[tuple[float, float]], colour: str, dash: str = "none"
    ) -> Markup:
        """A line through values that rise with x; it enters at the left edge of the area."""
        outside = [point for point in points if point[0] < self.x.low]
        inside = [point for point in points if point[0] >= self.x.low]
        if outside and inside:
            (a, b), (c, d) = outside[-1], inside[0]
            inside.insert(0, (self.x.low, b + (d - b) * (self.x.low - a) / (c - a)))
        return line(dict.fromkeys((self.x(a), self.y(b)) for a, b in inside), colour, dash)


def legend(x: float, y: float, entries: Sequence[tuple[Markup, str]]) -> list[Markup]:
    """Samples, drawn around (0, 0) and 24 wide, with their words below each other."""
    parts = []
    for row, (sample, words) in enumerate(entries):
        place = y + 20 * row
        parts.append(Markup('<g transform="translate({},{})">{}</g>').format(
            _digits(x + 12), _digits(place), sample))  # fmt: skip
        parts.append(text(x + 32, place + 4, shortened(words)))
    return parts


def _digits(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _attributes(written: dict[str, str]) -> Markup:
    return Markup(" ").join(
        Markup('{}="{}"').format(key, escape(value)) for key, value in written.items()
    )
