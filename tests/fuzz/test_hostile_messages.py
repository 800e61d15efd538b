"""Hostile bytes at every door: refused with a line that says whose they were, and nothing else.

``make test`` runs some hundred cases a door, ``make fuzz`` many more (``PRIVFIN_FUZZ_CASES``). Case
i is the same everywhere. What must never happen: a crash, a hang, much memory, or acceptance.

One kind of change passes, as it must: a low bit of a coefficient is below the ciphertext's noise.
Then the sum that is opened is exactly the honest one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from privfin.crypto import isolated
from privfin.crypto.bfv import BfvKey
from privfin.crypto.ciphertext_sum import public_key_id
from privfin.crypto.envelope import Envelope, ExpectedHeader, open_envelope, sign_envelope
from privfin.crypto.keys import Roster, SiteIdentity
from privfin.crypto.pack import LAYOUTS
from privfin.errors import PrivfinError, ProtocolError
from privfin.federation.coordinator import Coordinator, SumPlan
from privfin.federation.messages import Task
from privfin.federation.protection import UpdateProtection

Federations = Callable[..., Any]


class Doors:
    """An agreed federation, honest messages of it, and the places where bytes come in."""

    def __init__(self, one: Any, stranger: Any) -> None:
        self.one = one
        self.names = one.cohort
        one.agree()
        stranger.agree()
        self.envelopes = {n: one.sites[n].handle(one.task("update", 1)) for n in self.names}
        foreign = stranger.sites[self.names[1]].handle(stranger.task("update", 1))
        self.parts = {n: list(self._opened(n, 1).parts) for n in self.names}
        coordinator = self.coordinator({})
        total = coordinator._new_sum(one.plan.values)
        for name in self.names:
            total.add(self.parts[name])
        self.total = tuple(total.result())
        self.honest = self.opened(self.names[0], list(self.total))
        self.next = {n: one.sites[n].handle(one.task("update", 2, *self.total)) for n in self.names}
        victim = self.names[1]
        self.other_envelopes = [
            self.next[victim],
            self.envelopes[self.names[0]],
            self.envelopes[self.names[2]],
            foreign,
        ]
        self.other_ciphertexts = [
            self.parts[self.names[0]][0],
            BfvKey.generate(one.packing).public().encrypt(np.arange(9))[0],
            BfvKey.generate(LAYOUTS["3x15"]).public().encrypt(np.arange(9))[0],
            one.sites[victim]._protection._own_key().public().encrypt(np.arange(9))[0],
        ]
        self.fresh = self.protection(victim)
        self.boxes = [self.box_for(n) for n in self.names[1:]]

    def _opened(self, name: str, number: int) -> Envelope:
        one = self.one
        return open_envelope(self.envelopes[name], one.roster, self.expected(name, number))

    def opened(self, name: str, total: list[bytes]) -> Any:
        """What a site reads in a sum of round 1."""
        one = self.one
        protection = one.sites[name]._protection
        return protection.reveal(total, one.plan.values, 1, 1, one.cohort)

    def expected(self, name: str, number: int) -> ExpectedHeader:
        one = self.one
        return ExpectedHeader(
            kind="update",
            run_id=one.run.run_id,
            round=number,
            attempt=1,
            senders=(name,),
            key_id=one.sites[name]._protection.key_id,
            config_hash=one.run.config_digest,
        )

    def coordinator(self, replies: Mapping[str, bytes]) -> Coordinator:
        """A coordinator that is sent these bytes, with the key agreed."""

        class Fixed:
            def exchange(self, tasks: Mapping[str, Task]) -> dict[str, bytes]:
                return {name: replies[name] for name in tasks}

        one = self.one
        sizes = SumPlan("bfv", one.config.crypto.layout, one.plan.values, 2)
        made = Coordinator(one.run, one.roster, Fixed(), sizes)
        made._known_key = one.sites[self.names[0]]._protection.key_id
        return made

    def protection(self, name: str) -> UpdateProtection:
        """A site's side before it has a key."""
        one = self.one
        return UpdateProtection(one.config.crypto, one.identities[name], one.roster, one.run)

    def box_for(self, name: str) -> bytes:
        _, *boxes = self.protection(self.names[0]).make_key()
        return bytes(boxes[self.names.index(name) - 1])


@pytest.fixture(scope="module")
def doors(federation: Federations) -> Doors:
    return Doors(federation(), federation(training__learning_rate=0.123))


def test_envelopes_at_the_coordinator(doors: Doors, hostile: Any) -> None:
    name = doors.names[1]
    count = 0
    for bad in hostile.cases(doors.envelopes[name], doors.other_envelopes):
        coordinator = doors.coordinator({name: bad})
        with pytest.raises(ProtocolError) as found:
            coordinator._ask({name: doors.one.task("update", 1)}, "update", coordinator._key_id())
        assert f"refused what site '{name}' sent: " in hostile.line_of(found.value)
        count += 1
    assert count > 0.9 * hostile.count


