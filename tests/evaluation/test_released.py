"""What a run may not release is nowhere in its results."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from privfin.config import METRICS
from privfin.federation.plan import make_plan
from privfin.federation.training_run import complete_run, start_run

KEYS = {
    "auroc": {"auroc", "auroc_low", "auroc_high"},
    "auprc": {"auprc", "auprc_low", "auprc_high"},
    "brier": {"brier"},
    "calibration": {"ece"},
}


def figures(value: Any, names: set[str]) -> list[Any]:
    """Everything under these names, or these with macro_ in front, anywhere in the results."""
    if isinstance(value, dict):
        own = [v for k, v in value.items() if k.removeprefix("macro_") in names]
        return own + [f for v in value.values() for f in figures(v, names)]
    if isinstance(value, list):
        return [f for v in value for f in figures(v, names)]
    return []


@pytest.mark.parametrize("left_out", METRICS)
def test_a_metric_that_is_not_listed_is_not_written(
    tiny: Callable[..., Any], prepared: Callable[..., Any], tmp_path: Path, left_out: str
) -> None:
    listed = [m for m in METRICS if m != left_out]
    config = tiny(evaluation__metrics=listed, evaluation__smallest_group=1, training__rounds=1)
    data = prepared(config)
    sexes = tuple("MF"[i % 2] for i in range(len(data.test.patient_ids)))
    data = replace(data, test=replace(data.test, sex=sexes))  # the phantom has no groups
    run = start_run(tmp_path / "run", config, make_plan(config, data.declarations), data)
    losses: list[float] = []

    class Observer:
        def __getattr__(self, name: str) -> Callable[..., None]:
            def told(*words: Any) -> None:
                if name == "round_finished":
                    losses.append(words[1])

            return told

    assert complete_run(run, config, data, observer=Observer()) is not None  # type: ignore[arg-type]
    metrics = json.loads((run.path / "metrics.json").read_text())
    for metric, names in KEYS.items():
        found = figures(metrics, names)
        assert found
        assert (metric == left_out) == all(value is None for value in found)
    assert bool(metrics["groups"]) == (left_out != "groups")
    assert all((loss != loss) == (left_out == "loss") for loss in losses)
