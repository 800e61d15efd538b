"""The coordinator is trusted for availability only: no key, no model, no readable update."""

from __future__ import annotations

import gc
import logging
import re
import subprocess
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, get_type_hints

import numpy as np
import numpy.typing as npt
import pytest
import torch

from privfin.config import RunConfig
from privfin.crypto.bfv import BfvKey, BfvPublic
from privfin.crypto.encoding import HoldsSecret
from privfin.crypto.envelope import sign_envelope
from privfin.crypto.keys import Roster, SiteIdentity
from privfin.crypto.pack import Packing
from privfin.errors import ProtocolError
from privfin.federation import local
from privfin.federation.coordinator import Coordinator, SumPlan
from privfin.federation.messages import RunIdentity, Task, Transport
from privfin.federation.plan import make_plan
from privfin.federation.training_run import start_run

Federations = Callable[..., Any]


def reachable(roots: Iterable[Any], skip: Iterable[Any] = ()) -> Iterator[Any]:
    """Every object that can be reached from ``roots``, without going into classes or modules."""
    left_out = {id(one) for one in skip}
    seen: set[int] = set()
    stack = list(roots)
    while stack:
        one = stack.pop()
        if id(one) in seen or id(one) in left_out or isinstance(one, type | types.ModuleType):
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, types.FunctionType):
            cells = [cell.cell_contents for cell in one.__closure__ or ()]
            stack += [*cells, *(one.__defaults__ or ())]
        else:
            stack += gc.get_referents(one)


def secrets_in(roots: Iterable[Any], skip: Iterable[Any] = ()) -> list[str]:
    """What a coordinator must not hold, by the name of its type."""
    found = []
    for one in reachable(roots, skip):
        is_bad = isinstance(one, HoldsSecret | torch.nn.Module | torch.Tensor)
        is_bad |= isinstance(one, np.ndarray) and one.dtype.kind in "fc"
        is_bad |= hasattr(one, "has_secret_key") and bool(one.has_secret_key())
        if is_bad:
            found.append(type(one).__name__)
    return found


def test_constructor_takes_only_public_things() -> None:
    hints = get_type_hints(Coordinator.__init__)
    assert hints == {
        "identity": RunIdentity,
        "roster": Roster,
        "transport": Transport,
        "plan": SumPlan,
        "on_ledger_head": Callable[[str, str], None] | None,
        "on_left": Callable[[str, int, int], None] | None,
        "return": type(None),
    }
    assert set(get_type_hints(RunIdentity).values()) == {str}
    assert get_type_hints(SumPlan) == {
        "encryption": Literal["bfv", "ckks", "none"],
        "layout": str,
        "values": int,
        "smallest_cohort": int,
    }


def test_imports_no_model_no_data_no_privacy_code_and_no_torch() -> None:
    program = "import sys, privfin.federation.coordinator\nprint('\\n'.join(sorted(sys.modules)))\n"
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    modules = result.stdout.split()
    assert "privfin.crypto.ciphertext_sum" in modules  # the listing works
    banned = (
        r"(torch|opacus|flwr|dp_accounting|privfin\.(models|data|privacy|evaluation)"
        # Nothing that parses a ciphertext natively, or holds a key that decrypts.
        r"|privfin\.crypto\.(bfv|isolated|secure_sum|masks))(\.|$)"
    )
    assert [name for name in modules if re.match(banned, name)] == []


def test_holds_no_secret_at_any_moment_of_a_run(federation: Federations) -> None:
    one = federation(real_training=True)
    moments: list[list[str]] = []

    def look(frames: list[dict[str, Any]]) -> None:
        assert frames
        moments.append(secrets_in([one.coordinator, *frames], skip=[one.transport]))

    one.transport.on_exchange = look
    one.train()
    assert len(moments) == len([e for e in one.transport.log if e.task.kind == "update"]) + 3
    assert moments == [[]] * len(moments)
    assert secrets_in([one.coordinator], skip=[one.transport]) == []


