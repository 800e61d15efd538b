"""Shadow models that are kept in a folder: an interrupted audit goes on, an equal one is at once.

Models are trained and kept in groups. A group's file is named by a hash over everything its models
are made of (``shadow_key.py``), so another configuration, another row or another coin is another
file, and a file is never out of date.

The files hold models of real patients that were trained outside the run's guarantee, so they are
the auditor's private working files: readable by their owner alone, and not to leave the machine.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from privfin.auditing.population import BoolArray, SitePool
from privfin.auditing.shadow_key import audit_digest, group_key
from privfin.auditing.shadow_training import Shadows, check_trainable, train_shadows
from privfin.auditing.shadow_workers import run_tasks, usable_processes
from privfin.config import RunConfig
from privfin.errors import UserInputError
from privfin.federation.plan import TrainingPlan
from privfin.federation.prepare import Progress, silent
from privfin.files import clear_disk_errors
from privfin.models.multimodal import Batch

#: Models in a group at most: what is trained at once, and what an interruption can cost.
GROUP = 16


class ShadowCache:
    """Groups of shadow models in a folder.

    Args:
        folder: made on the first write, for its owner alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """Where a group is kept."""
        return self.folder / f"shadows-{key}.safetensors"

    def get(self, key: str) -> Shadows | None:
        """The group, or None if it is not there or its file is damaged."""
        try:
            content = self.path(key).read_bytes()
            tensors = load(content)
            shadows = Shadows(tensors["final"], tuple(tensors["rounds"].tolist()), tensors["after"])
            stated = bytes(tensors["digest"])
        except (OSError, KeyError, ValueError, SafetensorError):
            return None
        return shadows if stated == _digest(key, shadows) else None

    def put(self, key: str, shadows: Shadows) -> None:
        """Keep a group.

        Raises:
            UserInputError: the folder cannot be written.
        """
        content = save(
            {
                "final": np.ascontiguousarray(shadows.final),
                "after": np.ascontiguousarray(shadows.after),
                "rounds": np.array(shadows.rounds, dtype=np.int64),
                "digest": np.frombuffer(_digest(key, shadows), dtype=np.uint8),
            }
        )
        path = self.path(key)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with clear_disk_errors(path):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            try:
                with suppress(FileNotFoundError):
                    temporary.unlink()
                handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(handle, "wb") as stream:
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
                temporary.replace(path)
            finally:
                with suppress(FileNotFoundError):
                    temporary.unlink()


def cached_shadows(
    config: RunConfig,
    plan: TrainingPlan,
    pools: Sequence[SitePool],
    coins: BoolArray,
    cache: ShadowCache,
    *,
    public: Batch | None = None,
    keep: Collection[int] = (),
    rounds: int | None = None,
    group: int | None = None,
    processes: int | None = None,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
    should_stop: Callable[[], bool] = lambda: False,
) -> Shadows:
    """:func:`~privfin.auditing.shadow_training.train_shadows`, group by group, each kept.

    Args:
        config, plan, pools, coins, public, keep, rounds, device, should_stop: as there.
        cache: where groups are kept.
        group: models in a group; if left out :data:`GROUP`, or half of few models, so that two
            cores have work.
        processes: groups trained at once, each in a process with one thread; as many as there are
            cores if left out (one where they cannot share a device).
        progress: told of rounds of models, of all of them.

    Raises:
        StoppedError: ``should_stop`` said so; finished groups are kept.
        AuditRefusedError, PrivfinError, ValueError: as there.
    """
    check_trainable(config, plan, pools)
    audit = audit_digest(config, plan, pools, public=public, rounds=rounds, device=device)
    group = group or min(GROUP, -(-len(coins) // 2))
    places = [slice(first, min(first + group, len(coins))) for first in range(0, len(coins), group)]
    numbers = [range(at.start, at.stop) for at in places]
    keys = [group_key(audit, coins[at], n, keep) for at, n in zip(places, numbers, strict=True)]
    found = {key: known for key in keys if (known := cache.get(key)) is not None}
    last = plan.rounds if rounds is None else rounds
    done = [last if key in found else 0 for key in keys]
    missing = [at for at, key in enumerate(keys) if key not in found]

    def fill(at: int, told: Callable[[int], None], stop: Callable[[], bool]) -> None:
        trained = train_shadows(
            config,
            plan,
            pools,
            coins[places[at]],
            public=public,
            numbers=numbers[at],
            keep=keep,
            rounds=rounds,
            device=device,
            progress=lambda stage, now, total: told(now),
            should_stop=stop,
        )
        cache.put(keys[at], trained)

    def tell(task: int, now: int) -> None:
        done[missing[task]] = now
        models = sum(len(n) * d for n, d in zip(numbers, done, strict=True))
        progress("training shadow models", models, len(coins) * last)

    most = usable_processes(device) if processes is None else processes
    run_tasks([partial(fill, at) for at in missing], most, tell, should_stop)
    parts = [found.get(key) or _kept(cache, key) for key in keys]
    return Shadows(
        np.concatenate([one.final for one in parts]),
        parts[0].rounds,
        np.concatenate([one.after for one in parts]),
    )


def _kept(cache: ShadowCache, key: str) -> Shadows:
    found = cache.get(key)
    if found is None:
        raise UserInputError(
            f"{cache.path(key)} was changed while shadow models were trained: start the audit again"
        )
    return found


def _digest(key: str, shadows: Shadows) -> bytes:
    """Of a group's content: a file with a changed bit, or of another name, is no group."""
    digest = hashlib.sha256(key.encode())
    digest.update(json.dumps([list(shadows.rounds), list(shadows.after.shape)]).encode())
    digest.update(np.ascontiguousarray(shadows.final).tobytes())
    digest.update(np.ascontiguousarray(shadows.after).tobytes())
    return digest.digest()
