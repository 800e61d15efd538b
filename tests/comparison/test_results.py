"""Seeds become one setting, pairs share seed and test patients, and nothing unlike is compared."""

from __future__ import annotations

import json
import math
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest

from privfin.comparison.finished import load_finished, short_names
from privfin.comparison.results import compare_runs
from privfin.errors import UserInputError

FIN = [0.80, 0.82, 0.81, 0.85, 0.83, 0.84]
ZERO = [0.70, 0.75, 0.73, 0.74, 0.72, 0.76]


def seeds(make_run: Any, imputer: str, values: list[float]) -> list[Path]:
    return [
        make_run(f"{imputer}-{seed}", auroc=value, model__imputer=imputer, training__seed=seed)
        for seed, value in enumerate(values)
    ]


def test_runs_that_differ_only_in_the_seed_are_one_setting(make_run: Any) -> None:
    paths = seeds(make_run, "fin", FIN) + seeds(make_run, "zero", ZERO)
    found = compare_runs(load_finished(paths))
    assert [s.name for s in found.settings] == ["imputer fin", "imputer zero"]
    for setting, values in zip(found.settings, (FIN, ZERO), strict=True):
        summary = found.summaries[setting.name]["image only"]
        assert (summary.n, setting.seeds) == (6, list(range(6)))
        assert summary.mean == pytest.approx(statistics.mean(values))
        assert summary.sd == pytest.approx(statistics.stdev(values))
    assert found.differences == {
        "model.imputer": {"fin": ["imputer fin"], "zero": ["imputer zero"]}
    }
    (pair,) = [p for p in found.pairs if p.cell == "both"]
    assert pair.seeds == tuple(range(6))
    expected = statistics.mean(z - f for f, z in zip(FIN, ZERO, strict=True))
    assert pair.result.mean == pytest.approx(expected)
    assert pair.result.p_value == 2 / 2**6
    assert pair.result.caution == ""


def test_pairs_follow_the_seed_not_the_order_given(make_run: Any) -> None:
    paths = seeds(make_run, "fin", FIN) + seeds(make_run, "zero", ZERO)[::-1]
    mixed = [paths[i] for i in (3, 9, 0, 7, 5, 11, 1, 6, 2, 10, 4, 8)]
    found = compare_runs(load_finished(mixed), cell="both")
    expected = statistics.mean(z - f for f, z in zip(FIN, ZERO, strict=True))
    sd = statistics.stdev(z - f for f, z in zip(FIN, ZERO, strict=True))
    sign = 1 if found.pairs[0].first == "imputer fin" else -1
    assert sign * found.pairs[0].result.mean == pytest.approx(expected)
    assert found.pairs[0].result.sd == pytest.approx(sd)


def test_few_seeds_are_said_to_be_few(make_run: Any) -> None:
    found = compare_runs(
        load_finished(seeds(make_run, "fin", FIN[:3]) + seeds(make_run, "zero", ZERO[:3]))
    )
    assert all("too few to conclude anything" in pair.result.caution for pair in found.pairs)


def test_other_held_out_patients_are_not_paired_and_said(make_run: Any) -> None:
    paths = seeds(make_run, "fin", FIN)
    paths += [
        make_run(
            f"zero-{seed}",
            auroc=value,
            model__imputer="zero",
            training__seed=seed,
            held_out="other" if seed in (1, 4) else None,
        )
        for seed, value in enumerate(ZERO)
    ]
    found = compare_runs(load_finished(paths), cell="both")
    assert [pair.seeds for pair in found.pairs] == [(0, 2, 3, 5)]
    assert any("different held-out patients" in n and "seed 1, 4" in n for n in found.notices)


def test_single_runs_on_other_patients_are_said_and_not_paired(make_run: Any) -> None:
    a, b = make_run("a", held_out="x"), make_run("b", held_out="y", model__width=16)
    found = compare_runs(load_finished([a, b]))
    assert found.pairs == ()
    assert any("not about the same test set" in notice for notice in found.notices)