def test_holds_no_secret_when_the_real_program_runs_it(
    tiny: Callable[..., RunConfig], prepared: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Coordinator] = []

    class Kept(Coordinator):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr(local, "Coordinator", Kept)
    config = tiny()
    data = prepared(config)
    plan = make_plan(config, data.declarations)
    local.train_locally(config, plan, data, start_run(tmp_path / "run", config, plan, data))
    (coordinator,) = made
    assert coordinator.traffic.up > 0
    assert secrets_in([coordinator], skip=[coordinator._transport]) == []
    # The transport is left out with reason: in one process it does lead to the sites.
    assert "UpdateProtection" in secrets_in([coordinator])


@pytest.mark.parametrize(
    "planted",
    [
        lambda: SiteIdentity.generate("site-01"),
        lambda: BfvKey.generate(Packing.named("2x20")),
        lambda: torch.nn.Linear(2, 2),
        lambda: {"deep": [(np.zeros(3, dtype=np.float32),)]},
        lambda: (lambda kept: lambda: kept)(torch.zeros(2)),
    ],
)
def test_the_search_finds_a_planted_secret(
    federation: Federations, planted: Callable[[], Any]
) -> None:
    one = federation()
    one.coordinator._planted = planted()
    assert secrets_in([one.coordinator], skip=[one.transport])


def test_public_context_with_a_secret_key_is_refused() -> None:
    packing = Packing.named("2x20")
    key = BfvKey.generate(packing)
    with pytest.raises(ProtocolError, match="secret key"):
        BfvPublic(key.secret_bytes(), packing)


def test_key_maker_that_leaks_its_secret_key_is_refused_by_name(federation: Federations) -> None:
    one = federation()
    maker = one.cohort[0]

    def leak(exchange: Any) -> bytes:
        if exchange.task.kind != "make-key":
            return bytes(exchange.reply)
        secret = one.sites[maker]._protection._key.secret_bytes()
        boxes = [b"box"] * (len(one.cohort) - 1)
        return _signed(one, maker, exchange.task, [secret, *boxes], kind="key", key_id="")

    one.transport.tamper = leak
    with pytest.raises(ProtocolError, match=rf"{maker}.*secret key"):
        one.coordinator.agree_on_key()
    assert secrets_in([one.coordinator], skip=[one.transport]) == []


# --- nothing readable passes through --------------------------------------------------------


def _pairs(low: npt.NDArray[Any], high: npt.NDArray[Any], shift: int) -> npt.NDArray[np.uint64]:
    return low.astype(np.uint64) | (high.astype(np.uint64) << np.uint64(shift))


def needles(one: Any) -> npt.NDArray[np.uint64]:
    """Every form in which parameters could be read, as stretches of 8 bytes.

    Neighbouring float32 values and single float64 values that are not zero, of updates and of
    models; codes that are not the code of zero, as 16, 32 and 64 bits and packed into slots.
    """
    found = []
    vectors = [v for kept in one.changes.values() for v in kept.values()]
    vectors += [v for kept in one.applied.values() for v in kept]
    for vector in vectors:
        bits = vector.view(np.uint32)
        # 0 and 1 are where biases and norms start: public, and common in any format.
        real = (vector != 0) & (vector != 1)
        found.append(_pairs(bits[:-1], bits[1:], 32)[real[:-1] & real[1:]])
        found.append(vector[real].astype(np.float64).view(np.uint64))
    offset = 1 << (one.config.crypto.value_bits - 1)
    empty = one.packing.pack(np.full(one.plan.parameters, offset, dtype=np.uint64))
    for name, kept in one.changes.items():
        for number in kept:
            codes = one.codes(name, number)
            other = codes != offset
            both = other[:-1] & other[1:]
            found.append(_pairs(codes[:-1], codes[1:], 32)[both])
            four = both[:-2] & both[2:]
            low = _pairs(codes[:-3], codes[1:-2], 16)
            found.append(_pairs(low, _pairs(codes[2:-1], codes[3:], 16), 32)[four])
            slots = one.packing.pack(codes)
            found.append(slots[slots != empty].astype(np.uint64))
    return np.unique(np.concatenate(found))


