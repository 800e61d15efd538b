"""A site obeys its own plan: it refuses what is out of order before it spends budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from privfin.crypto.ciphertext_sum import CiphertextSum
from privfin.crypto.envelope import ExpectedHeader, open_envelope
from privfin.crypto.pack import chunks_for
from privfin.errors import BudgetError, ProtocolError
from privfin.federation.messages import Task

Federations = Callable[..., Any]
HALTED = "has stopped for good"


def send(one: Any, site: str, task: Task) -> bytes:
    return bytes(one.sites[site].handle(task))


def updates(one: Any, round_number: int, *parts: bytes) -> dict[str, list[bytes]]:
    """Ask every site for its update and open the envelopes."""
    opened = {}
    for site in one.cohort:
        blob = send(one, site, one.task("update", round_number, *parts))
        expected = ExpectedHeader(
            kind="update",
            run_id=one.run.run_id,
            round=round_number,
            attempt=1,
            senders=(site,),
            key_id=one.sites[site]._protection.key_id,
            config_hash=one.run.config_digest,
        )
        opened[site] = list(open_envelope(blob, one.roster, expected).parts)
    return opened


def add(one: Any, sent: dict[str, list[bytes]], *sites: str) -> list[bytes]:
    total = CiphertextSum(one.packing, chunks_for(one.packing.masked_slots(one.plan.parameters)))
    for site in sites:
        total.add(sent[site])
    return total.result()


@pytest.fixture
def agreed(federation: Federations) -> Any:
    return federation().agree()


def refuses(one: Any, site: str, task: Task, match: str) -> None:
    """The task is refused, and neither budget nor model nor the site's next step change."""
    before = dict(one.journal.counts), one.states[site].vector.tobytes(), one.states[site].round
    waiting = one.sites[site]._waiting_for
    with pytest.raises(ProtocolError, match=match):
        one.sites[site].handle(task)
    after = dict(one.journal.counts), one.states[site].vector.tobytes(), one.states[site].round
    assert after == before
    assert one.sites[site]._waiting_for == waiting


@pytest.mark.parametrize("number", [0, 2, 7])
def test_refuses_another_round_than_the_next(agreed: Any, number: int) -> None:
    refuses(agreed, "site-02", agreed.task("update", number), "was asked for round")
    send(agreed, "site-02", agreed.task("update", 1))  # the right one still works


def test_refuses_to_train_a_round_again(agreed: Any) -> None:
    sent = updates(agreed, 1)
    parts = add(agreed, sent, *agreed.cohort)
    for again in (agreed.task("update", 1, *parts), agreed.task("update", 1)):
        refuses(agreed, "site-01", again, "was asked for round 1")
    assert agreed.journal.counts["site-01"] == 1
    updates(agreed, 2, *parts)
    # Not even as another attempt, once its sum was applied.
    refuses(agreed, "site-01", agreed.task("update", 1, attempt=2), "round 1")
    refuses(agreed, "site-01", agreed.task("update", 2, *parts), "was asked for round 2")


@pytest.mark.parametrize(
    "cohort",
    [
        ("site-01", "site-02"),
        ("site-01", "site-02", "site-03", "site-04"),
        ("site-01", "site-03", "site-02"),
        ("site-01",),
        (),
    ],
)
@pytest.mark.parametrize("kind", ["update", "take-key", "make-key", "finish"])
def test_refuses_another_cohort(federation: Federations, kind: Any, cohort: Any) -> None:
    one = federation(federation__smallest_cohort=3)
    refuses(one, "site-01", Task(kind, 1, 1, cohort), "cohort")


def test_refuses_an_update_before_the_key_without_spending(federation: Federations) -> None:
    one = federation()
    refuses(one, "site-01", one.task("update", 1), "no encryption key")
    assert one.journal.started == []
    assert one.changes["site-01"] == {}


def test_only_the_first_site_makes_the_key_and_only_once(federation: Federations) -> None:
    one = federation()
    refuses(one, "site-02", one.task("make-key", 0), "made by site 'site-01'")
    send(one, "site-01", one.task("make-key", 0))
    refuses(one, "site-01", one.task("make-key", 0), "already has")