def test_two_runs_with_one_seed_are_averaged_and_not_paired(make_run: Any) -> None:
    paths = [make_run("a", auroc=0.6), make_run("b", auroc=0.8), make_run("c", model__width=16)]
    found = compare_runs(load_finished(paths))
    assert found.summaries[found.settings[0].name]["both"].mean == pytest.approx(0.7)
    assert found.pairs == ()
    assert any("same seed" in notice for notice in found.notices)


def test_a_single_run_keeps_its_own_interval(make_run: Any) -> None:
    found = compare_runs(load_finished([make_run("a"), make_run("b", model__width=16)]))
    one = found.summaries["a"]["both"]
    assert (one.n, one.low, one.high) == (1, 0.68, 0.72)
    assert math.isnan(one.sd)
    assert found.differences == {"model.width": {"8": ["a"], "16": ["b"]}}


def test_intervals_at_different_levels_are_said(make_run: Any) -> None:
    runs = load_finished([make_run("a"), make_run("b", evaluation__confidence=0.9)])
    assert any("different levels" in notice for notice in compare_runs(runs).notices)


def test_a_metric_that_is_not_defined_is_left_out(make_run: Any) -> None:
    paths = seeds(make_run, "fin", FIN[:3])
    paths += [make_run("x", auroc=None, model__imputer="fin", training__seed=7)]
    paths += seeds(make_run, "zero", ZERO[:3])
    found = compare_runs(load_finished(paths), cell="both")
    assert found.summaries["imputer fin"]["both"].n == 3
    assert found.pairs[0].result.n == 3


def test_an_older_run_without_calibration_is_read(make_run: Any) -> None:
    old = make_run("old", metrics_format=1)
    text = (old / "metrics.json").read_text().replace("macro_ece", "unknown")
    (old / "metrics.json").write_text(text)
    found = compare_runs(load_finished([old, make_run("new", model__width=16)]), metric="ece")
    assert found.summaries["old"]["both"].n == 0
    assert found.summaries["new"]["both"].n == 1


def test_refusals(make_run: Any, tmp_path: Path) -> None:
    a = make_run("a")
    b = make_run("b", model__width=16)
    copy = tmp_path / "copy"
    shutil.copytree(a, copy)
    for paths, said in (
        ([a], "at least two"),
        ([], "at least two"),
        ([a, a], "are the same run"),
        ([a, b, copy], "are the same run"),
        ([a, make_run("c", finished=False)], "has not finished"),
        ([a, make_run("d", labels=("sick", "other"))], "'worse' is in one only"),
        ([a, make_run("e", labels=("worse", "sick"))], "their order differs"),
        ([a, make_run("f", metrics_format=3)], "has format 3"),
        ([a, tmp_path / "nothing"], "not a run directory"),
    ):
        with pytest.raises(UserInputError, match=said):
            load_finished(paths)
    runs = load_finished([a, b])
    with pytest.raises(UserInputError, match="did you mean 'auroc'"):
        compare_runs(runs, metric="aurocc")
    with pytest.raises(UserInputError, match="did you mean 'image only'"):
        compare_runs(runs, cell="image-only")
    (b / "privacy.json").write_text('{"sites": []}')
    with pytest.raises(UserInputError, match="damaged"):
        load_finished([a, b])


def test_the_headline_epsilon_of_a_run_is_compared(make_run: Any) -> None:
    """Format 1 had epsilons of sites only; a format that is not known is refused."""
    a, b = make_run("a"), make_run("b")
    first = json.loads((a / "privacy.json").read_text())["sites"][0]["epsilon"]
    assert load_finished([a, b])[0].epsilon == float(first)
    content = {"format": 2, "sites": [{"epsilon": 3.0}], "population": {"epsilon": "inf"}}
    (a / "privacy.json").write_text(json.dumps(content))
    assert load_finished([a, b])[0].epsilon == math.inf
    (a / "privacy.json").write_text(json.dumps({**content, "format": 3}))
    with pytest.raises(UserInputError, match="format 3, expected at most 2"):
        load_finished([a, b])


def test_names_are_as_short_as_they_can_be() -> None:
    assert short_names([Path("x/a"), Path("x/b")]) == ["a", "b"]
    assert short_names([Path("x/a"), Path("y/a"), Path("y/b")]) == ["x/a", "y/a", "y/b"]
