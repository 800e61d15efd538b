"""How long the noise takes, alone and against plain references in one interleaved run.

    OMP_NUM_THREADS=1 python benchmarks/noise.py

700,000 values on one core. Each repeat times the noise, ``torch.randn`` in float64 and the bare
cryptographic words behind the noise, one after the other, so that a busy machine slows all alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from privfin.privacy.noise import gaussian_noise, standard_normal
from privfin.randomness import RandomStream

VALUES = 700_000
REPEATS = 40


def main() -> None:
    torch.set_num_threads(1)
    stream = RandomStream.system()
    timed: dict[str, Callable[[], object]] = {
        "gaussian_noise (sum of four)": lambda: gaussian_noise(stream, VALUES),
        "standard_normal (single)": lambda: standard_normal(stream, VALUES),
        "torch.randn float64": lambda: torch.randn(VALUES, dtype=torch.float64),
        "random words of the sum of four": lambda: stream.uint64(4 * VALUES),
    }
    spent: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(REPEATS):
        for name, call in timed.items():
            start = time.perf_counter()
            call()
            spent[name].append(1000 * (time.perf_counter() - start))
    randn = spent["torch.randn float64"]
    print(f"{VALUES} values, one thread, {REPEATS} interleaved repeats")
    for name, times in spent.items():
        ratio = statistics.median(a / b for a, b in zip(times, randn, strict=True))
        print(
            f"{name:32} min {min(times):6.2f} ms   median {statistics.median(times):6.2f} ms   "
            f"median ratio to torch.randn {ratio:5.2f}"
        )


if __name__ == "__main__":
    main()
