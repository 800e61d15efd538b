"""What coordinator and sites say to each other, independent of how it travels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from privfin.errors import PrivfinError

#: What a site sends before it is protected, and the sum: codes, or real numbers with CKKS.
Numbers = npt.NDArray[np.unsignedinteger] | npt.NDArray[np.float64]

TaskKind = Literal[
    "make-key",
    "take-key",
    "update",
    "sum",
    "finish",
    "metric-owners",
    "metrics",
    "metrics-sum",
]


class SiteFailedError(PrivfinError):
    """A site did not answer, or answered with an error; the round cannot be completed.

    Args:
        message: what happened, with the site's name.
        exit_code: that of the error at the site: 2 for a full disk there, 3 for a spent budget.
        site: its name.
    """

    def __init__(self, message: str, exit_code: int = 1, site: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.site = site

    @property
    def is_refusal(self) -> bool:
        """Whether the site said no (budget, policy, protocol), rather than being out of reach."""
        return self.exit_code != 1


@dataclass(frozen=True)
class RunIdentity:
    """What binds a message to one run: its identifier and the configuration's SHA-256."""

    run_id: str
    config_digest: str


@dataclass(frozen=True)
class Task:
    """One request from the coordinator to a site.

    ``parts`` are bytes that the coordinator only relays or has added up: sealed keys, or a piece of
    the encrypted sum of the previous round. ``piece`` says which piece: of the update that is asked
    for, or of the sum in a ``sum`` task. The last piece of a sum comes with the next ``update`` or
    with ``finish``. Tasks carry no authority: a site does what its own plan
    says and checks every signature that matters itself.
    """

    kind: TaskKind
    round: int
    attempt: int
    cohort: tuple[str, ...]
    parts: tuple[bytes, ...] = ()
    piece: int = 0


class TaskHandler(Protocol):
    """A site as seen from its transport."""

    def handle(self, task: Task) -> bytes:
        """Carry out a task and return a signed envelope."""
        ...


class Transport(Protocol):
    """How the coordinator reaches the sites."""

    def exchange(self, tasks: Mapping[str, Task]) -> dict[str, bytes]:
        """Send one task a site and wait for every reply.

        Raises:
            SiteFailedError: a site failed or did not answer; its name is in the message.
        """
        ...
