"""The arithmetic of the membership benchmarks, against enumeration and by hand."""

from __future__ import annotations

import importlib
import itertools
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from attacks.auc import auc

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def views(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("federated_views")


@pytest.fixture
def membership(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("membership")


@pytest.mark.parametrize(("members", "others"), [(3, 4), (2, 6), (1, 5)])
def test_distance_from_chance_has_spread_one_over_all_ways_to_be_members(
    views: ModuleType, members: int, others: int
) -> None:
    found = []
    for chosen in itertools.combinations(range(members + others), members):
        inside = np.isin(np.arange(members + others), chosen)
        area = auc(np.arange(members + others, dtype=float), inside).area
        attack = {"members": members, "nonmembers": others, "auc": {"value": area}}
        found.append(views.above_chance(attack))
    assert np.mean(found) == pytest.approx(0.0, abs=1e-12)
    assert np.std(found) == pytest.approx(1.0)


def test_a_rate_that_the_sample_does_not_resolve_is_marked(membership: ModuleType) -> None:
    point: dict[str, Any] = {"tpr": 0.0, "tpr_low": 0.0, "tpr_high": 0.012, "resolved": True}
    assert membership.rate(point) == "**0.0** (0.0 to 1.2)"
    assert membership.rate({**point, "resolved": False}) == "**0.0** (0.0 to 1.2)*"


def test_runs_of_a_data_set_differ_in_epsilon_alone(membership: ModuleType, tmp_path: Path) -> None:
    for name in membership.SETTINGS:
        contents = [
            membership.configuration(name, epsilon, tmp_path).model_dump()
            for epsilon in membership.EPSILONS
        ]
        stated = [content["privacy"].pop("epsilon") for content in contents]
        assert stated == [math.inf, 8.0, 1.0]
        assert contents[0] == contents[1] == contents[2]


def test_only_the_text_between_its_own_markers_is_replaced(
    membership: ModuleType, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Ours\n\n<!-- results -->\nold\n<!-- /results -->\n\nOur end.\n")
    for content in ("new", "newer"):
        membership.write_between(page, content, "results")
    found = page.read_text()
    assert found == "# Ours\n\n<!-- results -->\n\nnewer\n\n<!-- /results -->\n\nOur end.\n"
