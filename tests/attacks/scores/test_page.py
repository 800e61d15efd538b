"""The page on the scores: its example runs, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import attacks.scores

PAGE = Path(__file__).parents[3] / "docs/explanation/membership-scores.md"


def test_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    exec(compile(example, str(PAGE), "exec"), {})  # noqa: S102
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["summed", "joint", "covariance"]
    # 200 records: standard error of a chance attack 0.04.
    assert all(float(line.split()[-1]) > 0.7 for line in lines)


def test_what_it_names_exists() -> None:
    text = re.sub(r"```.*?```", "", PAGE.read_text("utf-8"), flags=re.DOTALL)
    named = set(re.findall(r"`([a-z_]+)`", text)) - {"membership", "a"}
    assert len(named) > 10
    assert named <= set(attacks.scores.__all__)