def matches(wanted: npt.NDArray[np.uint64], data: bytes) -> int:
    """How many stretches of ``data``, at any byte, are among the ``wanted`` ones.

    A few megabytes of noise hold one of half a million stretches with probability below 1e-5,
    and four of them with less than 1e-20.
    """
    low = np.uint64(2**24 - 1)
    may_match = np.zeros(2**24, dtype=np.bool_)  # a quick first look at the lowest 24 bits
    may_match[wanted & low] = True
    hits = 0
    for start in range(8):
        view = np.frombuffer(data, dtype="<u8", offset=start, count=(len(data) - start) // 8)
        view = view[may_match[view & low]]
        at = np.searchsorted(wanted, view).clip(max=wanted.size - 1)
        hits += int((wanted[at] == view).sum())
    return hits


def test_no_parameter_is_readable_in_what_the_coordinator_receives_stores_or_logs(
    federation: Federations, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    one = federation(real_training=True).train()
    wanted = needles(one)
    assert wanted.size > 10_000
    stored = b"".join(
        bytes(x)
        for x in reachable([one.coordinator], skip=[one.transport])
        if isinstance(x, bytes | bytearray)
    )
    printed = "".join(capfd.readouterr()) + caplog.text
    assert len(one.transport.everything()) > 10**6
    assert matches(wanted, one.transport.everything()) < 4
    assert matches(wanted, stored + bytes(8)) < 4
    assert matches(wanted, printed.encode() + bytes(8)) < 4
    values = {f"{abs(float(x)):.4e}" for v in one.applied[one.cohort[0]] for x in v}
    numbers = re.findall(r"\d+\.\d{3,}(?:e[-+]\d+)?", printed)
    assert not values & {f"{float(x):.4e}" for x in numbers}


def test_the_same_search_reads_the_updates_when_encryption_is_off(federation: Federations) -> None:
    one = federation(real_training=True, crypto__encryption="none").train()
    assert matches(needles(one), one.transport.everything()) > 1000


def test_the_same_search_finds_every_other_readable_form(federation: Federations) -> None:
    one = federation(real_training=True).train()
    wanted = needles(one)
    site = one.cohort[0]
    update, codes = one.changes[site][1], one.codes(site, 1)
    for data in (
        update.tobytes(),
        update.astype(np.float64).tobytes(),
        one.applied[site][0].tobytes(),
        codes.astype("<u2").tobytes(),
        one.packing.pack(codes).astype("<i8").tobytes(),
    ):
        assert matches(wanted, b"\x07\x07\x07" + data) >= 100


# --- what the coordinator refuses -----------------------------------------------------------


def _signed(one: Any, site: str, task: Task, parts: list[bytes], **changes: Any) -> bytes:
    header = {
        "kind": "update",
        "run_id": one.run.run_id,
        "round": task.round,
        "attempt": task.attempt,
        "key_id": one.sites[site]._protection.key_id,
        "config_hash": one.run.config_digest,
    }
    return sign_envelope(one.identities[site], one.roster, parts, **{**header, **changes})


def _parts(one: Any, exchange: Any) -> list[bytes]:
    """The ciphertexts that a site really sent in this exchange, cut out of the envelope."""
    chunk = 131_208
    payload = exchange.reply[:-64]
    count = one.plan.bytes_up // chunk
    out = []
    for index in range(count):
        end = len(payload) - (count - 1 - index) * (chunk + 8)
        out.append(payload[end - chunk : end])
    return out


def _tampers() -> dict[str, Callable[[Any, Any], bytes]]:
    def resigned(one: Any, e: Any, parts: list[bytes], **changes: Any) -> bytes:
        return _signed(one, e.site, e.task, parts, **changes)

    return {
        "another site's envelope": lambda one, e: one.update_of("site-01", 2).reply,
        "the envelope of an earlier round": lambda one, e: one.update_of(e.site, 1).reply,
        "another round": lambda one, e: resigned(one, e, _parts(one, e), round=3),
        "another attempt": lambda one, e: resigned(one, e, _parts(one, e), attempt=2),
        "another run": lambda one, e: resigned(one, e, _parts(one, e), run_id="run-2"),
        "another configuration": lambda one, e: resigned(one, e, _parts(one, e), config_hash="0"),
        "another key": lambda one, e: resigned(one, e, _parts(one, e), key_id="0"),
        "another kind": lambda one, e: resigned(one, e, _parts(one, e), kind="finished"),
        "garbage": lambda one, e: bytes(range(256)) * 40,
        "nothing": lambda one, e: b"",
        "a flipped bit": lambda one, e: (
            e.reply[:-5000] + bytes([e.reply[-5000] ^ 1]) + e.reply[-4999:]
        ),
        "a cut envelope": lambda one, e: e.reply[:-1],
        "a cut ciphertext": lambda one, e: resigned(
            one, e, [_parts(one, e)[0][:-1], *_parts(one, e)[1:]]
        ),
        "too few ciphertexts": lambda one, e: resigned(one, e, _parts(one, e)[1:]),
        "no ciphertexts": lambda one, e: resigned(one, e, []),
        "zeros for a ciphertext": lambda one, e: resigned(
            one, e, [bytes(len(p)) for p in _parts(one, e)]
        ),
    }


@pytest.mark.parametrize("name", [*_tampers(), "nothing wrong"])
def test_refuses_what_does_not_belong_and_names_the_site(
    federation: Federations, name: str
) -> None:
    one = federation()
    change = _tampers().get(name, lambda one, e: _signed(one, e.site, e.task, _parts(one, e)))

    def tamper(exchange: Any) -> bytes:
        if (exchange.site, exchange.task.kind, exchange.task.round) == ("site-02", "update", 2):
            return change(one, exchange)
        return bytes(exchange.reply)

    one.transport.tamper = tamper
    one.agree()
    if name == "nothing wrong":  # re-signing alone is accepted, so each refusal has its reason
        assert one.coordinator.run_rounds(1, 2, lambda number: 1) == 2
        return
    with pytest.raises(ProtocolError, match="site-02"):
        one.coordinator.run_rounds(1, 2, lambda number: 1)
    # No site was given a sum that holds the refused message.
    assert all(len(kept) <= 1 for kept in one.applied.values())


def test_a_damaged_update_without_encryption_names_the_site(federation: Federations) -> None:
    one = federation(crypto__encryption="none")
    one.transport.tamper = lambda e: (
        _signed(one, e.site, e.task, [b"1234"]) if e.site == "site-03" else e.reply
    )
    with pytest.raises(ProtocolError, match="site-03"):
        one.train()


def test_a_key_that_is_another_one_is_refused(federation: Federations) -> None:
    """All sites must confirm the id of the key that the maker announced."""
    one = federation()
    other = BfvKey.generate(one.packing).public().to_bytes()

    def swap(exchange: Any) -> bytes:
        if exchange.task.kind != "make-key":
            return bytes(exchange.reply)
        boxes = [bytes(b) for b in _boxes(one, exchange)]
        return _signed(one, exchange.site, exchange.task, [other, *boxes], kind="key", key_id="")

    one.transport.tamper = swap
    with pytest.raises(ProtocolError, match=r"site-02.*key_id"):
        one.coordinator.agree_on_key()


def _boxes(one: Any, exchange: Any) -> tuple[bytes, ...]:
    from privfin.crypto.envelope import ExpectedHeader, open_envelope

    expected = ExpectedHeader(
        "key", one.run.run_id, 0, 0, (exchange.site,), "", one.run.config_digest
    )
    return open_envelope(exchange.reply, one.roster, expected).parts[1:]


def test_rounds_cannot_start_before_there_is_a_key(federation: Federations) -> None:
    one = federation()
    with pytest.raises(ProtocolError, match="key"):
        one.coordinator.run_rounds(1, 1, lambda number: 1)
    assert one.journal.started == []
