"""A comparison as one HTML file: no script, no network, light and dark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from privfin.comparison.drawing import inline_svg
from privfin.comparison.plots import forest
from privfin.comparison.results import Comparison
from privfin.comparison.words import paired_words, summary_words

# Colours of the palette, lighter on dark paper where they would be too dark.
_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --line: #d0d4d9; --warn: #a8071a;
  --series-0: #0072b2; --series-1: #d55e00; --series-2: #009e73; --series-3: #b8558f;
  --series-4: #b87800; --series-5: #2f8fc4; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e6e8ea; --line: #3b4249;
  --warn: #ff8f8f; --series-0: #4db2ea; --series-1: #ff9152; --series-2: #35cfa0;
  --series-3: #e09ac3; --series-4: #f0b840; --series-5: #8accf2; } }
body { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
  margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; width: 100%; }
.wide { overflow-x: auto; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .6rem; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
td.n { font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap; }
caption { font-weight: 600; text-align: left; }
svg { height: auto; max-width: 100%; }
strong.warn { color: var(--warn); }
"""


def comparison_page(comparison: Comparison) -> str:
    """The whole page. Names of runs and values of options are escaped."""
    metric = comparison.metric_name
    title = f"{metric} of {sum(len(s.runs) for s in comparison.settings)} runs"
    body = [
        f"<h1>{escape(title)}</h1>",
        "<p>Measured on held-out patients without noise: these figures are not covered by "
        "differential privacy.</p>",
        "<h2>Results by available modalities</h2>",
        f"<figure>{inline_svg(forest(comparison), escape(title, quote=True))}</figure>",
        _results(comparison),
        "<h2>Runs</h2>",
        _runs(comparison),
    ]
    if comparison.differences:
        body += ["<h2>What differs in their configurations</h2>", _differences(comparison)]
    if comparison.pairs:
        body += ["<h2>Paired differences</h2>", _pairs(comparison)]
    if comparison.notices:
        notes = "".join(f"<li>{escape(text)}</li>" for text in comparison.notices)
        body += ["<h2>Notes</h2>", f"<ul>{notes}</ul>"]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _results(comparison: Comparison) -> str:
    rows = []
    for cell in comparison.cells:
        for setting in comparison.settings:
            summary = comparison.summaries[setting.name][cell]
            marked = escape(setting.name) + ("" if setting.is_private else " " + _NOT_PRIVATE)
            value, interval, count = summary_words(summary)
            rows.append([escape(cell), marked, value, interval, count])
    level = f"{100 * comparison.confidence:g} %"
    spread = f"sd over seeds, or {level} interval over patients"
    head = ["available", "setting", comparison.metric_name, spread, "runs"]
    return _table("Each setting in each cell", head, rows, numbers=(2, 4))


_NOT_PRIVATE = '<strong class="warn">NOT PRIVATE</strong>'


def _runs(comparison: Comparison) -> str:
    rows = []
    for setting in comparison.settings:
        for run in setting.runs:
            claim = escape(run.claim)
            shown = claim if run.is_private else f'<strong class="warn">{claim}</strong>'
            spent = "inf" if math.isinf(run.epsilon) else f"{run.epsilon:.4g}"
            rows.append([escape(setting.name), escape(run.name), str(run.seed), shown, spent])
    head = ["setting", "run", "seed", "claim", "epsilon spent"]
    return _table("Runs and what they guarantee", head, rows, numbers=(2, 4))


def _differences(comparison: Comparison) -> str:
    rows = [
        [f"<code>{escape(key)}</code>", escape(value), escape("; ".join(names))]
        for key, values in comparison.differences.items()
        for value, names in values.items()
    ]
    return _table("Options that differ", ["option", "value", "settings"], rows)


def _pairs(comparison: Comparison) -> str:
    rows = []
    for pair in comparison.pairs:
        difference, interval, p_value, n = paired_words(pair.result)
        rows.append(
            [
                escape(pair.cell),
                f"{escape(pair.second)} minus {escape(pair.first)}",
                difference,
                interval,
                p_value,
                n,
                escape(pair.result.caution),
            ]
        )
    level = f"{100 * comparison.confidence:g} % t interval"
    head = ["available", "difference", "mean", level, "sign-flip p", "n", "note"]
    return _table("Over the seeds that both settings have", head, rows, numbers=(2, 4, 5))


def _table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()
) -> str:
    """A table whose cells are HTML already."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = []
    for row in rows:
        cells = [f'<th scope="row">{row[0]}</th>']
        for at, text in enumerate(row[1:], start=1):
            cells.append(f'<td class="n">{text}</td>' if at in numbers else f"<td>{text}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="wide"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )
