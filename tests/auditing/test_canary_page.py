"""The page on canary audits states the ceilings that the code gives."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from attacks.bounds import guess_bound
from privfin.auditing.canary_verdicts import guesses_for

PAGE = Path(__file__).parents[2] / "docs/explanation/canary-audits.md"


def ceiling(total: int, level: str) -> float:
    coins = np.arange(total) < total // 2
    bound = guess_bound(
        np.arange(total, 0, -1.0),
        coins,
        route="one_run",
        choice="bonferroni",
        guesses=guesses_for(total, level),  # type: ignore[arg-type]
        delta=1e-5,
    )
    return bound.ceiling


def test_ceilings() -> None:
    text = PAGE.read_text("utf-8")
    (counts,) = re.findall(r"^\| canaries \|([ \d|]+)\|$", text, re.MULTILINE)
    (values,) = re.findall(r"^\| ceiling \|([ \d.|]+)\|$", text, re.MULTILINE)
    for count, value in zip(counts.split("|"), values.split("|"), strict=True):
        assert ceiling(int(count), "record") == pytest.approx(float(value), abs=0.05)
    assert ceiling(4, "site") == 0.0
    assert ceiling(5, "site") == pytest.approx(0.2, abs=0.05)
    assert ceiling(10, "site") == pytest.approx(1.1, abs=0.05)


def test_guesses_fit_however_few_coins_there_are() -> None:
    for total in range(1, 60):
        for level in ("record", "patient", "site"):
            pairs = guesses_for(total, level)  # type: ignore[arg-type]
            assert all(1 <= sum(pair) <= total for pair in pairs)
            assert pairs or total == 1
