"""How an audit looks on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from privfin.cli.display import human_epsilon

if TYPE_CHECKING:
    from attacks.measure import Measured
    from attacks.roc import OperatingPoint
    from privfin.auditing.report import AuditReport


def print_report(console: Console, report: AuditReport, run: Path) -> None:
    """Tables of every observer's attacks, bounds beside claims, and the verdicts."""

    def say(text: str, style: str = "") -> None:
        console.print(text, style=style, highlight=False, markup=False)

    observers = list(dict.fromkeys(one.attempt.observer for one in report.measured))
    for observer in observers:
        shown = [one for one in report.measured if one.attempt.observer == observer]
        console.print(_success(observer, shown))
    first = report.measured[0] if report.measured else None
    if first is not None:
        say(
            f"TPR in % at that FPR, with {report.confidence:.0%} limits; * is below what the "
            f"sample resolves ({_smallest(report.measured)}), so at no false positive at all."
        )
        console.print(_bounds(report))
        say(
            "Every bound rests on fair coins thrown over members and held-out patients; a claim "
            "above the ceiling cannot be contradicted by a test of this size."
        )
    for canary in report.canaries:
        bound = canary.bound
        text = (
            "no bound"
            if bound is None
            else f"epsilon >= {bound.epsilon:.2f}, at most {bound.ceiling:.2f} could have shown"
        )
        say(
            f"Canaries ({canary.kind}, {canary.level}, {canary.observer}): {canary.canaries} "
            f"coins, {text}, claim {human_epsilon(canary.claim)}"
        )
    for name, view in report.views.items():
        differ = "differ between" if view["sizes_tell_sites_apart"] else "are equal at all"
        say(f"{name}: message sizes {differ} sites")
    for text in report.left_out:
        say(f"Left out: {text}")
    for text in (*report.contradictions, *report.risks):
        say(f"!!! {text}", style="bold red")
    say(_verdict(report), style="bold")
    say(f"Written: {run / 'audit.json'}, {run / 'audit-roc.png'}, {run / 'audit-roc.svg'}")
    say("These numbers are not covered by differential privacy: they stay with the auditor.")


def _success(observer: str, shown: Sequence[Measured]) -> Table:
    table = Table(
        title=f"Seen by: {observer}", title_justify="left", box=None, padding=(0, 1, 0, 0)
    )
    for name in ("attack", "patients"):
        table.add_column(name, no_wrap=True)
    for name in ("AUC", "TPR@1%", "@0.1%", "@0.01%"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in shown:
        area = _short(one.area.area) + f" {_short(one.area.low)}-{_short(one.area.high)}"
        table.add_row(
            one.attempt.attack, one.attempt.stratum, area, *(_rate(p) for p in one.points)
        )
    return table


def _short(area: float) -> str:
    """An area without the leading zero: six columns of numbers have to fit 80 characters."""
    return f"{area:.2f}".removeprefix("0")


def _rate(point: OperatingPoint) -> str:
    low, high = point.tpr_limits
    mark = "" if point.is_resolved else "*"
    return f"{_percent(point.tpr)} {_percent(low)}-{_percent(high)}{mark}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}" if share >= 0.0995 else f"{100 * share:.1f}"


def _smallest(measured: Sequence[Measured]) -> str:
    return f"1 in {max(one.curve.nonmembers for one in measured)} at best"


def _bounds(report: AuditReport) -> Table:
    table = Table(title="What the attacks prove of epsilon", title_justify="left", box=None,
                  padding=(0, 1, 0, 0))  # fmt: skip
    for name in ("attack", "observer"):
        table.add_column(name, no_wrap=True)
    for name in ("at least", "ceiling", "claim", "coins"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in report.measured:
        if one.bound is not None:
            claim = report.claim(one.attempt.observer)
            table.add_row(
                one.attempt.attack,
                one.attempt.observer,
                f"{one.bound.epsilon:.2f}",
                f"{one.bound.ceiling:.2f}",
                human_epsilon(claim.epsilon),
                str(one.coins),
            )
    return table


def _verdict(report: AuditReport) -> str:
    return {
        "contradiction": "CONTRADICTION: a bound is above the claim, so claim or code is wrong.",
        "risk": "RISK: an attack passes a threshold of --fail-on.",
        "none found": "No contradiction found. That is no proof of privacy: see the ceilings.",
    }[report.verdict]
