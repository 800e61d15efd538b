"""64 shadow models at once beside one run's training, 64 times: time and peak memory.

    python benchmarks/shadows.py
    python benchmarks/shadows.py --rounds 30

Prints a table. Every part runs in a fresh process on the quick configuration (10 sites, 4,500
training patients), on fixed features that were computed before. With fewer rounds than 30 all times
are of these rounds alone, so their ratio is what counts. Every shadow model trains on all patients
of the run, so that it does the run's work.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "quick.toml"
PARTS = {
    "one run, encrypted": ("run", "bfv"),
    "one run, not encrypted": ("run", "none"),
    "{models} stacked, 1 process": ("shadows", "1"),
    "{models} stacked, a process a core": ("shadows", "all"),
}


def peak() -> float:
    """Largest memory so far of this process, and of the largest that it started, in MiB."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    others = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return (own + others) / 1024


def processor_seconds() -> float:
    """Time that this process and those it started and waited for have kept a core busy.

    On a machine that does other work besides, it says more than the time that passes.
    """
    spent = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def measure(kind: str, how: str, models: int, group: int, rounds: int, features: Path) -> None:
    """Print seconds and MiB of one part as JSON."""
    import numpy as np
    import torch

    from privfin.auditing.population import SitePool
    from privfin.auditing.shadow_cache import ShadowCache, cached_shadows
    from privfin.config import load_config
    from privfin.federation.local import train_locally
    from privfin.federation.plan import make_plan
    from privfin.federation.prepare import prepare
    from privfin.federation.training_run import start_run
    from privfin.models.feature_cache import FeatureCache

    torch.set_num_threads(1)  # as the command line does
    options: list[tuple[str, Any]] = [("training.rounds", rounds)]
    if kind == "run":
        options.append(("crypto.encryption", how))
    config = load_config(CONFIG, options)
    data = prepare(config, cache=FeatureCache(features))
    plan = make_plan(config, data.declarations)
    before = peak()
    with tempfile.TemporaryDirectory() as folder:
        if kind == "run":
            run = start_run(Path(folder) / "run", config, plan, data)
            busy, start = processor_seconds(), time.perf_counter()
            train_locally(config, plan, data, run)
        else:
            pools = [
                SitePool(n, s.batch, s.copies, s.patients, np.ones(len(s.patients), dtype=bool),
                         s.batch, s.batch)
                for n, s in data.sites.items()
            ]  # fmt: skip
            coins = np.ones((models, sum(len(p.patients) for p in pools)), dtype=bool)
            cache = ShadowCache(Path(folder))
            busy, start = processor_seconds(), time.perf_counter()
            cached_shadows(config, plan, pools, coins, cache, group=group,
                           processes=None if how == "all" else int(how))  # fmt: skip
        seconds = time.perf_counter() - start
    busy = processor_seconds() - busy
    print(json.dumps({"seconds": seconds, "busy": busy, "before": before, "peak": peak()}))


def main() -> None:
    """Measure every part and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=64)
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--skip-one-process", action="store_true", help="save that part's time")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--features", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        measure(*given.part, given.models, given.group, given.rounds, given.features)
        return
    found = {}
    with tempfile.TemporaryDirectory() as features:
        own = ["--models", given.models, "--group", given.group, "--rounds", given.rounds]
        for name, part in {"": ("run", "none"), **PARTS}.items():
            if part == ("shadows", "1") and given.skip_one_process:
                continue
            command = [sys.executable, __file__, *own, "--features", features, "--part", *part]
            done = subprocess.run(list(map(str, command)), check=True, capture_output=True)
            if name:  # the first only fills the cache of features
                found[name] = json.loads(done.stdout.splitlines()[-1])
    sequential = given.models * found["one run, not encrypted"]["seconds"]
    encrypted = given.models * found["one run, encrypted"]["seconds"]
    print(f"{given.models} models, groups of {given.group}, {given.rounds} rounds of 20 steps\n")
    print(
        "| what | seconds | core-seconds | of the runs in sequence | of them encrypted | peak MiB "
        "| before |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, one in found.items():
        shares = ["", ""]
        if name.startswith("{models}"):
            shares = [f"1/{total / one['seconds']:.1f}" for total in (sequential, encrypted)]
        times = [f"{one['seconds']:.1f}", f"{one['busy']:.1f}"]
        cells = [*times, *shares, f"{one['peak']:.0f}", f"{one['before']:.0f}"]
        print(f"| {name.format(models=given.models)} | {' | '.join(cells)} |")
    print(f"| {given.models} runs in sequence | {sequential:.0f} | | | | | |")
    print(f"| {given.models} encrypted runs in sequence | {encrypted:.0f} | | | | | |")


if __name__ == "__main__":
    main()