def test_ciphertexts_that_a_site_itself_signed(doors: Doors, hostile: Any) -> None:
    """A dishonest site. What has the right form is added, and then no site opens another sum."""
    one, name = doors.one, doors.names[1]
    good = doors.parts[name]
    refused = spoiled = 0
    for bad in hostile.cases(good[0], doors.other_ciphertexts):
        expected = doors.expected(name, 1)
        envelope = sign_envelope(
            one.identities[name], one.roster, [bad, *good[1:]], kind="update",
            run_id=expected.run_id, round=1, attempt=1, key_id=expected.key_id,
            config_hash=expected.config_hash,
        )  # fmt: skip
        replies = {**doors.envelopes, name: envelope}
        coordinator = doors.coordinator(replies)
        try:
            (total,) = coordinator._sum_of(one.task("update", 1))
        except ProtocolError as error:
            assert f"refused what site '{name}' sent: " in hostile.line_of(error)
            refused += 1
            continue
        try:
            opened = doors.opened(doors.names[0], list(total))
        except ProtocolError as error:
            assert "does not decrypt cleanly" in hostile.line_of(error)
            spoiled += 1
        else:
            assert np.array_equal(opened, doors.honest)
    assert refused > 0.6 * hostile.count
    assert spoiled > 0


def test_sums_at_a_site(doors: Doors, hostile: Any) -> None:
    """A dishonest coordinator. The worker that decrypts lives through all of it."""
    refused = 0
    others = [*doors.other_ciphertexts, doors.parts[doors.names[1]][0]]
    for bad in hostile.cases(doors.total[0], others):
        try:
            opened = doors.opened(doors.names[2], [bad, *doors.total[1:]])
        except ProtocolError as error:
            assert "crashed" not in hostile.line_of(error)
            refused += 1
        else:
            assert np.array_equal(opened, doors.honest)
    assert refused > 0.9 * hostile.count
    assert isolated._pool._worker is not None
    assert isolated._pool._worker.is_alive
    assert np.array_equal(doors.opened(doors.names[2], list(doors.total)), doors.honest)


def test_a_site_stops_for_good_after_one_hostile_sum(federation: Federations, hostile: Any) -> None:
    for number, mutation in enumerate(hostile.mutations):
        one = federation().agree()
        sent = {n: one.sites[n].handle(one.task("update", 1)) for n in one.cohort}
        assert sent
        rng = np.random.default_rng([hostile.seed, number])
        good = one.sites[one.cohort[0]]._protection._own_key().public().encrypt(np.arange(9))[0]
        bad = mutation(rng, good, [good])
        for _ in range(2):
            with pytest.raises(ProtocolError, match=r"site-03.*stopped for good"):
                one.sites["site-03"].handle(one.task("finish", 1, bad))


def test_sealed_keys_at_a_site(doors: Doors, hostile: Any) -> None:
    name = doors.names[1]
    good = doors.box_for(name)
    others = [doors.box_for(doors.names[2]), good[:-40] + bytes(40)]
    for bad in hostile.cases(good, others):
        protection = doors.protection(name)
        with pytest.raises(ProtocolError) as found:
            protection.take_key(bad)
        assert doors.names[0] in hostile.line_of(found.value)  # who is said to have sealed it
        assert protection.key_id == ""


def test_public_keys_at_the_coordinator(doors: Doors, hostile: Any) -> None:
    """A changed number makes another key, which no other site will have; the rest is refused."""
    packing = doors.one.packing
    good = BfvKey.generate(packing).public().to_bytes()
    others = [
        BfvKey.generate(LAYOUTS["3x15"]).public().to_bytes(),
        BfvKey.generate(packing).secret_bytes(),
    ]
    known = public_key_id(good, packing)
    refused = 0
    for bad in hostile.cases(good, others):
        try:
            assert public_key_id(bad, packing) != known
        except ProtocolError as error:
            hostile.line_of(error)
            refused += 1
    assert refused > 0.6 * hostile.count


def test_secret_keys_that_a_site_itself_sealed(doors: Doors, hostile: Any) -> None:
    """The maker of the key is dishonest: what it sealed is parsed in the worker only."""
    good = BfvKey.generate(doors.one.packing).secret_bytes()
    others = [BfvKey.generate(LAYOUTS["3x15"]).secret_bytes(), doors.parts[doors.names[0]][0]]
    taken = 0
    for bad in hostile.cases(good, others):
        try:
            isolated.IsolatedKey.from_secret_bytes(bad, doors.one.packing)
        except ProtocolError as error:
            assert "crashed" not in hostile.line_of(error)
        else:
            taken += 1  # a number of the unused half was flipped: it decrypts what it encrypts
    assert taken < 0.2 * hostile.count


def test_rosters(doors: Doors, hostile: Any) -> None:
    good = doors.one.roster.to_bytes()
    others = [Roster([SiteIdentity.generate("x").public()]).to_bytes(), b"{}", b"[]", b"null"]
    for bad in hostile.cases(good, others):
        try:
            found = Roster.from_bytes(bad)
        except PrivfinError as error:
            hostile.line_of(error)
        else:
            # Bytes without a signature may say anything, but they never pass for this roster.
            assert found.digest != doors.one.roster.digest
            envelope = doors.envelopes[doors.names[1]]
            with pytest.raises(ProtocolError):
                open_envelope(envelope, found, replace(doors.expected(doors.names[1], 1)))
