"""The memory of one site while an update of 100 million parameters is encrypted, sent and opened.

    OMP_NUM_THREADS=1 python benchmarks/streaming.py [--parameters 100000000]

Two sites and a coordinator. The site that is measured has a process of its own; the other site and
the coordinator are its parent. Training is left out: the change is a fixed random vector. Prints
the peak memory of the process above what it had when the model and the change were in memory, and
of the process that decrypts for it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

PARTS = {"federation.sites": 2, "federation.modalities": "0:0:1", "training.rounds": 1}


class FixedTrainer:
    """Gives the same change in every round."""

    def __init__(self, size: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.change = rng.standard_normal(size, dtype=np.float32)

    def train(self, start: Any, round_number: int, steps: int) -> Any:
        return self.change


class NoJournal:
    """Nothing is spent here."""

    def spent_rounds(self, site: str) -> int:
        return 0

    def start(self, site: str, round_number: int, attempt: int) -> None:
        pass


def parts(size: int, layout: str) -> tuple[Any, Any, Any]:
    """Configuration, plan of a model with so many parameters, and who the run is."""
    from privfin.config import load_config
    from privfin.federation.messages import RunIdentity
    from privfin.federation.plan import SegmentPlan, declared_sites, make_plan

    bits = 16 if layout == "2x20" else 11
    options = {**PARTS, "crypto.layout": layout, "crypto.value_bits": bits}
    config = load_config(None, list(options.items()))
    plan = make_plan(config, declared_sites(config))
    one = SegmentPlan("bias", 0, size, plan.cohort, tuple((n, 1.0) for n in plan.cohort))
    return config, replace(plan, segments=(one,)), RunIdentity("streaming", config.digest())


def make_site(name: str, secrets: dict[str, bytes], size: int, layout: str) -> Any:
    """A site with its model, and the identities of both."""
    from privfin.crypto.keys import Roster, SiteIdentity
    from privfin.federation.global_model import GlobalModel
    from privfin.federation.local import stream_source
    from privfin.federation.round_work import LocalRound
    from privfin.federation.site import Site

    config, plan, run = parts(size, layout)
    identities = {n: SiteIdentity.from_secret_bytes(n, data) for n, data in secrets.items()}
    roster = Roster(one.public() for one in identities.values())
    streams = stream_source(config, name)
    trainer = FixedTrainer(size, int(name[-2:]))
    work = LocalRound(config, plan, name, trainer, lambda n: streams("rounding", n))
    state = GlobalModel.start(np.zeros(size, dtype=np.float32), 0, config.training.server)
    site = Site(identity=identities[name], roster=roster, run=run, config=config, plan=plan,
                state=state, work=work, journal=NoJournal())  # fmt: skip
    return site, roster, trainer


def peak(process: int | str = "self") -> float:
    """Peak memory of a process in MiB, as Linux counts it."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def serve(pipe: Any, secrets: dict[str, bytes], size: int, layout: str) -> None:
    """The measured site, in a process of its own."""
    site, _, trainer = make_site("site-01", secrets, size, layout)
    trainer.change[0] += 0
    before = peak()
    while (task := pipe.recv()) is not None:
        pipe.send(site.handle(task))
    from privfin.crypto import isolated

    worker = isolated._pool._worker
    pipe.send((before, peak(), peak(worker._process.pid) if worker else 0.0))


class PipeTransport:
    """One site behind a pipe, the other one here."""

    def __init__(self, pipe: Any, site: Any) -> None:
        self.pipe, self.site = pipe, site

    def exchange(self, tasks: Mapping[str, Any]) -> dict[str, bytes]:
        found = {}
        for name, task in tasks.items():
            if name == "site-01":
                self.pipe.send(task)
                found[name] = self.pipe.recv()
            else:
                found[name] = self.site.handle(task)
        return found


def main() -> None:
    from privfin.crypto.keys import SiteIdentity
    from privfin.federation.coordinator import Coordinator, SumPlan

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", type=int, default=100_000_000)
    parser.add_argument("--layout", default="3x15")
    options = parser.parse_args()
    size, layout = options.parameters, options.layout
    names = ("site-01", "site-02")
    secrets = {name: SiteIdentity.generate(name).secret_bytes() for name in names}
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=serve, args=(theirs, secrets, size, layout))
    child.start()
    site, roster, trainer = make_site("site-02", secrets, size, layout)
    _, plan, run = parts(size, layout)
    sizes = SumPlan("bfv", layout, plan.values, 2)
    coordinator = Coordinator(run, roster, PipeTransport(ours, site), sizes)
    began = time.monotonic()
    coordinator.agree_on_key()
    coordinator.run_rounds(1, 1, lambda number: 1)
    seconds = time.monotonic() - began
    ours.send(None)
    before, most, worker = ours.recv()
    child.join()
    wanted = FixedTrainer(size, 1).change
    wanted += trainer.change
    error = float(np.abs(site._state.vector - np.clip(wanted, -16, 16) / 2).max())
    print(f"{size} parameters, layout {layout}, {seconds:.0f} s for two sites and a coordinator")
    print(f"one site: {before:.0f} MiB with model and change, at most {most:.0f} MiB: "
          f"{most - before:.0f} MiB above; its decrypting process {worker:.0f} MiB")  # fmt: skip
    print(f"bytes up: {coordinator.traffic.up / 2 / size:.2f} a parameter and site")
    print(f"largest error of the average: {error:.2g}")


if __name__ == "__main__":
    main()
