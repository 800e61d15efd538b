"""What really passes the coordinator: rounds of a run's recipe, trained again with a listener.

The coordinator of a finished run kept nothing, so an audit of its view trains some rounds anew:
same configuration, plan, sites and patients, the noise that the run's plan has, and the real
messages. The replica is made in a private folder that is removed at the end; no ledger counts it,
because nothing of it leaves but scores.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from privfin.config import Encryption, RunConfig
from privfin.crypto import bfv_format, ckks_format
from privfin.crypto.envelope import parts_unverified
from privfin.crypto.pack import Packing
from privfin.errors import ProtocolError
from privfin.federation.local import TrainingObserver, site_work, stream_source, train_locally
from privfin.federation.messages import Task, Transport
from privfin.federation.plan import TrainingPlan, make_plan
from privfin.federation.prepare import PreparedData
from privfin.federation.training_run import start_run
from privfin.models.segments import Vector, flatten, initial_model

#: How messages are read: as the codes they are, or as nothing but bytes.
Reading = Literal["codes", "bytes"]

_LARGEST_WORD = 8


@dataclass(frozen=True)
class TappedRounds:
    """What a listener at the coordinator has of some rounds.

    Attributes:
        sites: names, in the order of ``updates``.
        starts: (rounds, parameters) the global model that each round started from. An encrypted
            run does not show it to the coordinator; an attack is given it all the same.
        ends: (rounds, parameters) the global model after each round.
        updates: (rounds, sites, parameters) what each site sent in the round, as it was read: its
            change of the model; or numbers of mean 0 and norm 1 made of the bytes.
        message_bytes: by site, the bytes of each payload that it sent.
        up, down: bytes from and to all sites.
        is_blind: whether ``updates`` were made of bytes, so that their size means nothing.
    """

    sites: tuple[str, ...]
    starts: npt.NDArray[np.float32] = field(repr=False)
    ends: npt.NDArray[np.float32] = field(repr=False)
    updates: npt.NDArray[np.float32] = field(repr=False)
    message_bytes: Mapping[str, tuple[int, ...]]
    up: int
    down: int
    is_blind: bool


class WireTap(Transport):
    """Stands between coordinator and sites, hands on every message and keeps the updates.

    Args:
        inner: the transport that it listens on.
    """

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        #: Payloads of updates by exchange, site and piece; a repeated attempt replaces the first.
        self.updates: dict[tuple[int, str, int], tuple[bytes, ...]] = {}
        self.up = 0
        self.down = 0

    def exchange(self, tasks: Mapping[str, Task]) -> dict[str, bytes]:
        """See :class:`Transport`; nothing is changed."""
        self.down += sum(len(part) for task in tasks.values() for part in task.parts)
        replies = self._inner.exchange(tasks)
        self.up += sum(len(reply) for reply in replies.values())
        for site, task in tasks.items():
            if task.kind == "update":
                self.updates[task.round, site, task.piece] = parts_unverified(replies[site])
        return replies


def tap_rounds(
    config: RunConfig,
    plan: TrainingPlan,
    data: PreparedData,
    *,
    rounds: int,
    encryption: Encryption,
    reading: Reading | None = None,
    observer: TrainingObserver | None = None,
    scratch: Path | None = None,
) -> TappedRounds:
    """Train the first rounds of a run's recipe again and keep what the coordinator relays.

    The noise is that of ``plan``, however many rounds are tapped. The folder with the replica's
    models (mode 0700) is removed at the end, also after an error.

    Args:
        config: the run's configuration.
        plan: its plan.
        data: its data.
        rounds: of the configuration, at most all of them.
        encryption: how updates travel, whatever the configuration says.
        reading: left out, ``codes`` without encryption and ``bytes`` with it.
        observer: told how training goes.
        scratch: where the private folder is made; left out, where the system keeps such.

    Raises:
        ValueError: no round is asked for.
        SiteFailedError, ProtocolError: a site failed or a message was refused.
    """
    if rounds < 1:
        raise ValueError("at least one round must be tapped")
    crypto = config.crypto.model_copy(update={"encryption": encryption})
    # Not validated again: shared noise without encryption is refused as a run, and shown here.
    replica = config.model_copy(update={"crypto": crypto})
    if encryption != config.crypto.encryption:
        sizes = make_plan(replica, data.declarations)
        plan = replace(plan, bytes_up=sizes.bytes_up, bytes_down=sizes.bytes_down)
    taps: list[WireTap] = []
    started: list[int] = []

    def listen(transport: Transport) -> Transport:
        taps.append(WireTap(transport))
        return taps[0]

    def enough() -> bool:
        started.append(1)
        return len(started) > rounds

    with tempfile.TemporaryDirectory(prefix="privfin-audit-", dir=scratch) as folder:
        run = start_run(Path(folder) / "replica", replica, plan, data)
        train_locally(replica, plan, data, run, observer=observer, should_stop=enough, tap=listen)
        ends = np.stack([saved.vector for saved in run.checkpoints()])
    first = flatten(initial_model(replica, len(plan.label_names)))
    read = reading or ("codes" if encryption == "none" else "bytes")
    return TappedRounds(
        plan.cohort,
        np.concatenate([first[np.newaxis], ends[:-1]]),
        ends,
        _updates(replica, plan, data, taps[0], len(ends), read),
        {
            name: tuple(
                sum(map(len, parts)) for (_, site, _), parts in taps[0].updates.items()
                if site == name
            )
            for name in plan.cohort
        },
        taps[0].up,
        taps[0].down,
        read == "bytes",
    )  # fmt: skip


def _updates(
    config: RunConfig,
    plan: TrainingPlan,
    data: PreparedData,
    tap: WireTap,
    rounds: int,
    reading: Reading,
) -> npt.NDArray[np.float32]:
    """(rounds, sites, parameters) what was sent; joint steps of one round are added up."""
    every = plan.exchanges_a_round
    found = np.zeros((rounds, len(plan.cohort), plan.parameters), dtype=np.float32)
    pieces = Packing.named(config.crypto.layout).pieces(plan.values)
    for at, name in enumerate(plan.cohort):
        # A site's own work reads its codes, as if it had been the whole cohort.
        streams = stream_source(config, name)
        work = site_work(config, plan, name, data.sites[name], streams, data.public)
        for exchange in range(1, rounds * every + 1):
            parts = [tap.updates[exchange, name, piece] for piece in range(len(pieces))]
            row = found[(exchange - 1) // every, at]
            if reading == "codes":
                total = np.frombuffer(b"".join(p for piece in parts for p in piece), dtype="<u4")
                for place, step in work.incoming(total.astype(np.uint32), (name,)):
                    row[place] += step
            else:
                row += _unit(
                    np.concatenate(
                        [
                            numbers_of(piece, place.stop - place.start, config)
                            for piece, place in zip(parts, pieces, strict=True)
                        ]
                    )[: plan.parameters]
                )
    return found


def numbers_of(parts: tuple[bytes, ...], values: int, config: RunConfig) -> npt.NDArray[np.float64]:
    """A fixed public reading of a payload as one number a value of the update.

    Ciphertexts are read as their coefficients, in the order in which they are stored, as often as
    there are values. What is not an honest ciphertext is read as little-endian words, as wide as
    the payload has bytes a value (at most 8): should it hold the codes after all, these are they.

    Args:
        parts: of the message.
        values: numbers of the update, at least 1.
        config: for encryption and layout.
    """
    try:
        found = _coefficients(parts, config)
    except ProtocolError:
        found = _words(b"".join(parts), values)
    return np.resize(found, values)


def _coefficients(parts: tuple[bytes, ...], config: RunConfig) -> npt.NDArray[np.float64]:
    if config.crypto.encryption == "ckks":
        each = [ckks_format.read_ciphertext(part) for part in parts]
    else:
        packing = Packing.named(config.crypto.layout)
        each = [bfv_format.read_ciphertext(part, packing) for part in parts]
    return np.concatenate(each).astype(np.float64)


def _words(content: bytes, values: int) -> npt.NDArray[np.float64]:
    width = min(_LARGEST_WORD, max(1, len(content) // values))
    whole = len(content) // width
    digits = np.frombuffer(content[: whole * width], dtype=np.uint8).reshape(whole, width)
    return digits.astype(np.float64) @ 256.0 ** np.arange(width)


def _unit(numbers: npt.NDArray[np.float64]) -> Vector:
    centred = numbers - numbers.mean()
    unit: Vector = (centred / (np.linalg.norm(centred) or 1.0)).astype(np.float32)
    return unit