def test_refuses_a_second_key(federation: Federations) -> None:
    one = federation().agree()
    box = one.transport.log[1].task.parts[0]
    refuses(one, "site-02", one.task("take-key", 0, box), "already has")


def test_refuses_a_key_for_another_site_or_of_another_run(federation: Federations) -> None:
    one, other = federation(), federation()
    parts = []
    for each in (one, other):
        each.coordinator._transport.tamper = lambda exchange: exchange.reply
        each.agree()
        parts.append({e.site: e.task.parts for e in each.transport.log})
    fresh = federation()
    # Same names and configuration, but other keys in the roster.
    refuses(fresh, "site-02", fresh.task("take-key", 0, *parts[0]["site-02"]), "does not open")
    refuses(fresh, "site-02", fresh.task("take-key", 0), "one sealed key")
    made = fresh.sites["site-01"].handle(fresh.task("make-key", 0))
    expected = ExpectedHeader(
        "key", fresh.run.run_id, 0, 0, ("site-01",), "", fresh.run.config_digest
    )
    task = fresh.task("make-key", 0)
    assert task.attempt == 1
    expected = ExpectedHeader(**{**expected.__dict__, "attempt": 1})
    _, for_second, for_third = open_envelope(made, fresh.roster, expected).parts
    refuses(fresh, "site-02", fresh.task("take-key", 0, for_third), "does not open")
    send(fresh, "site-02", fresh.task("take-key", 0, for_second))


@pytest.mark.parametrize(
    "summed",
    [
        ("site-01", "site-02"),
        ("site-01",),
        ("site-01", "site-02", "site-03", "site-03"),
        ("site-01", "site-02", "site-02"),
    ],
)
def test_refuses_the_sum_of_another_cohort(agreed: Any, summed: tuple[str, ...]) -> None:
    """A missing or doubled site leaves its masks in the sum. The site stops for good, with one
    answer to everything: answers to chosen ciphertexts would give the key away bit by bit."""
    sent = updates(agreed, 1)
    wrong, right = add(agreed, sent, *summed), add(agreed, sent, *agreed.cohort)
    spent = dict(agreed.journal.counts)
    refuses(agreed, "site-02", agreed.task("update", 2, *wrong), HALTED)
    refuses(agreed, "site-02", agreed.task("finish", 1, *wrong), HALTED)
    refuses(agreed, "site-02", agreed.task("update", 2, *right), HALTED)
    refuses(agreed, "site-02", agreed.task("finish", 1, *right), HALTED)
    assert agreed.journal.counts == spent


@pytest.mark.parametrize("damage", range(6))
def test_every_bad_sum_gets_the_same_answer(agreed: Any, damage: int) -> None:
    """Malformed, out of range, or not clean: nobody can tell from the refusal which it was."""
    sent = updates(agreed, 1)
    parts = add(agreed, sent, *agreed.cohort)
    blank = (
        agreed.sites["site-01"]
        ._protection._key.public()
        .encrypt(np.zeros(agreed.packing.masked_slots(agreed.plan.parameters), dtype=np.int64))
    )
    wrong = [
        [],
        parts[1:],
        [*parts, parts[0]],
        [p[:-1] for p in parts],
        [b"x"],
        blank,  # decrypts cleanly, to less than any cohort can send
    ][damage]
    with pytest.raises(ProtocolError) as caught:
        send(agreed, "site-01", agreed.task("finish", 1, *wrong))
    assert str(caught.value) == agreed.sites["site-01"]._halted()


@pytest.mark.parametrize("number", [0, 2, 3])
def test_refuses_to_finish_another_round(agreed: Any, number: int) -> None:
    refuses(agreed, "site-01", agreed.task("finish", 1), "told to finish")
    parts = add(agreed, updates(agreed, 1), *agreed.cohort)
    refuses(agreed, "site-01", agreed.task("finish", number, *parts), "told to finish")
    send(agreed, "site-01", agreed.task("finish", 1, *parts))
    refuses(agreed, "site-01", agreed.task("finish", 1, *parts), "told to finish")


