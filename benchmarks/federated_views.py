"""One run seen by an outsider, a site and the coordinator with and without encryption.

    python benchmarks/federated_views.py [--work DIR]

Takes the phantom runs of ``benchmarks/membership.py`` from ``--work``, or makes them as it does,
and adds what passes the coordinator: the first rounds of the recipe trained again and listened to,
once with BFV and masks and once without, as ``privfin audit --suite full`` does it. Writes the
tables of ``docs/results/federated-views.md``.
"""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

from membership import (
    arguments,
    audited,
    configuration,
    folder_of,
    on_everybody,
    rate,
    shown,
    trained,
    write_between,
)

TARGET = Path(__file__).resolve().parent.parent / "docs" / "results" / "federated-views.md"
EPSILONS = (math.inf, 8.0)
#: As ``--suite full``: rounds that are trained again and listened to.
ROUNDS = 3
OBSERVERS = ("outsider", "site", "coordinator", "coordinator, no encryption")
#: What a table calls them.
NAMES = {"coordinator": "coordinator, BFV and masks"}


def above_chance(attack: dict[str, Any]) -> float:
    """How many standard deviations an AUC is above one half.

    The standard deviation is that of a score which has nothing to do with membership: the exact one
    of the Mann-Whitney statistic without ties.
    """
    members, others = attack["members"], attack["nonmembers"]
    spread = math.sqrt((members + others + 1) / (12.0 * members * others))
    return float((attack["auc"]["value"] - 0.5) / spread)


def coordinator(epsilon: float, data: Path, work: Path) -> dict[str, Any]:
    """What the coordinator's attacks find in a run, from the store if it was done before."""
    from attacks.measure import measure
    from privfin.auditing.population import read_population
    from privfin.auditing.views import coordinator_view
    from privfin.models.feature_cache import default_cache

    folder = folder_of(work, "phantom", epsilon)
    stored = folder.with_name(f"{folder.name}-coordinator.json")
    if stored.exists():
        found: dict[str, Any] = json.loads(stored.read_text("utf-8"))
        return found
    start = time.monotonic()
    config = configuration("phantom", epsilon, data)
    _, prepared, plan = trained(config, folder)
    population = read_population(config, default_cache())
    attacks, sizes = [], {}
    for encryption in ("bfv", "none"):
        view = coordinator_view(
            config, plan, prepared, population, rounds=ROUNDS, encryption=encryption
        )
        # No bound is stated here: the AUC and its distance from chance are what is compared.
        attacks += [measure(one, delta=0.0, tests=0).to_dict() for one in view.attempts]
        sizes[encryption] = sorted({size for own in view.message_bytes.values() for size in own})
    found = {
        "attacks": [{k: v for k, v in one.items() if k != "curve"} for one in attacks],
        "message_bytes": sizes,
        "seconds": time.monotonic() - start,
    }
    stored.write_text(json.dumps(found, indent=1), "utf-8")
    return found


def rows_of(audit: dict[str, Any], relayed: dict[str, Any]) -> list[list[str]]:
    """A row an attack, observer by observer."""
    rows = []
    for observer in OBSERVERS:
        attacks = on_everybody(audit, observer)
        attacks += [a for a in relayed["attacks"] if a["observer"] == observer]
        for attack in attacks:
            area = attack["auc"]
            rows.append(
                [
                    NAMES.get(observer, observer),
                    attack["attack"],
                    f"{area['value']:.3f} ({area['low']:.3f} to {area['high']:.3f})",
                    f"{above_chance(attack):+.1f}",
                    rate(attack["tpr"][0]),
                    rate(attack["tpr"][1]),
                ]
            )
    return rows


HEADS = ("observer", "attack", "AUC", "standard deviations above chance",
         "TPR at 1 % FPR, %", "TPR at 0.1 % FPR, %")  # fmt: skip


def main() -> None:
    given = arguments(__doc__.splitlines()[0]).parse_args()
    given.work.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ["PRIVFIN_CACHE"] = str(given.work / "cache")
    import torch

    torch.set_num_threads(1)
    parts = []
    for epsilon in EPSILONS:
        audit = audited("phantom", epsilon, given.shadows, given.data, given.work)
        relayed = coordinator(epsilon, given.data, given.work)
        attacks = on_everybody(audit, "outsider")
        bytes_sent = ", ".join(
            f"{kind}: {' or '.join(map(str, sizes))}"
            for kind, sizes in relayed["message_bytes"].items()
        )
        lines = [f"| {' | '.join(HEADS)} |", f"|{'---|' * len(HEADS)}"]
        lines += [f"| {' | '.join(row)} |" for row in rows_of(audit, relayed)]
        parts += [
            f"## ε = {shown(epsilon)}",
            f"{attacks[0]['members']} members, {attacks[0]['nonmembers']} non-members at "
            f"{audit['sites']} sites; the coordinator listens to {ROUNDS} rounds. Bytes of a "
            f"site's update by encryption: {bytes_sent}. The coordinator's part took "
            f"{relayed['seconds']:.0f} s.",
            "\n".join(lines),
        ]
    write_between(TARGET, "\n\n".join(parts), "results")
    print("\n\n".join(parts))


if __name__ == "__main__":
    main()
