"""The name of a group of shadow models: a hash over everything that they are made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from importlib import metadata, resources

import numpy as np
import torch
from torch import Tensor

from privfin.auditing.population import BoolArray, SitePool
from privfin.auditing.shadow_modules import rows_of
from privfin.auditing.shadow_training import recipe
from privfin.config import RunConfig
from privfin.federation.plan import TrainingPlan
from privfin.models.multimodal import Batch
from privfin.models.segments import flatten, initial_model

#: Packages whose version may change a shadow model.
_VERSIONS = ("torch", "numpy")
#: Files that compute them: other code, other models. A folder stands for all its files.
_CODE = (
    ("attacks.shadows", ()),
    ("privfin.models", ()),
    ("privfin.models.imputers", ()),
    ("privfin.privacy", ("joint.py", "noise.py", "sampling.py", "skellam_noise.py")),
    ("privfin.crypto", ("quantize.py", "ckks.py")),
    (
        "privfin.federation",
        (
            "aggregation.py",
            "global_model.py",
            "joint_training.py",
            "plan.py",
            "round_work.py",
            "server_optimizer.py",
            "shared_plan.py",
        ),
    ),
    (
        "privfin.auditing",
        ("shadow_modules.py", "shadow_site.py", "shadow_training.py", "shadow_key.py"),
    ),
    ("privfin", ("randomness.py",)),
)


def audit_digest(
    config: RunConfig,
    plan: TrainingPlan,
    pools: Sequence[SitePool],
    *,
    public: Batch | None = None,
    rounds: int | None = None,
    device: torch.device | str = "cpu",
) -> bytes:
    """What all groups of an audit have in common: recipe, code, first weights and every row.

    Args:
        config: the run's configuration.
        plan: its plan.
        pools: the patients of every site, in order.
        public: the public records of ``imputer = "retrieval"``.
        rounds: exchanges that are done; all that are planned if left out.
        device: devices round differently.
    """
    parts = {
        "recipe": recipe(config, plan, rounds),
        "versions": {name: metadata.version(name) for name in _VERSIONS},
        "code": _code_digest(),
        "device": torch.device(device).type,
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    digest.update(flatten(initial_model(config, len(plan.label_names))).tobytes())
    for pool in pools:
        digest.update(_pool_digest(pool))
    digest.update(b"" if public is None else _batch_digest(public))
    return digest.digest()


def group_key(
    audit: bytes, coins: BoolArray, numbers: Sequence[int], keep: Collection[int] = ()
) -> str:
    """The name of one group.

    Args:
        audit: of :func:`audit_digest`.
        coins: (M, patients) of the group.
        numbers: of its models.
        keep: rounds after which models are kept.
    """
    head = {"numbers": list(numbers), "keep": sorted(set(keep)), "coins": list(coins.shape)}
    content = json.dumps(head).encode()
    return _of([audit, content, np.packbits(coins).tobytes()]).hex()


def _of(parts: Iterable[bytes]) -> bytes:
    """A hash that tells the parts from one another wherever they are cut."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def _pool_digest(pool: SitePool) -> bytes:
    head = json.dumps([pool.name, pool.copies, [list(map(int, p)) for p in pool.patients]])
    return _of([head.encode(), _batch_digest(pool.batch)])


def _batch_digest(batch: Batch) -> bytes:
    parts = []
    for name, tensor in sorted(rows_of(batch).items()):
        parts += [f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), _bytes(tensor)]
    return _of(parts)


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()


@lru_cache(maxsize=1)
def _code_digest() -> str:
    parts = []
    for package, names in _CODE:
        folder = resources.files(package)
        found = names or sorted(f.name for f in folder.iterdir() if f.name.endswith(".py"))
        for name in found:
            parts += [f"{package}/{name}".encode(), (folder / name).read_bytes()]
    return _of(parts).hex()
