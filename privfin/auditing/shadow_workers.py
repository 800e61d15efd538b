"""Groups of shadow models on several processes, which leave what they make in the cache.

A stacked step is many small operations with Python between them, so two threads gain little where
two processes nearly halve the time. Processes are forked: they read the patients' rows in the
parent's memory and nothing is copied or sent but how far they are.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from multiprocessing.synchronize import Event

import torch

from privfin.auditing.shadow_training import StoppedError
from privfin.errors import PrivfinError, UserInputError

#: Trains and keeps one group: told how far it is, asked whether to stop.
Task = Callable[[Callable[[int], None], Callable[[], bool]], None]
_POLL_SECONDS = 0.2


def usable_processes(device: torch.device | str) -> int:
    """Processes that this machine can run at once; 1 where processes cannot share a device."""
    if torch.device(device).type != "cpu" or sys.platform != "linux":
        return 1
    return max(1, len(os.sched_getaffinity(0)))


def run_tasks(
    tasks: Sequence[Task],
    processes: int,
    progress: Callable[[int, int], None],
    should_stop: Callable[[], bool],
) -> None:
    """Carry out every task, at most ``processes`` at once; with 1, in this process.

    Args:
        tasks: leave their results on disk.
        processes: at least 1.
        progress: called here with a task's position and how far it is.
        should_stop: asked here; tasks then stop where they next ask.

    Raises:
        StoppedError: ``should_stop`` said so.
        PrivfinError: a task failed; the others are stopped.
    """
    if processes < 2 or len(tasks) < 2:
        for at, task in enumerate(tasks):
            task(partial(progress, at), should_stop)
        return
    context = multiprocessing.get_context("fork")
    stop = context.Event()
    waiting = deque(enumerate(tasks))
    running: dict[Connection, tuple[int, ForkProcess]] = {}
    failure: Exception | None = None
    try:
        while running or (waiting and failure is None):
            if failure is None and should_stop():
                failure = StoppedError()
                stop.set()
            while waiting and len(running) < processes and failure is None:
                at, task = waiting.popleft()
                reader, writer = context.Pipe(duplex=False)
                process = context.Process(
                    target=_carry_out, args=(task, writer, stop, os.getpid()), daemon=True
                )
                process.start()
                writer.close()
                running[reader] = (at, process)
            for ready in wait(list(running), timeout=_POLL_SECONDS):
                if not isinstance(ready, Connection):
                    raise AssertionError("only pipes are waited for")
                at, process = running[ready]
                said = _receive(ready)
                if "done" in said:
                    progress(at, int(said["done"]))
                    continue
                del running[ready]
                ready.close()
                process.join()
                if said.get("end") != "finished" and failure is None:
                    failure = _failure(said)
                    stop.set()
    finally:
        stop.set()
        for reader, (_, process) in running.items():
            process.terminate()
            process.join()
            reader.close()
    if failure is not None:
        raise failure


def _carry_out(task: Task, writer: Connection, stop: Event, parent: int) -> None:
    """What a process does: one task, and a word at its end."""
    # An interrupt from the terminal reaches everyone; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # After a fork only one thread may compute: those of the parent are not here.
    torch.set_num_threads(1)

    def say(**content: object) -> None:
        writer.send_bytes(json.dumps(content).encode())

    try:
        task(lambda done: say(done=done), lambda: stop.is_set() or os.getppid() != parent)
    except StoppedError:
        say(end="stopped")
    except PrivfinError as error:
        say(end=type(error).__name__, text=str(error))
    else:
        say(end="finished")


def _receive(reader: Connection) -> dict[str, str]:
    try:
        said: dict[str, str] = json.loads(reader.recv_bytes())
    except EOFError:
        return {"end": "lost"}
    return said


def _failure(said: dict[str, str]) -> Exception:
    if said["end"] == "lost":
        return PrivfinError(
            "a process that trained shadow models ended early (short of memory?): "
            "start the audit again, which goes on with what is finished"
        )
    if said["end"] == "stopped":
        return StoppedError()
    kind = UserInputError if said["end"] == UserInputError.__name__ else PrivfinError
    return kind(said["text"])
