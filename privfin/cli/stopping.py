"""Ctrl-C: the first one ends training after the present round, the second one at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from privfin.errors import PrivfinError

INTERRUPTED = 130


class StoppedError(PrivfinError):
    """The user stopped a run between two rounds; it can be resumed (exit code 130)."""

    exit_code = INTERRUPTED


@contextmanager
def stop_on_interrupt(announce: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Within the block, SIGINT and SIGTERM ask training to stop after the present round.

    Yields a function that says whether they did. Stopping between rounds wastes no budget; a
    second signal stops at once, and the round that was under way stays counted.
    """
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        announce(
            "stopping after this round (press Ctrl-C again to stop now; "
            "the round's budget is then spent for nothing)"
        )

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
