"""The page on these statistics: its example runs, and its figures are what the code gives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from attacks.bounds import gdp_epsilon, two_rate_epsilon, two_rate_size

PAGE = Path(__file__).parents[2] / "docs/explanation/audit-statistics.md"


def test_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    exec(compile(example, str(PAGE), "exec"), {})  # noqa: S102
    assert capsys.readouterr().out.count("\n") == 2


def test_figures() -> None:
    text = PAGE.read_text("utf-8")
    (epsilons,) = re.findall(r"^\| ε \|([ \d|]+)\|$", text, re.MULTILINE)
    (sizes,) = re.findall(r"^\| members \|([ \d|]+)\|$", text, re.MULTILINE)
    for epsilon, size in zip(epsilons.split("|"), sizes.split("|"), strict=True):
        assert two_rate_size(float(epsilon), 1e-5) == int(size)
    assert f"{gdp_epsilon(500, 0, 0, 500, 1e-5).epsilon:.0f}" == "32"
    assert f"{two_rate_epsilon(500, 0, 0, 500, 1e-5).epsilon:.1f}" == "4.9"
