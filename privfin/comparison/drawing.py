"""Matplotlib without a display, a home folder or a network; imported when something is drawn."""

from __future__ import annotations

import atexit
import io
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from privfin.errors import UserInputError
from privfin.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, LINE = "#1b1f24", "#d0d4d9"
#: The palette of Okabe and Ito ("Color Universal Design", 2008) without yellow and black, which
#: vanish on white or black paper. Series differ in marker and dash too.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":")
FORMATS = (".png", ".svg")


def style() -> dict[str, Any]:
    """Settings of every picture. Names of runs are text, never mathematics."""
    return {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 10,
        "text.parse_math": False,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": LINE,
        "grid.linewidth": 0.7,
        "xtick.color": INK,
        "ytick.color": INK,
        "svg.fonttype": "none",
        "svg.hashsalt": "privfin",
    }


def prepare_matplotlib() -> None:
    """Keep Matplotlib's caches out of the home folder. Call before importing it."""
    if "MPLCONFIGDIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="privfin-matplotlib-")
        os.environ["MPLCONFIGDIR"] = folder
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


def check_plot_path(path: Path) -> None:
    """Refuse, before any work, a picture that could not be written.

    Raises:
        UserInputError: the name does not end in .png or .svg, or the folder is not there.
    """
    if path.suffix.lower() not in FORMATS:
        raise UserInputError(f"{path}: a plot's name must end in {' or '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise UserInputError(f"{path.parent} does not exist: cannot write {path.name} there")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG, by the end of its name, whole or not at all."""
    write_bytes(path, _rendered(figure, path.suffix.lower().lstrip("."), transparent=False))


def inline_svg(figure: Figure, title: str) -> str:
    """A figure as an SVG element for a page, in the page's own colours.

    Ink and lines become ``currentColor`` and ``var(--line)``, colour k of the palette becomes
    ``var(--series-k)``. ``title`` must be escaped already; it is what a screen reader says.
    """
    text = _rendered(figure, "svg", transparent=True).decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = text.replace(INK, "currentColor").replace(LINE, "var(--line)")
    for number, colour in enumerate(PALETTE):
        text = text.replace(colour, f"var(--series-{number})")
    opening, rest = text.split(">", 1)
    # Without a fixed size the picture takes the width of the page.
    opening = re.sub(r' (?:width|height)="[^"]*"', "", opening)
    return f'{opening} role="img" aria-label="{title}">{rest}'


def _rendered(figure: Figure, kind: str, *, transparent: bool) -> bytes:
    import matplotlib

    stream = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context(style()):
        figure.savefig(
            stream,
            format=kind,
            dpi=150,
            metadata=metadata,
            transparent=transparent,
            bbox_inches="tight",
        )
    return stream.getvalue()