def test_refuses_more_rounds_than_its_noise_was_calibrated_for(federation: Federations) -> None:
    one = federation(privacy__reproducible=False).agree()
    one.journal.counts["site-02"] = one.plan.rounds  # spent by attempts that came to nothing
    with pytest.raises(BudgetError, match=r"site-02.*2 rounds.*refused"):
        send(one, "site-02", one.task("update", 1))
    assert one.journal.started == []
    assert one.changes["site-02"] == {}
    send(one, "site-01", one.task("update", 1))  # other sites have budget left


def test_a_coordinator_that_asks_for_more_rounds_gets_none(federation: Federations) -> None:
    one = federation(privacy__reproducible=False).agree()
    with pytest.raises(ProtocolError, match="its plan has 2 rounds"):
        one.coordinator.run_rounds(1, 5, lambda number: 1)
    assert set(one.journal.counts.values()) == {one.plan.rounds}


def test_a_site_that_has_spent_everything_refuses_any_round(federation: Federations) -> None:
    one = federation(privacy__reproducible=False).agree()
    one.journal.counts["site-01"] = one.plan.rounds
    with pytest.raises(BudgetError):
        send(one, "site-01", one.task("update", 1))


@pytest.mark.parametrize("attempt", [-1, 0, 2**31])
def test_an_impossible_attempt_spends_nothing(agreed: Any, attempt: int) -> None:
    task = replace(agreed.task("update", 1), attempt=attempt)
    refuses(agreed, "site-01", task, "attempt")
    assert agreed.journal.counts == {}


def test_an_unknown_task_is_refused(agreed: Any) -> None:
    refuses(agreed, "site-01", replace(agreed.task("finish", 1), kind="decrypt"), "unknown task")


def test_spends_before_it_trains(federation: Federations) -> None:
    one = federation().agree()
    seen = []

    class Trainer:
        def train(self, start: Any, number: int, steps: int) -> Any:
            seen.append(list(one.journal.started))
            raise RuntimeError("stopped in the middle of training")

    one.sites["site-01"]._work._trainer.inner = Trainer()
    with pytest.raises(RuntimeError):
        send(one, "site-01", one.task("update", 1))
    assert seen == [[("site-01", 1, 1)]]
    assert one.journal.counts == {"site-01": 1}


def test_a_journal_that_cannot_write_stops_the_site_before_training(
    federation: Federations, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = federation().agree()

    def fail(*args: Any) -> None:
        raise ProtocolError("no disk")

    monkeypatch.setattr(one.journal, "start", fail)
    with pytest.raises(ProtocolError, match="no disk"):
        send(one, "site-01", one.task("update", 1))
    assert one.changes["site-01"] == {}


def test_sends_the_code_of_zero_for_every_parameter_it_does_not_train(
    federation: Federations,
) -> None:
    """From the traffic alone nobody learns what a site lacks: it sends as much as all others.

    The trainer here changes everything, so only the site itself can have made the zeros.
    """
    one = federation(crypto__encryption="none")
    sent = updates(one, 1)
    offset = 1 << (one.config.crypto.value_bits - 1)
    sizes = set()
    for site, parts in sent.items():
        codes = np.frombuffer(parts[0], dtype="<u4")
        sizes.add(codes.size)
        have = one.plan.site(site).modalities
        for segment in one.plan.segments:
            piece = codes[segment.start : segment.stop]
            if _trains(segment.name, have):
                assert (piece != offset).mean() > 0.9, (site, segment.name)
            else:
                assert (piece == offset).all(), (site, segment.name)
    assert sizes == {one.plan.parameters}
    assert len({len(b"".join(parts)) for parts in sent.values()}) == 1


def _trains(segment: str, have: tuple[str, ...]) -> bool:
    """Which segments a site trains, written down once more by hand."""
    return {
        "encoder.image": "image" in have,
        "encoder.text": "text" in have,
        "imputer.image_to_text": len(have) == 2,
        "imputer.text_to_image": len(have) == 2,
        "head.image": True,
        "head.text": True,
        "bias": True,
    }[segment]
