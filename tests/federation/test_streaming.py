"""Long updates travel in pieces: the same numbers, in order, each piece masked once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from privfin.crypto.pack import LAYOUTS, Packing
from privfin.errors import ProtocolError
from privfin.federation.messages import Task

Federations = Callable[..., Any]


def cut_small(self: Packing, n_values: int) -> list[slice]:
    """Pieces of 4,000 values, so that a small model travels in several."""
    return [slice(start, min(start + 4000, n_values)) for start in range(0, n_values, 4000)]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Packing, "pieces", cut_small)


@pytest.fixture
def agreed(federation: Federations, small_pieces: None) -> Any:
    one = federation().agree()
    assert len(one.packing.pieces(one.plan.values)) >= 3
    return one


@pytest.mark.parametrize("encryption", ["bfv", "none"])
@pytest.mark.parametrize("aggregation", ["uniform", "uncertainty"])
def test_pieces_change_nothing(
    federation: Federations, monkeypatch: pytest.MonkeyPatch, encryption: str, aggregation: str
) -> None:
    options: dict[str, Any] = {"crypto__encryption": encryption}
    if aggregation == "uncertainty":
        options |= {"training__aggregation": "uncertainty", "model__imputer": "pfin"}
    whole = federation(**options).train()
    monkeypatch.setattr(Packing, "pieces", cut_small)
    cut = federation(**options).train()
    assert len(cut.packing.pieces(cut.plan.values)) >= 3
    kinds = [e.task.kind for e in cut.transport.log]
    assert kinds.count("sum") > 0
    assert "sum" not in [e.task.kind for e in whole.transport.log]
    for name in whole.cohort:
        assert np.array_equal(whole.states[name].final(), cut.states[name].final())
    assert cut.journal.counts == whole.journal.counts  # a round is paid for once, not by piece


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("values", [1, 700, 64 * 8191 * 2, 3_000_001])
def test_pieces_cover_every_value_once(layout: str, values: int) -> None:
    packing = LAYOUTS[layout]
    pieces = packing.pieces(values)
    assert pieces[0].start == 0
    assert pieces[-1].stop == values
    for before, after in itertools.pairwise(pieces):
        assert before.stop == after.start
        # Full ones fill their ciphertexts, so that cutting costs no bytes.
        assert packing.masked_slots(before.stop - before.start) == 64 * 8192


def test_a_piece_is_sent_once_and_only_of_the_attempt_that_the_site_is_in(agreed: Any) -> None:
    site = agreed.sites["site-01"]
    first = agreed.task("update", 1)
    with pytest.raises(ProtocolError, match="another update"):
        site.handle(replace(first, piece=1))  # before it has trained
    site.handle(first)
    site.handle(replace(first, piece=1))
    for wrong in (
        replace(first, piece=1),
        replace(first, piece=0, attempt=1),
        replace(first, piece=1, attempt=2),
        replace(first, piece=1, round=2),
        replace(first, piece=1, cohort=agreed.cohort[:2]),
        replace(first, piece=99),
        replace(first, piece=-1),
        first,
    ):
        with pytest.raises(ProtocolError):
            site.handle(wrong)
    assert agreed.journal.counts["site-01"] == 1


def sums_of(one: Any, number: int) -> list[tuple[bytes, ...]]:
    task = Task("update", number, 1, one.cohort)
    found: list[tuple[bytes, ...]] = one.coordinator._sum_of(task)
    return found


def test_pieces_of_a_sum_are_taken_in_order(agreed: Any) -> None:
    total = sums_of(agreed, 1)
    site = agreed.sites["site-02"]
    finish = Task("finish", 1, 1, agreed.cohort, total[-1])
    with pytest.raises(ProtocolError, match="expected 0"):
        site.handle(finish)  # the first piece is missing
    for piece in (1, 5, -1):
        with pytest.raises(ProtocolError):
            site.handle(Task("sum", 1, 1, agreed.cohort, total[0], piece))
    with pytest.raises(ProtocolError, match="round 2"):
        site.handle(Task("sum", 2, 1, agreed.cohort, total[0], 0))
    for number, parts in enumerate(total[:-1]):
        site.handle(Task("sum", 1, 1, agreed.cohort, parts, number))
        with pytest.raises(ProtocolError, match="expected"):
            site.handle(Task("sum", 1, 1, agreed.cohort, parts, number))
    site.handle(finish)
    assert len(agreed.applied["site-02"]) == 1


def test_swapped_pieces_stop_a_site(agreed: Any) -> None:
    """The masks of one piece do not cancel in another: nothing is applied, not even in part."""
    total = sums_of(agreed, 1)
    site = agreed.sites["site-02"]
    before = agreed.states["site-02"].vector.copy()
    broken = [total[1], total[0], *total[2:]]
    with pytest.raises(ProtocolError, match="stopped for good"):
        for number, parts in enumerate(broken[:-1]):
            site.handle(Task("sum", 1, 1, agreed.cohort, parts, number))
        site.handle(Task("finish", 1, 1, agreed.cohort, broken[-1]))
    assert np.array_equal(agreed.states["site-02"].vector, before)
