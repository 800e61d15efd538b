"""Forks processes that use one ledger at once, and kills some: a process of its own, so that the
tests' threads are not forked and everything is imported once.

Reads one JSON object a line: home, seed, kind ("gaussian" or "envelope"), logs (one a process),
runs (how many each tries), and kills: for each process null, or the number of calls that it makes
and the seconds after these when it is killed. So a kill strikes at a random point of the work
whatever the machine's speed, also inside SQLite. Answers with one JSON list: the exit status of
every process, -9 where it was killed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from privfin.errors import BudgetError
from privfin.privacy.accounting import SubsampledGaussianEvent
from privfin.privacy.composition import EnvelopeEvent, Spend
from privfin.privacy.ledger import DatasetKey, Ledger

KEY = DatasetKey("openi", "/data/openi")


def spend(kind: str, size: int) -> Spend:
    """``size`` steps, or envelopes of a quarter."""
    if kind == "gaussian":
        return Spend(((SubsampledGaussianEvent(1.0, 0.05, size),),))
    return Spend(((EnvelopeEvent(0.25, 0.0),) * size,))


def work(job: dict[str, Any], number: int) -> None:
    """Reserve, start and settle; log before ("?") and after ("!") each what was asked and told."""
    rng = random.Random(job["seed"] * 100 + number)
    log = os.open(job["logs"][number], os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def say(mark: str, action: str, run: str, size: int) -> None:
        os.write(log, f"{mark} {action} {run} {size}\n".encode())

    with Ledger.open(Path(job["home"])) as ledger:
        binding = ledger.binding_of(KEY)
        assert binding is not None
        for turn in range(job["runs"]):
            run, size = f"w{number}-{turn}", 4 * rng.randint(1, 3)
            say("?", "reserve", run, size)
            try:
                held = ledger.reserve(
                    run, [binding], spend(job["kind"], size), kind="train", config_digest="c",
                    delta=1e-5,
                )  # fmt: skip
            except BudgetError:
                say("!", "refused", run, size)
                continue
            say("!", "reserve", run, size)
            if job.get("hold"):
                continue
            for done in range(1, rng.randint(2, 4)):
                part = size * done // 4
                say("?", "start", run, part)
                ledger.start(held, spend(job["kind"], part))
                say("!", "start", run, part)
            if rng.random() < 0.5:
                say("?", "settle", run, 0)
                ledger.settle(held)
                say("!", "settle", run, 0)


def tell_after(calls: int, tell: int, number: int) -> None:
    """Write ``number`` to ``tell`` after so many calls of functions by this process."""
    left = calls

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            sys.setprofile(None)
            os.write(tell, bytes([number]))

    sys.setprofile(count)


def crowd(job: dict[str, Any]) -> list[int]:
    """Run all processes of a job at once."""
    wait, go = os.pipe()
    heard, tell = os.pipe()
    children = []
    for number in range(len(job["logs"])):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(go)
                os.read(wait, 1)  # until the parent closes its end: all begin together
                kill = job["kills"][number]
                if kill is not None:
                    tell_after(kill[0], tell, number)
                work(job, number)
                if kill is not None:  # it made fewer calls than that
                    sys.setprofile(None)
                    os.write(tell, bytes([number]))
                    while True:
                        signal.pause()
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    os.close(wait)
    os.close(go)
    left = {number for number, kill in enumerate(job["kills"]) if kill is not None}
    while left:
        (number,) = os.read(heard, 1)
        if number in left:
            left.remove(number)
            time.sleep(job["kills"][number][1])
            os.kill(children[number], signal.SIGKILL)
    for end in (heard, tell):
        os.close(end)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(crowd(json.loads(line))), flush=True)
