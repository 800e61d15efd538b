"""Tables of a report: rows of any kind, and those whose rows are nested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from privfin.reporting.blocks_people import Clause, Risk, Signature
from privfin.reporting.blocks_privacy import ObserverGuarantee, TradeOff
from privfin.reporting.blocks_results import (
    AttackResult,
    CellResult,
    ComparedRun,
    GroupResult,
    LabelResult,
)
from privfin.reporting.facts import Strict
from privfin.reporting.numbers import at_least, at_most, counted, delta_text
from privfin.reporting.page.charts import most_by_epsilon_alone
from privfin.reporting.page.labels import COLUMNS
from privfin.reporting.page.wording import (
    NOT_STATED,
    interval,
    percent,
    plain,
)


@dataclass(frozen=True)
class Links:
    """A cell that points into the report."""

    pointers: tuple[str, ...]


@dataclass(frozen=True)
class Blank:
    """A cell that a person fills in, by hand on paper."""

    open_words: str


Cell = str | Links | Blank | tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table: its caption, names of columns and rows; ``numbers`` are columns of numbers."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numbers: frozenset[int] = frozenset()


def rows_table(caption: str, rows: Sequence[Strict]) -> Table:
    """Rows of one kind, a column for each of their fields."""
    kind = type(rows[0])
    fields = list(kind.model_fields)
    numbers = {
        at
        for at, name in enumerate(fields)
        if all(_is_number(getattr(row, name)) for row in rows) and at > 0
    }
    return Table(
        caption=caption,
        head=tuple(
            COLUMNS.get(f"{kind.__name__}.{name}", name.replace("_", " ")) for name in fields
        ),
        rows=tuple(tuple(plain(name, getattr(row, name)) for name in fields) for row in rows),
        numbers=frozenset(numbers),
    )


def one_row(caption: str, row: Strict) -> Table:
    """A single row, a line for each of its fields."""
    whole = rows_table(caption, [row])
    cells_ = zip(whole.head, whole.rows[0], strict=True)
    return Table(caption, ("field", "value"), tuple(cells_))


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def observers(rows: Sequence[ObserverGuarantee]) -> list[Table]:
    """The guarantee against each observer, and the most that each could find."""
    promised = Table(
        "What is promised against each observer, for one protected unit",
        ("observer", "what it sees", "epsilon", "delta", "mu", "right at most, from 50:50",
         "by epsilon and delta alone"),
        tuple(
            (row.observer, row.sees, at_most(row.epsilon), delta_text(row.delta), at_most(row.mu),
             percent(row.best_accuracy), percent(row.certainty_of_epsilon_alone))
            for row in rows
        ),
        frozenset({2, 3, 4, 5, 6}),
    )  # fmt: skip
    rates = sorted({point.false_positive_rate for row in rows for point in row.trade_off})
    if not rates:
        return [promised]
    found = [
        {point.false_positive_rate: point.true_positive_rate for point in row.trade_off}
        for row in rows
    ]
    most = Table(
        "Most members that any attack finds, at rates of false alarms",
        ("observer", *(f"at {percent(rate)}" for rate in rates)),
        tuple(
            (row.observer, *(percent(at[rate]) if rate in at else NOT_STATED for rate in rates))
            for row, at in zip(rows, found, strict=True)
        ),
        frozenset(range(1, len(rates) + 1)),
    )
    return [promised, most]


def trade_off(
    curve: Sequence[TradeOff], epsilon: float, delta: float, attacks: Sequence[AttackResult]
) -> list[Table]:
    """What the chart of the trade-off curve shows: points of the curve, and attacks."""
    step = max(1, (len(curve) - 1) // 11)
    kept = [*curve[:-1:step], *curve[-1:]]
    of = "" if len(kept) == len(curve) else f"{len(kept)} of {len(curve)} points; "
    points = Table(
        f"Trade-off curve ({of}the file of JSON has all)",
        ("false alarms", "most members found", "by epsilon and delta alone"),
        tuple(
            (percent(one.false_positive_rate), percent(one.true_positive_rate),
             percent(most_by_epsilon_alone(one.false_positive_rate, epsilon, delta)))
            for one in kept
        ),
        frozenset({0, 1, 2}),
    )  # fmt: skip
    if not attacks:
        return [points]
    marks = Table(
        "Attacks; drawn as points where the rate can be told from none",
        ("attack", "false alarms", "members found", "can be told from none"),
        tuple(
            (one.attack, percent(at.fpr), interval(at.tpr, share=True),
             "yes" if at.is_resolved else "no: too few patients")
            for one in attacks
            for at in one.tpr
        ),
        frozenset({1, 2}),
    )  # fmt: skip
    return [points, marks]


def attacks(observer: str, rows: Sequence[AttackResult], delta: str) -> list[Table]:
    """Attacks by one observer, and what has to be known beside their figures."""
    rates = sorted({at.target_fpr for row in rows for at in row.tpr}, reverse=True)
    claims = ", ".join(dict.fromkeys(at_most(row.claim) for row in rows))
    results = Table(
        f"Membership attacks by the observer {observer}; epsilon claimed {claims} at delta {delta}",
        ("attack", "patients (trained on, others)", "AUC",
         *(f"found at {percent(rate)} false alarms" for rate in rates),
         "epsilon at least", "could have shown"),
        tuple(
            (row.attack, f"{row.stratum} ({counted(row.members)}, {counted(row.nonmembers)})",
             interval(row.auc), *(_found(row, rate) for rate in rates), *_bounds(row))
            for row in rows
        ),
        frozenset(range(2, 5 + len(rates))),
    )  # fmt: skip
    noted: dict[str, list[str]] = {}
    for row in rows:
        for words in filter(None, (row.withheld, row.note)):
            noted.setdefault(words, []).append(f"{row.attack} ({row.stratum})")
    notes = Table(
        f"Notes on the attacks by the observer {observer}",
        ("note", "attacks (patients)"),
        tuple((words, ", ".join(which)) for words, which in noted.items()),
    )
    return [results, *([notes] if notes.rows else [])]


def _found(row: AttackResult, rate: float) -> str:
    for at in row.tpr:
        if at.target_fpr == rate:
            return interval(at.tpr, share=True) + ("" if at.is_resolved else ", not resolved")
    return NOT_STATED


def _bounds(row: AttackResult) -> tuple[str, str]:
    bound, ceiling = row.epsilon_bound, row.epsilon_ceiling
    return (
        NOT_STATED if bound is None else at_least(bound),
        NOT_STATED if ceiling is None else at_least(ceiling),
    )


_SCORES = ("AUROC", "AUPRC", "calibration error", "Brier score")


def _scores(row: CellResult | LabelResult) -> tuple[str, str, str, str]:
    ece, brier = (NOT_STATED if x is None else f"{x:.3f}" for x in (row.ece, row.brier))
    return (interval(row.auroc), interval(row.auprc), ece, brier)


def _withheld(words: str | None) -> str:
    return words or "nothing"


def cells(rows: Sequence[CellResult], which: str) -> Table:
    """Results of availability cells."""
    levels = sorted({_level(row.confidence) for row in rows})
    return Table(
        f"{which}, macro over labels; {', '.join(levels)}",
        ("available", "records", "patients", *_SCORES, "withheld"),
        tuple(
            (row.cell, counted(row.records), counted(row.patients), *_scores(row),
             _withheld(row.withheld))
            for row in rows
        ),
        frozenset(range(1, 7)),
    )  # fmt: skip


def _level(confidence: float) -> str:
    return "bounds that always hold" if confidence == 1.0 else f"intervals of {percent(confidence)}"


def labels(row: CellResult) -> Table:
    """Results of the labels of one cell."""
    return Table(
        f"Labels where {row.cell} is available",
        ("label", "with", "without", *_SCORES, "left out or withheld"),
        tuple(
            (one.label, counted(one.positives), counted(one.negatives), *_scores(one),
             "; ".join(filter(None, (one.left_out, one.withheld))) or "no")
            for one in row.labels
        ),
        frozenset(range(1, 7)),
    )  # fmt: skip


def groups(by: str, rows: Sequence[GroupResult]) -> list[Table]:
    """Results of the subgroups of one kind, and what was left out of them."""
    results = Table(
        f"Subgroups by {by}, macro over labels",
        ("subgroup", "available", "records", "patients", *_SCORES, "withheld"),
        tuple(
            (group.group, row.cell, counted(row.records), counted(row.patients), *_scores(row),
             _withheld(row.withheld))
            for group in rows
            for row in group.cells
        ),
        frozenset(range(2, 8)),
    )  # fmt: skip
    left = Table(
        f"Left out of the subgroups by {by}",
        ("subgroup", "what", "why"),
        tuple((group.group, what, why) for group in rows for what, why in group.left_out.items()),
    )
    return [table for table in (results, left) if table.rows]


def promises(runs: Sequence[ComparedRun]) -> Table:
    """What each of several runs promises."""
    return Table(
        "Runs and what they promise, for one protected unit",
        ("run", "identifier", "claim", "epsilon", "delta", "encryption", "attacks"),
        tuple(
            (run.name, run.run_id, run.claim, at_most(run.epsilon), delta_text(run.delta),
             run.encryption, run.audit_verdict or "not attacked")
            for run in runs
        ),
        frozenset({3, 4}),
    )  # fmt: skip


def compared(runs: Sequence[ComparedRun], which: Sequence[str]) -> list[Table]:
    """How well several runs do in each cell, and how they differ."""
    keys = list(dict.fromkeys(key for run in runs for key in run.differences))
    results = Table(
        "Macro AUROC by available modalities",
        ("run", *which),
        tuple(
            (run.name, *(interval(run.auroc[c]) if c in run.auroc else NOT_STATED for c in which))
            for run in runs
        ),
        frozenset(range(1, len(which) + 1)),
    )
    options = Table(
        "Options that differ from the first run",
        ("run", *keys),
        tuple((run.name, *(run.differences.get(key, "as first") for key in keys)) for run in runs),
    )
    return [*([results] if which else []), *([options] if keys else [])]


def risks(rows: Sequence[Risk]) -> list[Table]:
    """Feared events, a table each; what a person has to decide is blank."""
    return [
        Table(
            f"{one.event} ({one.risk_id})",
            ("what", "answer"),
            (
                ("criterion", one.criterion),
                ("evidence", one.evidence),
                ("where", Links(one.fields)),
                ("measure", one.measure),
                ("what stays", one.residual),
                ("severity", one.severity or Blank("open")),
                ("likelihood", one.likelihood or Blank("open")),
                ("decision", one.decision or Blank("open")),
            ),
        )
        for one in rows
    ]


def clauses(rows: Sequence[Clause]) -> list[Table]:
    """Clauses of each law or standard; numbers that were not checked are marked."""
    names = dict.fromkeys((row.framework, row.edition) for row in rows)
    return [
        Table(
            f"{framework} ({edition})",
            ("clause", "what it asks for", "evidence", "where", "what remains for a person"),
            tuple(
                (row.clause if row.is_verified else f"{row.clause} (number not verified)",
                 row.subject, row.evidence, Links(row.fields), row.remains)
                for row in rows
                if (row.framework, row.edition) == (framework, edition)
            ),
        )
        for framework, edition in names
    ]  # fmt: skip


def signatures(rows: Sequence[Signature]) -> Table:
    """Lines to sign by hand."""
    return Table(
        "Sign here after reading",
        ("role", "name", "decision", "comment", "date", "signature"),
        tuple(
            (one.role, one.name or Blank("open"), one.decision or Blank("open"),
             one.comment or Blank(""), one.date or Blank("open"), Blank("by hand"))
            for one in rows
        ),
    )  # fmt: skip
