"""The secure sum beside its alternatives: bytes, CPU time by stage and peak memory.

    OMP_NUM_THREADS=1 python benchmarks/secure_sum.py > docs/results/secure-sum.md

Every scheme is timed in turn in one process, so that a busy machine slows all alike; medians of CPU
seconds of one thread. Peak memory is that of a process of its own for each scheme and length: one
update is encrypted, two are added, the sum is decrypted.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from privfin.crypto.cost import SCHEMES, Cost, SchemeName, measure, scheme_named

LENGTHS = {100_000: 9, 1_000_000: 5, 10_000_000: 1}
"""Numbers in an update, and how often it is measured."""

COHORT = 10

NAMES: dict[SchemeName, str] = {
    "plain": "plain float32",
    "nvflare": "NVFlare's CKKS",
    "ckks": "ckks",
    "2x20": "bfv 2x20",
    "3x15": "bfv 3x15",
    "2x28": "bfv 2x28",
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--longest", type=int, default=max(LENGTHS), help="leave longer ones out")
    parser.add_argument("--memory", nargs=2, metavar=("SCHEME", "N"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.memory:
        name = next(n for n in get_args(SchemeName) if n == given.memory[0])
        print(peak_memory(name, int(given.memory[1])))
        return
    print(HEAD)
    measured: dict[int, list[Cost]] = {}
    for values, repeats in LENGTHS.items():
        if values > given.longest:
            continue
        print(f"{values} numbers", file=sys.stderr)
        measured[values] = measure(SCHEMES, values, COHORT, repeats=repeats)
        print(f"\n## {values:,} numbers, {_times(repeats)}\n")
        _print_costs(measured[values])
    _print_goals(measured)


HEAD = f"""# The secure sum

Made by `python benchmarks/secure_sum.py`.

One site's update, a cohort of {COHORT}. CPU time of one thread in microseconds a number, medians
over schemes measured in turn in one process; the longest update is measured once. `plain` sends
32-bit floats. `NVFlare's CKKS` is its default setting (N 8192, [60, 40, 40], scale 2^40,
symmetric), run with TenSEAL without any check of what arrives; the others check every byte first.

- **encode**: quantise and pack, or cut to the bound; **mask**: nine pairwise masks; **encrypt**:
  from slots to bytes, of which **serialise**; **add**: one more update into the sum, parsing
  included; **decrypt**: from bytes to numbers.
- **site**: encode, mask, encrypt, decrypt. **round**: that and one add, a site's part of the
  coordinator's work.
- **peak**: the most memory of a process that encrypts one update, adds two and decrypts, above
  what it had with the update, the keys and the libraries in place."""


def _times(count: int) -> str:
    return "once" if count == 1 else f"median of {count}"


def _print_costs(costs: list[Cost]) -> None:
    stages = ("encode", "mask", "encrypt", "serialise", "add", "decrypt")
    head = ("", "B a number", *stages, "site", "round", "peak")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for cost in costs:
        per = 1e6 / cost.values
        times = [cost.seconds[stage] * per for stage in stages]
        times += [cost.site_seconds * per, cost.round_seconds * per]
        command = [sys.executable, __file__, "--memory", cost.scheme, str(cost.values)]
        peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        shown = " | ".join(f"{time:.3f}" for time in times)
        print(
            f"| {NAMES[cost.scheme]} | {cost.bytes_up / cost.values:.2f} | {shown} | "
            f"{peak / 1e6:,.0f} MB |",
            flush=True,
        )


def _print_goals(measured: dict[int, list[Cost]]) -> None:
    print("\n## Ratios\n")
    print(
        "CPU time of a round in NVFlare's setting over ours, masks included in ours; and what masks"
    )
    print("add to a round without them.\n")
    print("| | numbers | bytes | CPU time | masks add |")
    print("|---|---|---|---|---|")
    for values, costs in measured.items():
        by_name = {cost.scheme: cost for cost in costs}
        other = by_name["nvflare"]
        for name in ("ckks", "2x20", "3x15", "2x28"):
            own = by_name[name]
            mask = own.seconds["mask"]
            added = f"{100 * mask / (own.round_seconds - mask):.1f} %" if name != "ckks" else "-"
            print(
                f"| {NAMES[name]} | {values:,} | {other.bytes_up / own.bytes_up:.1f} | "
                f"{other.round_seconds / own.round_seconds:.1f} | {added} |"
            )


def peak_memory(name: SchemeName, values: int) -> int:
    """Bytes at most in use above the start, for one update encrypted, two added, one decrypted."""
    update = np.random.default_rng(0).normal(0, 0.8, values).astype(np.float32)
    scheme = scheme_named(name, values, COHORT)
    # Checks build their reference once, on the first message.
    small = scheme_named(name, 1, COHORT)
    small.decrypt(small.encrypt(small.encode(update[:1])), 1)
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    slots = scheme.encode(update)
    scheme.mask(slots)
    parts = scheme.encrypt(slots)
    del slots
    total = scheme.sum()
    total.add(parts)
    total.add(parts)
    del parts
    summed = total.result()
    del total
    scheme.decrypt(summed, 2)
    return _memory("VmHWM") - before


def _memory(what: str) -> int:
    """Bytes of a line of /proc/self/status (Linux only)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


if __name__ == "__main__":
    main()
